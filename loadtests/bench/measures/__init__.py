"""What is measured, one idea in a module, in the order of a run.

Each module has ``measure(bench)``, which returns a dataclass of its own: it becomes the values of
an :class:`~bench.results.Outcome`.  What does not apply raises ``Skipped``.  ``batch`` comes last:
it leaves routes behind.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from . import batch, echo, fill, forwarder, live, memory, recovery, requests, restore, steady
from .bench import Bench

__all__ = ["MEASURES", "STATIC", "Bench"]

MEASURES: dict[str, Callable[[Bench], Awaitable[Any]]] = {
    "fill": fill.measure,
    "live": live.measure,
    "requests": requests.measure,
    "forwarder": forwarder.measure,
    "echo": echo.measure,
    "steady": steady.measure,
    "memory": memory.measure,
    "recovery": recovery.measure,
    "restore": restore.measure,
    "batch": batch.measure,
}

#: those that a contestant without changing routes takes part in
STATIC = ("requests", "echo", "steady", "memory")
