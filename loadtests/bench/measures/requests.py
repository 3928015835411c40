"""Requests a second over kept connections, to routes spread over the whole table: wrk."""

from __future__ import annotations

from dataclasses import dataclass

from ..wrk import Wrk, run_wrk
from .bench import Bench

__all__ = ["Requests", "measure"]


@dataclass
class Requests:
    """Small bodies (6 bytes), and large ones (1 MB), each at one replica."""

    small: Wrk
    large: Wrk


async def measure(bench: Bench) -> Requests:
    """One replica is loaded, however many there are: a replica's speed is its own."""
    address, paths = bench.subject.addresses[0], bench.paths()
    seconds, folder = bench.settings.seconds, bench.around.directory
    small = await run_wrk(address, paths, seconds, folder)
    large = await run_wrk(address, [f"{path}large" for path in paths], seconds, folder)
    return Requests(small, large)
