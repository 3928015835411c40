"""Waiting without sleeping: a condition, and a deadline from one table.  All in seconds."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")

#: what needs no other program to start, elect or notice anything
SOON = 60.0
#: an election, a member that starts, a lease that ends
CLUSTER = 180.0
#: between two looks at a condition
POLL = 0.01


async def until(
    condition: Callable[[], T | Awaitable[T]],
    what: str = "the condition comes true",
    *,
    deadline: float = CLUSTER,
) -> T:
    """Return the condition's first true value.

    Raises:
        AssertionError: it has none within the deadline; names what was waited for.
    """
    value: T | Awaitable[T] | None = None
    try:
        async with asyncio.timeout(deadline):
            while True:
                value = condition()
                if inspect.isawaitable(value):
                    value = await value
                if value:
                    return value  # type: ignore[return-value]
                await asyncio.sleep(POLL)
    except TimeoutError:
        raise AssertionError(f"not within {deadline:g} s: {what} (last: {value!r})") from None
