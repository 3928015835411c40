"""The run itself: each size, each contestant, each measure, in turn and alone.

Invariants: a contestant or measure that fails is recorded and the run goes on; whatever was
started is ended, and all folders go, however the run ends.
"""

from __future__ import annotations

import asyncio
import dataclasses
import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from .contestants import CONTESTANTS, Contestant
from .measures import MEASURES, STATIC, Bench
from .options import Options
from .progress import Bar
from .results import Failed, Outcome, Skipped, TooSlow
from .world import World, world

__all__ = ["run"]

#: seconds that one measure may take at most, as a multiple of --limit and beside its loads
PATIENCE = 4.0


class GaveUp(NamedTuple):
    """What ended a contestant, and its kind (see :class:`.Outcome`)."""

    why: str
    kind: str


def _plan(contestant: Contestant, options: Options) -> list[str]:
    allowed = STATIC if contestant.static else tuple(MEASURES)
    return [name for name in options.measures if name in allowed]


async def run(
    options: Options,
    outcomes: list[Outcome],
    contestants: Sequence[Contestant] = CONTESTANTS,
) -> None:
    """Add all outcomes, those skipped and failed among them, as they come."""
    chosen = [one for one in contestants if one.name in options.only]
    total = sum(len(_plan(one, options)) for one in chosen) * len(options.routes)
    given_up: dict[str, GaveUp] = {}
    with tempfile.TemporaryDirectory(prefix="junction-bench-") as folder, Bar(total) as bar:
        async with world(Path(folder), options.limit) as around:
            for routes in options.routes:
                # side by side at each size, so that what is compared is close in time
                for contestant in chosen:
                    found = {
                        name: Outcome(contestant.name, routes, name)
                        for name in _plan(contestant, options)
                    }
                    outcomes += found.values()
                    await _one(contestant, routes, options, around, bar, given_up, found)


async def _one(
    contestant: Contestant,
    routes: int,
    options: Options,
    around: World,
    bar: Bar,
    given_up: dict[str, GaveUp],
    outcomes: dict[str, Outcome],
) -> None:
    missing = contestant.missing()
    reason, kind = (missing, "") if missing else given_up.get(contestant.name, ("", ""))
    if reason:
        for outcome in outcomes.values():
            outcome.skipped, outcome.kind = reason, kind
        bar.say(f"{contestant.name}, {routes} routes: not run: {reason}")
        bar.step(len(outcomes))
        return
    stopped = GaveUp("", "")
    left = len(outcomes)
    folder = around.folder(f"{contestant.name}-{routes}")
    try:
        bar.now(f"{contestant.name}, {routes} routes: starting")
        async with contestant.start(around, folder) as subject:
            bench = Bench(subject, around, routes, options.settings, contestant.static)
            for name, outcome in outcomes.items():
                bar.now(f"{contestant.name}, {routes} routes: {name}")
                await _measure(contestant, bench, outcome)
                bar.say(f"{contestant.name}, {routes} routes, {name}: {_said(outcome)}")
                bar.step()
                left -= 1
                if name == "fill" and outcome.failed:
                    stopped = GaveUp(outcome.failed, outcome.kind)
                    break
    except Exception as error:
        # one that comes after the last measure is of its end, and takes nothing from them
        stopped = stopped if stopped.why else GaveUp(_described(error), "error")
        bar.say(f"{contestant.name}, {routes} routes: {stopped.why}")
    finally:
        shutil.rmtree(folder, ignore_errors=True)  # etcd's data would add up
    bar.step(left)
    if stopped.why:
        for outcome in outcomes.values():
            if not (outcome.values or outcome.failed or outcome.skipped):
                outcome.skipped, outcome.kind = stopped
        fill = outcomes.get("fill")
        if fill is not None and fill.failed:
            given_up[contestant.name] = GaveUp(f"{stopped.why} at {routes}", stopped.kind)


def _described(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".removesuffix(": ")[:500]


async def _measure(contestant: Contestant, bench: Bench, outcome: Outcome) -> None:
    begun = time.monotonic()
    clock: asyncio.Timeout | None = None
    limit = PATIENCE * (bench.around.limit + bench.settings.seconds)
    try:
        if outcome.measure in contestant.absent:
            raise Skipped(contestant.absent[outcome.measure])
        async with asyncio.timeout(limit) as clock:
            values = await MEASURES[outcome.measure](bench)
        outcome.values = dataclasses.asdict(values)
    except Skipped as why:
        outcome.skipped = str(why)
    except TooSlow as why:
        outcome.failed, outcome.kind = str(why), "limit"
    except Failed as why:
        outcome.failed, outcome.kind = str(why), "error"
    except Exception as error:
        outcome.failed, outcome.kind = _described(error), "error"
        # a time limit from inside the measure is its own, and no word on the time it took
        if isinstance(error, TimeoutError) and clock is not None and clock.expired():
            outcome.failed, outcome.kind = f"over {limit:g} s", "limit"
    outcome.took_s = round(time.monotonic() - begun, 2)


def _said(outcome: Outcome) -> str:
    if outcome.failed or outcome.skipped:
        return outcome.failed or f"skipped: {outcome.skipped}"
    parts = []
    for name, value in outcome.values.items():
        if isinstance(value, dict) and "median" in value:
            speed = f"{value['per_second']:g}/s, " if "per_second" in value else ""
            parts.append(f"{name} {speed}{value['median']:g}/{value['p99']:g} ms")
        elif isinstance(value, int | float):
            parts.append(f"{name} {value:g}")
    return ", ".join(parts)
