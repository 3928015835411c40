"""How long until a killed replica serves all its routes again."""

from __future__ import annotations

import time
from dataclasses import dataclass

from ..results import Skipped
from .bench import Bench, live_everywhere

__all__ = ["Recovery", "measure"]


@dataclass
class Recovery:
    """Seconds from SIGKILL until the replica answered for all that are looked at.

    ``renewed`` of the probes' requests were sent again, since the proxy closed a kept connection.
    """

    back_s: float
    renewed: int = 0


async def measure(bench: Bench) -> Recovery:
    """Kill one replica; whoever starts it (the hub, the bench at once) is part of the time."""
    if bench.subject.kill is None:
        raise Skipped("nothing starts it again")
    begun = time.monotonic()
    await bench.subject.kill()
    names = [f"n{number}" for number in range(bench.routes)]
    found = await live_everywhere(
        bench.subject.addresses[:1], names, bench.around.limit, "a killed replica"
    )
    return Recovery(round(found.at - begun, 3), found.renewed)
