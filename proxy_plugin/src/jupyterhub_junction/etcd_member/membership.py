"""What an etcd member does before it starts: pure, from what is on its disk and what others say.

Invariants:

* A cluster is founded only by members without data, and only when a majority of all members has
  none: then no other cluster can have, or ever get again, a quorum that this one would rival.
  So members that prepare tell each other whether they have data (see :mod:`.prepare`).
* Nor while a member is there that is not to be (any more, or by a plan that is newer than this
  one's): its cluster may be the one to join.
* One of them founds, the one of the lowest ordinal, as its only member and under an id that was
  never used before, so that data of an earlier cluster is told apart; the others join it.
* A member whose data was lost never comes back under its old id, under which it may have voted: it
  is removed, and joins anew.  Whoever joins does so as a learner, which counts for no quorum before
  it has caught up: so a member that is added, and then does not start, stops nobody.
* Data is given up only when a cluster with a leader says that it does not know it.
* A member goes on alone, without those that it would have to ask, only as the only one that is to
  be, and after all others that it knows were away for long: see :func:`is_left_alone`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

__all__ = [
    "Absent",
    "Disk",
    "Found",
    "Member",
    "Node",
    "Peer",
    "Plan",
    "Preparing",
    "Rejoin",
    "Running",
    "Silent",
    "Start",
    "Wait",
    "decide",
    "is_left_alone",
    "why_not_found",
]

#: seconds that the missing ones get to turn up before a majority without data founds a cluster
FOUND_WITHOUT_ALL = 30.0


@dataclass(frozen=True, slots=True)
class Node:
    """A member as it is planned: its place in the StatefulSet, its name and its addresses."""

    ordinal: int
    name: str
    peer_url: str
    client_url: str


@dataclass(frozen=True, slots=True)
class Member:
    """A member as etcd lists it; one that has never run has no client URLs."""

    id: int
    name: str
    peer_urls: tuple[str, ...]
    client_urls: tuple[str, ...] = ()
    is_learner: bool = False

    def is_node(self, node: Node) -> bool:
        """Whether it stands at the node's address, or bears its name."""
        return node.peer_url in self.peer_urls or (bool(self.name) and self.name == node.name)


@dataclass(frozen=True, slots=True)
class Disk:
    """Data on this member's disk; ids are 0 where they cannot be told."""

    member_id: int = 0
    cluster_id: int = 0


@dataclass(frozen=True, slots=True)
class Running:
    """An etcd that runs; ``members`` are the whole cluster's word only if it has a leader."""

    node: Node
    cluster_id: int
    members: tuple[Member, ...]
    has_leader: bool
    trouble: str = ""


@dataclass(frozen=True, slots=True)
class Preparing:
    """A member that prepares, as this one does."""

    node: Node
    has_data: bool


@dataclass(frozen=True, slots=True)
class Absent:
    """Nothing listens there, or its name is not known."""

    node: Node


@dataclass(frozen=True, slots=True)
class Silent:
    """No answer that says anything, and why."""

    node: Node
    trouble: str


Peer = Running | Preparing | Absent | Silent


@dataclass(frozen=True, slots=True)
class Start:
    """Start with the data on disk."""


@dataclass(frozen=True, slots=True)
class Rejoin:
    """Drop what is on disk, remove these members, and add this one as a learner."""

    via: Running
    remove: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Found:
    """Found a new cluster, of this member alone."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Look again."""

    why: str


Plan = Start | Rejoin | Found | Wait


def decide(
    me: Node,
    disk: Disk | None,
    peers: Sequence[Peer],
    unchanged: float,
    found_after: float = FOUND_WITHOUT_ALL,
) -> Plan:
    """What to do now.

    Args:
        me: this member.
        disk: its data; None if it has none.
        peers: what all others were seen to be.
        unchanged: seconds for which this member and all others have been what they are now; one
            that was just seen to prepare may be founding.
        found_after: seconds that the missing ones get, as :data:`FOUND_WITHOUT_ALL` says.
    """
    led = [peer for peer in peers if isinstance(peer, Running) and peer.has_leader]
    if led:
        # more than one cluster: the one that this member's data is of, else the larger one
        via = max(
            led,
            key=lambda peer: (
                disk is not None and peer.cluster_id == disk.cluster_id,
                sum(other.cluster_id == peer.cluster_id for other in led),
            ),
        )
        if disk is not None and _knows(via, me, disk):
            return Start()
        return Rejoin(via, tuple(m.id for m in via.members if m.is_node(me)))
    size = len(peers) + 1
    blank = [p.node for p in peers if isinstance(p, Preparing) and not p.has_data]
    if disk is not None:
        if len(blank) > size / 2 and unchanged < 2 * found_after:
            return Wait("most members have lost their data: waiting for them to found a cluster")
        return Start()
    blank.append(me)
    if len(blank) > size / 2:
        first = min(blank, key=lambda node: node.ordinal)
        if len(blank) < size and unchanged < found_after:
            return Wait(f"most members have no data: waiting for the others ({_others(peers)})")
        return Found() if first == me else Wait(f"waiting for {first.name} to found the cluster")
    return Wait(f"this member has no data, and no cluster with a leader answers ({_others(peers)})")


def why_not_found(
    others: Sequence[Peer], unchanged: float, found_after: float = FOUND_WITHOUT_ALL
) -> str:
    """Why a member that would found must not yet; empty if it may.

    Args:
        others: what is seen where members were, or will be, that are none by this one's plan.
        unchanged: as :func:`decide` has it.
    """
    # One without data is no reason, as it may wait for this one to found; nor is, in the end, what
    # has no leader, or says nothing: a name service may have an answer for any name.
    there = [
        peer
        for peer in others
        if (isinstance(peer, Running) and peer.has_leader)
        or (unchanged < found_after and not isinstance(peer, Absent | Preparing))
        or (unchanged < found_after and isinstance(peer, Preparing) and peer.has_data)
    ]
    if not there:
        return ""
    return f"waiting for members that are none by --members to go ({_others(there)})"


def is_left_alone(
    me: Node, nodes: Sequence[Node], mine: Peer, others: Mapping[Member, float], patience: float
) -> bool:
    """Whether a member that runs may go on as the only one of its cluster.

    Args:
        nodes: all members that are to be.
        mine: what this one is seen to be.
        others: the other members that it knows, and for how many seconds nothing answered there.
    """
    return (
        list(nodes) == [me]
        and isinstance(mine, Running)
        and not mine.has_leader
        and bool(others)
        and all(0 < away >= patience for away in others.values())
    )


def _knows(via: Running, me: Node, disk: Disk) -> bool:
    if disk.cluster_id and disk.cluster_id != via.cluster_id:
        return False
    if disk.member_id:
        return any(member.id == disk.member_id for member in via.members)
    return any(member.is_node(me) for member in via.members)


def _others(peers: Sequence[Peer]) -> str:
    said = []
    for peer in peers:
        match peer:
            case Running(has_leader=True):
                what = "it runs"
            case Running(trouble=trouble):
                what = trouble or "it has no leader"
            case Preparing(has_data=has_data):
                what = "it prepares, with data" if has_data else "it prepares, without data"
            case Absent():
                what = "nothing answers there"
            case Silent(trouble=trouble):
                what = trouble
        said.append(f"{peer.node.name}: {what}")
    return "; ".join(said)
