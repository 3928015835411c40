"""Requests a second over kept connections, to routes spread over the whole table: wrk."""

from __future__ import annotations

import itertools
import statistics
import tempfile
from dataclasses import dataclass
from pathlib import Path

from ..static_proxies import start_traefik
from ..wrk import Wrk, run_wrk
from .bench import Bench

__all__ = ["Requests", "beside_bare", "measure", "ratio"]

#: how long the control takes, and each turn of bare Traefik and the contestant, as a share
CONTROL = 0.3
TURN = 0.4
#: how often the contestant has its turn
TURNS = 3


@dataclass
class Requests:
    """Small bodies (6 bytes), and large ones (1 MB), each at one replica.

    ``control`` is the same without a proxy, just before: where it differs much between two
    contestants, the machine had other things to do, and the ratio of their figures says little.
    ``beside_bare`` does without that: small bodies by the contestant and by a Traefik with one
    route, turn about within seconds; None for those that are limits themselves.  ``turns_failed``
    of the contestant's requests of that were not answered as they should, and ``no_yardstick`` says
    what was wrong with that Traefik.
    """

    small: Wrk
    large: Wrk
    control: float
    beside_bare: float | None = None
    turns_failed: int = 0
    no_yardstick: str = ""


async def measure(bench: Bench) -> Requests:
    """One replica is loaded, however many there are: a replica's speed is its own."""
    await bench.settle()
    address, paths = bench.subject.addresses[0], bench.paths()
    seconds, folder = bench.settings.seconds, bench.around.directory
    control = await run_wrk(bench.around.server, paths, seconds * CONTROL, folder)
    small = await run_wrk(address, paths, seconds, folder)
    large = await run_wrk(address, [f"{path}large" for path in paths], seconds, folder)
    requests = Requests(small, large, control.per_second)
    if not bench.static:
        with tempfile.TemporaryDirectory(dir=folder) as place:
            await beside_bare(bench, Path(place), requests)
    return requests


async def beside_bare(bench: Bench, folder: Path, requests: Requests) -> None:
    """Turn about with a Traefik with one route, which stands idle between its turns.

    Args:
        folder: for that Traefik.
        requests: what is found goes there.
    """
    address, paths = bench.subject.addresses[0], bench.paths()
    seconds = bench.settings.seconds * TURN
    try:
        bare, _, stop = await start_traefik(bench.around, folder)
    except (OSError, TimeoutError) as error:  # the contestant can do nothing for it
        requests.no_yardstick = str(error) or "Traefik served no request"
        return
    try:
        yardstick = [await run_wrk(bare, paths, seconds, folder)]
        found = []
        for _ in range(TURNS):
            found.append(await run_wrk(address, paths, seconds, folder))
            yardstick.append(await run_wrk(bare, paths, seconds, folder))
    finally:
        stop()
    requests.turns_failed = sum(one.failed for one in found)
    if wrong := sum(one.failed for one in yardstick):
        requests.no_yardstick = f"{wrong} wrong answers of bare Traefik"
    else:
        requests.beside_bare = ratio(
            [one.per_second for one in found], [one.per_second for one in yardstick]
        )


def ratio(found: list[float], yardstick: list[float]) -> float:
    """The median of what was found beside the mean of the yardstick just before and just after.

    Args:
        found: one for each turn.
        yardstick: one more.
    """
    pairs = itertools.pairwise(yardstick)
    return round(
        statistics.median(
            2 * one / (before + after) for one, (before, after) in zip(found, pairs, strict=True)
        ),
        4,
    )
