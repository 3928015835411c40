"""Tells etcd when each route last had data, as the kernel knows it (:mod:`.activity`).

Invariants:

* At most one write per route in each interval, and none for a route that is not there: its
  key would outlive it.
* Nothing is written while the agent does not follow etcd; what was not told is told later.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Collection

from ..keys import ACTIVITY, ROUTES, encode_activity
from ..routes import RouteTable
from ..store import Exists, Put, Store, StoreError
from .activity import JITTER, Resolver, newest_by_route

__all__ = ["ActivityReports"]

_AT_ONCE = 40  # routes in a transaction: each has a guard too


class ActivityReports:
    """Reports the activity of a table's routes.

    Args:
        interval: seconds between two reports of one route.
        pids: gives the processes whose connections count; None counts all.
        following: whether the store is to be written to now.
    """

    def __init__(
        self,
        store: Store,
        table: RouteTable,
        log: logging.Logger,
        *,
        interval: float,
        pids: Callable[[], Collection[int] | None],
        following: Callable[[], bool],
    ) -> None:
        self._store = store
        self._table = table
        self._log = log
        self._interval = interval
        self._pids = pids
        self._following = following
        self._reported: dict[str, tuple[float, float]] = {}  # newest data, and when told

    async def run(self) -> None:
        """Report until cancelled."""
        resolver = Resolver()
        trouble = ""
        while True:
            await asyncio.sleep(min(self._interval / 2, 10.0))
            targets = {route.routespec: route.target for route in self._table.values()}
            try:
                newest = await asyncio.to_thread(newest_by_route, targets, resolver, self._pids())
            except OSError as error:
                if str(error) != trouble:
                    self._log.error("no last_activity: the kernel's connection table: %s", error)
                trouble = str(error)
                continue
            trouble = ""
            if self._following():
                with contextlib.suppress(StoreError):
                    await self._report(newest)

    async def _report(self, newest: dict[str, float]) -> None:
        for routespec in [spec for spec in self._reported if spec not in self._table]:
            del self._reported[routespec]
        now = time.monotonic()
        due = {}
        for routespec, when in newest.items():
            reported, at = self._reported.get(routespec, (0.0, -self._interval))
            if when > reported + JITTER and now - at >= self._interval:
                due[routespec] = when
        routespecs = list(due)
        for start in range(0, len(routespecs), _AT_ONCE):
            some = routespecs[start : start + _AT_ONCE]
            if not await self._write(some, due):
                for routespec in some:  # one of them was deleted meanwhile
                    await self._write([routespec], due)

    async def _write(self, routespecs: list[str], due: dict[str, float]) -> bool:
        written = await self._store.write(
            [Put(ACTIVITY + spec, encode_activity(due[spec])) for spec in routespecs],
            guards=[Exists(ROUTES + spec) for spec in routespecs],
        )
        if written.done:
            told = time.monotonic()
            self._reported.update((spec, (due[spec], told)) for spec in routespecs)
        return written.done
