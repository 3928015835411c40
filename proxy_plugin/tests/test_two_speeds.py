"""What users get from a document and a forwarder together is what the replica claims.

The documents are the rendered ones, read as Traefik reads them, so renderer, dispatch and
replica are held against the route table of each revision, and not against one another.
"""

from __future__ import annotations

from typing import Any

import pytest
from harness.traefik_model import Model
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from jupyterhub_junction.agent.replica import Apply, Replica
from jupyterhub_junction.keys import ROUTES, TABLE, TableInfo, encode_route
from jupyterhub_junction.routes import (
    Route,
    RouteTable,
    canonical_path,
    without_dot_segments,
)
from jupyterhub_junction.store import Batch, Event, Item, Snapshot
from jupyterhub_junction.traefik import documents as traefik
from jupyterhub_junction.traefik.documents import RenderOptions, render

FORWARDER = "http://127.0.0.1:1"

SPECS = [
    "/", "/hub/", "/hub/x/", "/user/a/", "/user/a/b/", "/user/a%40/", "/user/ab/", "/user/c/",
    "/user/c/d/e/", "/s/", "/b@se/hub/x/", "a.b/", "a.b/user/a/", "a.b/user/c/", "c.d/user/a/",
]  # fmt: skip
PROBES = [
    (host, path)
    for host in ("", "a.b", "c.d", "e.f")
    for path in (
        "/", "/hub", "/hub/home", "/hub/x/y", "/user/a", "/user/a/b/c", "/user/a@/x", "/user/abc",
        "/user/c/d", "/user/c/d/e/f", "/s/t", "/other", "/user/a/../c/x",
        "/b@se/hub/x", "/b%40se/hub/x",
    )
]  # fmt: skip


UNIX = "http+unix://%2Fs"


def route(spec: str, number: int, hub: bool) -> Route:
    target = UNIX if number == 3 else f"http://10.0.0.{number}:80"
    return Route(spec, target, {"hub": True} if hub and number != 3 else {})


def possible(tables: list[RouteTable], host: str, path: str) -> set[str | None]:
    """Where a request may go if each key is as one of the tables has it.

    One that was changed and changed back may be as it is later than the others: nobody waits for
    what it was meanwhile.
    """
    found: set[str | None] = set()
    for known in {bool(host and table.paths(host)) for table in tables}:
        rest = without_dot_segments(canonical_path(path))
        keys = [(host if known else "", rest)]
        while rest:
            rest = rest.rpartition("/")[0]
            keys.append((host if known else "", rest))
        for key in [*keys, ("", "")]:
            routes = [table.at(key) for table in tables]
            found |= {each.target for each in routes if each}
            if None not in routes:
                break
        else:
            found.add(None)
    return found


