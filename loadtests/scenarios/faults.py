"""Faults: another scenario goes on, and a part of the proxy is killed."""

from __future__ import annotations

import asyncio
from types import ModuleType
from typing import Any

from . import churn, class_begins, latency
from .stage import Play, Stage, together

__all__ = ["DURING"]

NAME = "faults"
WHY = "Nodes fail; users should not notice."
HOW = (
    "Another scenario (`--during`: churn, unless told otherwise), while a part is killed by SIGKILL"
    " (`--fault`: replica, agent, traefik or etcd; `--at`: when, as a share of the time). Clients"
    " of a killed replica go on asking it, as no Service leads them elsewhere here, so their"
    " failures last until it is back."
)
DURING: dict[str, ModuleType] = {one.NAME: one for one in (latency, churn, class_begins)}


def setup(stage: Stage, settings: dict[str, Any]) -> dict[str, Any]:
    """As the other scenario has it."""
    found: dict[str, Any] = DURING[settings["during"]].setup(stage, settings)
    return found


async def meanwhile(play: Play) -> None:
    """What the other scenario does, and one part killed when its time has come."""

    async def kill() -> None:
        await asyncio.sleep(play.settings["at"] * play.seconds)
        at, what = play.at(), play.settings["fault"]
        try:
            said = await play.stage.faults[what]()
        except asyncio.CancelledError:
            play.event(f"{what} was killed", at)
            raise
        play.event(said, at)

    await together([DURING[play.settings["during"]].meanwhile(play), kill()])


def absent(stage: Stage, settings: dict[str, Any]) -> str:
    """What is to be killed has to be there."""
    why: str = DURING[settings["during"]].absent(stage, settings)
    if not why and settings["fault"] not in stage.faults:
        return f"it has no {settings['fault']} that could be killed here"
    return why
