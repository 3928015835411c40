"""All of etcd is lost: how long until N routes are restored, and do users notice?

The replicas serve on meanwhile.  One user's route is not in any table before: the hub's check
writes it with all others, and it is live only where a replica has taken the new table over.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

from ..client import Load, steady
from ..hub import HubError
from ..results import Skipped, TooSlow
from .bench import Bench, live_everywhere

__all__ = ["Restore", "measure"]

#: requests a second, to all replicas in turn
RATE = 100.0


@dataclass
class Restore:
    """Attributes:
    live_s: seconds from when an empty etcd answered until every replica served the new table.
    from_loss_s: the same from when all members were killed.
    requests: sent to all replicas meanwhile.
    failed: those of them that the user's server did not answer; none is sent again.
    held: of the failed, those that were not sent, as too many waited for an answer.
    renewed: requests of the probes that were sent again, since a kept connection was closed.
    """

    live_s: float
    from_loss_s: float
    requests: int
    failed: int
    first_failure: str = ""
    held: int = 0
    renewed: int = 0


async def measure(bench: Bench) -> Restore:
    """Kill all members, remove their data, start them anew, and let the hub check its routes."""
    wipe, following = bench.subject.wipe, bench.subject.following
    if wipe is None or following is None:
        raise Skipped("it keeps no routes in etcd")
    limit = bench.around.limit
    paths, addresses, load = bench.paths(), bench.subject.addresses, Load()
    await bench.hub.call("note", name="restored", target=bench.around.server_url)
    asking = asyncio.create_task(
        steady(addresses, lambda number: paths[number % len(paths)], RATE, load=load)
    )
    try:
        begun = time.monotonic()
        await wipe()
        empty = time.monotonic()
        try:
            async with asyncio.timeout(limit):
                while True:
                    try:
                        await bench.hub.call("check")
                        break
                    except HubError:  # a member that is only starting may still answer
                        await asyncio.sleep(0.1)
                found = await live_everywhere(addresses, ["restored"], limit, "the new table")
                while min(await following()) < bench.routes:  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
                at = max(found.at, time.monotonic())
        except TimeoutError:
            raise TooSlow(f"{bench.routes} routes restored: over {limit:g} s") from None
    finally:
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
    return Restore(
        round(at - empty, 3), round(at - begun, 3), load.sent, load.wrong, load.first_wrong,
        load.held, found.renewed,
    )  # fmt: skip