class TwoSpeeds(RuleBasedStateMachine):
    """Routes come and go in any order; applies begin, end and fail; Traefik restarts."""

    def __init__(self) -> None:
        super().__init__()
        self.replica = Replica(forwarder=True)
        self.info = TableInfo("0" * 16)
        first = route("/", 0, True)
        #: the table at each revision
        self.states: dict[int, RouteTable] = {1: RouteTable([first])}
        self.infos = {1: self.info}
        self.batches: list[Batch] = []
        self.position = 0
        #: what Traefik may serve now; None is the boot router: all goes to the forwarder
        self.documents: list[Model | None] = [None]
        self.apply: Apply | None = None
        self.coming: Model | None = None
        #: Traefik sends to the forwarder what is the forwarder's
        self.forwards = True
        items = (
            Item(TABLE, self.info.encode(), 1),
            Item(ROUTES + "/", encode_route(first), 1),
        )
        assert self.replica.offer(Snapshot("one", 1, items))
        self.begin()
        self.end("done")

    @property
    def revision(self) -> int:
        return max(self.states)

    @rule(
        changes=st.dictionaries(
            st.sampled_from(SPECS),
            st.one_of(st.none(), st.tuples(st.integers(1, 3), st.booleans())),
            min_size=1,
            max_size=3,
        )
    )
    def hub_writes(self, changes: dict[str, tuple[int, bool] | None]) -> None:
        table = self.states[self.revision].copy()
        events = []
        revision = self.revision + 1
        for spec, new in changes.items():
            if new is None:
                table.remove(spec)
                events.append(Event(ROUTES + spec, None, revision))
            else:
                added = route(spec, new[0], new[1] and spec in ("/", "a.b/", "/hub/"))
                table.add(added)
                events.append(Event(ROUTES + spec, encode_route(added), revision))
        self.states[revision] = table
        self.infos[revision] = self.info
        self.batches.append(Batch("one", revision, tuple(events)))

    @rule(base=st.sampled_from(["/", "/b%40se/"]))
    def declare(self, base: str) -> None:
        self.info = TableInfo("0" * 16, f"{base}hub/error/")
        revision = self.revision + 1
        self.states[revision] = self.states[revision - 1]
        self.infos[revision] = self.info
        self.batches.append(Batch("one", revision, (Event(TABLE, self.info.encode(), revision),)))

    @rule(count=st.integers(1, 4))
    def watch(self, count: int) -> None:
        for batch in self.batches[self.position :][:count]:
            self.position += 1
            assert self.replica.follow(batch)

    @rule()
    def read(self) -> None:
        """All of it again, as when a watch broke."""
        items = [Item(TABLE, self.infos[self.revision].encode(), 1)]
        for each in self.states[self.revision].values():
            items.append(Item(ROUTES + each.routespec, encode_route(each), 1))
        assert self.replica.offer(Snapshot("one", self.revision, tuple(items)))
        self.position = len(self.batches)

    @rule()
    def time_passes(self) -> None:
        self.replica.grow()

    @rule(there=st.booleans())
    def traefik_fails_over_and_back(self, there: bool) -> None:
        self.forwards = there
        self.replica.set_forwarder(there)

    @precondition(lambda self: self.replica.wait is not None)
    @rule()
    def begin(self) -> None:
        self.apply = self.replica.begin_apply()
        options = RenderOptions(forwarder=FORWARDER, error_path=self.apply.info.error_path)
        self.coming = Model(render(self.apply.table, options))
        self.documents.append(self.coming)

    @precondition(lambda self: self.apply is not None)
    @rule(how=st.sampled_from(["done", "done", "taken, yet not confirmed", "refused"]))
    def end(self, how: str) -> None:
        assert self.apply is not None
        if how == "done":
            self.documents = [self.coming]
        self.replica.end_apply(self.apply, done=how == "done", cost=1.0)
        self.apply = None

    @rule(
        spec=st.sampled_from(SPECS),
        then=st.one_of(st.none(), st.just((2, False))),
        how=st.sampled_from(["", "done", "taken, yet not confirmed"]),
        stood=st.booleans(),
    )
    def comes_and_goes_around_an_apply(
        self, spec: str, then: tuple[int, bool] | None, how: str, stood: bool
    ) -> None:
        """Where most of what can go wrong begins, so it is made likely."""
        self.watch(len(self.batches))
        if self.apply is not None:
            self.end("done")
        self.hub_writes({spec: (1, False)})
        self.watch(100)
        if stood:
            self.grown_up()
        if self.replica.wait is not None:
            self.begin()
        if how and self.apply is not None:
            self.end(how)
        self.hub_writes({spec: then})
        self.watch(100)

    @rule()
    def traefik_restarts(self) -> None:
        self.replica.lost()
        self.documents = [None]
        if self.apply is not None:
            self.replica.end_apply(self.apply, done=False)
            self.apply = None

    def served(self, document: Model | None, host: str, path: str) -> str | None:
        target = FORWARDER
        if document is not None:
            target = document.target(host, path, failed_over=not self.forwards)
        if target != FORWARDER:
            return target
        found = self.replica.table.resolve(host, path)
        return found.target if found else None

    @invariant()
    def what_is_claimed_is_served(self) -> None:
        """Each request goes where tables say that are not from before the claim."""
        claimed = self.replica.revision
        if not claimed:
            return
        tables = [self.states[at] for at in range(claimed, self.replica.known + 1)]
        for document in self.documents:
            for host, path in PROBES:
                wanted = possible(tables, host, path)
                if not self.forwards and (".." in path or UNIX in wanted or None in wanted):
                    continue  # these are the forwarder's alone; the hub answers for it
                assert self.served(document, host, path) in wanted, (host, path)

    @invariant()
    def what_differs_from_the_document_is_applied_some_time(self) -> None:
        if self.apply is None and len(self.documents) == 1 and self.documents[0] is not None:
            wait = self.replica.wait
            if wait is None:
                assert self.replica.revision == self.replica.known
            if not self.replica.pending:
                options = RenderOptions(forwarder=FORWARDER, error_path=self.info.error_path)
                if self.position == len(self.batches):
                    table = self.states[self.revision]
                    assert self.documents[0].http == Model(render(table, options)).http

    def grown_up(self) -> None:
        """No route is young any more."""
        self.replica.grow()
        self.replica.grow()
        assert self.replica.growing is None

    def teardown(self) -> None:
        """Once all is well, everything comes into effect, and nothing more is to be done."""
        self.watch(len(self.batches))
        if self.apply is not None:
            self.end("done")
        self.grown_up()
        if self.replica.wait is not None:
            self.begin()
            self.end("done")
        assert not self.replica.pending
        assert self.replica.revision == self.revision
        self.what_is_claimed_is_served()


TwoSpeeds.TestCase.settings = settings(max_examples=150, stateful_step_count=20, deadline=None)


@pytest.fixture(autouse=True, scope="module")
def _small_levels() -> Any:
    """So that few routes make a tree with groups."""
    patch = pytest.MonkeyPatch()
    patch.setattr(traefik, "FANOUT", 2)
    yield
    patch.undo()


class TestTwoSpeeds(TwoSpeeds.TestCase):  # type: ignore[misc, name-defined]
    pass
