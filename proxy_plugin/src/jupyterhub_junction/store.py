"""The seam between Junction and what keeps its keys: etcd, or :class:`MemoryStore` in tests.

Keys are relative to the store's prefix (``routes//user/x/``); values are bytes.  Invariants:

* :meth:`Store.read` and :meth:`Store.write` each see one revision.
* :meth:`Store.watch` yields every change from a revision on, once, in order, one
  :class:`Batch` for each revision that changed a watched key; or it raises.
* Nothing here retries for ever: a call ends by its deadline with a :class:`StoreError`.

Errors::

    StoreError                 one clear line, never a traceback, for whoever runs the hub
     ├─ StoreUnavailable       no endpoint answers in time, or there is no leader: try again
     ├─ StoreRefused           wrong address, CA, user or password, or no permission: mend it
     └─ Compacted              the watched revision is gone: read all again
"""

from __future__ import annotations

import asyncio
import itertools
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, field

__all__ = [
    "Batch",
    "Compacted",
    "Delete",
    "Event",
    "Exists",
    "Item",
    "MemoryStore",
    "Put",
    "Snapshot",
    "Store",
    "StoreError",
    "StoreRefused",
    "StoreUnavailable",
    "Written",
]


class StoreError(Exception):
    """Base of all errors of a store."""


class StoreUnavailable(StoreError):
    """The store does not answer now; the same call may succeed later."""


class StoreRefused(StoreError):
    """The store answers and says no; the same call will fail again until something is mended."""


class Compacted(StoreError):
    """The revision to watch from has been compacted away."""


