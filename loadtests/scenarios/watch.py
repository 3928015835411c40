"""What is looked at while a load goes on: the processes' CPU and memory, and whether it fails.

A deployment that fails gets no more load: :class:`Guard` says when.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from typing import Any

from bench.processes import Usage, cpu_between, memory

from .stage import LoadtestError, Play

__all__ = ["Guard", "watch_processes"]

#: seconds between two looks
PAUSE = 1.0
#: seconds that are looked back on
WINDOW = 5
#: requests in them, at least (fewer where few are asked for), and the share of them that may fail
LEAST, SHARE = 20, 0.5
#: seconds in which steady users may go without one good answer: more than one request may take, and
#: in which so many are asked for
SILENCE, PATIENCE, FEW = 20, 15, 10
#: starts, or stops, one after the other that may fail
FAILED = 5
#: what goes on where new requests hang
LASTING = ("WebSocket", "stream")


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
    """Sees a deployment that starts failing.

    Args:
        rate: requests a second that users make in all; 0: not known, they may well be silent.
    """

    def __init__(self, rate: float = 0) -> None:
        self._most = max(SILENCE, PATIENCE + FEW / rate) if rate else math.inf
        self._least = min(LEAST, max(2, int(rate * WINDOW / 2))) if rate else LEAST
        self._seconds: list[tuple[int, int, dict[str, int]]] = []
        self._silent = 0

    def second(self, kinds: dict[str, Any], changes: Sequence[dict[str, Any]] = ()) -> None:
        """One second's requests, and all changes so far.

        Raises:
            LoadtestError: most of the last seconds' requests have failed, or none was answered for
                long, or the last changes have all failed.
        """
        for do in ("start", "stop"):
            last = [one for one in changes if one["do"] == do][-FAILED:]
            if len(last) == FAILED and all("failed" in one for one in last):
                raise LoadtestError(
                    f"the last {FAILED} servers' {do}s failed ({last[-1]['failed']}):"
                    " the load was ended"
                )
        failed: dict[str, int] = {}
        good = 0
        for name, one in kinds.items():
            if name.startswith(LASTING):
                continue
            good += sum(one["times"].values())
            for why, count in one["failed"].items():
                failed[f"{name}: {why}"] = failed.get(f"{name}: {why}", 0) + count
        self._silent = 0 if good else self._silent + 1
        if self._silent >= self._most:
            raise LoadtestError(
                f"no request was answered well for {self._silent} s: the load was ended"
            )
        self._seconds = [*self._seconds, (good, sum(failed.values()), failed)][-WINDOW:]
        bad = sum(one[1] for one in self._seconds)
        sent = bad + sum(one[0] for one in self._seconds)
        if len(self._seconds) == WINDOW and sent >= self._least and bad > SHARE * sent:
            most = max(self._seconds[-1][2] or {"requests": 0}, key=lambda why: failed.get(why, 0))
            raise LoadtestError(
                f"{bad} of {sent} requests failed within {WINDOW} s ({most}): the load was ended"
            )
