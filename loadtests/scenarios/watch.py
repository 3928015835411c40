"""What is looked at while a load goes on: the processes' CPU and memory, and whether it fails.

A deployment that fails gets no more load: :class:`Guard` says when.
"""

from __future__ import annotations

import asyncio
from typing import Any

from bench.processes import Usage, cpu_between, memory

from .stage import LoadtestError, Play

__all__ = ["Guard", "watch_processes"]

#: seconds between two looks
PAUSE = 1.0
#: seconds that are looked back on
WINDOW = 5
#: requests in them, at least, and the share of them that may fail
LEAST, SHARE = 20, 0.5


async def watch_processes(play: Play, more: dict[str, int]) -> None:
    """Note CPU and memory each second, until cancelled."""
    before = Usage.now({**play.stage.pids(), **more})
    while True:
        await asyncio.sleep(PAUSE)
        pids = {**play.stage.pids(), **more}
        now = Usage.now(pids)
        play.round.system.append(
            {"t": play.at(), "cpu": cpu_between(before, now).shares, "memory": memory(pids)}
        )
        before = now


class Guard:
    """Sees a deployment that starts failing."""

    def __init__(self) -> None:
        self._seconds: list[tuple[int, int, dict[str, int]]] = []

    def second(self, kinds: dict[str, Any]) -> None:
        """One second's requests.

        Raises:
            LoadtestError: most of the last seconds' requests have failed.
        """
        failed: dict[str, int] = {}
        good = 0
        for name, one in kinds.items():
            good += sum(one["times"].values())
            for why, count in one["failed"].items():
                failed[f"{name}: {why}"] = failed.get(f"{name}: {why}", 0) + count
        self._seconds = [*self._seconds, (good, sum(failed.values()), failed)][-WINDOW:]
        bad = sum(one[1] for one in self._seconds)
        sent = bad + sum(one[0] for one in self._seconds)
        if len(self._seconds) == WINDOW and sent >= LEAST and bad > SHARE * sent:
            most = max(self._seconds[-1][2] or {"requests": 0}, key=lambda why: failed.get(why, 0))
            raise LoadtestError(
                f"{bad} of {sent} requests failed within {WINDOW} s ({most}): the load was ended"
            )
