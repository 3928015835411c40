"""What a replica claims is so, whatever etcd, the hub, Traefik and the network do."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from jupyterhub_junction.agent.pacing import Pacing
from jupyterhub_junction.agent.replica import Apply, Replica
from jupyterhub_junction.keys import ROUTES, TABLE, TableInfo, encode_route
from jupyterhub_junction.routes import Route, RouteTable
from jupyterhub_junction.store import Batch, Event, Item, Snapshot

Targets = dict[str, str]


def targets(table: RouteTable) -> Targets:
    return {route.routespec: route.target for route in table.values()}


def value(routespec: str, target: str, note: int = 0) -> bytes:
    return encode_route(Route(routespec, target, {"note": note} if note else {}))


@dataclass
class History:
    """One history of etcd: its keys at each of its revisions."""

    cluster_id: str = "one"
    revision: int = 1
    states: dict[int, dict[str, bytes]] = field(default_factory=lambda: {1: {}})
    batches: list[Batch] = field(default_factory=list)

    def write(self, changes: dict[str, bytes | None]) -> None:
        state = dict(self.states[self.revision])
        events = []
        for key, new in changes.items():
            if new is None and state.pop(key, None) is None:
                continue
            if new is not None:
                state[key] = new
            events.append(Event(key, new, self.revision + 1))
        if events:
            self.revision += 1
            self.states[self.revision] = state
            self.batches.append(Batch(self.cluster_id, self.revision, tuple(events)))

    def snapshot(self) -> Snapshot:
        items = tuple(Item(k, v, 1) for k, v in sorted(self.states[self.revision].items()))
        return Snapshot(self.cluster_id, self.revision, items)

    def targets(self, revision: int) -> Targets:
        found = {}
        for key, stored in self.states[revision].items():
            if key.startswith(ROUTES) and stored.startswith(b"{"):
                found[key.removeprefix(ROUTES)] = json.loads(stored)["target"]
        return found


SPECS = st.sampled_from(["/", "/a/", "/b/", "/a/c/"])
VALUES = st.one_of(st.none(), st.integers(0, 2), st.just(b"broken"))


class AnyHistory(RuleBasedStateMachine):
    """etcd, hub, network and Traefik do what they like; the replica must never claim too much."""

    def __init__(self) -> None:
        super().__init__()
        self.etcd = History()
        self.number = 0  # of tables declared and of histories
        self.replica = Replica()
        self.followed: History | None = None  # what the last table taken belongs to
        self.position = 0  # batches of it that the watch has given
        self.watching = False
        self.served: Targets | None = None  # by Traefik
        self.apply: Apply | None = None
        self.declare()

    # --- the hub and etcd

    @rule(changes=st.dictionaries(SPECS, VALUES, min_size=1, max_size=3), note=st.integers(0, 1))
    def hub_writes(self, changes: dict[str, int | bytes | None], note: int) -> None:
        stored = {
            ROUTES + spec: value(spec, f"http://t{new}:80", note) if isinstance(new, int) else new
            for spec, new in changes.items()
        }
        self.etcd.write(stored)

    @rule()
    def declare(self) -> None:
        self.number += 1
        self.etcd.write({TABLE: TableInfo(f"{self.number:016x}").encode()})

    @rule(found=st.sampled_from([None, b"{}", b'{"format":2,"id":"0000000000000009"}']))
    def table_is_lost(self, found: bytes | None) -> None:
        self.etcd.write({TABLE: found})

    @rule(refilled=st.booleans())
    def made_anew(self, refilled: bool) -> None:
        self.number += 1
        state: dict[str, bytes | None] = dict(self.etcd.states[self.etcd.revision])
        self.etcd = History(f"cluster {self.number}")
        self.watching = False
        if refilled:
            self.etcd.write(state)
            self.declare()
            self.read()

    @rule(chance=st.integers(0, 100), same_id=st.booleans())
    def restored(self, chance: int, same_id: bool) -> None:
        old = self.etcd
        revision = 1 + chance * (old.revision - 1) // 101
        self.number += 1
        states = {at: state for at, state in old.states.items() if at <= revision}
        cluster_id = old.cluster_id if same_id else f"cluster {self.number}"
        batches = [
            Batch(cluster_id, b.revision, b.events) for b in old.batches if b.revision <= revision
        ]
        self.etcd = History(cluster_id, revision, states, batches)
        self.watching = False
        if same_id:
            # nobody can tell the histories apart once the new one has passed the old: a replica
            # reads as soon as its watch has broken
            self.read()

    # --- the agent

    @rule()
    def read(self) -> None:
        before, known = targets(self.replica.table), self.replica.known
        snapshot = self.etcd.snapshot()
        info, held = self.replica.info, self.replica.holding
        cluster_id, worse = self.replica.cluster_id, snapshot.revision < known
        self.watching = self.replica.offer(snapshot)
        if self.watching:
            self.followed, self.position = self.etcd, len(self.etcd.batches)
            assert self.replica.known == snapshot.revision
            assert not self.replica.holding
            new = self.replica.info
            assert new is not None
            if info is not None and (held or snapshot.cluster_id != cluster_id or worse):
                assert new.id > info.id
        else:
            assert self.replica.holding
            assert (targets(self.replica.table), self.replica.known) == (before, known)

    @precondition(lambda self: self.watching)
    @rule(count=st.integers(1, 4))
    def watch(self, count: int) -> None:
        for batch in self.etcd.batches[self.position :][:count]:
            self.position += 1
            before = targets(self.replica.table)
            if not self.replica.follow(batch):
                assert self.replica.holding
                assert targets(self.replica.table) == before
                self.watching = False
                return

    @precondition(lambda self: self.watching)
    @rule()
    def watch_starts_again(self) -> None:
        """Batches come twice: they change nothing."""
        self.position = max(0, self.position - 3)

    # --- Traefik

    @precondition(lambda self: self.replica.wait is not None)
    @rule()
    def begin(self) -> None:
        self.apply = self.replica.begin_apply()
        assert self.replica.wait is None

    @precondition(lambda self: self.apply is not None)
    @rule(done=st.booleans())
    def end(self, done: bool) -> None:
        assert self.apply is not None
        if done:
            self.served = targets(self.apply.table)
        self.replica.end_apply(self.apply, done=done)
        self.apply = None

    @rule()
    def traefik_restarts(self) -> None:
        self.replica.lost()
        self.served = None
        if self.apply is not None:
            self.replica.end_apply(self.apply, done=False)
            self.apply = None

    @rule(changes=st.lists(st.tuples(SPECS, VALUES), max_size=3), refilled=st.booleans())
    def applied_and_changes_in_flight(
        self, changes: list[tuple[str, int | bytes | None]], refilled: bool
    ) -> None:
        """Where most of what can go wrong begins, so it is made likely."""
        self.declare()
        self.read()
        for note in range(3):
            self.hub_writes({"/": 0, "/b/": 1}, note)
        self.watch(100)
        if self.apply is not None:
            self.end(done=True)
        if self.replica.wait is not None:
            self.begin()
            self.end(done=True)
        for number, (spec, new) in enumerate(changes):
            self.hub_writes({spec: new}, 0)
            self.watch(100)
            self.what_is_claimed_is_served()
            if number == 1 and self.replica.wait is not None:
                self.begin()
        if refilled:
            self.made_anew(refilled=True)

    # --- the promises

    @invariant()
    def what_is_claimed_is_served(self) -> None:
        claimed = self.replica.revision
        if claimed == 0:
            return
        assert self.followed is not None
        assert self.replica.cluster_id == self.followed.cluster_id
        assert claimed <= self.replica.known
        assert self.served is not None
        # a route that was undone before an apply is as it is later, not as it was meanwhile
        states = [self.followed.targets(at) for at in range(claimed, self.replica.known + 1)]
        for spec in {spec for state in (self.served, *states) for spec in state}:
            assert self.served.get(spec) in {state.get(spec) for state in states}

    @invariant()
    def the_table_is_etcds_at_one_revision(self) -> None:
        if self.followed is not None:
            assert targets(self.replica.table) == self.followed.targets(self.replica.known)

    @invariant()
    def bad_keys_are_those_of_etcd(self) -> None:
        if self.followed is not None:
            state = self.followed.states[self.replica.known]
            assert set(self.replica.bad) == {k for k, v in state.items() if v == b"broken"}

    def teardown(self) -> None:
        """Once all is well, everything comes into effect."""
        self.declare()
        self.read()
        assert self.watching
        if self.apply is not None:
            self.end(done=True)
        if self.replica.wait is not None:
            self.begin()
            self.end(done=True)
        assert self.replica.revision == self.replica.known == self.etcd.revision
        self.what_is_claimed_is_served()


AnyHistory.TestCase.settings = settings(max_examples=100, stateful_step_count=25, deadline=None)
TestAnyHistory = AnyHistory.TestCase


# --- the same, one at a time ---------------------------------------------------------------------


def etcd(*specs: str, table_id: int = 1) -> History:
    history = History()
    history.write({ROUTES + spec: value(spec, f"http://{n}:80") for n, spec in enumerate(specs)})
    history.write({TABLE: TableInfo(f"{table_id:016x}").encode()})
    return history


def loaded(history: History) -> Replica:
    replica = Replica()
    assert replica.offer(history.snapshot())
    replica.end_apply(replica.begin_apply(), done=True)
    assert replica.revision == history.revision
    return replica


def test_nothing_is_claimed_before_the_first_apply() -> None:
    replica = Replica()
    assert (replica.revision, (replica.wait is not None), bool(replica.holding)) == (0, False, True)
    history = etcd("/a/")
    assert replica.offer(history.snapshot())
    assert (replica.revision, (replica.wait is not None)) == (0, True)
    replica.end_apply(replica.begin_apply(), done=False)
    assert (replica.revision, replica.applied, (replica.wait is not None)) == (0, 0, True)


def test_what_comes_during_an_apply_waits_for_the_next() -> None:
    history = etcd("/a/")
    replica = loaded(history)
    start = history.revision
    history.write({ROUTES + "/b/": value("/b/", "http://b:80")})
    assert replica.follow(history.batches[-1])
    first = replica.begin_apply()
    history.write({ROUTES + "/c/": value("/c/", "http://c:80")})
    assert replica.follow(history.batches[-1])
    assert "/c/" not in first.table
    assert replica.revision == start
    replica.end_apply(first, done=True)
    assert (replica.revision, replica.applied) == (start + 1, start + 1)
    assert replica.wait is not None


def test_what_a_failed_apply_held_is_not_claimed() -> None:
    history = etcd("/a/")
    replica = loaded(history)
    start = history.revision
    for name in "bc":
        history.write({ROUTES + f"/{name}/": value(f"/{name}/", "http://b:80")})
        assert replica.follow(history.batches[-1])
        if name == "b":
            apply = replica.begin_apply()
    replica.end_apply(apply, done=False)
    assert replica.revision == start
    assert set(replica.begin_apply().table) == {"/a/", "/b/", "/c/"}


def followed(replica: Replica, history: History, changes: dict[str, str | None]) -> None:
    for spec, target in changes.items():
        history.write({ROUTES + spec: None if target is None else value(spec, target)})
        assert replica.follow(history.batches[-1])


#: seconds: how long an uncovered change waits after one apply of a second
UNCOVERED = 3 * 1.0 - Pacing().burst


def two_speeds(*specs: str, cost: float = 1.0) -> tuple[Replica, History]:
    """A replica with a forwarder; its last apply took ``cost`` seconds."""
    history = etcd(*specs)
    history.write({ROUTES + "/": encode_route(Route("/", "http://hub:80", {"hub": True}))})
    replica = Replica(forwarder=True)
    assert replica.offer(history.snapshot())
    assert replica.wait == 0
    replica.end_apply(replica.begin_apply(), done=True, cost=cost)
    return replica, history


def grown_up(replica: Replica) -> None:
    """No route is young any more."""
    assert replica.growing is not None
    replica.grow()
    replica.grow()
    assert replica.growing is None


@pytest.mark.parametrize(
    ("change", "covered"),
    [
        ({"/user/b/": "http://b:80"}, True),
        ({"/user/b/c/": "http://b:80"}, True),
        ({"/user/ab/": "http://b:80"}, True),
        ({"/user/": "http://b:80"}, True),
        ({"/user/b/": "http://b:80", "/user/b/c/": "http://c:80"}, True),
        ({"b.c/user/b/": "http://b:80"}, False),  # requests for b.c/user/a/ would go to /user/a/
        ({"/user/a/named/": "http://b:80"}, False),
        ({"/user/a/": None}, False),
        ({"/user/a/": "http://b:80"}, False),
        ({"/": "http://b:80"}, False),
        ({"/hub/": "http://b:80"}, False),
        ({"/hub/x/": "http://b:80"}, False),
    ],
)
def test_what_is_in_effect_without_an_apply(change: dict[str, str | None], covered: bool) -> None:
    replica, history = two_speeds("/user/a/")
    followed(replica, history, change)
    assert (replica.revision == history.revision) == covered
    if covered:
        assert replica.wait is None
        assert replica.growing == 10.0
        grown_up(replica)
    assert replica.wait == (10.0 if covered else UNCOVERED)


def test_a_host_of_its_own_is_covered_where_only_the_hub_has_no_host() -> None:
    replica, history = two_speeds()
    followed(replica, history, {"a.b/user/a/": "http://a:80"})
    assert replica.revision == history.revision


def test_an_uncovered_change_holds_back_what_comes_after_it() -> None:
    replica, history = two_speeds("/user/a/")
    before = history.revision
    followed(replica, history, {"/user/a/": None, "/user/b/": "http://b:80"})
    assert replica.revision == before
    replica.end_apply(replica.begin_apply(), done=True, cost=1.0)
    assert replica.revision == history.revision


@pytest.mark.parametrize("stood", [True, False])
def test_a_server_that_came_and_went_between_two_applies_needs_none(stood: bool) -> None:
    replica, history = two_speeds("/user/a/")
    followed(replica, history, {"/user/b/": "http://b:80"})
    assert replica.pending
    if stood:
        grown_up(replica)
        assert replica.wait == 10.0
    followed(replica, history, {"/user/b/": None})
    assert replica.revision == history.revision
    assert replica.wait is None
    assert not replica.pending


@pytest.mark.parametrize("done", [True, False])
def test_a_route_that_a_running_apply_holds_is_not_gone_before_the_next(done: bool) -> None:
    replica, history = two_speeds()
    followed(replica, history, {"/user/b/": "http://b:80"})
    grown_up(replica)
    before = history.revision
    apply = replica.begin_apply()
    assert replica.pending
    followed(replica, history, {"/user/b/": None})
    assert replica.revision == before  # Traefik may serve that document already
    replica.end_apply(apply, done=done, cost=1.0)
    assert replica.revision == before
    assert replica.wait == (UNCOVERED if done else 0.0)
    replica.end_apply(replica.begin_apply(), done=True, cost=1.0)
    assert replica.revision == history.revision


def test_a_young_route_stays_out_of_an_apply_and_goes_without_one() -> None:
    replica, history = two_speeds("/user/a/")
    followed(replica, history, {"/user/b/": "http://b:80", "/user/a/": None})
    apply = replica.begin_apply()
    assert set(apply.table) == {"/"}
    followed(replica, history, {"/user/b/": "http://b2:80"})
    replica.end_apply(apply, done=True, cost=1.0)
    assert replica.revision == history.revision
    assert replica.wait is None
    assert replica.pending
    followed(replica, history, {"/user/b/": None})
    assert replica.revision == history.revision
    assert not replica.pending


@pytest.mark.parametrize(
    ("young", "old"),
    [
        ("/user/b/c/", "/user/b/"),  # what it lies below gets into the document
        ("b.c/user/b/", "/user/a/"),  # the document would send its host's requests elsewhere
    ],
)
def test_a_young_route_that_the_next_document_would_not_cover_is_in_it(
    young: str, old: str
) -> None:
    replica, history = two_speeds()
    followed(replica, history, {old: "http://old:80"})
    replica.grow()
    followed(replica, history, {young: "http://young:80"})
    replica.grow()
    assert replica.wait == 10.0
    assert set(replica.begin_apply().table) == {"/", old, young}
    assert not replica.growing


def test_a_traefik_that_lost_its_table_gets_young_routes_too() -> None:
    replica, history = two_speeds()
    followed(replica, history, {"/user/b/": "http://b:80"})
    replica.lost()
    assert replica.growing is None
    assert replica.wait == 0
    assert set(replica.begin_apply().table) == {"/", "/user/b/"}


def test_a_route_is_not_young_for_long_whatever_an_apply_costs() -> None:
    replica, history = two_speeds("/user/a/")
    followed(replica, history, {"/user/a/": None})
    replica.end_apply(replica.begin_apply(), done=True, cost=30.0)
    followed(replica, history, {"/user/b/": "http://b:80"})
    assert replica.growing == 10.0
    grown_up(replica)
    assert replica.wait == 60.0


def test_a_few_deletes_from_a_small_table_do_not_wait_for_each_other() -> None:
    specs = [f"/user/{number}/" for number in range(20)]
    replica, history = two_speeds(*specs, cost=0.05)
    waits = []
    for spec in specs:
        followed(replica, history, {spec: None})
        waits.append(replica.wait)
        replica.end_apply(replica.begin_apply(), done=True, cost=0.05, idle=0.0)
    assert waits[:6] == [0.0] * 6  # 0.05 s × 3 each, of which a second is let off
    assert all(wait is not None and wait > 0 for wait in waits[6:])


def test_an_apply_that_failed_takes_part_in_the_pace() -> None:
    replica, history = two_speeds("/user/a/", "/user/b/", cost=100.0)
    followed(replica, history, {"/user/a/": None})
    assert replica.wait == Pacing().most_uncovered
    replica.end_apply(replica.begin_apply(), done=False, cost=0.0, idle=1000.0)
    replica.end_apply(replica.begin_apply(), done=True, cost=0.0, idle=0.0)
    followed(replica, history, {"/user/b/": None})
    assert replica.wait == 0.0


def test_without_a_forwarder_no_route_is_young() -> None:
    replica, history = two_speeds()
    followed(replica, history, {"/user/b/": "http://b:80"})
    replica.set_forwarder(False)
    assert replica.growing is None
    assert replica.wait == UNCOVERED
    assert set(replica.begin_apply().table) == {"/", "/user/b/"}


def test_after_a_failed_apply_nothing_new_is_covered() -> None:
    replica, history = two_speeds()
    followed(replica, history, {"/user/b/": "http://b:80"})
    replica.end_apply(replica.begin_apply(), done=False)
    before = history.revision
    followed(replica, history, {"/user/b/": None})
    assert replica.revision == before


def test_data_alone_is_in_effect_without_an_apply() -> None:
    history = etcd("/a/")
    replica = loaded(history)
    history.write({ROUTES + "/a/": value("/a/", "http://0:80", note=1)})
    assert replica.follow(history.batches[-1])
    assert replica.wait is None
    assert replica.revision == history.revision
    assert replica.table["/a/"].data == {"note": 1}


def test_another_hub_route_or_error_path_needs_an_apply() -> None:
    history = etcd("/a/")
    replica = loaded(history)
    history.write({ROUTES + "/a/": encode_route(Route("/a/", "http://0:80", {"hub": True}))})
    assert replica.follow(history.batches[-1])
    assert replica.wait is not None
    replica = loaded(history)
    history.write({TABLE: TableInfo(f"{2:016x}", "/base/hub/error/").encode()})
    assert replica.follow(history.batches[-1])
    assert replica.begin_apply().info.error_path == "/base/hub/error/"


@pytest.mark.parametrize(
    ("items", "why"),
    [
        ({}, "no complete table"),
        ({ROUTES + "/b/": b"{}"}, "no complete table"),
        ({TABLE: b"nonsense"}, "table: no JSON"),
        ({TABLE: b'{"format":2,"id":"00000000000000ff"}'}, "format 2"),
        ({TABLE: TableInfo(f"{1:016x}").encode()}, "made anew"),
    ],
)
def test_a_worse_table_is_not_taken(items: dict[str, bytes], why: str) -> None:
    replica = loaded(etcd("/a/"))
    worse = Snapshot("two", 50, tuple(Item(key, stored, 1) for key, stored in items.items()))
    assert not replica.offer(worse)
    assert why in replica.holding
    assert list(replica.table) == ["/a/"]
    assert replica.wait is None
    assert replica.report("1").cluster_id == "one"  # claims nothing of the other cluster
    filled = etcd("/b/", table_id=2)
    filled.cluster_id = "two"
    assert replica.offer(filled.snapshot())
    assert list(replica.table) == ["/b/"]


def test_an_older_revision_is_not_taken_until_the_hub_has_declared_the_table_anew() -> None:
    history = etcd("/a/")
    old = history.snapshot()
    history.write({ROUTES + "/b/": value("/b/", "http://b:80")})
    replica = loaded(history)
    assert not replica.offer(old)
    assert "restored" in replica.holding
    assert not replica.offer(old)
    assert replica.holding
    assert set(replica.table) == {"/a/", "/b/"}


def test_a_restored_history_that_has_passed_the_old_one_is_still_another() -> None:
    history = etcd("/a/")
    old = History("one", history.revision, dict(history.states), list(history.batches))
    history.write({ROUTES + "/b/": value("/b/", "http://b:80")})
    replica = loaded(history)
    assert not replica.offer(old.snapshot())
    old.write({ROUTES + "/a/": None})
    old.write({TABLE: TableInfo(f"{2:016x}").encode()})
    assert old.revision > history.revision
    assert replica.offer(old.snapshot())
    assert replica.revision == 0  # at the revision served, this history has no /a/ and no /b/
    replica.end_apply(replica.begin_apply(), done=True)
    assert replica.revision == old.revision


def test_what_an_apply_for_another_history_holds_is_not_claimed_for_this_one() -> None:
    history = etcd("/a/")
    for _ in range(50):
        history.write({ROUTES + "/a/": value("/a/", "http://0:80", note=history.revision)})
    replica = loaded(history)
    history.write({ROUTES + "/b/": value("/b/", "http://1:80")})
    assert replica.follow(history.batches[-1])
    apply = replica.begin_apply()
    anew = etcd("/a/", "/b/", table_id=2)
    anew.cluster_id = "two"
    assert replica.offer(anew.snapshot())
    assert replica.report("1").cluster_id == "two"
    assert replica.revision == 0
    replica.end_apply(apply, done=True)
    assert replica.revision == anew.revision


def test_a_deleted_table_key_ends_following() -> None:
    history = etcd("/a/")
    replica = loaded(history)
    history.write({TABLE: None, ROUTES + "/a/": None})
    assert not replica.follow(history.batches[-1])
    assert "deleted" in replica.holding
    assert list(replica.table) == ["/a/"]


def test_broken_values_are_skipped_and_named_and_can_be_mended() -> None:
    history = etcd("/a/", "/b/")
    history.write({ROUTES + "/a/": b"nonsense", ROUTES + "no slash": b"{}"})
    replica = loaded(history)
    assert list(replica.table) == ["/b/"]
    assert set(replica.bad) == {ROUTES + "/a/", ROUTES + "no slash"}
    assert all(key in reason for key, reason in replica.bad.items())
    history.write({ROUTES + "/a/": value("/a/", "http://a:80"), ROUTES + "no slash": None})
    assert replica.follow(history.batches[-1])
    assert replica.bad == {}
    assert replica.wait is not None


def test_the_report() -> None:
    report = loaded(history := etcd("/a/")).report("1.2")
    assert (report.cluster_id, report.routes, report.version) == ("one", 1, "1.2")
    assert report.revision == report.applied == history.revision
