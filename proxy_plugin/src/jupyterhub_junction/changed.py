"""A place where tasks of one loop sleep until something has changed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

__all__ = ["Changed"]


class Changed:
    """Wakes all who wait, and each looks whether it is what they wait for."""

    def __init__(self) -> None:
        self._waiting: set[asyncio.Future[None]] = set()

    def notify(self) -> None:
        """Something has changed."""
        for future in self._waiting:
            if not future.done():
                future.set_result(None)

    async def until(self, condition: Callable[[], bool], timeout: float | None = None) -> bool:
        """Wait until the condition holds, at most ``timeout`` seconds; returns whether it does."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(timeout):
                while not condition():
                    future = loop.create_future()
                    self._waiting.add(future)
                    try:
                        await future
                    finally:
                        self._waiting.discard(future)
        except TimeoutError:
            return condition()
        return True
