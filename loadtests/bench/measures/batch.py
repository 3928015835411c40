"""How long 1,000 more routes take that are added at once: a class that begins."""

from __future__ import annotations

from .bench import Bench
from .fill import Fill, add_at_once

__all__ = ["measure"]

COUNT = 1000


async def measure(bench: Bench) -> Fill:
    """1,000 at once, to a table that has N."""
    return await add_at_once(bench, [f"batch{number}" for number in range(COUNT)], "1,000 at once")
