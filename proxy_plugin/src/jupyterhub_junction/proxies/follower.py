"""Writes to the side of a mirror that does not serve: in order, bounded, and never raising.

Invariants:

* Of one route, one write runs at a time, and the last to run is the newest that was asked for;
  older ones that have not begun are dropped.
* No more than ``limit`` routes are written or wait; a write beyond that is dropped.
* A caller waits ``wait`` seconds at most, and not at all while the side is out of step.
* A side is out of step from the first write or read that failed, was dropped or is late, until
  the end of a check of all routes, whose writes are done and none of which failed: a side that
  was only late may have been started anew meanwhile.  Each change of this is logged once, and why
  a side that was late failed in the end.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, TypeVar

__all__ = ["Follower"]

T = TypeVar("T")

#: routes that may wait; far above what a hub has
LIMIT = 100_000
#: how many refusals are remembered
MAX_REFUSED = 1_000
#: seconds for one write, the side's own retries included; JupyterHub's for CHP end after 30
WRITE_DEADLINE = 60.0


class Follower:
    """The side that does not serve.

    Args:
        name: of the side, for the log.
        wait: seconds that one call waits for it at most.
        on_change: called when it falls out of step, when it is known why, and when it is in step
            again.

    Attributes:
        in_step: whether it has all that was asked for, as far as is known.
        reason: why it is not.
        lost: writes that failed or were dropped.
        refused: routespecs that the side can never take, with its reason.
    """

    def __init__(
        self,
        name: str,
        log: logging.Logger,
        *,
        wait: float = 2.0,
        limit: int = LIMIT,
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        self.name = name
        self.log = log
        self.wait = wait
        self.limit = limit
        self.on_change = on_change
        self.in_step = True
        self.reason = ""
        self.lost = 0
        self.refused: dict[str, str] = {}
        self._next: dict[str, Callable[[], Awaitable[None]]] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._failed = False
        self._logged_failure = False
        self._reading: asyncio.Task[Any] | None = None

    @property
    def failed(self) -> bool:
        """Whether something failed or was dropped since the last check began."""
        return self._failed

    @property
    def waiting(self) -> int:
        """Routes that are written or wait."""
        return len(self._tasks)

    def submit(
        self, routespec: str, write: Callable[[], Awaitable[None]]
    ) -> asyncio.Task[None] | None:
        """Have a route written, after what is written of it now; returns what to wait for."""
        task = self._tasks.get(routespec)
        if task is None and len(self._tasks) >= self.limit:
            self.lost += 1
            self.fail(f"{self.limit} routes wait for it already")
            return None
        self._next[routespec] = write
        if task is None:
            task = self._tasks[routespec] = asyncio.create_task(self._write(routespec))
        return task

    async def settle(self, task: asyncio.Task[None] | None) -> None:
        """Wait until this is done, as long as a call may wait."""
        if task is not None and self.in_step:
            await self._wait({task})

    async def settle_all(self) -> None:
        """The same for all that is being written, for a check: also if it was out of step."""
        if self._tasks and not self._failed:
            await self._wait(set(self._tasks.values()))

    async def drain(self) -> None:
        """Wait until all other writes that run now are done, however long they take."""
        if others := set(self._tasks.values()) - {asyncio.current_task()}:
            await asyncio.wait(others)

    async def read(self, read: Callable[[], Awaitable[T]]) -> T | None:
        """What the side has, or None where it does not say so in time."""
        if self._reading is not None and not self._reading.done():
            # it still owes an answer to the question before
            self._failed = self._failed or not self.in_step
            return None
        reading = asyncio.create_task(self._read(read))
        self._reading = reading
        await asyncio.wait({reading}, timeout=self.wait)
        if not reading.done():
            self._failed = True
            self._late()
            return None
        return reading.result()

    @contextlib.contextmanager
    def check(self) -> Iterator[None]:
        """While the side is read and put in step: what failed before counts no more."""
        before, self._failed = self._failed, False
        try:
            yield
        except BaseException:
            self._failed = self._failed or before
            raise
        if not (self.in_step or self._failed or self._tasks):
            self.in_step, self.reason, self._logged_failure = True, "", False
            self.log.info("%s is in step again", self.name)
            self.on_change()

    def fail(self, reason: str) -> None:
        """Take note that the side has not got something, or does not say what it has."""
        self._failed = True
        self._leave(reason, news=not self._logged_failure)
        self._logged_failure = True

    async def close(self) -> None:
        """End what is being written and read."""
        tasks = [*self._tasks.values(), *([self._reading] if self._reading else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _read(self, read: Callable[[], Awaitable[T]]) -> T | None:
        try:
            async with asyncio.timeout(WRITE_DEADLINE):
                return await read()
        except Exception as error:
            self.fail(_said(error, WRITE_DEADLINE))
            return None

    async def _write(self, routespec: str) -> None:
        try:
            while write := self._next.pop(routespec, None):
                try:
                    async with asyncio.timeout(WRITE_DEADLINE):
                        await write()
                except ValueError as error:
                    self._refuse(routespec, str(error))
                except Exception as error:
                    self.lost += 1
                    self.fail(_said(error, WRITE_DEADLINE))
                else:
                    self.refused.pop(routespec, None)
        finally:
            del self._tasks[routespec]

    def _refuse(self, routespec: str, why: str) -> None:
        if routespec not in self.refused:
            self.log.warning("%s, which does not serve, refuses a route: %s", self.name, why)
        self.refused[routespec] = why
        while len(self.refused) > MAX_REFUSED:
            del self.refused[next(iter(self.refused))]

    async def _wait(self, tasks: set[asyncio.Task[None]]) -> None:
        _, late = await asyncio.wait(tasks, timeout=self.wait)
        if late:
            self._late()

    def _late(self) -> None:
        """It is out of step from now on; if it fails in the end, :meth:`fail` says why."""
        self._leave(f"it has not answered for {self.wait:g} s", news=self.in_step)

    def _leave(self, reason: str, *, news: bool) -> None:
        self.in_step, self.reason = False, reason
        if news:
            self.log.warning(
                "%s, which does not serve, is out of step, and holds no route up: %s",
                self.name,
                reason,
            )
            self.on_change()


def _said(error: BaseException, seconds: float) -> str:
    if isinstance(error, TimeoutError) and not str(error):
        return f"no answer within {seconds:g} s"
    return " ".join(str(error).split()) or type(error).__name__
