"""Programs that a run starts and ends, and what its processes cost."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

__all__ = ["Cost", "Program", "Usage", "cpu_between", "memory", "module_environment"]

#: seconds that a program gets to listen
START = 30.0


def module_environment() -> dict[str, str]:
    """The environment for ``python -m bench.…``, wherever the bench itself was started."""
    here = str(Path(__file__).resolve().parents[1])
    paths = [here, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(dict.fromkeys(paths))}


class Program:
    """One program in the foreground; ended by its process id, and waited for."""

    def __init__(self, command: list[str], log: Path, **environment: str) -> None:
        self.log = log
        with log.open("ab") as file:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=file, stderr=file,
                env={**os.environ, **environment},
            )  # fmt: skip

    async def listening(self, port: int) -> None:
        """Wait until it accepts connections.

        Raises:
            ChildProcessError: it ended instead, or does not get there.
        """
        try:
            async with asyncio.timeout(START):
                while True:
                    if self.process.poll() is not None:
                        raise ChildProcessError(f"{self._name} ended: {self._last}")
                    try:
                        _, writer = await asyncio.open_connection("127.0.0.1", port)
                    except OSError:
                        await asyncio.sleep(0.02)
                    else:
                        writer.close()
                        return
        except TimeoutError:
            raise ChildProcessError(f"{self._name} listens on no port {port}") from None

    @property
    def _name(self) -> str:
        return Path(str(self.process.args[0])).name  # type: ignore[index]

    @property
    def _last(self) -> str:
        return " / ".join(self.log.read_text(errors="replace").strip().splitlines()[-2:])[-300:]

    def stop(self) -> None:
        """SIGTERM, and SIGKILL for what does not end in 5 s; its children too."""
        with contextlib.suppress(psutil.NoSuchProcess):
            family = [*psutil.Process(self.process.pid).children(recursive=True)]
            self.process.terminate()
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                self.process.kill()
            for child in family:
                with contextlib.suppress(psutil.NoSuchProcess):
                    child.kill()
        self.process.wait()


@dataclass(frozen=True)
class Usage:
    """CPU seconds used so far by each process, at one moment."""

    at: float
    cpu: Mapping[str, tuple[int, float]]

    @classmethod
    def now(cls, pids: Mapping[str, int]) -> Usage:
        """Of processes by role; one that is no more is left out."""
        cpu = {}
        for role, pid in pids.items():
            with contextlib.suppress(psutil.NoSuchProcess):
                times = psutil.Process(pid).cpu_times()
                cpu[role] = (pid, times.user + times.system)
        return cls(time.monotonic(), cpu)


@dataclass(frozen=True)
class Cost:
    """CPU time between two moments: shares of one core by role, over so many seconds."""

    seconds: float
    shares: dict[str, float]

    @property
    def total(self) -> float:
        """CPU seconds of all processes."""
        return sum(self.shares.values()) * self.seconds

    def __add__(self, other: Cost) -> Cost:
        """Of both times together; a process that is in one alone used nothing in the other."""
        seconds = self.seconds + other.seconds
        used = {
            role: self.shares.get(role, 0.0) * self.seconds
            + other.shares.get(role, 0.0) * other.seconds
            for role in {**self.shares, **other.shares}
        }
        shares = {role: round(one / seconds, 4) for role, one in used.items()} if seconds else {}
        return Cost(seconds, shares)


def cpu_between(before: Usage, after: Usage) -> Cost:
    """What each process used; one that was started anew meanwhile is left out."""
    seconds = after.at - before.at
    shares = {
        role: round((used - before.cpu[role][1]) / seconds, 4)
        for role, (pid, used) in after.cpu.items()
        if role in before.cpu and before.cpu[role][0] == pid
    }
    return Cost(seconds, shares)


def memory(pids: Mapping[str, int]) -> dict[str, float]:
    """Resident memory by role, in MB (10^6 bytes)."""
    found = {}
    for role, pid in pids.items():
        with contextlib.suppress(psutil.NoSuchProcess):
            found[role] = round(psutil.Process(pid).memory_info().rss / 1e6, 1)
    return found
