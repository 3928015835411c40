"""``junction etcd prepare``: finds out how an etcd member has to start, and writes its file.

What is done is decided in :mod:`.membership`; every step may be interrupted, as each look begins
anew from what is there.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import secrets
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from ..store import StoreRefused
from .config import MemberOptions, etcd_yaml
from .disk import empty_disk, read_disk
from .membership import (
    FOUND_WITHOUT_ALL,
    Disk,
    Found,
    Member,
    Node,
    Peer,
    Rejoin,
    Start,
    Wait,
    decide,
    why_not_found,
)
from .peers import FAILURES, Access, announce, members_of

__all__ = ["Preparation", "PrepareFailed"]

_PAUSE, _LONGEST_PAUSE = 0.5, 2.0


class PrepareFailed(Exception):
    """The member cannot start now; says why, in one line."""


class Preparation:
    """The preparation of one member.

    Args:
        nodes: all members that there are to be.
        me: the one of this name.
        gone: addresses that members may have which are none by this plan.
        config: the file to write.
        token: beginning of the token that a new cluster's ids are made of.
        deadline: seconds until it fails.
        found_after: seconds that missing members get before the others found a cluster.
    """

    def __init__(
        self,
        nodes: Sequence[Node],
        me: Node,
        options: MemberOptions,
        access: Access,
        config: Path,
        *,
        gone: Sequence[Node] = (),
        token: str = "junction",  # noqa: S107
        deadline: float = 300.0,
        found_after: float = FOUND_WITHOUT_ALL,
        log: logging.Logger,
    ) -> None:
        self.nodes = tuple(nodes)
        self.me = me
        self.options = options
        self.access = access
        self.config = config
        self.log = log
        self._gone = tuple(gone)
        self._token = token
        self._deadline = deadline
        self._found_after = found_after
        self._seen: Sequence[object] = []  # what all were at the last look, and since when
        self._seen_since = 0.0

    async def run(self) -> None:
        """Prepare.

        Raises:
            PrepareFailed: not by the deadline.
            OSError, StoreRefused: a file or an address cannot be used.
        """
        self.options.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.access.tls.context()  # its errors are not to be waited for
        if self.access.tls.trouble:  # nor is this: no member would talk to it
            raise StoreRefused(self.access.tls.trouble)
        async with announce(
            self.me,
            self.options.listen_host,
            self.options.tls_dir,
            lambda: read_disk(self.options.data_dir) is not None,
        ):
            await self._until_prepared()

    async def _until_prepared(self) -> None:
        clock = asyncio.get_running_loop().time
        begun, pause, said = clock(), _PAUSE, ""
        while True:
            why = await self.step()
            if not why:
                return
            if why != said:
                self.log.info("%s", why)
                said = why
            if clock() - begun + pause > self._deadline:
                raise PrepareFailed(f"gave up after {self._deadline:g} s: {why}")
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, _LONGEST_PAUSE)

    async def step(self) -> str:
        """Look, and do what is to be done; returns why it has to be done again, or nothing."""
        others = [node for node in self.nodes if node.name != self.me.name]
        peers = await self.access.look(others)
        disk = read_disk(self.options.data_dir)
        unchanged = self._unchanged(disk, peers)
        plan = decide(self.me, disk, peers, unchanged, self._found_after)
        match plan:
            case Wait(why=why):
                return why
            case Start():
                self.log.info("starting with the data in %s", self.options.data_dir)
                self._write("existing", {})
            case Found():
                elsewhere = await self.access.look(self._gone)
                if why := why_not_found(elsewhere, unchanged, self._found_after):
                    return why
                empty_disk(self.options.data_dir)
                # never the same twice, so that data of one cluster is never taken for another's
                self._token = f"{self._token}-{secrets.token_hex(8)}"
                self.log.info("founding a new cluster")
                self._write("new", {self.me.name: self.me.peer_url})
            case Rejoin(via=via, remove=remove):
                try:
                    members = await self._rejoin(via.node, remove)
                except FAILURES as error:
                    return f"cannot join the cluster yet: {error}"
                self._write("existing", self._named(members))
        return ""

    def _unchanged(self, disk: Disk | None, peers: Sequence[Peer]) -> float:
        now = asyncio.get_running_loop().time()
        seen = [disk, *((type(p), p.node.name, getattr(p, "has_data", None)) for p in peers)]
        if seen != self._seen:
            self._seen, self._seen_since = seen, now
        return now - self._seen_since

    async def _rejoin(self, via: Node, remove: Sequence[int]) -> Sequence[Member]:
        # first: data that is still there would be taken for that of the member to be added
        empty_disk(self.options.data_dir)
        for member in remove:
            self.log.warning("removing the member %x that was at %s", member, self.me.peer_url)
            await self.access.call(via, "/v3/cluster/member/remove", {"ID": str(member)})
        body = {"peerURLs": [self.me.peer_url], "isLearner": True}
        answer = await self.access.call(via, "/v3/cluster/member/add", body)
        self.log.info("added to the cluster as a learner")
        return members_of(answer)

    def _named(self, members: Sequence[Member]) -> dict[str, str]:
        planned = {node.peer_url: node.name for node in self.nodes}
        return {
            next((planned[url] for url in member.peer_urls if url in planned), "")
            or member.name
            or f"member-{member.id:x}": member.peer_urls[0]
            for member in members
        }

    def leave_the_others(self) -> None:
        """Let the member's next start be as the only one of its cluster, with the data it has."""
        settings = json.loads(self.config.read_text())
        self._replace(json.dumps(settings | {"force-new-cluster": True}, indent=1) + "\n")

    def settle(self) -> None:
        """The member runs: its next start is an ordinary one, whoever has joined it by then."""
        settings = json.loads(self.config.read_text()) if self.config.exists() else {}
        if settings.pop("force-new-cluster", False):
            self._replace(json.dumps(settings, indent=1) + "\n")

    def _write(self, state: str, cluster: dict[str, str]) -> None:
        text = etcd_yaml(
            self.me,
            self.options,
            state=state,
            cluster=cluster or {self.me.name: self.me.peer_url},
            hosts={str(urlsplit(node.peer_url).hostname) for node in self.nodes},
            token=self._token,
        )
        self._replace(text)

    def _replace(self, text: str) -> None:
        self.config.parent.mkdir(parents=True, exist_ok=True)
        new = self.config.with_name(f".{self.config.name}.new")
        new.write_text(text)
        os.replace(new, self.config)
