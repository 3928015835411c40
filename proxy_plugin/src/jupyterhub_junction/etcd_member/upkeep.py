"""What a running etcd needs from time to time, and whose turn it is.  Pure.

Invariants:

* One member at a time is defragmented, and none while another is not healthy.
* A leader comes last: the others are done when it stands still for a moment.
* Members are removed only when they were taken away, for long, and the rest is healthy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .membership import Member, Node

__all__ = ["Health", "left_over", "next_to_defragment"]

#: a smaller database is not worth the pause, in bytes
_SMALL = 32 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Health:
    """What a member says of itself; sizes in bytes."""

    node: Node
    member_id: int
    is_leader: bool
    has_leader: bool
    is_learner: bool
    size: int
    in_use: int
    revision: int = 0

    def worth_defragmenting(self, quota: int, full: bool) -> bool:
        """Whether enough of the database is empty."""
        free = self.size - self.in_use
        if full or self.size > 0.8 * quota:
            return free > 0.1 * self.size
        return self.size > _SMALL and free > 0.5 * self.size


def next_to_defragment(
    nodes: Sequence[Node], health: Sequence[Health], *, quota: int, full: bool
) -> Node | None:
    """Whose turn it is; None if there is nothing to do, or it has to wait.

    Args:
        full: a member has run out of space, so nothing is written anyhow.
    """
    if len(health) < len(nodes) or not all(h.has_leader and not h.is_learner for h in health):
        return None
    worth = [h for h in health if h.worth_defragmenting(quota, full)]
    if not worth:
        return None
    return min(worth, key=lambda h: (h.is_leader, h.node.ordinal)).node


def left_over(
    nodes: Sequence[Node], members: Sequence[Member], gone: Mapping[int, float], patience: float
) -> Member | None:
    """A member to remove: it is not to be, and was not seen for ``patience`` seconds.

    Args:
        gone: for how long the members that are not to be were not seen, in seconds, by their id.
    """
    there = [any(m.is_node(node) and m.client_urls for m in members) for node in nodes]
    if not all(there):
        return None
    extra = [m for m in members if not any(m.is_node(node) for node in nodes)]
    return next((m for m in extra if gone.get(m.id, 0.0) >= patience), None)
