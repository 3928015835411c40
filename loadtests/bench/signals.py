"""SIGTERM ends a run as Ctrl-C does, so that whatever it has started is ended with it."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine
from typing import Any, TypeVar

__all__ = ["heed_sigterm", "run"]

T = TypeVar("T")


def heed_sigterm() -> None:
    """Let SIGTERM raise KeyboardInterrupt: process 1 of a container would not notice it else."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)


def run(work: Coroutine[Any, Any, T]) -> T:
    """``asyncio.run``, whose work is cancelled by SIGTERM as it is by Ctrl-C.

    Raises:
        KeyboardInterrupt: it was.
    """

    async def whole() -> T:
        task = asyncio.current_task()
        assert task is not None
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        return await work

    before = signal.getsignal(signal.SIGTERM)
    try:
        return asyncio.run(whole())
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None
    finally:
        signal.signal(signal.SIGTERM, before)
