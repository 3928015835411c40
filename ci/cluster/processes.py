"""Programs that outlive the command that starts them, each with a log and a file for its number.

Invariants: a program joins its control group before it begins (see cgroups.py), and it counts as
running only while its number is found in that group, so a number that was given anew to some
other program is never taken for it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from . import cgroups
from .settings import ClusterError, folder

__all__ = ["Program", "run", "wait"]

START = 'echo 0 >"$2" && echo $$ >"$1" && shift 2 && exec "$@"'
LOG_LINES = 5
#: those of Debian's programs are not on everybody's PATH
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def environment() -> dict[str, str]:
    """Without the caller's proxies, which the programs would ask for one another."""
    path = os.pathsep.join([os.environ.get("PATH", ""), SYSTEM_PATH])
    return {"PATH": path, "HOME": str(folder()), "LANG": "C.UTF-8"}


def run(*command: object, stdin: str | None = None, seconds: float = 60.0) -> str:
    """Run a command to its end and return its stdout.

    Raises:
        ClusterError: it failed; the message ends with what it said.
    """
    words = [str(word) for word in command]
    shown = " ".join(words[:8])
    try:
        done = subprocess.run(
            words, input=stdin, text=True, capture_output=True, timeout=seconds, env=environment()
        )
    except FileNotFoundError:
        raise ClusterError(
            f"{words[0]} is not on PATH: run this by `ci/setup containers kubernetes -- COMMAND`"
        ) from None
    except subprocess.TimeoutExpired:
        raise ClusterError(f"`{shown}` did not end in {seconds:.0f} s") from None
    if done.returncode != 0:
        said = (done.stderr + done.stdout).strip().splitlines()[-LOG_LINES:]
        raise ClusterError(f"`{shown}` failed: {' / '.join(said)}")
    return done.stdout


class Program:
    """A program of the cluster.

    Args:
        name: also the name of its log and of the file with its number.
        group: the control group that it lives in.
        command: what is run, when it is started.
        at: the folder with ``log`` and ``pid`` in it.
    """

    def __init__(self, name: str, group: str, command: Sequence[object], at: Path) -> None:
        self.name = name
        self.group = group
        self.command = [str(word) for word in command]
        self.log = at / "log" / f"{name}.log"
        self.number = at / "pid" / name

    @property
    def pid(self) -> int | None:
        """Its number while it runs, else None."""
        with suppress(OSError, ValueError):
            number = int(self.number.read_text())
            if number in cgroups.members(self.group):
                return number
        return None

    def start(self, extra: Mapping[str, str] | None = None) -> None:
        """Start it, unless it runs.

        Raises:
            ClusterError: it did not begin.
        """
        if self.pid:
            return
        for file in (self.log, self.number):
            file.parent.mkdir(parents=True, exist_ok=True)
        self.number.unlink(missing_ok=True)
        words = [str(self.number), str(cgroups.procs(self.group)), *self.command]
        with self.log.open("ab") as log:
            subprocess.run(
                ["setsid", "--fork", "sh", "-c", START, "sh", *words],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=True,
                env=environment() | dict(extra or {}), cwd="/",
            )  # fmt: skip
        wait(f"{self.name} to begin", lambda: self.number.exists() and self.number.read_text(), 10)

    def stop(self, seconds: float = 5.0) -> None:
        """End it by SIGTERM, and by SIGKILL if it is there still after some seconds."""
        if not (pid := self.pid):
            return
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
        with suppress(ClusterError):
            wait(f"{self.name} to end", lambda: not self.pid, seconds)
            return
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)

    def tail(self) -> str:
        """The last lines of its log."""
        with suppress(OSError):
            return " / ".join(self.log.read_text(errors="replace").splitlines()[-LOG_LINES:])
        return "no log"


def wait(
    what: str, ready: Callable[[], object], seconds: float, *programs: Program, pause: float = 0.1
) -> None:
    """Wait until ``ready`` says so, while the programs run.

    Raises:
        ClusterError: a program ended, or it takes too long; with the last lines of the logs.
    """
    deadline = time.monotonic() + seconds
    while not ready():
        for program in programs:
            if not program.pid:
                raise ClusterError(f"{program.name} has ended, see {program.log}: {program.tail()}")
        if time.monotonic() > deadline:
            tails = "".join(f"; {one.log}: {one.tail()}" for one in programs)
            raise ClusterError(f"waited {seconds:.0f} s for {what}{tails}")
        time.sleep(pause)
