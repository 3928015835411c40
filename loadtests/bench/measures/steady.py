"""What users notice while others come and go, and what that costs.

A steady, moderate load on every replica in turn: while nothing changes, while servers start and
stop again, and while those that have run for long stop and start again.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

from ..client import Load, steady
from ..hub import Answer
from ..processes import Cost, Usage, cpu_between
from ..results import Failed, TooSlow
from ..stats import Times, summary
from .bench import Bench

__all__ = ["Steady", "measure"]


@dataclass
class Steady:
    """Attributes:
    quiet: times of requests while nothing changes.
    churn: the same while servers start and stop again; None where routes never change.
    restarts: the same while servers that have run for long stop and start again; None where
        there are too few beside those that the requests are for.
    failed: requests that the user's server did not answer, in all of them.
    changes: adds and deletes that were asked for during churn.
    behind: pairs of add and delete that were not done when the last was asked for.
    failed_changes: those that went wrong, or were not tried since their add had; ``errors`` are
        the first of them.
    cores: share of one core by process, during churn.
    replica_core: share of one core of the busiest replica (Traefik and agent) during churn.
    cpu_s_per_change: CPU seconds of all processes beyond those of the quiet load, per change that
        went well.
    restarts_cpu_s_per_change: the same for restarts.
    """

    quiet: Times
    churn: Times | None = None
    restarts: Times | None = None
    failed: int = 0
    first_failure: str = ""
    changes: int | None = None
    behind: int | None = None
    failed_changes: int | None = None
    cores: dict[str, float] = field(default_factory=dict)
    quiet_cores: dict[str, float] = field(default_factory=dict)
    replica_core: float | None = None
    cpu_s_per_change: float | None = None
    restarts_cpu_s_per_change: float | None = None
    errors: list[str] = field(default_factory=list)


async def measure(bench: Bench) -> Steady:
    """Quiet, then the kinds of churn, for the same time each."""
    await bench.settle()
    subject, paths = bench.subject, bench.paths()
    await steady(subject.addresses, lambda _: paths[0], bench.settings.rate, 1)  # connections
    before = Usage.now(subject.pids())
    quiet = await _load(bench)
    idle = cpu_between(before, Usage.now(subject.pids()))
    if not quiet.times:
        raise Failed(f"no request was answered by the server: {quiet.first_wrong}")
    found = Steady(
        summary(quiet.times), failed=quiet.wrong, first_failure=quiet.first_wrong,
        quiet_cores=idle.shares,
    )  # fmt: skip
    if bench.static:
        return found

    churn = await _during_changes(bench, idle, [])
    found.churn, found.cpu_s_per_change = churn.times, churn.cpu_s_per_change
    found.cores, found.replica_core = churn.cores, _replica(churn.cores)
    found.changes, found.behind = churn.said["asked"], churn.said["left"]
    _add_failures(found, churn)

    others = bench.others()
    if len(others) >= bench.settings.changes * bench.settings.seconds / 2:
        await bench.settle()
        restarts = await _during_changes(bench, idle, others)
        found.restarts = restarts.times
        found.restarts_cpu_s_per_change = restarts.cpu_s_per_change
        _add_failures(found, restarts)
    return found


@dataclass
class _Churn:
    load: Load
    said: dict[str, Any]  # see HubSide.churn
    cores: dict[str, float]
    cpu_s_per_change: float | None

    @property
    def times(self) -> Times | None:
        return summary(self.load.times) if self.load.times else None


async def _load(bench: Bench) -> Load:
    paths = bench.paths()
    return await steady(
        bench.subject.addresses, lambda number: paths[number % len(paths)],
        bench.settings.rate, bench.settings.seconds,
    )  # fmt: skip


async def _during_changes(bench: Bench, idle: Cost, restarted: list[str]) -> _Churn:
    settings, subject = bench.settings, bench.subject
    before = Usage.now(subject.pids())
    calling: asyncio.Task[Answer] = asyncio.create_task(
        bench.hub.call(
            "churn", per_second=settings.changes, seconds=settings.seconds,
            target=bench.around.server_url, restarted=restarted,
        )
    )  # fmt: skip
    try:
        busy = await _load(bench)
        ended = Usage.now(subject.pids())
        try:
            async with asyncio.timeout(bench.around.limit):
                said: dict[str, Any] = (await calling).result
        except TimeoutError:
            raise TooSlow(f"the churn's changes: over {bench.around.limit:g} s more") from None
        drained = cpu_between(ended, Usage.now(subject.pids()))
    finally:
        calling.cancel()
        await asyncio.gather(calling, return_exceptions=True)
    cost = cpu_between(before, ended)
    # changes that were late cost their share after the load has ended
    extra = cost.total - idle.total * cost.seconds / idle.seconds + drained.total
    each = round(extra / said["done"], 5) if said["done"] else None
    return _Churn(busy, said, cost.shares, each)


def _add_failures(found: Steady, churn: _Churn) -> None:
    found.failed += churn.load.wrong
    found.first_failure = found.first_failure or churn.load.first_wrong
    found.errors += churn.said["errors"]
    failed = churn.said["asked"] - churn.said["done"]
    found.failed_changes = (found.failed_changes or 0) + failed


def _replica(shares: dict[str, float]) -> float | None:
    """The busiest replica's Traefik and agent together; None where there are no replicas."""
    sums: dict[str, float] = {}
    for role, share in shares.items():
        name, _, part = role.partition(" ")
        if part in ("traefik", "agent"):
            sums[name] = sums.get(name, 0.0) + share
    return round(max(sums.values()), 4) if sums else None
