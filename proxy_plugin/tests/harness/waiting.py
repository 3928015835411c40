"""Waiting without sleeping: a condition, and a deadline from one table.  All in seconds."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")

#: what needs no other program to start, elect or notice anything
SOON = 10.0
#: an election, a member that starts, a lease that ends
CLUSTER = 60.0
#: between two looks at a condition
POLL = 0.02


async def until(
    condition: Callable[[], Awaitable[T]], what: str, *, deadline: float = CLUSTER
) -> T:
    """Return the condition's first true value; TimeoutError with ``what`` past the deadline."""
    try:
        async with asyncio.timeout(deadline):
            while True:
                if value := await condition():
                    return value
                await asyncio.sleep(POLL)
    except TimeoutError:
        raise TimeoutError(f"not within {deadline:g} s: {what}") from None
