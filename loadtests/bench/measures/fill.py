"""How long N routes take that are added at once, as when a hub starts with all its users."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from ..results import TooSlow
from .bench import VERIFIED, Bench, live_everywhere, spread

__all__ = ["Fill", "add_at_once", "measure"]


@dataclass
class Fill:
    """Seconds until every replica served all, and until all calls of add_route had returned.

    ``renewed`` of the probes' requests were sent again, since the proxy closed a kept connection.
    """

    routes: int
    live_s: float
    returned_s: float
    renewed: int = 0


async def add_at_once(bench: Bench, names: list[str], what: str) -> Fill:
    """Add users' routes at once, and wait until they are live.

    Raises:
        TooSlow: not within the limit.
    """
    limit = bench.around.limit
    asked = {names[number] for number in spread(len(names), VERIFIED)}
    call = asyncio.create_task(
        bench.hub.call(
            "add", names=names, target=bench.around.server_url,
            unasked=[name for name in names if name not in asked],
        )
    )  # fmt: skip
    probe = asyncio.create_task(live_everywhere(bench.subject.addresses, names, limit, what))
    try:
        async with asyncio.timeout(limit):
            # the call first: when it fails there is nothing to wait for
            answer = await call
            found = await probe
    except TimeoutError:
        raise TooSlow(f"{what}: over {limit:g} s") from None
    finally:
        for task in (call, probe):
            task.cancel()
        await asyncio.gather(call, probe, return_exceptions=True)
    called = answer.called
    return Fill(
        len(names), round(found.at - called, 3), round(answer.returned - called, 3), found.renewed
    )


async def measure(bench: Bench) -> Fill:
    """All N."""
    names = [f"n{number}" for number in range(bench.routes)]
    return await add_at_once(bench, names, f"{bench.routes} routes at once")
