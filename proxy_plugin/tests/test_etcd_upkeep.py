"""Whose turn it is to be defragmented, which member is to be removed, and what a disk says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jupyterhub_junction.cli import main
from jupyterhub_junction.commands.replica import REFUSED
from jupyterhub_junction.etcd_member.disk import _identity, empty_disk, read_disk
from jupyterhub_junction.etcd_member.membership import Disk, Member, Node
from jupyterhub_junction.etcd_member.upkeep import Health, left_over, next_to_defragment

MIB = 1024 * 1024
NODES = [Node(n, f"etcd-{n}", f"https://etcd-{n}:2380", f"https://etcd-{n}:2379") for n in range(3)]
ALL = [
    Member(n + 1, node.name, (node.peer_url,), (node.client_url,)) for n, node in enumerate(NODES)
]


def health(number: int, size: int = 100, in_use: int = 10, leader: bool = False) -> Health:
    return Health(NODES[number], number + 1, leader, True, False, size * MIB, in_use * MIB)


def turn(*members: Health, full: bool = False) -> int | None:
    node = next_to_defragment(NODES, members, quota=1024 * MIB, full=full)
    return None if node is None else node.ordinal


def test_one_at_a_time_and_the_leader_last() -> None:
    assert turn(health(0, leader=True), health(1), health(2)) == 1
    assert turn(health(0, leader=True), health(1, 10), health(2)) == 2
    assert turn(health(0, leader=True), health(1, 10), health(2, 10)) == 0
    assert turn(health(0, 10), health(1, 10), health(2, 10)) is None


def test_not_while_one_is_unwell() -> None:
    assert turn(health(0), health(1)) is None
    assert turn(health(0), health(1), replace(health(2), has_leader=False)) is None
    assert turn(health(0), health(1), replace(health(2), is_learner=True)) is None


def test_a_small_or_a_full_database_is_left_alone_unless_space_ran_out() -> None:
    assert turn(health(0, 20, 1), health(1, 20, 1), health(2, 20, 1)) is None
    assert turn(health(0, 100, 60), health(1, 100, 60), health(2, 100, 60)) is None
    assert turn(health(0, 900, 700), health(1), health(2)) == 0  # 80 % of the quota
    assert turn(health(0, 20, 1), health(1), health(2), full=True) == 0


def test_only_what_was_taken_away_for_long_is_removed() -> None:
    extra = Member(9, "etcd-3", ("https://etcd-3:2380",), ("https://etcd-3:2379",))
    assert left_over(NODES, [*ALL, extra], {9: 200.0}, 150.0) == extra
    assert left_over(NODES, [*ALL, extra], {9: 100.0}, 150.0) is None
    assert left_over(NODES, [*ALL, extra], {}, 150.0) is None
    assert left_over(NODES, ALL, {1: 200.0}, 150.0) is None  # one that is to be
    assert left_over(NODES, [*ALL[1:], extra], {9: 200.0}, 150.0) is None  # one is missing


def test_a_disk_without_data_or_with_half_of_it(tmp_path: Path) -> None:
    assert read_disk(tmp_path) is None
    (tmp_path / "member" / "snap").mkdir(parents=True)
    assert read_disk(tmp_path) is None
    (tmp_path / "member" / "wal").mkdir()
    (tmp_path / "member" / "wal" / "0.tmp").touch()
    assert read_disk(tmp_path) is None
    (tmp_path / "member" / "wal" / "0-0.wal").write_bytes(b"\0" * 100)
    assert read_disk(tmp_path) == Disk()
    empty_disk(tmp_path)
    assert read_disk(tmp_path) is None
    assert not list(tmp_path.iterdir())


@given(st.binary(max_size=200))
def test_no_log_is_too_broken_to_be_read(data: bytes) -> None:
    _identity(data)


ARGUMENTS = [
    "--data-dir=/nowhere/data", "--config=/nowhere/etcd.yaml", "--tls-dir=/nowhere/tls",
    "--root-password-file=/nowhere/root",
]  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--name=etcd"], "--name etcd"),
        (["--name=etcd-0"], "--service and --domain"),
        (["--name=etcd-3", "--service=e", "--domain=d"], "none of the 3 members"),
        (["--name=etcd-0", "--members=0"], "--members 0"),
        (["--name=etcd-0", "--peer=etcd-0"], "--peer etcd-0"),
        (["--name=etcd-0", "--peer=etcd-0=http://a:1=https://a:2"], "--peer etcd-0=http://a:1"),
    ],
)
def test_arguments_that_make_no_sense(
    capsys: pytest.CaptureFixture[str], arguments: list[str], named: str
) -> None:
    assert main(["etcd", "prepare", *ARGUMENTS, *arguments]) == REFUSED
    said = capsys.readouterr().err.strip()
    assert named in said
    assert len(said.splitlines()) == 1


def test_password_files_that_are_missing_or_empty(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for name in ("root", "hub", "agent"):
        (tmp_path / name).write_text("secret")
    keep = [
        "etcd", "keep", "--name=etcd-0", "--service=e", "--domain=d", *ARGUMENTS[:3],
        *(f"--{name}-password-file={tmp_path / name}" for name in ("root", "hub", "agent")),
    ]  # fmt: skip
    (tmp_path / "agent").write_text("\n")
    assert main(keep) == REFUSED
    assert f"agent's password file {tmp_path / 'agent'} is empty" in capsys.readouterr().err
    (tmp_path / "agent").unlink()
    assert main(keep) == REFUSED
    assert f"{tmp_path / 'agent'} cannot be read: No such file" in capsys.readouterr().err
