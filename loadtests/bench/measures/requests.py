"""Requests a second over kept connections, to routes spread over the whole table: wrk."""

from __future__ import annotations

from dataclasses import dataclass

from ..wrk import Wrk, run_wrk
from .bench import Bench

__all__ = ["Requests", "measure"]

#: how long the control takes, as a share of the others
CONTROL = 0.3


@dataclass
class Requests:
    """Small bodies (6 bytes), and large ones (1 MB), each at one replica.

    ``control`` is the same without a proxy, just before: where it differs much between two
    contestants, the machine had other things to do, and their ratio says little.
    """

    small: Wrk
    large: Wrk
    control: float


async def measure(bench: Bench) -> Requests:
    """One replica is loaded, however many there are: a replica's speed is its own."""
    await bench.settle()
    address, paths = bench.subject.addresses[0], bench.paths()
    seconds, folder = bench.settings.seconds, bench.around.directory
    control = await run_wrk(bench.around.server, paths, seconds * CONTROL, folder)
    small = await run_wrk(address, paths, seconds, folder)
    large = await run_wrk(address, [f"{path}large" for path in paths], seconds, folder)
    return Requests(small, large, control.per_second)
