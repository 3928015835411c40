"""Faults: servers come and go, users work, and a part of the proxy is killed."""

from __future__ import annotations

import asyncio
from typing import Any

from . import churn
from .latency import setup
from .stage import Play, Stage

__all__ = ["setup"]

NAME = "faults"
WHY = "Nodes fail; users should not notice."
HOW = (
    "The load of *churn*, while a part is killed by SIGKILL (`--fault`: replica, agent, traefik or"
    " etcd; `--at`: when, as a share of the time). Clients of a killed replica go on asking it, as"
    " no Service leads them elsewhere here, so their failures last until it is back."
)


async def meanwhile(play: Play) -> None:
    """Churn, and one part killed when its time has come."""

    async def kill() -> None:
        await asyncio.sleep(play.settings["at"] * play.seconds)
        play.event(await play.stage.faults[play.settings["fault"]]())

    await asyncio.gather(churn.meanwhile(play), kill())


def absent(stage: Stage, settings: dict[str, Any]) -> str:
    """What is to be killed has to be there."""
    if churn.absent(stage, settings):
        return churn.absent(stage, settings)
    if settings["fault"] not in stage.faults:
        return f"it has no {settings['fault']} that could be killed here"
    return ""
