"""Which event loop the forwarder runs on: uvloop where there is one, else asyncio's own.

Invariants:

* It is chosen here alone, for each loop that is made; the loops of other threads, JupyterHub's
  among them, stay what they are.
* Nothing depends on the choice but speed, and what its faults make necessary.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Coroutine
from typing import Any, TypeVar

try:
    import uvloop
except ImportError:  # it has no wheel for every system, and asyncio's loop does as well
    uvloop = None  # type: ignore[assignment]

__all__ = ["name", "new_event_loop", "run", "writelines_pauses"]

T = TypeVar("T")


def name() -> str:
    """Which loop it is: ``uvloop`` or ``asyncio``."""
    return "asyncio" if uvloop is None else "uvloop"


def new_event_loop() -> asyncio.AbstractEventLoop:
    """The fastest loop there is; the caller closes it."""
    return uvloop.new_event_loop() if uvloop is not None else asyncio.new_event_loop()


def writelines_pauses(
    loop: asyncio.AbstractEventLoop, version: tuple[int, ...] = sys.version_info[:3]
) -> bool:
    """Whether its transports' ``writelines`` tells the protocol when they hold too much.

    asyncio's own does not from Python 3.12.0 to 3.12.8 and from 3.13.0 to 3.13.1
    (CVE-2024-12254); ``write`` always does.
    """
    faulty = (3, 12) <= version < (3, 12, 9) or (3, 13) <= version < (3, 13, 2)
    return not (faulty and isinstance(loop, asyncio.SelectorEventLoop))


def run(main: Coroutine[Any, Any, T]) -> T:
    """As :func:`asyncio.run`, on such a loop.

    Raises:
        RuntimeError: a loop runs in this thread already.
    """
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        return runner.run(main)
