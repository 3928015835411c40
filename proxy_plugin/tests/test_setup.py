"""ci/setup: parts that are set up at the same time do not get in each other's way."""

from __future__ import annotations

import fcntl
import threading
import types
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

SETUP = Path(__file__).resolve().parents[2] / "ci" / "setup"


@pytest.fixture
def setup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    module = types.ModuleType("setup")
    module.__file__ = str(SETUP)
    exec(compile(SETUP.read_text(), str(SETUP), "exec"), vars(module))  # noqa: S102
    module.CACHE = tmp_path / "cache"  # type: ignore[attr-defined]
    return module


def test_every_apt_has_the_lock_and_the_lists_are_fetched_once(setup: types.ModuleType) -> None:
    ran: list[str] = []

    def run(what: str, command: list[str], cwd: Path | None = None, tries: int = 2) -> str:
        # no other thread or process gets it now
        with open(setup.CACHE / ".apt.lock") as lock, pytest.raises(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        ran.append(" ".join(command))
        return ""

    begun = threading.Barrier(2)

    def part(name: str) -> None:
        begun.wait(60)
        setup.update_package_lists()
        setup.apt_get(name, "download", "-q", name)

    setup.run = run
    with ThreadPoolExecutor() as pool:
        for future in [pool.submit(part, name) for name in ("wrk", "nginx")]:
            future.result(60)
    assert ran[0] == "apt-get update -q"
    assert sorted(ran[1:]) == ["apt-get download -q nginx", "apt-get download -q wrk"]


def test_no_apt_is_run_without_the_lock() -> None:
    callers = [line for line in SETUP.read_text().splitlines() if '["apt-get"' in line]
    assert len(callers) == 2, "use apt_get and update_package_lists"


def test_lists_that_could_not_be_fetched_are_not_fetched_again(setup: types.ModuleType) -> None:
    ran: list[str] = []

    def run(what: str, command: list[str], cwd: Path | None = None, tries: int = 2) -> str:
        ran.append(what)
        raise setup.Missing("no network")

    setup.run = run
    for said in ("no network", "no package lists"):
        with pytest.raises(setup.Missing, match=said):
            setup.update_package_lists()
    assert ran == ["package lists"]
