"""The files that Traefik is started with: nobody else's to read, or to have made."""

from __future__ import annotations

import json
import socket
import stat
from pathlib import Path

import pytest

from jupyterhub_junction.files import write_private
from jupyterhub_junction.traefik.runtime import Runtime
from jupyterhub_junction.traefik.static import CONTROL_ENTRYPOINT


def test_a_folder_that_others_may_enter_is_refused_by_name(tmp_path: Path) -> None:
    folder = tmp_path / "open"
    folder.mkdir()
    folder.chmod(0o755)
    with pytest.raises(PermissionError, match=f"{folder} holds secrets.*chmod 700 {folder}"):
        Runtime(listen="127.0.0.1:0", folder=str(folder))
    assert not list(folder.iterdir())


def test_its_files_are_its_owners_alone(tmp_path: Path) -> None:
    runtime = Runtime(listen="127.0.0.1:0", folder=str(tmp_path / "new"))
    try:
        paths = [path for path in (tmp_path / "new").rglob("*") if path.is_file()]
        assert {path.name for path in paths} >= {"static.yml", "control.yml", "control.password"}
        assert {stat.S_IMODE(path.stat().st_mode) for path in paths} == {0o600}
        assert runtime.password not in (tmp_path / "new/static.yml").read_text()
        assert runtime.password not in (tmp_path / "new/dynamic/control.yml").read_text()
    finally:
        runtime.remove()


def test_a_link_in_the_place_of_a_file_is_replaced_not_followed(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_text("mine")
    (tmp_path / "secret").symlink_to(other)
    write_private(tmp_path / "secret", "ours")
    assert (other.read_text(), (tmp_path / "secret").read_text()) == ("mine", "ours")
    assert not (tmp_path / "secret").is_symlink()


def test_the_control_port_is_held_from_the_beginning(tmp_path: Path) -> None:
    """Whoever else listened there would be sent its password."""
    runtime = Runtime(listen="127.0.0.1:0", folder=str(tmp_path / "new"))
    try:
        host, _, port = runtime.control.rpartition(":")
        static = json.loads(runtime.static_file.read_text())
        assert static["entryPoints"][CONTROL_ENTRYPOINT]["address"] == runtime.control
        with socket.socket() as other, pytest.raises(OSError, match="in use"):
            other.bind((host, int(port)))
    finally:
        runtime.remove()


def test_without_a_writable_temporary_folder_it_goes_to_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As a random user on a read-only file system."""

    def none() -> str:
        raise FileNotFoundError("no usable temporary directory")

    monkeypatch.setattr("tempfile.gettempdir", none)
    runtime = Runtime(listen="127.0.0.1:0")
    try:
        assert runtime.folder.parent == Path("/dev/shm")  # noqa: S108
        assert stat.S_IMODE(runtime.folder.stat().st_mode) == 0o700
    finally:
        runtime.remove()
    assert not runtime.folder.exists()