@dataclass(frozen=True, slots=True)
class Item:
    """One key as stored."""

    key: str
    value: bytes
    mod_revision: int
    lease: int = 0


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All keys asked for, at one revision of one cluster."""

    cluster_id: str
    revision: int
    items: tuple[Item, ...]


@dataclass(frozen=True, slots=True)
class Event:
    """One change; ``value`` is None for a delete."""

    key: str
    value: bytes | None
    mod_revision: int


@dataclass(frozen=True, slots=True)
class Batch:
    """All changes of one revision; without events it says only that nothing else came before."""

    cluster_id: str
    revision: int
    events: tuple[Event, ...] = ()


@dataclass(frozen=True, slots=True)
class Put:
    """Write a key; under a lease, it goes when the lease ends."""

    key: str
    value: bytes
    lease: int = 0


@dataclass(frozen=True, slots=True)
class Delete:
    """Delete a key if it is there."""

    key: str


@dataclass(frozen=True, slots=True)
class Exists:
    """A guard: the write happens only if this key is there."""

    key: str


@dataclass(frozen=True, slots=True)
class Written:
    """What a write came to: ``done`` is False if a guard kept it back (nothing was written).

    ``items`` are the keys read in the same transaction, after the write, at ``revision``.
    """

    cluster_id: str
    revision: int
    done: bool = True
    items: tuple[Item, ...] = ()


class Store(ABC):
    """What Junction asks of the thing that keeps its keys.  All times are in seconds."""

    #: operations that one write may hold (etcd's ``--max-txn-ops`` is 128 by default;
    #: prefixes read along with it count too)
    max_operations = 120

    @abstractmethod
    async def read(self, *prefixes: str) -> Snapshot:
        """All keys under the prefixes, at one revision (linearizable)."""

    @abstractmethod
    async def write(
        self,
        operations: Sequence[Put | Delete],
        *,
        guards: Iterable[Exists] = (),
        read: Iterable[str] = (),
    ) -> Written:
        """Do all operations in one transaction, or none; then read the prefixes in ``read``.

        The revision is the transaction's own if it changed anything, else the current one.
        No key may stand twice in one transaction.
        """

    @abstractmethod
    def watch(self, *prefixes: str, revision: int) -> AsyncIterator[Batch]:
        """Changes under the prefixes from ``revision`` on (that one included), in order.

        Raises:
            Compacted: ``revision`` is no longer kept.
            StoreUnavailable: the stream broke, or was silent for longer than its deadline.
        """

    @abstractmethod
    async def lease(self, ttl: float) -> int:
        """Grant a lease of ``ttl`` seconds; returns its id (never 0)."""

    @abstractmethod
    async def keep_alive(self, lease: int) -> bool:
        """Renew a lease; False if it had ended already."""

    @abstractmethod
    async def revoke(self, lease: int) -> None:
        """End a lease and delete its keys; nothing happens if it has ended."""

    @property
    def warning(self) -> str:
        """What will cut this client off before long, and the mend; empty if nothing will."""
        return ""

    async def close(self) -> None:
        """Let go of connections; the store cannot be used afterwards."""
        return None


@dataclass
class _Memory:
    """What :class:`MemoryStore` keeps; shared by all that stand for clients of one cluster."""

    cluster_id: str = "memory-1"
    revision: int = 1
    items: dict[str, Item] = field(default_factory=dict)
    history: list[Batch] = field(default_factory=list)
    compacted: int = 0
    leases: set[int] = field(default_factory=set)
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)


class MemoryStore(Store):
    """The seam's small second implementation: one process, no leases that end by themselves.

    ``available = False`` makes every call fail as an unreachable etcd does; :meth:`wipe` makes
    the store anew under another cluster id; :meth:`compact` forgets the history.
    """

    _ids = itertools.count(1)

    def __init__(self, memory: _Memory | None = None) -> None:
        self._memory = memory or _Memory()
        self.available = True

    def client(self) -> MemoryStore:
        """Another client of the same keys."""
        return MemoryStore(self._memory)

    def _check(self) -> None:
        if not self.available:
            raise StoreUnavailable("the in-memory store was made unavailable")

    def _range(self, prefixes: Iterable[str]) -> tuple[Item, ...]:
        wanted = tuple(prefixes)
        return tuple(
            item for key, item in sorted(self._memory.items.items()) if key.startswith(wanted)
        )

    async def read(self, *prefixes: str) -> Snapshot:
        self._check()
        return Snapshot(self._memory.cluster_id, self._memory.revision, self._range(prefixes))

    async def write(
        self,
        operations: Sequence[Put | Delete],
        *,
        guards: Iterable[Exists] = (),
        read: Iterable[str] = (),
    ) -> Written:
        self._check()
        memory = self._memory
        keys = [operation.key for operation in operations]
        if len(set(keys)) != len(keys):
            raise StoreError("a key stands twice in one transaction")
        if any(guard.key not in memory.items for guard in guards):
            return Written(memory.cluster_id, memory.revision, done=False)
        revision = memory.revision + 1
        events = []
        for operation in operations:
            if isinstance(operation, Put):
                if operation.lease and operation.lease not in memory.leases:
                    raise StoreError(f"lease {operation.lease} is not there")
                item = Item(operation.key, operation.value, revision, operation.lease)
                memory.items[operation.key] = item
                events.append(Event(operation.key, operation.value, revision))
            elif memory.items.pop(operation.key, None) is not None:
                events.append(Event(operation.key, None, revision))
        if events:
            memory.revision = revision
            memory.history.append(Batch(memory.cluster_id, revision, tuple(events)))
            async with memory.changed:
                memory.changed.notify_all()
        return Written(memory.cluster_id, memory.revision, items=self._range(read))

    async def watch(self, *prefixes: str, revision: int) -> AsyncIterator[Batch]:
        self._check()
        memory = self._memory
        cluster_id = memory.cluster_id
        while True:
            self._check()
            if memory.cluster_id != cluster_id:
                raise StoreUnavailable("the in-memory store was made anew")
            if revision <= memory.compacted:
                raise Compacted(f"revision {revision} has been compacted")
            for batch in [b for b in memory.history if b.revision >= revision]:
                revision = batch.revision + 1
                events = tuple(e for e in batch.events if e.key.startswith(prefixes))
                if events:
                    yield Batch(batch.cluster_id, batch.revision, events)
            await self._changed(revision, cluster_id)

    async def _changed(self, revision: int, cluster_id: str) -> None:
        """Wait until there is something for a watch that has seen all before ``revision``."""
        memory = self._memory
        async with memory.changed:
            await memory.changed.wait_for(
                lambda: (
                    memory.revision >= revision
                    or memory.cluster_id != cluster_id
                    or not self.available
                )
            )

    async def lease(self, ttl: float) -> int:
        self._check()
        lease = next(self._ids)
        self._memory.leases.add(lease)
        return lease

    async def keep_alive(self, lease: int) -> bool:
        self._check()
        return lease in self._memory.leases

    async def revoke(self, lease: int) -> None:
        self._check()
        self._memory.leases.discard(lease)
        held = [item.key for item in self._memory.items.values() if item.lease == lease]
        await self.write([Delete(key) for key in held])

    async def set_available(self, available: bool) -> None:
        """Make the store reachable or not for this client; running watches see it."""
        self.available = available
        async with self._memory.changed:
            self._memory.changed.notify_all()

    async def wipe(self, *, cluster_id: str, revision: int = 1, items: Iterable[Item] = ()) -> None:
        """Make the store anew, as a lost or restored etcd is: another id, another history."""
        memory = self._memory
        memory.cluster_id, memory.revision = cluster_id, revision
        memory.items = {item.key: item for item in items}
        memory.history.clear()
        memory.leases.clear()
        memory.compacted = revision if revision > 1 else 0
        async with memory.changed:
            memory.changed.notify_all()

    async def compact(self) -> None:
        """Forget all history, as ``etcdctl compact`` at the current revision does."""
        self._memory.compacted = self._memory.revision
        self._memory.history.clear()
