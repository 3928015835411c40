"""What a member decides before it starts: no rival cluster, no old identity, no data lost."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from jupyterhub_junction.etcd_member.membership import (
    Absent,
    Disk,
    Found,
    Member,
    Node,
    Peer,
    Preparing,
    Rejoin,
    Running,
    Silent,
    Start,
    Wait,
    decide,
    is_left_alone,
    why_not_found,
)

LONG = 1000.0
NODES = [Node(n, f"etcd-{n}", f"https://etcd-{n}:2380", f"https://etcd-{n}:2379") for n in range(5)]


def member(number: int, id: int = 0, **more: object) -> Member:
    node = NODES[number]
    return Member(id or 100 + number, node.name, (node.peer_url,), (node.client_url,), **more)  # type: ignore[arg-type]


def led(number: int, *members: Member, cluster: int = 7) -> Running:
    return Running(NODES[number], cluster, members, True)


def leaderless(number: int, *members: Member) -> Running:
    return Running(NODES[number], 7, members, False)


ALL = [member(n) for n in range(3)]


def test_data_that_the_cluster_knows_is_started_with() -> None:
    peers = [led(1, *ALL), led(2, *ALL)]
    assert decide(NODES[0], Disk(100, 7), peers, 0) == Start()
    assert decide(NODES[0], Disk(), peers, 0) == Start()  # ids that cannot be told


def test_data_is_kept_while_nobody_says_that_it_is_unknown() -> None:
    for peers in (
        [Absent(NODES[1]), Absent(NODES[2])],
        [leaderless(1, *ALL), Silent(NODES[2], "")],
        [Preparing(NODES[1], True), Preparing(NODES[2], False)],
    ):
        assert decide(NODES[0], Disk(100, 7), peers, 0) == Start()


def test_a_removed_member_drops_its_data_and_joins_anew() -> None:
    rest = [member(1), member(2)]
    assert decide(NODES[0], Disk(100, 7), [led(1, *rest), led(2, *rest)], 0) == Rejoin(
        led(1, *rest), ()
    )


def test_data_of_another_cluster_or_of_an_older_member_is_dropped() -> None:
    peers = [led(1, *ALL), led(2, *ALL)]
    assert decide(NODES[0], Disk(100, 8), peers, 0) == Rejoin(led(1, *ALL), (100,))
    assert decide(NODES[0], Disk(99, 7), peers, 0) == Rejoin(led(1, *ALL), (100,))


def test_a_lost_disk_means_another_identity() -> None:
    peers = [led(1, *ALL), Absent(NODES[2])]
    assert decide(NODES[0], None, peers, 0) == Rejoin(led(1, *ALL), (100,))


def test_added_but_never_started_is_removed_and_added_again() -> None:
    nameless = Member(55, "", (NODES[0].peer_url,))
    peers = [led(1, nameless, member(1), member(2)), Absent(NODES[2])]
    plan = decide(NODES[0], None, peers, 0)
    assert isinstance(plan, Rejoin)
    assert plan.remove == (55,)


def test_a_lost_disk_founds_nothing_while_the_others_restart() -> None:
    for peers in (
        [Absent(NODES[1]), Absent(NODES[2])],
        [Silent(NODES[1], ""), Silent(NODES[2], "")],
        [leaderless(1, *ALL), Absent(NODES[2])],
        [Preparing(NODES[1], True), Preparing(NODES[2], True)],
        [Preparing(NODES[1], False), Preparing(NODES[2], True)],
    ):
        assert isinstance(decide(NODES[0], None, peers, 0), Wait), peers
    for peers in (
        [Absent(NODES[1]), Absent(NODES[2])],
        [leaderless(1, *ALL), Silent(NODES[2], "")],
        [Preparing(NODES[1], True), Absent(NODES[2])],
    ):
        assert isinstance(decide(NODES[0], None, peers, LONG), Wait), peers


def test_all_blank_found_at_once_by_the_first() -> None:
    others = [Preparing(NODES[1], False), Preparing(NODES[2], False)]
    assert decide(NODES[0], None, others, 0) == Found()
    others = [Preparing(NODES[0], False), Preparing(NODES[2], False)]
    assert isinstance(decide(NODES[1], None, others, LONG), Wait)


def test_a_majority_without_data_waits_for_the_rest_before_it_founds() -> None:
    others: list[Peer] = [Absent(NODES[0]), Preparing(NODES[2], False)]
    assert isinstance(decide(NODES[1], None, others, 1), Wait)
    assert decide(NODES[1], None, others, 31) == Found()
    # what is left of the old cluster has no quorum any more: its data waits for the new one
    blank: list[Peer] = [Preparing(NODES[1], False), Preparing(NODES[2], False)]
    assert isinstance(decide(NODES[0], Disk(100, 7), blank, 31), Wait)
    assert decide(NODES[0], Disk(100, 7), blank, 61) == Start()


def test_one_of_one_founds() -> None:
    assert decide(NODES[0], None, [], 0) == Found()
    assert decide(NODES[0], Disk(100, 7), [], 0) == Start()


def test_of_two_clusters_the_own_one_else_the_larger_one() -> None:
    own = led(1, *ALL)
    peers = [own, led(2, cluster=9), led(3, cluster=9)]
    assert decide(NODES[0], Disk(100, 7), peers, 0) == Start()
    plan = decide(NODES[0], None, peers, 0)
    assert isinstance(plan, Rejoin)
    assert plan.via.cluster_id == 9


def test_no_member_founds_beside_a_cluster_that_it_does_not_plan() -> None:
    assert not why_not_found([Absent(NODES[1]), Absent(NODES[2])], 0)
    assert not why_not_found([Preparing(NODES[1], False)], 0)  # it may wait for this one to found
    for peer in (
        led(1, *ALL),
        leaderless(1, *ALL),
        Preparing(NODES[1], True),
        Silent(NODES[1], "no answer"),
    ):
        said = why_not_found([Absent(NODES[2]), peer], 0)
        assert said.startswith("waiting for members")
        assert "etcd-1" in said
        # what leads nobody may be there for ever
        assert bool(why_not_found([peer], LONG)) is (peer == led(1, *ALL))


def test_only_the_last_one_goes_on_alone_and_only_after_a_while() -> None:
    me, mine = NODES[0], leaderless(0, *ALL)
    gone = {member(1): 20.0, member(2): 15.0}
    assert is_left_alone(me, [me], mine, gone, 15.0)
    assert not is_left_alone(me, NODES[:3], mine, gone, 15.0)
    assert not is_left_alone(me, [me], led(0, *ALL), gone, 15.0)
    assert not is_left_alone(me, [me], Absent(me), gone, 15.0)
    assert not is_left_alone(me, [me], mine, gone | {member(2): 14.0}, 15.0)
    assert not is_left_alone(me, [me], mine, {}, 15.0)  # it elects itself
    assert not is_left_alone(me, [me], mine, {member(1): 0.0}, 0.0)  # just now, or not at all


# --- all at once: members that lose disks, stop, and start in any order ------------------------


@dataclass
class World:
    """Members of one StatefulSet as :func:`decide` sees them; etcd itself is a few sets here."""

    size: int
    #: cluster and member id on each disk
    disks: dict[int, tuple[int, int]] = field(default_factory=dict)
    running: set[int] = field(default_factory=set)
    preparing: set[int] = field(default_factory=set)
    #: voters' ids by cluster
    clusters: dict[int, dict[int, int]] = field(default_factory=dict)
    next_id: int = 1

    def led(self, cluster: int) -> bool:
        voters = self.clusters[cluster]
        up = sum(
            self.disks.get(n) == (cluster, id) and n in self.running for id, n in voters.items()
        )
        return up > len(voters) / 2

    def seen(self, number: int) -> Peer:
        if number in self.running:
            cluster, _ = self.disks[number]
            members = tuple(member(n, id) for id, n in self.clusters[cluster].items())
            return Running(NODES[number], cluster, members, self.led(cluster))
        if number in self.preparing:
            return Preparing(NODES[number], number in self.disks)
        return Absent(NODES[number])

    def prepare(self, number: int, unchanged: float) -> None:
        """One look of one member, and what follows from it."""
        disk = Disk(*reversed(self.disks[number])) if number in self.disks else None
        peers = [self.seen(n) for n in range(self.size) if n != number]
        plan = decide(NODES[number], disk, peers, unchanged)
        if isinstance(plan, Wait):
            self.preparing.add(number)
            return
        self.preparing.discard(number)
        if isinstance(plan, Found):
            assert len(self.disks) < self.size / 2, "others may have a quorum yet"
            cluster = self.next_id
            self.clusters[cluster] = {cluster + 1: number}
            self.disks[number] = (cluster, cluster + 1)
            self.next_id += 2
        elif isinstance(plan, Rejoin):
            voters = self.clusters[plan.via.cluster_id]
            for id in plan.remove:
                del voters[id]
            voters[self.next_id] = number
            self.disks[number] = (plan.via.cluster_id, self.next_id)
            self.next_id += 1
        self.running.add(number)

    def stop(self, number: int, lose_disk: bool) -> None:
        self.running.discard(number)
        self.preparing.discard(number)
        if lose_disk:
            self.disks.pop(number, None)


STEPS = st.lists(
    st.tuples(st.sampled_from(["prepare", "prepare", "stop", "lose"]), st.integers(0, 4)),
    max_size=40,
)


@given(size=st.sampled_from([1, 3, 5]), steps=STEPS, data=st.data())
def test_never_two_clusters_with_a_quorum(
    size: int, steps: list[tuple[str, int]], data: st.DataObject
) -> None:
    world = World(size)
    for what, number in steps:
        number %= size
        if what == "prepare" and number not in world.running:
            world.prepare(number, data.draw(st.sampled_from([0.0, LONG])))
        elif what != "prepare":
            world.stop(number, lose_disk=what == "lose")
        assert sum(map(world.led, world.clusters)) <= 1
    # and whatever happened, all that start again become one cluster
    for number in range(size):
        world.stop(number, lose_disk=False)
    for _ in range(4):
        for number in range(size):
            if number not in world.running:
                world.prepare(number, LONG)
    for number in range(size):  # who started alone with what the others do not know
        cluster = world.disks.get(number, (0, 0))[0]
        if number in world.running and not world.led(cluster):
            world.stop(number, lose_disk=False)
            world.prepare(number, LONG)
    assert sum(map(world.led, world.clusters)) == 1, world
