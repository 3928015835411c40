"""What the other members of an etcd are seen to be, before this one starts and while it runs.

A member that prepares has no etcd yet, so it says itself, at its peer address, whether it has
data; an etcd answers there with the members that it knows, without a sign-in and without a leader.
"""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
from aiohttp import web

from ..etcd.errors import Json, RpcError, Transport, explain
from ..etcd.gateway import Gateway, Password
from ..etcd.tls import TlsFiles
from ..store import StoreError
from .membership import Absent, Member, Node, Peer, Preparing, Running, Silent

__all__ = ["FAILURES", "Access", "announce", "members_of"]

#: what a call to a member may end with
FAILURES = (Transport, RpcError, StoreError)

_PREPARING = "/junction/prepare"
#: seconds that one look at a member may take
_LOOK = 3.0


class Access:
    """Calls to single members, as root over mTLS.

    Args:
        tls_dir: folder with ``ca.crt``, ``tls.crt`` and ``tls.key``.
        password: root's.
    """

    def __init__(self, tls_dir: Path, password: Password) -> None:
        files = [str(tls_dir / name) for name in ("ca.crt", "tls.crt", "tls.key")]
        self._files = files
        self.tls = TlsFiles(*files)
        self._password = password
        self._gateways: dict[str, Gateway] = {}
        self._http: aiohttp.ClientSession | None = None

    def gateway(self, *nodes: Node, signed: bool = True, timeout: float = 5.0) -> Gateway:
        """A client of these members; closed by the caller."""
        ca, cert, key = self._files
        user = {"username": "root", "password": self._password} if signed else {}
        return Gateway(
            [node.client_url for node in nodes],
            ca=ca, cert=cert, key=key, timeout=timeout, **user,  # type: ignore[arg-type]
        )  # fmt: skip

    async def call(self, node: Node, path: str, body: Json, timeout: float = 10.0) -> Json:
        """One call to one member, once.

        Raises:
            Transport, RpcError, StoreError: as :meth:`Gateway.call_one`.
        """
        gateway = self._gateways.get(node.name)
        if gateway is None:
            gateway = self._gateways[node.name] = self.gateway(node)
        try:
            async with asyncio.timeout(timeout):
                return await gateway.call_one(node.client_url, path, body)
        except TimeoutError:
            raise Transport(node.client_url, f"no answer in {timeout:g} s") from None

    async def look(self, nodes: Sequence[Node]) -> list[Peer]:
        """What members are now, all looked at together."""
        return list(await asyncio.gather(*map(self._look, nodes)))

    async def _look(self, node: Node) -> Peer:
        trouble = "it has no leader"
        try:
            answer = await self.call(node, "/v3/cluster/member/list", {"linearizable": True}, _LOOK)
            header = answer.get("header", {})
            return Running(node, int(header.get("cluster_id", 0)), members_of(answer), True)
        except Transport as error:
            if not error.absent:
                trouble = str(error)
        except (RpcError, StoreError) as error:
            trouble = str(error)
        try:
            async with asyncio.timeout(_LOOK):
                return await self._look_at_peer_port(node, trouble)
        except TimeoutError:
            return Silent(node, f"no answer in {_LOOK:g} s")
        except (aiohttp.ClientError, OSError) as error:
            found = explain(node.peer_url, error, ca=self.tls.ca, cert=self.tls.cert)
            return Absent(node) if found.absent else Silent(node, str(found))
        except (ValueError, KeyError, TypeError, AttributeError):
            return Silent(node, f"{node.peer_url}: it does not answer as a member of etcd does")

    async def _look_at_peer_port(self, node: Node, trouble: str) -> Peer:
        if self._http is None:
            self._http = aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True))
        context = self.tls.context()
        async with self._http.get(node.peer_url + "/members", ssl=context) as response:
            if response.status == 200:
                cluster_id = int(response.headers["X-Etcd-Cluster-ID"], 16)
                listed = json.loads(await response.read())
                members = members_of({"members": listed})
                return Running(node, cluster_id, members, False, trouble)
        async with self._http.get(node.peer_url + _PREPARING, ssl=context) as response:
            return Preparing(node, bool(json.loads(await response.read())["has_data"]))

    async def close(self) -> None:
        """Close all connections."""
        for gateway in self._gateways.values():
            await gateway.close()
        if self._http is not None:
            await self._http.close()


def members_of(answer: Json) -> tuple[Member, ...]:
    """The members in an answer of the gateway, or of the peer address."""
    return tuple(
        Member(
            int(one.get("ID", one.get("id", 0))),
            str(one.get("name", "")),
            tuple(one.get("peerURLs") or ()),
            tuple(one.get("clientURLs") or ()),
            bool(one.get("isLearner")),
        )
        for one in answer.get("members") or ()
    )


@asynccontextmanager
async def announce(
    me: Node, listen_host: str, tls_dir: Path, has_data: Callable[[], bool]
) -> AsyncIterator[None]:
    """Say at this member's peer address that it prepares, while the block runs.

    Raises:
        OSError: the address is taken, or the certificate cannot be used.
    """

    async def preparing(_: web.Request) -> web.Response:
        return web.json_response({"name": me.name, "has_data": has_data()})

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(tls_dir / "ca.crt"))
    context.load_cert_chain(tls_dir / "tls.crt", tls_dir / "tls.key")
    context.verify_mode = ssl.CERT_REQUIRED
    parts = urlsplit(me.peer_url)
    app = web.Application()
    app.router.add_get(_PREPARING, preparing)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
    await runner.setup()
    host = listen_host or socket.gethostbyname(str(parts.hostname))
    await web.TCPSite(runner, host, parts.port, ssl_context=context, reuse_address=True).start()
    try:
        yield
    finally:
        await runner.cleanup()
