"""Keeps one Traefik at the replica's table: sees it start, renders, pushes, confirms.

Invariants:

* One apply at a time, of all changes so far; it begins when :attr:`Replica.wait` says so.
* An apply counts as done only if Traefik was the same one from its beginning to its end.
* What was confirmed is looked at again and again: a Traefik that no longer has it is loaded anew.
* Rendering runs in a thread: the loop that keeps the lease does not wait for it.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import time
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

from ..changed import Changed
from ..traefik.api import TraefikAPI, TraefikError
from ..traefik.documents import FORWARDER, RenderOptions, encode, render, with_marker
from .replica import Apply, Replica

__all__ = ["Applier"]

# seconds; less than the time that Traefik takes to give the forwarder up (traefik/documents.py)
_FRESH = 4.0
# seconds for which Traefik is not asked again after it said that the forwarder is up
_ASK = 0.5


class Applier:
    """Applies a replica's table to its Traefik.

    Args:
        poll: seconds between two looks at whether Traefik is there and is the same.
        on_apply: called with each apply before it is rendered.
        may_apply: whether what a document needs is there.
    """

    def __init__(
        self,
        replica: Replica,
        traefik: TraefikAPI,
        rendering: RenderOptions,
        changed: Changed,
        log: logging.Logger,
        *,
        poll: float,
        on_apply: Callable[[Apply], None] | None = None,
        may_apply: Callable[[], bool] = lambda: True,
    ) -> None:
        self.replica = replica
        self.traefik = traefik
        self.rendering = rendering
        self.log = log
        #: Traefik's start date; empty while it does not answer
        self.started = ""
        self.applies = 0
        #: of all applies, in seconds from rendering to confirmation
        self.apply_seconds = 0.0
        self._changed = changed
        self._poll = poll
        self._on_apply = on_apply
        self._may_apply = may_apply
        self._ended = float("-inf")  # when the last apply did
        self._loaded = ""  # the start date of the Traefik that has what was applied
        self._looks = 0
        self._number = 0  # of the last document
        self._confirmed = 0  # the same, while it is known to be in effect and none follows
        self._forwarder_seen = float("-inf")  # when Traefik last called it up

    async def run(self) -> None:
        """Run until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._look_after_traefik())
            group.create_task(self._apply_loop())
            group.create_task(self._grow_loop())

    def forwards(self) -> bool:
        """Whether what matches no route reached the forwarder when Traefik was last asked.

        It is asked more often than it takes Traefik to give a forwarder up, so an older answer
        comes from a time in which this process stood still, and says nothing.
        """
        return time.monotonic() - self._forwarder_seen < _FRESH

    async def _look_after_traefik(self) -> None:
        forwarded = False
        while True:
            try:
                await self._look()
            except (TraefikError, ValueError, AttributeError) as error:
                if self.started:
                    self.log.warning("%s", error)
                    self.started = ""
                    self._changed.notify()
            if self.forwards() != forwarded:
                forwarded = not forwarded
                self._changed.notify()
            await asyncio.sleep(self._poll)

    async def _look(self) -> None:
        started = str((await self.traefik.version()).get("startDate", "?"))
        if started != self.started:
            self.log.info("Traefik started at %s", started)
            # one that was only slow has what it had
            if started != self._loaded:
                self._loaded = started
                self._confirmed = 0
                self.replica.lost()
            self.started = started
            self._changed.notify()
        self._looks += 1
        confirmed = self._confirmed if self._looks % 10 == 0 else 0
        if confirmed and not await self.traefik.has(confirmed) and confirmed == self._confirmed:
            # an older document that was long on its way, say
            self.log.error("Traefik no longer has the routes that it had: loading them again")
            self._confirmed = 0
            self.replica.lost()
            self._changed.notify()
        # when it was asked: the answer may be from before this process stood still
        asked = time.monotonic()
        unsure = asked - self._forwarder_seen >= _ASK
        if self.rendering.forwarder and unsure and await self.traefik.is_up(FORWARDER):
            self._forwarder_seen = asked

    def _delay(self) -> float | None:
        """Seconds until the next apply, at most 0 if it is due; None if none is needed now."""
        wait = self.replica.wait
        if wait is None or not self.started or not self._may_apply():
            return None
        return self._ended + wait - time.monotonic()

    async def _until_due(self) -> None:
        while True:
            await self._changed.until(lambda: self._delay() is not None)
            delay = self._delay()
            if delay is not None and delay <= 0:
                return
            # a change that is not covered makes it due sooner
            await self._changed.until(lambda: (self._delay() or 0) <= 0, timeout=delay)

    async def _grow_loop(self) -> None:
        while True:
            await self._changed.until(lambda: self.replica.growing is not None)
            await asyncio.sleep(self.replica.growing or 0)
            self.replica.grow()
            self._changed.notify()

    async def _apply_loop(self) -> None:
        pause = 0.1
        while True:
            await self._until_due()
            apply, loaded = self.replica.begin_apply(), self._loaded
            begun = time.monotonic()
            done = False
            # what it replaces may be gone at any moment from now on
            self._confirmed = 0
            try:
                await self._in_one_traefik(loaded, self._apply(apply))
                done = loaded == self._loaded
                pause = 0.1
            except TraefikError as error:
                self.log.error("%s", error)
            finally:
                idle, self._ended = begun - self._ended, time.monotonic()
                cost = self._ended - begun
                self.apply_seconds += cost
                self.replica.end_apply(apply, done=done, cost=cost, idle=idle)
            if done:
                self._confirmed = self._number
            self._changed.notify()
            if not done:
                await asyncio.sleep(pause)
                pause = min(pause * 2, 5.0)

    async def _in_one_traefik(self, loaded: str, work: Coroutine[Any, Any, None]) -> None:
        """Do the work, unless another Traefik is started meanwhile."""
        task = asyncio.ensure_future(work)
        gone = asyncio.ensure_future(self._changed.until(lambda: self._loaded != loaded))
        try:
            await asyncio.wait([task, gone], return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                task.result()
            else:
                raise TraefikError("Traefik was started again while it was given the routes")
        finally:
            for each in (task, gone):
                each.cancel()
            await asyncio.gather(task, gone, return_exceptions=True)

    async def _apply(self, apply: Apply) -> None:
        self.applies += 1
        options = replace(self.rendering, error_path=apply.info.error_path)
        begun = time.monotonic()
        # a marker of an earlier agent's apply must not be taken for this one's
        number = self._number = int(time.time() * 1000) * 1000 + self.applies % 1000
        if self._on_apply is not None:
            self._on_apply(apply)

        def document() -> bytes:
            gc.disable()  # there are no cycles here, and to look for them stops all threads
            try:
                return encode(with_marker(render(apply.table, options), number))
            finally:
                gc.enable()

        await self.traefik.put(await asyncio.to_thread(document))
        await self.traefik.wait_for(number)
        self.log.debug(
            "applied revision %d with %d routes in %.0f ms",
            apply.revision,
            len(apply.table),
            1000 * (time.monotonic() - begun),
        )
