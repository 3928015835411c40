"""How long a single route takes to be live at every replica, and a deleted one to be gone.

From the call of add_route (by the hub side's clock) until the last replica has answered from the
user's server; the replicas are asked all the while, so a proxy that returns early gains nothing.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Any

from ..client import Connection, Served, until_served
from ..hub import Answer
from ..results import TooSlow
from ..stats import Times, summary
from .bench import Bench

__all__ = ["Live", "measure"]


@dataclass
class Live:
    """Attributes:
    live: add_route called, until live at every replica.
    gone: delete_route called, until gone at every replica.
    returned: add_route called, until it returned.
    early: adds that returned while a replica still answered from elsewhere.
    early_gone: deletes that returned while a replica still answered from the server.
    renewed: requests of the probes that were sent again, since the proxy closed a kept connection
        before any byte of the answer.
    """

    live: Times
    gone: Times
    returned: Times
    early: int
    early_gone: int
    renewed: int = 0


async def measure(bench: Bench) -> Live:
    """Adds and deletes, one after another, for as many as fit into half of the limit."""
    live: list[float] = []
    gone: list[float] = []
    returned: list[float] = []
    early = [0, 0]
    limit = bench.around.limit
    ends = time.monotonic() + limit / 2
    connections = [Connection(address) for address in bench.subject.addresses]

    async def until(path: str, served: bool, now: asyncio.Event) -> list[Served]:
        asking = (until_served(one, path, served, now) for one in connections)
        return await asyncio.gather(*asking)

    async def told(do: str, now: asyncio.Event, **arguments: Any) -> Answer:
        answer = await bench.hub.call(do, **arguments)
        now.set()
        return answer

    try:
        for number in range(bench.settings.adds):
            name = f"one{number}"
            for served, times in ((True, live), (False, gone)):
                do = "add" if served else "delete"
                arguments = {"target": bench.around.server_url} if served else {}
                now = asyncio.Event()
                try:
                    async with asyncio.timeout(limit):
                        found, answer = await asyncio.gather(
                            until(f"/user/{name}/", served, now),
                            told(do, now, names=[name], **arguments),
                        )
                except TimeoutError:
                    raise TooSlow(f"{do} of one route: over {limit:g} s") from None
                times.append(max(one.at for one in found) - answer.called)
                early[not served] += any(one.asked > answer.returned for one in found)
                if served:
                    returned.append(answer.returned - answer.called)
            if time.monotonic() > ends:
                break
    finally:
        for connection in connections:
            connection.close()
    renewed = sum(one.renewed for one in connections)
    return Live(summary(live), summary(gone), summary(returned), early[0], early[1], renewed)
