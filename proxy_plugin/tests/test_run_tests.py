"""ci/run_tests.py: parts run side by side, each counts, and none is left running."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from harness.waiting import SOON, until

CI = Path(__file__).resolve().parents[2] / "ci"

#: with the parts that a test names in place of the real ones
SCRIPT = """
import sys
from pathlib import Path
import run_tests
run_tests.ROOT = Path.cwd()
given = [one.split("=", 1) for one in sys.argv[1:]]
sys.exit(run_tests.main([
    run_tests.Part(name, [["bash", "-c", one] for one in script.split("|")])
    for name, script in given
]))
"""
#: a part waits for what the other one does, for ten seconds at most
MEET = "touch f.{0}; for _ in {{1..100}}; do test -e f.{1} && exit 0; sleep 0.1; done; exit 9"


def start(directory: Path, **parts: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, *(f"{k}={v}" for k, v in parts.items())],
        cwd=directory,
        env=os.environ | {"PYTHONPATH": str(CI)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def said(process: subprocess.Popen[str]) -> str:
    return process.communicate(timeout=60)[0]


def test_parts_run_side_by_side_and_are_shown_apart(tmp_path: Path) -> None:
    process = start(
        tmp_path,
        one=f"echo first; {MEET.format('one', 'two')}",
        two=f"echo second; {MEET.format('two', 'one')}",
    )
    lines = said(process).splitlines()
    assert process.returncode == 0, lines
    assert lines[:4] == [
        "=== one: build/tests/one.log", "first", "=== two: build/tests/two.log", "second",
    ]  # fmt: skip
    assert [line.split(",")[0] for line in lines[4:]] == ["=== one: passed", "=== two: passed"]


def test_a_part_that_fails_is_told_and_ends_no_other(tmp_path: Path) -> None:
    process = start(tmp_path, one="exit 3|echo the second command", two="echo goes on")
    output = said(process)
    assert process.returncode == 1
    assert "the second command" in output
    assert "goes on" in output
    assert "=== one: FAILED (3), see build/tests/one.log" in output
    assert "=== two: passed" in output


async def test_what_is_interrupted_ends_all_and_lets_them_clear_up(tmp_path: Path) -> None:
    clears_up = (
        "trap 'touch one.cleared; exit 1' INT; echo $$ > one.pid; while :; do sleep 60 & wait; done"
    )
    process = start(tmp_path, one=clears_up, two="echo $$ > two.pid; sleep 600")
    for name in ("one", "two"):
        file = tmp_path / f"{name}.pid"
        await until(lambda file=file: file.is_file() and file.read_text(), "it runs")  # type: ignore[misc]
    process.send_signal(signal.SIGINT)
    said(process)
    assert process.returncode == 130
    assert (tmp_path / "one.cleared").exists()
    for name in ("one", "two"):
        number = int((tmp_path / f"{name}.pid").read_text())
        await until(lambda number=number: gone(number), "it has ended", deadline=SOON)  # type: ignore[misc]


def gone(number: int) -> bool:
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return True
    return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
