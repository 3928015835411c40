"""Keeps one Traefik at the replica's table: sees it start, renders, pushes, confirms.

Invariants:

* One apply at a time, of all changes so far; it begins when :attr:`Replica.wait` says so.
* An apply counts as done only if Traefik was the same one from its beginning to its end.
* Rendering runs in a thread: the loop that keeps the lease does not wait for it.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import time
from collections.abc import Callable
from dataclasses import replace

from .changed import Changed
from .replica import Apply, Replica
from .traefik import RenderOptions, encode, render, with_marker
from .traefik_api import TraefikAPI, TraefikError

__all__ = ["Applier"]


class Applier:
    """Applies a replica's table to its Traefik.

    Args:
        poll: seconds between two looks at whether Traefik is there and is the same.
        on_apply: called with each apply before it is rendered.
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
        self._ended = float("-inf")  # when the last apply did

    async def run(self) -> None:
        """Run until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._look_after_traefik())
            group.create_task(self._apply_loop())

    async def _look_after_traefik(self) -> None:
        while True:
            try:
                started = str((await self.traefik.version()).get("startDate", "?"))
            except (TraefikError, ValueError) as error:
                if self.started:
                    self.log.warning("%s", error)
                started = ""
            if started != self.started:
                if started:
                    self.log.info("Traefik started at %s: loading the table into it", started)
                self.started = started
                self.replica.lost()
                self._changed.notify()
            await asyncio.sleep(self._poll)

    def _delay(self) -> float | None:
        """Seconds until the next apply, at most 0 if it is due; None if none is needed now."""
        wait = self.replica.wait
        if wait is None or not self.started:
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

    async def _apply_loop(self) -> None:
        pause = 0.1
        while True:
            await self._until_due()
            apply, started = self.replica.begin_apply(), self.started
            begun = time.monotonic()
            done = False
            try:
                await self._apply(apply)
                done = started == self.started
                pause = 0.1
            except TraefikError as error:
                self.log.error("%s", error)
            finally:
                self._ended = time.monotonic()
                cost = self._ended - begun
                self.apply_seconds += cost
                self.replica.end_apply(apply, done=done, cost=cost)
            self._changed.notify()
            if not done:
                await asyncio.sleep(pause)
                pause = min(pause * 2, 5.0)

    async def _apply(self, apply: Apply) -> None:
        self.applies += 1
        options = replace(self.rendering, error_path=apply.info.error_path)
        begun = time.monotonic()
        # a marker of an earlier agent's apply must not be taken for this one's
        number = int(time.time() * 1000) * 1000 + self.applies % 1000
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
