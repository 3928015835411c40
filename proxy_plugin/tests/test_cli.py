"""Arguments that make no sense are refused with one line that names them."""

from __future__ import annotations

from pathlib import Path

import pytest

from jupyterhub_junction.cli import main
from jupyterhub_junction.commands.replica import REFUSED

REPLICA = ["replica", "--listen=127.0.0.1:0", "--etcd=http://127.0.0.1:1", "--name=one"]


@pytest.mark.parametrize(
    ("argument", "named"),
    [
        ("--lease=0", "'0'"),
        ("--lease=nan", "'nan'"),
        ("--lease=soon", "'soon'"),
        ("--activity-interval=-1", "'-1'"),
        ("--max-stale=inf", "'inf'"),
        ("--pace-covered=-1", "'-1'"),
        ("--pace-uncovered=x", "'x'"),
        ("--status=host:x", "'host:x'"),
        ("--status=8000", "'8000'"),
    ],
)
def test_a_number_or_address_that_is_none(
    capsys: pytest.CaptureFixture[str], argument: str, named: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*REPLICA, argument])
    assert ended.value.code == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert argument.partition("=")[0] in line
    assert named in line


def test_a_file_that_cannot_be_read_is_named(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    missing = tmp_path / "ca.pem"
    assert main([*REPLICA, f"--target-ca={missing}"]) == REFUSED
    assert f"--target-ca {missing} cannot be read" in capsys.readouterr().err


def test_a_name_that_no_key_can_hold(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*REPLICA[:-1], "--name=a/b"]) == REFUSED
    assert "replica name 'a/b' is refused" in capsys.readouterr().err


def test_a_member_is_prepared_without_being_told_where_etcd_is(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It has no ``--etcd``; what it has to be told is refused by name."""
    monkeypatch.delenv("JUNCTION_ETCD", raising=False)
    code = main(
        [
            *["etcd", "prepare", "--name=etcd-0", "--members=1", "--service=etcd", "--domain=x"],
            f"--data-dir={tmp_path / 'data'}",
            f"--config={tmp_path / 'etcd.yaml'}",
            f"--tls-dir={tmp_path}",
            f"--root-password-file={tmp_path / 'none'}",
        ]
    )
    assert code != 0
    said = capsys.readouterr().err
    assert "Traceback" not in said
    assert str(tmp_path) in said.strip().splitlines()[-1]
