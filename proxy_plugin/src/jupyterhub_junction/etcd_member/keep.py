"""``junction etcd keep``: looks after one member of etcd while it runs.

Invariants:

* It changes nothing unless the cluster has a leader, and nothing that is as it should be.
* Its own member alone is promoted, repaired and defragmented by it; for what concerns the whole
  cluster, the first of the members that answer acts.
* Whatever fails is tried again at the next round; the log has a line for each change of state.
* etcd is ended only where it has nothing to lose: its data was given up for those of a cluster with
  a leader, or it is the one that is to be and waits for members that are gone for good.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Sequence

from ..etcd.errors import RpcError
from ..etcd.roles import set_up_roles, signs_in
from ..store import StoreError
from .disk import read_disk
from .membership import Absent, Member, Node, Peer, Running, is_left_alone
from .passwords import Passwords
from .peers import FAILURES, Access
from .prepare import Preparation
from .process import end_etcd
from .space import Space
from .upkeep import left_over

__all__ = ["NOT_LOOKED", "Keeper"]

#: the trouble of one that has just begun
NOT_LOOKED = "not looked yet"


class Keeper:
    """The keeper of one member.

    Args:
        preparation: of the same member: repairs it if it cannot start.
        prefix: what all of Junction's keys begin with.
        patience: seconds after which a member that does not start, or was left alone, is looked
            into, and ten times that until a member that is not to be, and is not there, is removed.
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
        self.interval = interval
        self.patience = patience
        self.log = log
        #: what is wrong now; empty while nothing is
        self.trouble = NOT_LOOKED
        #: when the last round ended, on the loop's clock
        self.looked = float("-inf")
        self._counts = Counter[str]()
        self._space = Space(self.me, self.nodes, access, quota, log)
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
            except (*FAILURES, OSError) as error:
                trouble = str(error)
            # the details behind the colon come and go
            if trouble.partition(": ")[0] != self.trouble.partition(": ")[0]:
                if trouble:
                    self.log.warning("%s", trouble)
                else:
                    self.log.info("the member and its cluster are well")
            self.trouble = trouble
            self._counts["rounds"] += 1
            self.looked = clock()
            # another one may wait for this one to be no learner any more
            await asyncio.sleep(min(self.interval, 1.0) if self._learning else self.interval)

    def numbers(self) -> dict[str, int]:
        """What is counted, by metric: a total since the keeper began, or bytes, or 0 and 1."""
        space = self._space.last
        totals = {
            name: self._counts[name] for name in ("rounds", "repairs", "restarts", "removals")
        }
        totals["defragmentations"] = self._space.defragmentations
        return {
            "well": int(not self.trouble),
            "learner": int(self._learning),
            "users_set_up": int(self._set_up is not None),
            "size_bytes": space.size if space else 0,
            "in_use_bytes": space.in_use if space else 0,
            "quota_bytes": self._space.quota,
        } | {f"{name}_total": number for name, number in totals.items()}

    async def round(self) -> str:
        """Look once, and do what is to be done; returns what is wrong."""
        await self._follow_root_password()
        peers = await self.access.look(self.nodes)
        mine = next(peer for peer in peers if peer.node.name == self.me.name)
        led = [peer for peer in peers if isinstance(peer, Running) and peer.has_leader]
        if not led:
            self._down_since = None
            if await self._go_on_alone(mine):
                return "all other members were taken away: this one goes on alone"
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
        self.preparation.settle()
        await self._keep_users()
        if min(led, key=lambda peer: peer.node.ordinal).node == self.me:
            await self._remove_left_over(peers, cluster.members)
        return await self._space.keep()

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
        self._down_since = None
        self._counts["repairs"] += 1
        # not one that goes on with its data after all
        if isinstance(mine, Running) and read_disk(options.data_dir) is None:
            self._end("of another cluster, and has to start without its old data")
        return True

    async def _go_on_alone(self, mine: Peer) -> bool:
        """Whether the only member that is to be was told to go on without the others.

        They cannot be asked to agree to it any more.  It is seen here and not before the member
        starts, since then they may be about to go, or have just not come yet.
        """
        if len(self.nodes) > 1 or not isinstance(mine, Running):
            return False
        others = [m for m in mine.members if not m.is_node(self.me)]
        away = await self._away(others)
        if not is_left_alone(self.me, self.nodes, mine, away, self.patience):
            return False
        self.preparation.leave_the_others()
        self._gone_since.clear()
        self._end("left alone, and goes on as the only one")
        return True

    def _end(self, why: str) -> None:
        self._counts["restarts"] += 1
        if end_etcd(self.preparation.config):
            self.log.warning("etcd is %s: it was told to stop, and starts again", why)
        else:
            self.log.error("etcd is %s: start its container again, it is not seen from here", why)

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
        extra = [m for m in members if not any(m.is_node(node) for node in self.nodes)]
        gone = {member.id: away for member, away in (await self._away(extra)).items()}
        if not all(isinstance(peer, Running) and peer.has_leader for peer in peers):
            return
        extra_one = left_over(self.nodes, members, gone, 10 * self.patience)
        if extra_one is not None:
            body = {"ID": str(extra_one.id)}
            await self.access.call(self.me, "/v3/cluster/member/remove", body)
            self._gone_since.pop(extra_one.id, None)
            self._counts["removals"] += 1
            self.log.info("removed the member %s, which was taken away", extra_one.name)

    async def _away(self, members: Sequence[Member]) -> dict[Member, float]:
        """For how many seconds nothing has answered where members are, at this look and before."""
        now = asyncio.get_running_loop().time()
        nodes = [
            Node(-1, f"{m.id:x}", m.peer_urls[0], [*m.client_urls, *m.peer_urls][0])
            for m in members
        ]
        found = await self.access.look(nodes)
        self._gone_since = {
            member.id: self._gone_since.get(member.id, now)
            for member, peer in zip(members, found, strict=True)
            if isinstance(peer, Absent)
        }
        return {m: now - self._gone_since.get(m.id, now) for m in members}
