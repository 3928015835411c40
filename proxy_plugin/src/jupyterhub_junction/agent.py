"""One replica's agent: follows the routes in etcd and keeps Traefik at them.

It watches, renders, pushes, confirms and reports; what may be claimed is decided in
:mod:`.replica`.  Invariants:

* It registers under ``replicas/`` only once Traefik serves a complete table, and reads the
  table again in the very transaction that registers it: every later write of the hub waits for
  this replica, and none before is missed.
* It is ready when Traefik serves all that was there when it registered, and stays so while
  etcd is away.
* A replica whose Traefik does not answer is not registered.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from . import __version__
from .activity import JITTER, Resolver, newest_by_route
from .keys import ACTIVITY, REPLICAS, ROUTES, TABLE, check_replica_name, encode_activity
from .replica import Apply, Replica
from .store import (
    Compacted,
    Exists,
    Put,
    Snapshot,
    Store,
    StoreError,
    StoreRefused,
    StoreUnavailable,
)
from .traefik import RenderOptions, render, with_marker
from .traefik_api import TraefikAPI, TraefikError

__all__ = ["Agent", "AgentOptions"]


@dataclass(frozen=True, slots=True)
class AgentOptions:
    """Settings of an agent; times in seconds.

    Attributes:
        name: of this replica, unique among those of one table.
        lease: how long the replica counts as live after its last word.
        poll: between two looks at whether Traefik is there and is the same.
        activity: at most one report per route in this time; 0 reports none.
        max_stale: a replica cut off from etcd for longer is not ready; 0 is never.
        traefik_pid: gives the process whose connections count as activity; None counts all.
    """

    name: str
    lease: float = 10.0
    poll: float = 0.2
    activity: float = 60.0
    max_stale: float = 0.0
    traefik_pid: Callable[[], int | None] | None = None


class Agent:
    """The agent of one Traefik.

    Args:
        store: the keys; closed by whoever made it.
        traefik: the API of the Traefik to feed.
        options: see :class:`AgentOptions`.
        rendering: what the document holds besides routes.
    """

    def __init__(
        self,
        store: Store,
        traefik: TraefikAPI,
        options: AgentOptions,
        rendering: RenderOptions,
        log: logging.Logger,
    ) -> None:
        check_replica_name(options.name)
        self.store = store
        self.traefik = traefik
        self.options = options
        self.rendering = rendering
        self.log = log
        self.replica = Replica()
        #: why the agent does not follow etcd now; empty while it does
        self.trouble = "not connected yet"
        self.draining = False
        self.applies = 0
        self._live = False  # has once served all that was there when it registered
        self._followed = time.monotonic()  # when the agent last followed etcd
        self._started = ""  # Traefik's start date; empty while it does not answer
        self._changed = asyncio.Condition()
        self._reported: dict[str, tuple[float, float]] = {}  # newest data, and when told
        self._lease = 0  # what this replica is registered under; 0 while it is not

    # --- what others ask --------------------------------------------------------------------

    @property
    def not_ready(self) -> str:
        """Why this replica should get no users; empty if it should."""
        if self.draining:
            return "draining"
        if not self._started:
            return "Traefik does not answer"
        if not self.replica.applied or not self._live:
            return self.trouble or "the table is being loaded"
        stale = self.options.max_stale
        if stale and self.trouble and time.monotonic() - self._followed > stale:
            return f"cut off from etcd for over {stale:g} s: {self.trouble}"
        return ""

    def status(self) -> dict[str, object]:
        """A JSON object for people and probes."""
        replica = self.replica
        return {
            "name": self.options.name,
            "version": __version__,
            "ready": not self.not_ready,
            "reason": self.not_ready,
            "following": not self.trouble,
            "trouble": self.trouble,
            "cluster_id": replica.cluster_id,
            "known": replica.known,
            "revision": replica.revision,
            "applied": replica.applied,
            "applies": self.applies,
            "routes": len(replica.table),
            "bad_keys": dict(sorted(replica.bad.items())[:100]),
        }

    # --- the parts that run -----------------------------------------------------------------

    async def run(self) -> None:
        """Run until cancelled.

        Raises:
            StoreRefused: the store says no at the very start; later it is tried again.
        """
        async with asyncio.TaskGroup() as group:
            group.create_task(self._apply_loop())
            group.create_task(self._look_after_traefik())
            group.create_task(self._follow_loop())
            if self.options.activity:
                group.create_task(self._activity_loop())

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def _until(self, condition: Callable[[], bool]) -> None:
        async with self._changed:
            await self._changed.wait_for(condition)

    async def _look_after_traefik(self) -> None:
        while True:
            try:
                started = str((await self.traefik.version()).get("startDate", "?"))
            except (TraefikError, ValueError) as error:
                if self._started:
                    self.log.warning("%s", error)
                started = ""
            if started != self._started:
                if started:
                    self.log.info("Traefik started at %s: loading the table into it", started)
                self._started = started
                self.replica.lost()
                await self._notify()
            await asyncio.sleep(self.options.poll)

    async def _apply_loop(self) -> None:
        pause = 0.1
        while True:
            await self._until(lambda: self.replica.needs_apply and bool(self._started))
            apply, started = self.replica.begin_apply(), self._started
            done = False
            try:
                await self._apply(apply)
                done = started == self._started
                pause = 0.1
            except TraefikError as error:
                self.log.error("%s", error)
            finally:
                self.replica.end_apply(apply, done=done)
            await self._notify()
            if not done:
                await asyncio.sleep(pause)
                pause = min(pause * 2, 5.0)

    async def _apply(self, apply: Apply) -> None:
        self.applies += 1
        serial = self.applies
        options = replace(self.rendering, error_path=apply.info.error_path)
        begun = time.monotonic()
        # a marker of an earlier agent's apply must not be taken for this one's
        number = int(time.time() * 1000) * 1000 + serial % 1000

        def document() -> bytes:
            return json.dumps(with_marker(render(apply.table, options), number)).encode()

        await self.traefik.put(await asyncio.to_thread(document))
        await self.traefik.wait_for(number)
        self.log.debug(
            "applied revision %d with %d routes in %.0f ms",
            apply.revision,
            len(apply.table),
            1000 * (time.monotonic() - begun),
        )

    async def _follow_loop(self) -> None:
        pause = 0.1
        ever = False
        while True:
            begun = time.monotonic()
            try:
                await self._follow()
                trouble = self.replica.holding or "Traefik does not answer"
            except StoreRefused as error:
                if not ever:
                    raise
                trouble = str(error)
            except StoreError as error:
                trouble = str(error)
            ever = ever or self.replica.known > 0
            if trouble != self.trouble:
                self.log.warning("not following etcd: %s", trouble)
            self.trouble = trouble
            pause = 0.1 if time.monotonic() - begun > 5 else min(pause * 2, 5.0)
            await asyncio.sleep(pause)

    async def _follow(self) -> None:
        """One session: read, load, register, then follow until something breaks."""
        snapshot = await self.store.read(ROUTES, TABLE)
        if not self._offer(snapshot):
            if self._lease:
                await self._leave()
            await self._wait_for_table(snapshot)
            return
        await self._notify()
        await self._until(lambda: self.replica.applied > 0 and bool(self._started))
        lease = self._lease = await self._living_lease()
        try:
            written = await self.store.write([self._report(lease)], read=[ROUTES, TABLE])
            if not self._offer(Snapshot(written.cluster_id, written.revision, written.items)):
                return
            await self._notify()
            self.trouble = ""
            self.log.info(
                "following etcd at revision %d with %d routes",
                written.revision,
                len(self.replica.table),
            )
            await self._first_failure(
                self._watch(written.revision + 1),
                self._keep_alive(lease),
                self._report_loop(lease, written.revision),
                self._until(lambda: not self._started),
            )
        except StoreError:
            # Only the way to etcd broke: this replica still serves, so the hub has to go on
            # waiting for it until it is back, or until its lease has ended.
            raise
        except BaseException:
            await self._leave()
            raise
        else:
            await self._leave()
        finally:
            self._followed = time.monotonic()

    async def _living_lease(self) -> int:
        """The lease of the session before if it still lives, else a new one."""
        if self._lease and await self.store.keep_alive(self._lease):
            return self._lease
        return await self.store.lease(self.options.lease)

    async def _leave(self) -> None:
        """Stop counting as a live replica, now."""
        lease, self._lease = self._lease, 0
        with contextlib.suppress(StoreError, TimeoutError):
            async with asyncio.timeout(2):
                await self.store.revoke(lease)

    async def _first_failure(
        self, *parts: contextlib.AbstractContextManager[None] | object
    ) -> None:
        """Run the parts until the first ends; then end the others, and raise what it raised."""
        tasks = [asyncio.ensure_future(part) for part in parts]  # type: ignore[call-overload]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        for task in done:
            task.result()

    def _offer(self, snapshot: Snapshot) -> bool:
        before = set(self.replica.bad)
        taken = self.replica.offer(snapshot)
        self._log_bad(before)
        return taken

    def _log_bad(self, before: set[str]) -> None:
        for key in self.replica.bad.keys() - before:
            self.log.error("skipping a broken value in etcd: %s", self.replica.bad[key])

    async def _wait_for_table(self, snapshot: Snapshot) -> None:
        """Wait for the hub to declare a table complete; meanwhile what was served stays."""
        if self.replica.holding != self.trouble:
            self.log.warning("waiting: %s", self.replica.holding)
        self.trouble = self.replica.holding
        with contextlib.suppress(Compacted):
            async for batch in self.store.watch(TABLE, revision=snapshot.revision + 1):
                if batch.events:
                    return

    async def _watch(self, revision: int) -> None:
        async for batch in self.store.watch(ROUTES, TABLE, revision=revision):
            if batch.cluster_id != self.replica.cluster_id:
                raise StoreUnavailable("the watch came to another etcd cluster")
            before = set(self.replica.bad)
            follows = self.replica.follow(batch)
            self._log_bad(before)
            await self._notify()
            if not follows:
                return

    async def _keep_alive(self, lease: int) -> None:
        while True:
            await asyncio.sleep(self.options.lease / 3)
            if not await self.store.keep_alive(lease):
                raise StoreUnavailable("the lease of this replica ended")

    def _report(self, lease: int) -> Put:
        value = self.replica.report(__version__).encode()
        return Put(REPLICAS + self.options.name, value, lease)

    async def _report_loop(self, lease: int, registered: int) -> None:
        last = None
        while True:
            await self._until(lambda: self._report(lease) != last)  # noqa: B023
            if not self.replica.applied:
                return
            if self.replica.revision >= registered:
                self._live = True
            last = self._report(lease)
            await self.store.write([last])

    # --- activity ---------------------------------------------------------------------------

    async def _activity_loop(self) -> None:
        resolver = Resolver()
        interval = self.options.activity
        while True:
            await asyncio.sleep(min(interval / 2, 10.0))
            pid = self.options.traefik_pid() if self.options.traefik_pid else None
            targets = {route.routespec: route.target for route in self.replica.table.values()}
            try:
                newest = await asyncio.to_thread(newest_by_route, targets, resolver, pid)
            except OSError as error:
                self.log.error("no last_activity: the kernel's connection table: %s", error)
                return
            if not self.trouble:
                with contextlib.suppress(StoreError):
                    await self._report_activity(newest)

    async def _report_activity(self, newest: dict[str, float]) -> None:
        for routespec in [spec for spec in self._reported if spec not in self.replica.table]:
            del self._reported[routespec]
        now = time.monotonic()
        due = {}
        for routespec, when in newest.items():
            reported, at = self._reported.get(routespec, (0.0, -self.options.activity))
            if when > reported + JITTER and now - at >= self.options.activity:
                due[routespec] = when
        routespecs = list(due)
        for start in range(0, len(routespecs), 40):
            some = routespecs[start : start + 40]
            if not await self._write_activity(some, due):
                for routespec in some:  # one of them was deleted meanwhile
                    await self._write_activity([routespec], due)

    async def _write_activity(self, routespecs: list[str], due: dict[str, float]) -> bool:
        written = await self.store.write(
            [Put(ACTIVITY + spec, encode_activity(due[spec])) for spec in routespecs],
            guards=[Exists(ROUTES + spec) for spec in routespecs],
        )
        if written.done:
            told = time.monotonic()
            self._reported.update((spec, (due[spec], told)) for spec in routespecs)
        return written.done
