"""The round trip of a small message over a WebSocket."""

from __future__ import annotations

import asyncio
import time

import aiohttp

from ..results import Failed
from ..stats import Times, summary
from .bench import Bench

__all__ = ["measure"]

#: seconds for the route to be live
LIVE = 30.0
WARM = 50


async def measure(bench: Bench) -> Times:
    """One message at a time, on one connection to one replica."""
    host, port = bench.subject.addresses[0]
    if not bench.static:
        await bench.hub.call("add", names=["echo"], target=bench.around.echo_url)
    elif bench.subject.addresses[0] == bench.around.server:
        host, port = bench.around.echo
    times: list[float] = []
    async with (
        asyncio.timeout(LIVE + bench.settings.messages),
        aiohttp.ClientSession() as session,
        await _socket(session, f"ws://{host}:{port}/user/echo/") as socket,
    ):
        for number in range(WARM + bench.settings.messages):
            begun = time.perf_counter()
            await socket.send_str(f"message {number}")
            answer = await socket.receive_str()
            if number >= WARM:
                times.append(time.perf_counter() - begun)
            if answer != f"message {number}":
                raise Failed(f"the echo of message {number} was {answer[:40]!r}")
    if not bench.static:
        await bench.hub.call("delete", names=["echo"])
    return summary(times)


async def _socket(session: aiohttp.ClientSession, url: str) -> aiohttp.ClientWebSocketResponse:
    """A connection, once the route is live."""
    try:
        async with asyncio.timeout(LIVE):
            while True:
                try:
                    return await session.ws_connect(url, compress=0)
                except aiohttp.WSServerHandshakeError:
                    await asyncio.sleep(0.05)
    except TimeoutError:
        raise Failed(f"no WebSocket within {LIVE:g} s") from None
