"""A class begins: students sign in, start servers, open JupyterLab, work, and leave."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from .stage import Play, Stage

__all__: list[str] = []

NAME = "class"
WHY = "Everybody comes at once: the hub, its proxy and all servers are busiest when a class begins."
HOW = (
    "A real JupyterHub. Students arrive one after another, sign in, start a server, open JupyterLab"
    " and a notebook (requests, sizes, times and WebSockets as recorded with a browser), run cells,"
    " and stop their servers. A few have real JupyterLab servers, the others share a stand-in."
    " Add → live is the time that the hub's call of add_route took: Junction's returns when every"
    " replica serves the route."
)
#: seconds beyond arriving and working: sign-in, start, JupyterLab, leaving
BESIDE = 150.0


def setup(stage: Stage, settings: dict[str, Any]) -> dict[str, Any]:
    """Students, who come within the time that is given, and work as long."""
    people = stage.people[: settings["students"]]
    return {
        "users": "student", "people": people, "count": len(people), "once": True,
        "arrive": max(0.1, len(people) / settings["seconds"]), "work": settings["seconds"],
        "seconds": 2 * settings["seconds"] + BESIDE, "password": stage.hub.get("password", ""),
    }  # fmt: skip


async def meanwhile(play: Play) -> None:
    """Note what the hub says of its routes."""
    told = play.stage.hub.get("told")
    while told is not None:
        over = play.over.is_set()
        play.round.changes += told(play.began)
        if over:
            return
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(play.over.wait(), 0.5)


def absent(stage: Stage, settings: dict[str, Any]) -> str:
    """It needs a JupyterHub."""
    return "" if stage.hub else "there is no JupyterHub, whose proxy alone is played on"
