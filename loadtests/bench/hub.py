"""The bench's end of :mod:`.hubside`: starts it, sends commands, and ends it."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from .processes import module_environment

__all__ = ["Answer", "Hub", "HubError"]


def _started_by(pid: int) -> set[psutil.Process]:
    """Told apart from those that get the same ids later."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return set(psutil.Process(pid).children(recursive=True))
    return set()


class HubError(Exception):
    """What the hub's side said instead of doing it."""


@dataclass(frozen=True, slots=True)
class Answer:
    """When a command was begun and done (seconds of CLOCK_MONOTONIC), and what it returned."""

    called: float
    returned: float
    result: Any


class Hub:
    """A hub's side that runs.

    Args:
        setup: its first line; see :mod:`.hubside`.
        log: where what it says goes.
        environment: more of its environment.
    """

    def __init__(self, setup: dict[str, Any], log: Path, **environment: str) -> None:
        self.setup = setup
        self.log = log
        self.environment = environment
        self._process: asyncio.subprocess.Process | None = None
        self._reading: asyncio.Task[None] | None = None
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._ids = itertools.count(1)

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._process is not None
        return self._process.pid

    async def start(self, deadline: float) -> None:
        """Start it, and wait until its proxy has the hub's own route.

        Raises:
            HubError: it does not get there.
        """
        with self.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "bench.hubside",
                stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=log,
                env={**module_environment(), **self.environment},
            )  # fmt: skip
        ready = self._expect(0)
        self._reading = asyncio.create_task(self._read())
        self._send(self.setup)
        try:
            async with asyncio.timeout(deadline):
                await ready
        except TimeoutError:
            raise HubError(f"not started within {deadline:g} s{self._last()}") from None

    def _expect(self, ident: int) -> asyncio.Future[dict[str, Any]]:
        future: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._waiting[ident] = future
        return future

    def _send(self, line: dict[str, Any]) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(line).encode() + b"\n")

    def _last(self) -> str:
        lines = self.log.read_text(errors="replace").strip().splitlines()
        return f": {lines[-1][:300]}" if lines else ""

    async def _read(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        try:
            while line := await self._process.stdout.readline():
                answer = json.loads(line)
                future = self._waiting.pop(answer["id"], None)
                if future is not None and not future.done():
                    future.set_result(answer)
        finally:
            for future in self._waiting.values():
                if not future.done():
                    future.set_exception(HubError(f"the hub's side has ended{self._last()}"))
                    future.exception()  # who waits is told; who no longer waits need not be

    async def call(self, do: str, **arguments: Any) -> Answer:
        """Run a command.

        Raises:
            HubError: it failed, or the hub's side is no more.
        """
        if self._reading is None or self._reading.done():
            raise HubError(f"the hub's side has ended{self._last()}")
        ident = next(self._ids)
        future = self._expect(ident)
        try:
            self._send({"id": ident, "do": do, **arguments})
            answer = await future
        finally:
            self._waiting.pop(ident, None)
        if "error" in answer:
            raise HubError(f"{do}: {answer['error']}")
        return Answer(answer["called"], answer["returned"], answer.get("result"))

    async def stop(self, grace: float = 15.0) -> None:
        """End it and its proxy; what does not end within ``grace`` seconds is killed.

        So is what it had started and does not end itself: nobody else knows of that any more.
        """
        process = self._process
        if process is None:
            return
        started = _started_by(process.pid)
        try:
            assert process.stdin is not None
            process.stdin.close()
            async with asyncio.timeout(grace):
                await process.wait()
        except TimeoutError:
            started |= _started_by(process.pid)
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
            for child in started:
                with contextlib.suppress(psutil.NoSuchProcess):
                    child.kill()
        if self._reading is not None:
            await self._reading
