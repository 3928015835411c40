"""Where a scenario plays: addresses, users with servers, and what can be done to them meanwhile.

The seam between scenarios and what they are played on: proxies started here (:mod:`.local`), a
JupyterHub started here (:mod:`.hubs`), or a deployment that runs (:mod:`.remote`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol

from .results import Round

__all__ = ["Change", "Fault", "LoadtestError", "Play", "Scenario", "Stage", "together"]


class LoadtestError(Exception):
    """What is wrong, in one line, and what mends it."""


async def together(work: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Do all of it at once; what is under way when one fails, or this is cancelled, is ended."""
    tasks = [asyncio.create_task(one) for one in work]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@dataclass(frozen=True, slots=True)
class Change:
    """A server's start or stop: milliseconds until it was in effect at every replica, and until
    the call returned."""

    live_ms: float
    returned_ms: float


Fault = Callable[[], Awaitable[str]]


@dataclass
class Stage:
    """Attributes:
    addresses: URLs of every replica, without a slash at their end.
    people: users with a server each: ``path``, and a ``token`` where one is needed.
    stand_in: whether their servers are the project's stand-in.
    pids: of each role, where the processes are this machine's.
    start: starts one more user's server, by a name; None where that cannot be done.
    stop: stops it.
    faults: what can be killed; each says what it did.
    hub: settings that students need (see :mod:`.load.student`).
    etcd: URLs of etcd's members.
    """

    addresses: list[str]
    people: list[dict[str, str]] = field(default_factory=list)
    stand_in: bool = True
    pids: Callable[[], dict[str, int]] = dict
    start: Callable[[str], Awaitable[Change]] | None = None
    stop: Callable[[str], Awaitable[Change]] | None = None
    faults: dict[str, Fault] = field(default_factory=dict)
    hub: dict[str, Any] = field(default_factory=dict)
    etcd: list[str] = field(default_factory=list)


@dataclass
class Play:
    """A scenario that is being played.

    Attributes:
        began: when its load began (CLOCK_MONOTONIC).
        over: set when its load is over.
    """

    stage: Stage
    round: Round
    settings: dict[str, Any]
    seconds: float
    began: float = 0.0
    over: asyncio.Event = field(default_factory=asyncio.Event)

    def at(self) -> float:
        """Seconds since it began."""
        return round(time.monotonic() - self.began, 3)

    def event(self, what: str, at: float | None = None) -> None:
        """Something happened, now or at ``at``, in seconds since it began."""
        self.round.events.append({"t": self.at() if at is None else at, "what": what})


class Scenario(Protocol):
    """A scenario's module."""

    #: as it stands on the command line
    NAME: str
    #: one sentence, for the report
    WHY: str
    HOW: str

    def setup(self, stage: Stage, settings: dict[str, Any]) -> dict[str, Any]:
        """The generator's setup, but for what all have in common."""

    async def meanwhile(self, play: Play) -> None:
        """What happens while the load goes on.

        When it is over, what is under way gets some time more, and is cancelled then.
        """

    def absent(self, stage: Stage, settings: dict[str, Any]) -> str:
        """Why it cannot be played there; empty if it can."""
