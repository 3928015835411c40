"""Requests a second on a route that only the agent's forwarder can serve.

Traefik reaches no Unix sockets, so a replica hands a route with such a target to its forwarder.
configurable-http-proxy and the proxy in the hub's process are measured with the same target, so
that the ratio is one of equal work.
"""

from __future__ import annotations

import asyncio

from ..client import Connection, until_served
from ..hub import HubError
from ..results import Failed
from ..wrk import Wrk, run_wrk
from .bench import Bench

__all__ = ["measure"]

#: seconds for the route to be live
LIVE = 5.0


async def measure(bench: Bench) -> Wrk:
    """wrk on one route with a Unix socket for a target."""
    address = bench.subject.addresses[0]
    connection = Connection(address)
    try:
        try:
            async with asyncio.timeout(LIVE):
                await bench.hub.call("add", names=["unix"], target=bench.around.unix_url)
                await until_served(connection, "/user/unix/")
        except (TimeoutError, HubError) as error:
            why = f": {error}" if str(error) else f" within {LIVE:g} s"
            raise Failed(f"it serves no route to a Unix socket{why}") from None
        await bench.settle()
        return await run_wrk(
            address, ["/user/unix/"], bench.settings.seconds, bench.around.directory
        )
    finally:
        connection.close()
        try:
            async with asyncio.timeout(LIVE):
                await bench.hub.call("delete", names=["unix"])
        except (TimeoutError, HubError):
            pass  # it never was there
