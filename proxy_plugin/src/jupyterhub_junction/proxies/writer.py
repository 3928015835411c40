"""The hub's side of the table: writes changes in batches, and waits until they are live.

Invariants:

* Changes reach etcd in the order in which they were asked for; those asked for together share
  transactions, and all waiting callers sleep in one place.
* A change is live when every replica that is registered has it in effect.  Which replicas
  these are is read in the transaction that makes the change, so none is missed; one that is no
  longer registered stops counting.
* A reset of etcd (another cluster id, or a revision that went back) is noticed at the first
  answer that shows it, and told to :attr:`TableWriter.on_reset`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from ..keys import ACTIVITY, REPLICAS, ROUTES, BadValue, ReplicaReport, encode_route
from ..routes import Route
from ..store import Delete, Item, Put, Store, StoreError, StoreUnavailable

__all__ = ["NotLive", "TableWriter"]

MAX_WAITING = 500_000
MAX_BATCH_BYTES = 512 * 1024  # etcd refuses requests over 1.5 MiB


class NotLive(Exception):
    """etcd has the change, but a live replica did not put it into effect in time."""


@dataclass(slots=True)
class _Change:
    operations: tuple[Put | Delete, ...]
    done: asyncio.Future[tuple[str, int]]


@dataclass(slots=True)
class _Sleeper:
    cluster_id: str
    revision: int
    awake: asyncio.Future[None]


class TableWriter:
    """Writes routes to a store and waits for the replicas.

    Args:
        store: the keys.
        timeout: seconds that live replicas get to put a change into effect.
    """

    def __init__(self, store: Store, log: logging.Logger, *, timeout: float = 30.0) -> None:
        self.store = store
        self.log = log
        self.timeout = timeout
        self.on_reset: Callable[[], None] | None = None
        self.cluster_id = ""
        self.revision = 0
        #: live replicas by name, as of the newest revision seen
        self.replicas: dict[str, ReplicaReport] = {}
        self._seen = 0  # the revision that self.replicas is at
        self._queue: deque[_Change] = deque()
        self._sleepers: list[_Sleeper] = []
        self._flusher: asyncio.Task[None] | None = None
        self._watcher: asyncio.Task[None] | None = None

    async def put(self, route: Route) -> None:
        """Add or change a route; returns when it is live on every live replica.

        Raises:
            StoreError: etcd did not take it; nothing is stored.
            NotLive: etcd has it, a live replica does not within the timeout.
        """
        await self._change(Put(ROUTES + route.routespec, encode_route(route)))

    async def delete(self, routespec: str) -> None:
        """Delete a route if it is there; returns when no live replica uses it."""
        await self._change(Delete(ROUTES + routespec), Delete(ACTIVITY + routespec))

    def note(self, cluster_id: str, revision: int, known: int | None = None) -> None:
        """Compare what an answer says of etcd's history with what was seen before.

        Args:
            known: :attr:`revision` when etcd was asked, if others may have been answered since:
                an answer that was long on its way is older than theirs, and no reset.
        """
        least = self.revision if known is None else min(known, self.revision)
        if self.cluster_id and (cluster_id != self.cluster_id or revision < least):
            self.log.warning(
                "etcd is not the one it was (cluster %s at revision %d, before %s at %d)",
                cluster_id,
                revision,
                self.cluster_id,
                self.revision,
            )
            self._seen = 0
            self.cluster_id, self.revision = cluster_id, revision
            if self.on_reset is not None:
                self.on_reset()
        self.cluster_id, self.revision = cluster_id, max(revision, self.revision)

    async def close(self) -> None:
        """End the background tasks; who still waits is told so."""
        tasks = [task for task in (self._flusher, self._watcher) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        stopped = StoreUnavailable("the proxy is being stopped")
        self._fail(self._queue, stopped)
        self._queue.clear()
        for sleeper in self._sleepers:
            if not sleeper.awake.done():
                sleeper.awake.set_exception(StoreUnavailable(str(stopped)))

    # --- writing ----------------------------------------------------------------------------

    async def _change(self, *operations: Put | Delete) -> None:
        if len(self._queue) >= MAX_WAITING:
            raise StoreUnavailable(f"{MAX_WAITING} changes wait for etcd already")
        change = _Change(operations, asyncio.get_running_loop().create_future())
        self._queue.append(change)
        if self._flusher is None or self._flusher.done():
            self._flusher = asyncio.create_task(self._flush())
        cluster_id, revision = await change.done
        await self._live(cluster_id, revision)

    async def _flush(self) -> None:
        await asyncio.sleep(0)  # let those who ask at the same time share a transaction
        while self._queue:
            batch = self._next_batch()
            operations = [operation for change in batch for operation in change.operations]
            known = self.revision
            try:
                written = await self.store.write(operations, read=[REPLICAS])
            except StoreError as error:
                self._fail(batch, error)
                continue
            except BaseException as error:
                self._fail(batch, StoreUnavailable(f"the write was ended: {error!r}"))
                raise
            self.note(written.cluster_id, written.revision, known)
            self._set_replicas(written.revision, written.items)
            for change in batch:
                if not change.done.done():
                    change.done.set_result((written.cluster_id, written.revision))

    def _next_batch(self) -> list[_Change]:
        batch: list[_Change] = []
        keys: set[str] = set()
        room, size = self.store.max_operations - 1, 0
        while self._queue:
            change = self._queue[0]
            room -= len(change.operations)
            size += sum(len(op.value) for op in change.operations if isinstance(op, Put))
            names = {operation.key for operation in change.operations}
            # etcd refuses a transaction in which a key stands twice
            if batch and (room < 0 or size > MAX_BATCH_BYTES or names & keys):
                break
            keys |= names
            batch.append(self._queue.popleft())
        return batch

    def _fail(self, changes: Iterable[_Change], error: StoreError) -> None:
        for change in changes:
            if not change.done.done():
                change.done.set_exception(type(error)(str(error)))

    # --- waiting ----------------------------------------------------------------------------

    async def _live(self, cluster_id: str, revision: int) -> None:
        if not self._behind(cluster_id, revision):
            return
        if self._watcher is None or self._watcher.done():
            self._watcher = asyncio.create_task(self._watch())
        sleeper = _Sleeper(cluster_id, revision, asyncio.get_running_loop().create_future())
        self._sleepers.append(sleeper)
        try:
            async with asyncio.timeout(self.timeout):
                await sleeper.awake
        except TimeoutError:
            late = ", ".join(self._behind(cluster_id, revision))
            raise NotLive(
                f"etcd has the change (revision {revision}), but after {self.timeout:g} s these"
                f" replicas have not: {late}"
            ) from None
        finally:
            with contextlib.suppress(ValueError):
                self._sleepers.remove(sleeper)

    def _behind(self, cluster_id: str, revision: int) -> list[str]:
        return [
            name
            for name, report in sorted(self.replicas.items())
            # a report on another cluster is a left-over of a restored snapshot
            if report.cluster_id == cluster_id and report.revision < revision
        ]

    def _wake(self) -> None:
        reports = self.replicas.values()
        still = []
        least: dict[str, int] = {}
        for report in reports:
            known = least.get(report.cluster_id)
            least[report.cluster_id] = (
                report.revision if known is None else min(known, report.revision)
            )
        for sleeper in self._sleepers:
            reached = least.get(sleeper.cluster_id)
            if reached is not None and reached < sleeper.revision:
                still.append(sleeper)
            elif not sleeper.awake.done():
                sleeper.awake.set_result(None)
        self._sleepers[:] = still

    def _set_replicas(self, revision: int, items: Sequence[Item]) -> None:
        if revision < self._seen:
            return  # the watch has seen more than this transaction
        self._seen = revision
        self.replicas = {}
        for item in items:
            self._set_replica(item.key, item.value)
        self._wake()

    def _set_replica(self, key: str, value: bytes | None) -> None:
        name = key.removeprefix(REPLICAS)
        self.replicas.pop(name, None)
        if value is not None:
            try:
                self.replicas[name] = ReplicaReport.decode(key, value)
            except BadValue as error:
                self.log.error("skipping a broken value in etcd: %s", error)

    async def _watch(self) -> None:
        """Follow the replicas while anyone waits for them."""
        pause = 0.05
        while self._sleepers:
            try:
                known = self.revision
                snapshot = await self.store.read(REPLICAS)
                self.note(snapshot.cluster_id, snapshot.revision, known)
                self._set_replicas(snapshot.revision, snapshot.items)
                pause = 0.05
                async for batch in self.store.watch(REPLICAS, revision=snapshot.revision + 1):
                    if batch.revision <= self._seen:
                        continue
                    self._seen = batch.revision
                    for event in batch.events:
                        self._set_replica(event.key, event.value)
                    self._wake()
            except StoreError as error:
                self.log.warning("waiting for replicas: %s", error)
                await asyncio.sleep(pause)
                pause = min(pause * 2, 5.0)
