"""Programs that end: each with its log, its process group, and all that it started.

Every program carries a mark in its environment, which its children inherit.  So a server that
left the process group (JupyterHub's user servers do, and their kernels) is found and ended too,
and what one run started is told from what another did.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import psutil

__all__ = ["MARK", "DemoError", "Program", "answers", "end_marked", "marked", "wait"]

MARK = "JUNCTION_DEMO"
POLL = 0.1


class DemoError(Exception):
    """What went wrong in one line, and below it the end of the log that says why."""


def answers(url: str, within: float = 2.0) -> bool:
    """Whether a GET is answered with 200 (after redirects) within so many seconds."""
    try:
        with urllib.request.urlopen(url, timeout=within) as reply:  # noqa: S310 (loopback)
            return bool(reply.status == 200)
    except (OSError, urllib.error.URLError, ValueError):
        return False


def wait(what: str, true: Callable[[], bool], seconds: float, *programs: Program) -> None:
    """Wait until a condition holds.

    Raises:
        DemoError: a program it depends on has ended, or it does not hold in time.
    """
    deadline = time.monotonic() + seconds
    while not true():
        for program in programs:
            program.check()
        if time.monotonic() > deadline:
            tails = "\n".join(program.tail() for program in programs)
            raise DemoError(f"{what}: not within {seconds:.0f} s\n{tails}".rstrip())
        time.sleep(POLL)


def marked(mark: str) -> list[psutil.Process]:
    """The processes that carry a mark, or one below it (``run`` has ``run/hub``)."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            value = process.environ().get(MARK, "")
            if value == mark or value.startswith(f"{mark}/"):
                found.append(process)
    return [process for process in found if process.pid != os.getpid()]


def end_marked(mark: str) -> None:
    """Kill what carries a mark, and what that starts meanwhile."""
    deadline = time.monotonic() + 10
    while (processes := marked(mark)) and time.monotonic() < deadline:
        for process in processes:
            with contextlib.suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(processes, timeout=1)


class Program:
    """One program: its command, its log, its processes.

    Args:
        name: in messages, in the mark and as the log's file name.
        command: what to run.
        folder: where it runs and where its log goes.
        mark: of the run that it belongs to.
        environment: on top of this process's own.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        folder: Path,
        mark: str,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self.command = list(command)
        self.folder = folder
        self.mark = f"{mark}/{name}"
        self.environment = dict(environment or {})
        self.log = folder / f"{name}.log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """The process id while it runs."""
        return self._process.pid if self._process and self._process.poll() is None else None

    def start(self) -> None:
        """Start it, unless it runs.

        Raises:
            DemoError: there is no such program.
        """
        if self.pid is not None:
            return
        end_marked(self.mark)  # what a killed one left behind holds its ports
        with open(self.log, "ab") as log:
            try:
                self._process = subprocess.Popen(
                    self.command,
                    cwd=self.folder,
                    env={**os.environ, **self.environment, MARK: self.mark},
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
            except OSError as error:
                raise DemoError(f"{self.name}: cannot run {self.command[0]}: {error}") from None

    def check(self) -> None:
        """Raises :class:`DemoError` if it has ended."""
        if self._process is not None and (code := self._process.poll()) is not None:
            raise DemoError(f"{self.name} ended with code {code}\n{self.tail()}".rstrip())

    def tail(self, lines: int = 15) -> str:
        """The end of its log."""
        try:
            said = self.log.read_text(errors="replace").splitlines()[-lines:]
        except OSError:
            said = []
        return "\n".join(f"  {self.name}| {line}" for line in said)

    def kill(self) -> None:
        """Kill it and all its processes at once, as a lost machine would."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        end_marked(self.mark)

    def ask_to_end(self) -> None:
        """Send SIGTERM."""
        if self.pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGTERM)

    def end(self, seconds: float) -> None:
        """Ask it to end, give it so many seconds, and kill what is left."""
        self.ask_to_end()
        if self._process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(seconds)
        self.kill()
