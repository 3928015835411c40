"""What one replica knows, serves, and may claim.

Pure: told of snapshots, batches and applies, it says which table to apply and which revision
is in effect.  Invariants:

* The table is etcd's routes at :attr:`Replica.known`: batches come in order, none is left out.
* :attr:`Replica.revision` is the greatest revision up to which every change is applied.
* A table that is not complete, or that belongs to another history of etcd (made anew, or
  restored from a snapshot), never takes the place of the one that is served: the replica
  *holds* until the hub has declared a newer table complete.
"""

from __future__ import annotations

from dataclasses import dataclass

from .keys import ROUTES, TABLE, BadValue, ReplicaReport, TableInfo, decode_route
from .routes import Route, RouteTable
from .store import Batch, Snapshot

__all__ = ["Apply", "Replica"]


@dataclass(frozen=True, slots=True)
class Apply:
    """One apply to be done: the table at a revision."""

    revision: int
    table: RouteTable
    info: TableInfo


class Replica:
    """The state of one replica; see the module for its invariants."""

    def __init__(self) -> None:
        self.table = RouteTable()
        self.info: TableInfo | None = None
        self.cluster_id = ""
        #: the revision of etcd that :attr:`table` is at; 0 before the first complete table
        self.known = 0
        #: the revision of the table that Traefik serves; 0 before the first apply
        self.applied = 0
        #: why the replica does not follow etcd now; empty when it does
        self.holding = "no complete table has been read yet"
        #: keys whose values are skipped, with the reason
        self.bad: dict[str, str] = {}
        self._pending: int | None = None  # first change that no apply holds
        self._in_flight: int | None = None  # first change that the running apply holds

    @property
    def revision(self) -> int:
        """All changes up to this revision are in effect; 0 before the first apply."""
        if not self.applied:
            return 0
        firsts = [first for first in (self._in_flight, self._pending) if first is not None]
        return min(firsts) - 1 if firsts else self.known

    @property
    def needs_apply(self) -> bool:
        """Whether a change waits for an apply and none is running."""
        return self._pending is not None and self._in_flight is None

    def offer(self, snapshot: Snapshot) -> bool:
        """Take all of ``routes/`` and ``table`` as read at one revision.

        Returns:
            Whether the replica follows etcd from ``snapshot.revision`` on; if not,
            :attr:`holding` says why, and what was served stays.
        """
        items = {item.key: item.value for item in snapshot.items}
        info = self._judge(snapshot, items.get(TABLE))
        if info is None:
            return False
        # held once, it may have been for another history under the same id
        same = (
            not self.holding
            and snapshot.cluster_id == self.cluster_id
            and snapshot.revision >= self.known
        )
        self.holding = ""
        self.bad.clear()
        routes: dict[str, Route] = {}
        for key, value in items.items():
            if key.startswith(ROUTES):
                route = self._decode(key, value)
                if route is not None:
                    routes[route.routespec] = route
        if not same:  # revisions of another history say nothing of this one's
            self._pending = self._pending and 1
            self._in_flight = self._in_flight and 1
        first = min(self.known + 1, snapshot.revision) if same else 1
        changed = self.info is None or self.info.error_path != info.error_path
        for routespec in [spec for spec in self.table if spec not in routes]:
            changed |= self._delete(routespec)
        for route in routes.values():
            changed |= self._put(route)
        self.cluster_id, self.known, self.info = snapshot.cluster_id, snapshot.revision, info
        if changed:
            self._mark(first)
        return True

    def _judge(self, snapshot: Snapshot, value: bytes | None) -> TableInfo | None:
        if value is None:
            self.holding = "etcd holds no complete table"
            return None
        try:
            info = TableInfo.decode(value)
        except BadValue as error:
            self.holding = str(error)
            return None
        if self.info is not None:
            renewed = info.id > self.info.id
            if snapshot.cluster_id != self.cluster_id and not renewed:
                self.holding = "etcd was made anew and the hub has not filled it yet"
                return None
            if snapshot.revision < self.known and not renewed:
                self.holding = "etcd was restored and the hub has not checked its routes yet"
                return None
            if self.holding and not renewed:
                return None
        return info

    def follow(self, batch: Batch) -> bool:
        """Take the next revision of the watch; False if the replica now holds."""
        if batch.revision <= self.known:
            return True
        values = {event.key: event.value for event in batch.events}
        info = self.info
        if TABLE in values:
            value = values[TABLE]
            if value is None:
                self.holding = "the table in etcd was deleted"
                return False
            try:
                info = TableInfo.decode(value)
            except BadValue as error:
                self.holding = str(error)
                return False
        changed = info != self.info and (
            self.info is None or info is None or info.error_path != self.info.error_path
        )
        for key, value in values.items():
            if not key.startswith(ROUTES):
                continue
            route = None if value is None else self._decode(key, value)
            if value is None:
                self.bad.pop(key, None)
            if route is None:
                changed |= self._delete(key.removeprefix(ROUTES))
            else:
                changed |= self._put(route)
        self.known, self.info = batch.revision, info
        if changed:
            self._mark(batch.revision)
        return True

    def begin_apply(self) -> Apply:
        """The table to apply now; all changes so far are in it."""
        assert self.info is not None
        assert self._in_flight is None
        self._in_flight, self._pending = self._pending, None
        return Apply(self.known, self.table.copy(), self.info)

    def end_apply(self, apply: Apply, *, done: bool) -> None:
        """Note how an apply ended; what a failed one held waits again."""
        first, self._in_flight = self._in_flight, None
        if done:
            self.applied = apply.revision
        elif first is not None:
            self._mark(first)

    def lost(self) -> None:
        """Traefik lost its table (it was restarted): all has to be applied again."""
        self.applied = 0
        if self.info is not None:
            self._mark(1)

    def report(self, version: str) -> ReplicaReport:
        """What this replica answers for, for ``replicas/<name>``."""
        return ReplicaReport(self.cluster_id, self.revision, self.applied, len(self.table), version)

    def _mark(self, first: int) -> None:
        self._pending = first if self._pending is None else min(first, self._pending)

    def _decode(self, key: str, value: bytes) -> Route | None:
        try:
            route = decode_route(key, value)
        except BadValue as error:
            self.bad[key] = str(error)
            return None
        self.bad.pop(key, None)
        return route

    def _put(self, route: Route) -> bool:
        old = self.table.add(route)
        return (
            old is None
            or old.target != route.target
            or old.data.get("hub") != route.data.get("hub")
        )

    def _delete(self, routespec: str) -> bool:
        return self.table.remove(routespec) is not None
