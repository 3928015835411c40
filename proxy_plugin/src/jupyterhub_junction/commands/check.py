"""``junction check``: one route is added, fetched through every replica, and deleted again.

And etcd lets nobody in without a password, and what looks after its members finds nothing wrong.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import socket
from collections.abc import Awaitable, Callable, Sequence
from urllib.parse import urlsplit

import aiohttp
from aiohttp import web

from ..keys import REPLICAS, TABLE
from ..proxies.writer import NotLive, TableWriter
from ..routes import Route
from ..store import Store, StoreError, StoreRefused

__all__ = ["CheckFailed", "check"]

#: seconds that a replica gets for each of its answers to be the right one
_PATIENCE = 15.0


class CheckFailed(Exception):
    """What is not as it should be, and what to do, in one line."""


async def check(
    store: Store,
    *,
    replicas: str,
    urls: Sequence[str] = (),
    serve: str,
    anonymous: Store | None = None,
    keepers: Sequence[str] = (),
    log: logging.Logger,
) -> list[str]:
    """Check a whole Junction from the outside; returns a line for each replica.

    Args:
        store: signed in as the hub.
        replicas: ``HOST:PORT`` or a URL of all replicas; every address of the host is tried.
        urls: further base URLs, such as the users' own.
        serve: ``HOST:PORT`` where this process is reached from the replicas.
        anonymous: the same etcd without a sign-in, which must not get in; None: it may.
        keepers: ``HOST:PORT`` of the status of each etcd member's keeper.

    Raises:
        CheckFailed: something is wrong.
    """
    try:
        snapshot = await store.read(TABLE, REPLICAS)
    except StoreError as error:
        raise CheckFailed(str(error)) from None
    if not any(item.key == TABLE for item in snapshot.items):
        raise CheckFailed(
            "etcd holds no table yet: start a hub with proxy_class 'junction' and this etcd"
        )
    if not any(item.key.startswith(REPLICAS) for item in snapshot.items):
        raise CheckFailed("no replica is registered in etcd: see the replicas' logs")
    if anonymous is not None:
        await _is_refused(anonymous)
    bases = [*await _addresses(replicas), *(url.rstrip("/") for url in urls)]

    token = secrets.token_hex(16)
    path = f"/junction-check-{secrets.token_hex(8)}/"
    async with _Target(serve, token) as target, _session() as session:
        unwell = await asyncio.gather(*(_until_well(session, at) for at in keepers))
        if any(unwell):
            raise CheckFailed("; ".join(filter(None, unwell)))
        writer = TableWriter(store, log)
        try:
            await writer.put(Route(path, target, {}))
            try:
                served = await _all(session, bases, path, token, there=True)
            finally:
                await writer.delete(path)
            gone = await _all(session, bases, path, token, there=False)
        except (StoreError, NotLive) as error:
            raise CheckFailed(str(error)) from None
        finally:
            await writer.close()
    wrong = [f"{base}: {why}" for base, why in (served | gone).items() if why]
    if wrong:
        raise CheckFailed("; ".join(wrong))
    return [
        *(f"{base}: added, served, deleted, gone" for base in bases),
        *(f"etcd's member at {at}: well" for at in keepers),
    ]


async def _is_refused(anonymous: Store) -> None:
    try:
        await anonymous.read(TABLE)
    except StoreRefused:
        return
    except StoreError as error:
        raise CheckFailed(str(error)) from None
    raise CheckFailed(
        "etcd asks for no password: its authentication is off, and whoever reaches it can write"
        " routes: see the log of the container keep, or run `etcdctl auth enable`"
    )


async def _until_well(session: aiohttp.ClientSession, at: str) -> str:
    """What a member's keeper says is wrong; empty if nothing is, within some patience."""

    async def look() -> str:
        async with session.get(f"http://{at}/readyz") as response:
            if response.status == 200:
                return ""
            return (await response.content.read(1000)).decode(errors="replace").strip() or "unwell"

    why = await _until(look, pause=0.5)
    return f"etcd's member at {at}: {why}" if why else ""


async def _addresses(replicas: str) -> list[str]:
    parts = urlsplit(replicas if "://" in replicas else f"http://{replicas}")
    try:
        port = parts.port
    except ValueError:
        port = None
    if not parts.hostname or port is None:
        raise CheckFailed(f"--replicas {replicas} is no address: write HOST:PORT, or [IPV6]:PORT")
    try:
        found = await asyncio.get_running_loop().getaddrinfo(
            parts.hostname, port, type=socket.SOCK_STREAM
        )
    except OSError:
        raise CheckFailed(
            f"--replicas {replicas}: no ready replica has this name: see the replicas' logs"
        ) from None
    hosts = sorted({str(info[4][0]) for info in found})
    return [f"{parts.scheme}://{f'[{h}]' if ':' in h else h}:{port}" for h in hosts]


def _session() -> aiohttp.ClientSession:
    # The addresses are not what their certificates are for, and nothing secret is sent.
    connector = aiohttp.TCPConnector(ssl=False, force_close=True)
    return aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=10))


async def _all(
    session: aiohttp.ClientSession, bases: Sequence[str], path: str, token: str, *, there: bool
) -> dict[str, str]:
    """Why each base has not got there; empty where it has."""
    answers = await asyncio.gather(
        *(_until_there(session, base + path, token, there=there) for base in bases)
    )
    return dict(zip(bases, answers, strict=True))


async def _until_there(session: aiohttp.ClientSession, url: str, token: str, *, there: bool) -> str:
    async def look() -> str:
        async with session.get(url, allow_redirects=False) as response:
            text = await response.content.read(len(token) + 1)
        if (text.decode(errors="replace") == token) == there:
            return ""
        if not there:
            return "still serves the route that was deleted"
        return f"answers {response.status} for the route that was added"

    return await _until(look, pause=0.2)


async def _until(look: Callable[[], Awaitable[str]], *, pause: float) -> str:
    """Look again until nothing is wrong, within some patience; returns what still is."""
    clock = asyncio.get_running_loop().time
    deadline = clock() + _PATIENCE
    while True:
        try:
            why = await look()
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            why = f"does not answer ({' '.join(str(error).split()) or type(error).__name__})"
        if not why or clock() > deadline:
            return why
        await asyncio.sleep(pause)


class _Target:
    """The server that the route leads to; its URL is what the context gives."""

    def __init__(self, serve: str, token: str) -> None:
        self._serve = serve
        self._token = token
        self._runner: web.AppRunner | None = None

    async def __aenter__(self) -> str:
        async def answer(_: web.Request) -> web.Response:
            return web.Response(text=self._token)

        app = web.Application()
        app.router.add_get("/{rest:.*}", answer)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
        await self._runner.setup()
        host, _, port = self._serve.rpartition(":")
        host = host.strip("[]")
        try:
            await web.TCPSite(self._runner, host or None, int(port)).start()
        except OSError as error:
            await self._runner.cleanup()
            raise CheckFailed(f"--serve {self._serve} cannot be listened at: {error}") from None
        shown = f"[{host}]" if ":" in host else host
        return f"http://{shown}:{self._runner.addresses[0][1]}"

    async def __aexit__(self, *_: object) -> None:
        assert self._runner is not None
        await self._runner.cleanup()
