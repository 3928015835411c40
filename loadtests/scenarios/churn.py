"""Route churn: servers start and stop at a steady rate while users work."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from .latency import setup
from .stage import LoadtestError, Play, Stage

__all__ = ["change", "setup"]

NAME = "churn"
WHY = "Others' servers that start and stop should not be felt, and a new one should serve at once."
HOW = (
    "The load of *latency*, while servers start and stop at a steady rate, whatever the earlier"
    " ones take. Add → live is the time from the call until every replica answers from the server."
    " On a deployment it is the time from when the hub calls the server ready until it answers, and"
    " delete → gone that in which the hub stops the server and removes its user."
)
#: changes that may be under way at once; a proxy that falls behind is not given more
MOST = 100


async def change(play: Play, name: str) -> None:
    """One server starts, and stops when it is live; both are written down."""
    for do, call in (("start", play.stage.start), ("stop", play.stage.stop)):
        assert call is not None
        at = play.at()
        try:
            done = await call(name)
        except asyncio.CancelledError:
            why = f"not in effect {play.at() - at:.0f} s later, when the test ended"
            play.round.changes.append({"t": at, "do": do, "failed": why})
            raise
        except Exception as error:
            why = str(error) or type(error).__name__
            play.round.changes.append({"t": at, "do": do, "failed": why[:200]})
            if do == "stop":
                return
            continue  # what was begun may have become something
        play.round.changes.append(
            {"t": at, "do": do, "live_ms": done.live_ms, "returned_ms": done.returned_ms}
        )


async def meanwhile(play: Play) -> None:
    """Half of the changes are starts."""
    pace = 2 / play.settings["changes"]
    begun, number = time.monotonic(), 0
    running: set[asyncio.Task[None]] = set()
    try:
        while number * pace < play.seconds:
            await asyncio.sleep(max(0.0, begun + number * pace - time.monotonic()))
            if play.over.is_set():
                break
            if len(running) >= MOST:
                raise LoadtestError(f"{MOST} changes are under way: fewer a second (--changes)")
            task = asyncio.create_task(change(play, f"{play.settings['prefix']}c{number}"))
            running.add(task)
            task.add_done_callback(running.discard)
            number += 1
        if running:
            await asyncio.wait(running)
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


def absent(stage: Stage, settings: dict[str, Any]) -> str:
    """Servers have to be started."""
    return "" if stage.start else "no server can be started there"
