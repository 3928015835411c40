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

from .contestants import CONTESTANTS, Contestant
from .measures import MEASURES, STATIC, Bench
from .options import Options
from .progress import Bar
from .results import Outcome, Skipped, TooSlow
from .world import World, world

__all__ = ["run"]

#: seconds that one measure may take at most, as a multiple of --limit and beside its loads
PATIENCE = 4.0


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
    given_up: dict[str, str] = {}
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
    given_up: dict[str, str],
    outcomes: dict[str, Outcome],
) -> None:
    missing = contestant.missing()
    reason = missing or given_up.get(contestant.name, "")
    if reason:
        for outcome in outcomes.values():
            outcome.skipped = reason
        bar.say(f"{contestant.name}, {routes} routes: not run: {reason}")
        bar.step(len(outcomes))
        return
    stopped = ""
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
                    stopped = outcome.failed
                    break
    except Exception as error:
        stopped = stopped or f"{type(error).__name__}: {error}"[:500]
        bar.say(f"{contestant.name}, {routes} routes: {stopped}")
    finally:
        shutil.rmtree(folder, ignore_errors=True)  # etcd's data would add up
    bar.step(left)
    if stopped:
        for outcome in outcomes.values():
            if not (outcome.values or outcome.failed or outcome.skipped):
                outcome.skipped = stopped
        fill = outcomes.get("fill")
        if fill is not None and fill.failed:
            given_up[contestant.name] = f"{stopped} at {routes}"


async def _measure(contestant: Contestant, bench: Bench, outcome: Outcome) -> None:
    begun = time.monotonic()
    limit = PATIENCE * (bench.around.limit + bench.settings.seconds)
    try:
        if outcome.measure in contestant.absent:
            raise Skipped(contestant.absent[outcome.measure])
        async with asyncio.timeout(limit):
            values = await MEASURES[outcome.measure](bench)
        outcome.values = dataclasses.asdict(values)
    except Skipped as why:
        outcome.skipped = str(why)
    except TooSlow as why:
        outcome.failed = str(why)
    except TimeoutError:
        outcome.failed = f"over {limit:g} s"
    except Exception as error:
        outcome.failed = f"{type(error).__name__}: {error}"[:500]
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
