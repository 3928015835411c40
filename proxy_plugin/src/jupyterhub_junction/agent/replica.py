"""What one replica knows, serves, and may claim; and when it has to apply.

Pure: told of snapshots, batches and applies, it says which table to apply, how long that may
wait, and which revision is in effect.  Invariants:

* The table is etcd's routes at :attr:`Replica.known`: batches come in order, none is left out.
* :attr:`Replica.revision` is the greatest revision up to which every change is in effect:
  applied, or *covered* (see :mod:`..traefik.dispatch`) under every document that Traefik may
  serve now.
* A table that is not complete, or that belongs to another history of etcd (made anew, or
  restored from a snapshot), never takes the place of the one that is served: the replica
  *holds* until the hub has declared a newer table complete.
* Every change that a document would show is applied some time; one that was undone before is not.
* A route that was added and is covered gets into a document only once it has stood for as long as
  covered changes wait (see :mod:`.young`): servers that come and go cost no applies.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..keys import ROUTES, TABLE, BadValue, ReplicaReport, TableInfo, decode_route
from ..routes import Key, Route, RouteTable
from ..store import Batch, Snapshot
from ..traefik.dispatch import WHOLE, Dispatch
from .pacing import Pacing
from .young import Young

__all__ = ["Apply", "Replica"]


@dataclass(frozen=True, slots=True)
class Apply:
    """One apply to be done: the table at a revision."""

    revision: int
    table: RouteTable
    info: TableInfo


class Replica:
    """The state of one replica; see the module for its invariants.

    Args:
        forwarder: requests that match no route of a document reach a forwarder that has
            :attr:`table`; while they do not, every change waits for an apply.
        pacing: how long changes wait.
    """

    def __init__(self, *, forwarder: bool = False, pacing: Pacing | None = None) -> None:
        #: read by the forwarder's thread too, so always this same object
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
        self._forwarder = forwarder
        self._pacing = pacing or Pacing()
        self._cost = 0.0  # seconds that the last apply took
        self._debt = 0.0  # see Pacing.debt
        self._serving: Dispatch | None = None  # the last document that was confirmed
        self._coming: Dispatch | None = None  # that of the running apply
        self._uncertain = False  # an apply failed, so Traefik may serve another document
        self._renew = False  # the document changes for another reason than the table
        # what is not in effect, and the first revision of which that is so, in their order
        self._wrong: dict[Key, int] = {}
        # from the newest document: what the next one says otherwise, and what waits before that
        self._differs: set[Key] = set()
        self._young = Young()
        self._applying: set[Key] = set()  # differed from the last confirmed one, and may still

    @property
    def revision(self) -> int:
        """All changes up to this revision are in effect; 0 before the first apply."""
        if not self.applied:
            return 0
        first = next(iter(self._wrong.values()), None)
        return self.known if first is None else first - 1

    @property
    def wait(self) -> float | None:
        """Seconds to let pass between the last apply and the next; None if none is needed now."""
        if self.info is None or self._coming is not None:
            return None
        if not self.applied or self._uncertain:
            return 0.0
        if not self._wrong and not self._differs and not self._renew:
            return None
        if self._wrong:
            return self._pacing.uncovered_wait(self._debt)
        return self._pacing.covered_wait(self._cost)

    @property
    def pending(self) -> bool:
        """Whether an apply runs, or changes wait for one."""
        return self._coming is not None or self.wait is not None or bool(self._young)

    @property
    def growing(self) -> float | None:
        """Seconds until :meth:`grow` is to be called again; None if no route is young."""
        if not self._young:
            return None
        return self._pacing.young_for(self._cost)

    def grow(self) -> None:
        """Note that :attr:`growing` has passed."""
        self._differs |= self._young.grow()

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
            self._wrong = dict.fromkeys(self._wrong, 1)
        first = min(self.known + 1, snapshot.revision) if same else 1
        self.info = info
        self._changed(WHOLE, first)
        for routespec in [spec for spec in self.table if spec not in routes]:
            self._delete(routespec, first)
        for route in routes.values():
            self._put(route, first)
        self.cluster_id, self.known = snapshot.cluster_id, snapshot.revision
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
        if TABLE in values:
            value = values[TABLE]
            if value is None:
                self.holding = "the table in etcd was deleted"
                return False
            try:
                self.info = TableInfo.decode(value)
            except BadValue as error:
                self.holding = str(error)
                return False
            self._changed(WHOLE, batch.revision)
        for key, value in values.items():
            if not key.startswith(ROUTES):
                continue
            route = None if value is None else self._decode(key, value)
            if value is None:
                self.bad.pop(key, None)
            if route is None:
                self._delete(key.removeprefix(ROUTES), batch.revision)
            else:
                self._put(route, batch.revision)
        self.known = batch.revision
        return True

    def begin_apply(self) -> Apply:
        """The table to apply now; all changes so far are in it, or covered under it."""
        assert self.info is not None
        assert self._coming is None
        self._coming = self._next_document(self.info)
        apply = Apply(self.known, self._coming.table, self.info)
        self._applying |= self._differs
        self._differs.clear()
        self._renew = False
        return apply

    def _next_document(self, info: TableInfo) -> Dispatch:
        """The newest table without those young routes that are covered under what is left."""
        table = self.table.copy()
        left_out: dict[Key, Route] = {}
        for key in self._young:
            route = self.table.at(key)
            assert route is not None
            left_out[key] = route
            table.remove(route.routespec)
        while True:
            document = Dispatch(table, info)
            # one more in the document may cover one less
            needed = [
                key
                for key, route in left_out.items()
                if not document.serves(key, route, info, forwarder=self._forwarder)
            ]
            if not needed:
                return document
            for key in needed:
                table.add(left_out.pop(key))
                self._young.discard(key)
                self._differs.add(key)

    def end_apply(
        self, apply: Apply, *, done: bool, cost: float = 0.0, idle: float = math.inf
    ) -> None:
        """Note how an apply ended.

        Args:
            done: it is in effect; if not, that is not certain.
            cost: seconds that it took.
            idle: seconds between the end of the apply before it and its own beginning.
        """
        coming, self._coming = self._coming, None
        self._debt = self._pacing.debt(self._debt, idle, cost)
        if not done:
            self._uncertain = True
            return
        self.applied, self._serving, self._uncertain = apply.revision, coming, False
        self._cost = cost
        self._applying.clear()
        self._wrong = {key: at for key, at in self._wrong.items() if not self._in_effect(key)}

    def set_forwarder(self, there: bool) -> None:
        """Say whether requests that match no route of a document reach the forwarder now."""
        if there == self._forwarder:
            return
        self._forwarder = there
        if there:
            self._wrong = {key: at for key, at in self._wrong.items() if not self._in_effect(key)}
        else:
            self._differs |= self._young.clear()
            # which of these have been claimed is not known here, so none is from now on
            unsure = self._differs | self._applying
            lost = {key: 1 for key in unsure if not self._in_effect(key)}
            self._wrong = lost | {k: at for k, at in self._wrong.items() if k not in lost}

    def renew(self) -> None:
        """What the document holds besides the table is new: it has to be applied some time."""
        self._renew = True

    def lost(self) -> None:
        """Traefik lost its table (it was restarted): all has to be applied again.

        No route stays young: what is served while Traefik comes up depends on nothing else.
        """
        self._differs |= self._young.clear()
        self.applied = 0
        self._serving = None

    def report(self, version: str) -> ReplicaReport:
        """What this replica answers for, for ``replicas/<name>``."""
        return ReplicaReport(self.cluster_id, self.revision, self.applied, len(self.table), version)

    def _in_effect(self, key: Key) -> bool:
        if self._serving is None or self._uncertain:
            return False
        wanted = None if key == WHOLE else self.table.at(key)
        possible = [self._serving] if self._coming is None else [self._serving, self._coming]
        return all(
            document.serves(key, wanted, self.info, forwarder=self._forwarder)
            for document in possible
        )

    def _changed(self, key: Key, revision: int) -> None:
        newest = self._coming or self._serving
        wanted = None if key == WHOLE else self.table.at(key)
        in_effect = self._in_effect(key)
        if newest is not None and newest.holds(key, wanted, self.info):
            self._differs.discard(key)
            self._young.discard(key)
        elif in_effect and wanted is not None and key not in self._differs:
            self._young.add(key)
        else:
            self._differs.add(key)
            self._young.discard(key)
        if in_effect:
            self._wrong.pop(key, None)
        else:
            self._wrong.setdefault(key, revision)

    def _decode(self, key: str, value: bytes) -> Route | None:
        try:
            route = decode_route(key, value)
        except BadValue as error:
            self.bad[key] = str(error)
            return None
        self.bad.pop(key, None)
        return route

    def _put(self, route: Route, revision: int) -> None:
        self.table.add(route)
        self._changed(route.key, revision)

    def _delete(self, routespec: str, revision: int) -> None:
        route = self.table.remove(routespec)
        if route is not None:
            self._changed(route.key, revision)
