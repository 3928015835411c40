"""The space that a member's data takes, kept under its quota.

Whose turn it is is decided in :mod:`.upkeep`: one member at a time, each by its own keeper.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from ..etcd.errors import Json, RpcError
from .membership import Node
from .peers import FAILURES, Access
from .upkeep import Health, next_to_defragment

__all__ = ["Space"]


class Space:
    """The space of one member.

    Args:
        quota: most bytes that its database may take.
    """

    def __init__(
        self, me: Node, nodes: Sequence[Node], access: Access, quota: int, log: logging.Logger
    ) -> None:
        self.me = me
        self.nodes = nodes
        self.access = access
        self.quota = quota
        self.log = log
        #: how the member was at the last look; None if it did not answer
        self.last: Health | None = None
        self.defragmentations = 0

    async def keep(self) -> str:
        """Defragment the member, or do what else gives space back; returns what is wrong."""
        alarms = await self._alarms()
        full = any(alarm.get("alarm") == "NOSPACE" for alarm in alarms)
        health = await self._health()
        me = next((h for h in health if h.node == self.me), None)
        if full and me is not None:
            await self._compact(max(h.revision for h in health))
        turn = next_to_defragment(self.nodes, health, quota=self.quota, full=full)
        if turn == self.me and me is not None:
            await self.access.call(self.me, "/v3/maintenance/defragment", {}, 120.0)
            after = next((h for h in await self._health() if h.node == self.me), me)
            self.log.info("defragmented: %d bytes, of %d before", after.size, me.size)
            self.defragmentations += 1
            me = after
        self.last = me
        for alarm in alarms:
            if me is None or int(alarm.get("memberID", 0)) != me.member_id:
                continue
            if alarm.get("alarm") == "NOSPACE" and me.size < 0.9 * self.quota:
                body = {"action": "DEACTIVATE", "memberID": str(me.member_id), "alarm": "NOSPACE"}
                await self.access.call(self.me, "/v3/maintenance/alarm", body)
                self.log.info("there is space again: the alarm is off")
            elif alarm.get("alarm") == "NOSPACE":
                return (
                    f"etcd is full: {me.in_use} of {self.quota} bytes are in use:"
                    " raise its quota (--quota-bytes; etcd.quota in the chart), or see who writes"
                    " so much"
                )
            else:
                return f"etcd's alarm {alarm.get('alarm')}: this member's data is damaged"
        return ""

    async def _alarms(self) -> list[Json]:
        answer = await self.access.call(self.me, "/v3/maintenance/alarm", {"action": "GET"})
        return list(answer.get("alarms") or ())

    async def _health(self) -> list[Health]:
        found = []
        for node in self.nodes:
            try:
                answer = await self.access.call(node, "/v3/maintenance/status", {}, 3.0)
            except FAILURES:
                continue
            header, leader = answer["header"], str(answer.get("leader", "0"))
            found.append(
                Health(
                    node,
                    member_id=int(header["member_id"]),
                    is_leader=leader == str(header["member_id"]),
                    has_leader=leader != "0",
                    is_learner=bool(answer.get("isLearner")),
                    size=int(answer.get("dbSize", 0)),
                    in_use=int(answer.get("dbSizeInUse", 0)),
                    revision=int(header.get("revision", 0)),
                )
            )
        return found

    async def _compact(self, revision: int) -> None:
        try:
            body = {"revision": str(revision), "physical": True}
            await self.access.call(self.me, "/v3/kv/compaction", body, 60.0)
            self.log.warning("etcd is full: compacted it at revision %d", revision)
        except RpcError as error:
            if "compacted" not in error.message:
                raise
