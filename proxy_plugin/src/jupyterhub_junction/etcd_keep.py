"""``junction etcd keep``: looks after one member of etcd while it runs.

Invariants:

* It changes nothing unless the cluster has a leader, and nothing that is as it should be.
* Its own member alone is promoted, repaired and defragmented by it; for what concerns the whole
  cluster, the first of the members that answer acts.
* Whatever fails is tried again at the next round; each trouble is logged once.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Sequence

from .etcd_disk import read_disk
from .etcd_errors import Json, RpcError, Transport
from .etcd_passwords import Passwords
from .etcd_peers import Access
from .etcd_prepare import Preparation
from .etcd_roles import set_up_roles, signs_in
from .etcd_upkeep import Health, left_over, next_to_defragment
from .membership import Absent, Member, Node, Peer, Running
from .store import StoreError

__all__ = ["Keeper"]

#: what a call may end with
_FAILURES = (Transport, RpcError, StoreError)


class Keeper:
    """The keeper of one member.

    Args:
        preparation: of the same member: repairs it if it cannot start.
        prefix: what all of Junction's keys begin with.
        patience: seconds after which a member that does not start is looked into, and ten times
            that until a member that is not to be, and is not there, is removed.
    """

    def __init__(
        self,
        preparation: Preparation,
        access: Access,
        passwords: Passwords,
        *,
        prefix: str,
        quota: int,
        interval: float = 5.0,
        patience: float = 15.0,
        log: logging.Logger,
    ) -> None:
        self.preparation = preparation
        self.me = preparation.me
        self.nodes = preparation.nodes
        self.access = access
        self.passwords = passwords
        self.prefix = prefix
        self.quota = quota
        self.interval = interval
        self.patience = patience
        self.log = log
        #: what is wrong now; empty while nothing is
        self.trouble = "not looked yet"
        #: when the last round ended, on the loop's clock
        self.looked = float("-inf")
        #: the member has to be started again: its data was replaced
        self.restart = False
        self._learning = False
        self._set_up: dict[str, str] | None = None
        self._down_since: float | None = None
        self._gone_since: dict[int, float] = {}

    async def run(self) -> None:
        """Look after the member until cancelled."""
        clock = asyncio.get_running_loop().time
        while True:
            try:
                trouble = await self.round()
            except (*_FAILURES, OSError) as error:
                trouble = str(error)
            if trouble != self.trouble:
                if trouble:
                    self.log.warning("%s", trouble)
                elif self.trouble:
                    self.log.info("the member and its cluster are well")
            self.trouble = trouble
            self.looked = clock()
            # another one may wait for this one to be no learner any more
            await asyncio.sleep(min(self.interval, 1.0) if self._learning else self.interval)

    async def round(self) -> str:
        """Look once, and do what is to be done; returns what is wrong."""
        await self._follow_root_password()
        peers = await self.access.look(self.nodes)
        mine = next(peer for peer in peers if peer.node.name == self.me.name)
        led = [peer for peer in peers if isinstance(peer, Running) and peer.has_leader]
        if not led:
            self._down_since = None
            troubles = sorted({p.trouble for p in peers if isinstance(p, Running) and p.trouble})
            return f"etcd has no leader here: {'; '.join(troubles) or 'no member answers'}"
        # should there be two, the one of more members is the one to join
        sizes = Counter(peer.cluster_id for peer in led)
        cluster = min(led, key=lambda peer: (-sizes[peer.cluster_id], peer.node.ordinal))
        member = next((m for m in cluster.members if m.is_node(self.me)), None)
        if await self._repair(mine, cluster, member):
            return "this member was made ready to join the cluster anew"
        self._learning = member is not None and member.is_learner
        if member is not None and member.is_learner:
            return await self._promote(cluster, member)
        if not (isinstance(mine, Running) and mine.has_leader):
            return f"this member does not serve yet: {getattr(mine, 'trouble', 'it is not there')}"
        self.restart = False
        self.preparation.settle()
        await self._keep_users()
        if min(led, key=lambda peer: peer.node.ordinal).node == self.me:
            await self._remove_left_over(peers, cluster.members)
        return await self._keep_space(peers)

    # --- the member itself ------------------------------------------------------------------

    async def _repair(self, mine: Peer, cluster: Running, member: Member | None) -> bool:
        """Let a member that cannot start join anew; True if it was changed.

        Its container is started again and again with what was prepared before its pod started,
        which the cluster may have gone past since.
        """
        stranger = isinstance(mine, Running) and mine.cluster_id != cluster.cluster_id
        removed = member is None
        if not (stranger or removed or isinstance(mine, Absent)):
            self._down_since = None
            return False
        now = asyncio.get_running_loop().time()
        self._down_since = self._down_since or now
        options = self.preparation.options
        if now - self._down_since < self.patience or not options.data_dir.is_dir():
            return False
        disk = read_disk(options.data_dir)
        known = disk is not None and any(m.id == disk.member_id for m in cluster.members)
        if known and disk is not None and disk.cluster_id == cluster.cluster_id:
            return False  # it is starting, or something else is wrong with it
        why = await self.preparation.step()
        if why:
            self.log.warning("%s", why)
            return False
        self.restart = stranger
        self._down_since = None
        return True

    async def _promote(self, cluster: Running, member: Member) -> str:
        try:
            await self.access.call(
                cluster.node, "/v3/cluster/member/promote", {"ID": str(member.id)}
            )
        except RpcError as error:
            return f"this member is a learner yet: {error.message}"
        self.log.info("this member has caught up and votes from now on")
        return ""

    # --- users ------------------------------------------------------------------------------

    async def _follow_root_password(self) -> None:
        """Take the one of the file once root can sign in with it."""
        wanted = self.passwords.read()["root"]
        if wanted == self.passwords.root:
            return
        gateway = self.access.gateway(*self.nodes, signed=False)
        try:
            if await signs_in(gateway, "root", wanted):
                self.passwords.root = wanted
        except StoreError:
            pass  # no leader, or no users yet
        finally:
            await gateway.close()

    async def _keep_users(self) -> None:
        wanted = self.passwords.read()
        status = await self.access.call(self.me, "/v3/auth/status", {})
        if status.get("enabled") and self._set_up == wanted:
            return
        # All members' keepers begin at once, and each change signs everybody out: the first does
        # it, the others find it done.
        if self._set_up is None and self.me.ordinal and not status.get("enabled"):
            await asyncio.sleep(min(self.me.ordinal, 5) * self.interval / 2)
        gateway = self.access.gateway(self.me, *self.nodes)
        try:
            done = await set_up_roles(
                gateway,
                root_password=wanted["root"],
                hub=(self.passwords.hub_name, wanted[self.passwords.hub_name]),
                agent=(self.passwords.agent_name, wanted[self.passwords.agent_name]),
                prefix=self.prefix,
            )
        finally:
            await gateway.close()
        self.passwords.root = wanted["root"]
        self._set_up = wanted
        for what in done:
            self.log.info("users: %s", what)

    # --- the cluster ------------------------------------------------------------------------

    async def _remove_left_over(self, peers: Sequence[Peer], members: Sequence[Member]) -> None:
        now = asyncio.get_running_loop().time()
        extra = [m for m in members if not any(m.is_node(node) for node in self.nodes)]
        nodes = [
            Node(-1, f"{m.id:x}", m.peer_urls[0], [*m.client_urls, *m.peer_urls][0]) for m in extra
        ]
        for member, peer in zip(extra, await self.access.look(nodes), strict=True):
            if isinstance(peer, Absent):
                self._gone_since.setdefault(member.id, now)
            else:
                self._gone_since.pop(member.id, None)
        if not all(isinstance(peer, Running) and peer.has_leader for peer in peers):
            return
        gone = {member: now - since for member, since in self._gone_since.items()}
        extra_one = left_over(self.nodes, members, gone, 10 * self.patience)
        if extra_one is not None:
            body = {"ID": str(extra_one.id)}
            await self.access.call(self.me, "/v3/cluster/member/remove", body)
            self._gone_since.pop(extra_one.id, None)
            self.log.info("removed the member %s, which was taken away", extra_one.name)

    async def _keep_space(self, peers: Sequence[Peer]) -> str:
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
            me = after
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
                    " raise its quota (--quota-bytes), or see who writes so much"
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
            except _FAILURES:
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
