"""The run itself: each scenario on each contestant in turn, round after round.

Invariants: one that fails is recorded and the run goes on; contestants take turns (A B A B), so
that what is compared is close in time; whatever was started is ended however the run ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from types import ModuleType
from typing import Any, cast

from bench.progress import Bar
from bench.wrk import run_wrk

from . import churn, class_begins, faults, latency
from .child import Child
from .local import contestants, local_stage, stand_in
from .metrics import under_load
from .options import Options
from .profiling import profile
from .results import NULL, Result, Round
from .stage import LoadtestError, Play, Scenario, Stage
from .watch import Guard, watch_processes

__all__ = ["SCENARIOS", "Opener", "play", "run"]

_MODULES: tuple[ModuleType, ...] = (latency, churn, class_begins, faults)
SCENARIOS: dict[str, Scenario] = {one.NAME: cast(Scenario, one) for one in _MODULES}

#: seconds beyond its own time that a load gets
GRACE = 60.0
#: seconds that the generator gets to start, and that its workers get to come
START, COME = 60.0, 300.0
#: seconds that users get for what they are at when the time is up: more than a request of steady
#: ones takes that connects late and is answered late (load.sockets), so that what hangs is counted
LATE = 31.0
#: seconds that changes get which are under way then; a deployment starts a server in minutes
DRAIN, DRAIN_THERE = 45.0, 300.0

Opener = Callable[[str, str, Path], AbstractAsyncContextManager[Stage]]


async def play(scenario: Scenario, play: Play, folder: Path, profiled: bool = False) -> None:
    """Play a scenario on a stage, to its end.

    Raises:
        LoadtestError: it cannot be done, or had to be ended.
    """
    stage, settings = play.stage, play.settings
    setup = {
        "addresses": stage.addresses, "people": stage.people, "stand_in": stage.stand_in,
        "sockets": settings["sockets"], "workers": settings["workers"],
        "listen": settings["listen"], "grace": LATE, **scenario.setup(stage, settings),
    }  # fmt: skip
    async with Child("load", folder / "generator.log") as generator:
        generator.send(setup)
        await generator.first(START + COME * bool(settings["workers"]))
        play.began = time.monotonic()
        meanwhile = asyncio.create_task(scenario.meanwhile(play))
        beside = [
            meanwhile, asyncio.create_task(watch_processes(play, {"generator": generator.pid}))
        ]  # fmt: skip
        if profiled:
            beside.append(asyncio.create_task(profile(play, setup["seconds"])))
        reading = asyncio.create_task(_read(generator, play, Guard(setup.get("rate", 0))))
        try:
            async with asyncio.timeout(setup["seconds"] + GRACE):
                while not reading.done():
                    done, _ = await asyncio.wait(
                        {reading, *beside}, return_when=asyncio.FIRST_COMPLETED
                    )
                    for task in done - {reading}:
                        beside.remove(task)
                        task.result()
                reading.result()
            play.over.set()
            # what is under way when the load ends is ended by itself, or given up
            drain = DRAIN if settings["may_fail"] else DRAIN_THERE
            await asyncio.wait({meanwhile}, timeout=drain)
            if meanwhile.done():
                meanwhile.result()
        except TimeoutError:
            raise LoadtestError(f"not over {GRACE:g} s after its time") from None
        finally:
            for task in (reading, *beside):
                task.cancel()
            await asyncio.gather(reading, *beside, return_exceptions=True)


async def _read(generator: Child, play: Play, guard: Guard) -> None:
    async for line in generator.lines():
        line["t"] = round(line["t"] - play.began, 3)
        play.round.seconds.append(line)
        if not play.settings["may_fail"] and not line.get("late"):
            guard.second(line["kinds"], play.round.changes)


@contextlib.asynccontextmanager
async def _opened(open_stage: Opener, one: Round, root: Path) -> AsyncIterator[tuple[Stage, Path]]:
    folder = Path(tempfile.mkdtemp(prefix="stage-", dir=root))
    try:
        async with open_stage(one.scenario, one.contestant, folder) as stage:
            yield stage, folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def run(options: Options, result: Result, open_stage: Opener) -> None:
    """Add all rounds, those skipped and failed among them, as they come."""
    names = list(options.only)
    # what is profiled is a round of its own: profilers cost time
    rounds = options.rounds + bool(options.profile)
    total = len(options.scenarios) * len(names) * rounds
    with tempfile.TemporaryDirectory(prefix="junction-loadtest-") as root, Bar(total + 1) as bar:
        if options.settings["alone"]:
            bar.now("the generator alone")
            result.null = await null_run(options, Path(root))
            bar.say(f"generator alone: {result.null['said']}")
        bar.step()
        for scenario in options.scenarios:
            for number in range(1, rounds + 1):
                # turns the other way round every other time: what drifts favours nobody
                for name in names if number % 2 else reversed(names):
                    one = Round(scenario, name, number)
                    result.rounds.append(one)
                    bar.now(f"{scenario} {number}: {name}")
                    await _round(options, one, open_stage, Path(root), number > options.rounds)
                    bar.say(f"{scenario} {number}, {name}: {_said(one)}")
                    bar.step()
                    if one.failed and not options.local:
                        return  # a deployment that fails gets no more load


async def _round(
    options: Options, one: Round, open_stage: Opener, root: Path, profiled: bool
) -> None:
    scenario = SCENARIOS[one.scenario]
    if one.contestant != NULL and (missing := options.missing(one.contestant)):
        one.skipped = missing
        return
    with_hub = options.local and _needs_hub(options, one.scenario)
    if with_hub and not re.fullmatch(r"chp|junction-\d", one.contestant):
        one.skipped = "no JupyterHub is started with it here"
        return
    try:
        async with _opened(open_stage, one, root) as (stage, folder):
            if reason := scenario.absent(stage, options.settings):
                one.skipped = reason
                return
            playing = Play(stage, one, options.settings, options.settings["seconds"])
            await play(scenario, playing, folder, profiled)
    except LoadtestError as why:
        one.failed = one.failed or str(why)
    except Exception as error:
        one.failed = one.failed or f"{type(error).__name__}: {error}"[:500]
    except BaseException:
        one.failed = one.failed or "interrupted"
        raise


async def null_run(options: Options, root: Path) -> dict[str, Any]:
    """How many small requests the generator makes without a proxy, and wrk beside it."""
    folder = root / "null"
    folder.mkdir()
    one = Round("latency", NULL, 0)
    lasts = options.settings["alone"]
    async with stand_in(folder) as behind:
        people = [{"path": "/user/n0/"}]
        stage = Stage([behind.url], people, pids=lambda: {"stand-in": behind.pid})
        settings = {
            **options.settings, "users": 16, "rate": 0, "seconds": lasts, "sockets": False,
            "workers": 0, "large": 1000, "upload": 1000,
        }  # fmt: skip
        await play(SCENARIOS["latency"], Play(stage, one, settings, lasts), folder)
        try:
            wrk = (await run_wrk(behind.server, ["/user/n0/api"], 2, folder)).per_second
        except Exception:
            wrk = 0.0  # it is not there: no check, and the report says so
    lines = under_load(one)
    sent = sum(sum(kind["times"].values()) for line in lines for kind in line["kinds"].values())
    lasted = sum(line["for_s"] for line in lines) or 1.0
    cpu = max((line["cpu"] for line in lines), default=0.0)
    per_second = round(sent / lasted)
    said = f"{per_second} requests/s at {cpu:.0%} of a core"
    if wrk:
        said += f"; wrk has {wrk:.0f}/s from the same server"
    return {"per_second": per_second, "cpu": round(cpu, 3), "wrk": round(wrk), "said": said}


def _needs_hub(options: Options, scenario: str) -> bool:
    """Whether a whole JupyterHub is started for it, not its proxy alone."""
    during = options.settings["during"] if scenario == faults.NAME else scenario
    return bool(during == class_begins.NAME)


def local_opener(options: Options) -> Opener:
    """Stages that are started here."""

    def open_stage(scenario: str, name: str, folder: Path) -> AbstractAsyncContextManager[Stage]:
        if _needs_hub(options, scenario):
            from .hubs import hub_stage  # the demo is no part of what loads a deployment

            return hub_stage(name, folder, options)
        return local_stage(name, folder, options.settings["routes"], options.profile)

    return open_stage


def _said(one: Round) -> str:
    if one.skipped or one.failed:
        return one.failed or f"skipped: {one.skipped}"
    sent = sum(
        sum(kind["times"].values()) for line in one.seconds for kind in line["kinds"].values()
    )
    bad = sum(
        sum(kind["failed"].values()) for line in one.seconds for kind in line["kinds"].values()
    )
    return f"{sent} requests, {bad} failed, {len(one.changes)} changes"


def missing(name: str) -> str:
    """Why a contestant cannot run here; empty if it can."""
    return contestants()[name].missing()
