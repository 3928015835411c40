"""What every measure is given, and how it asks whether many routes are live."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ..client import Address, Connection, until_served
from ..contestants import Subject
from ..hub import Hub
from ..options import Settings
from ..results import Skipped, TooSlow
from ..world import World

__all__ = ["VERIFIED", "Bench", "Everywhere", "live_everywhere", "spread"]

#: seconds that changes get to be applied before a quiet measurement
SETTLED = 120.0
#: routes that are probed while many are being added; all are when that is done
SAMPLE = 20
#: routes that are looked at once more when the clock has stopped: those that requests are for
VERIFIED = 1000


def spread(count: int, most: int) -> list[int]:
    """At most ``most`` of the numbers below ``count``, evenly spread, the last one among them."""
    if count <= most:
        return list(range(count))
    return [(index + 1) * count // most - 1 for index in range(most)]


@dataclass
class Bench:
    """A contestant that runs, with so many routes, and how it is to be measured."""

    subject: Subject
    around: World
    routes: int
    settings: Settings
    static: bool = False

    @property
    def hub(self) -> Hub:
        """The hub's side."""
        if self.subject.hub is None:
            raise Skipped("its routes do not change")
        return self.subject.hub

    async def settle(self) -> None:
        """Wait until what earlier changes left to be done is done: it is measured as churn.

        Raises:
            TooSlow: it takes too long.
        """
        if self.subject.settled is None:
            return
        try:
            async with asyncio.timeout(SETTLED):
                while not await self.subject.settled():  # noqa: ASYNC110 (a process apart)
                    await asyncio.sleep(0.2)
        except TimeoutError:
            raise TooSlow(f"changes were not all applied: over {SETTLED:g} s") from None

    def paths(self, most: int = VERIFIED) -> list[str]:
        """Paths of routes spread over the whole table."""
        return [f"/user/n{number}/" for number in spread(self.routes, most)]

    def others(self, most: int = VERIFIED) -> list[str]:
        """Names of the users whose routes :meth:`paths` leaves out."""
        asked = set(spread(self.routes, most))
        return [f"n{number}" for number in range(self.routes) if number not in asked]


class Everywhere(NamedTuple):
    """When (CLOCK_MONOTONIC) all was live, and how often a probe's kept connection was renewed."""

    at: float
    renewed: int


async def live_everywhere(
    addresses: Sequence[Address], names: Sequence[str], limit: float, what: str
) -> Everywhere:
    """Wait until every replica serves all these users.

    While the clock runs, only some are asked for (:data:`SAMPLE`, spread, the last among them),
    so that asking costs little; then up to :data:`VERIFIED` are, and one that is not live yet
    sets the clock going again.

    Raises:
        TooSlow: not within ``limit`` seconds.
    """
    connections = [Connection(address) for address in addresses]

    async def sampled(connection: Connection) -> float:
        at = 0.0
        for number in spread(len(names), SAMPLE):
            at = (await until_served(connection, f"/user/{names[number]}/")).at
        return at

    async def verified(connection: Connection) -> float:
        at = 0.0
        for number in spread(len(names), VERIFIED):
            found = await until_served(connection, f"/user/{names[number]}/")
            if found.asked:
                at = found.at
        return at

    begun = time.monotonic()
    try:
        async with asyncio.timeout(limit):
            at = max(await asyncio.gather(*map(sampled, connections)))
            late = max(await asyncio.gather(*map(verified, connections)))
    except TimeoutError:
        raise TooSlow(f"{what}: over {limit:g} s") from None
    finally:
        for connection in connections:
            connection.close()
    return Everywhere(max(at, late, begun), sum(one.renewed for one in connections))
