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

__all__ = ["Phase", "Steady", "measure"]


@dataclass
class Steady:
    """Attributes:
    quiet: times of requests while nothing changes.
    churn: the same while servers start and stop again; None where routes never change.
    restarts: the same while servers that have run for long stop and start again; None where
        there are too few beside those that the requests are for.
    failed: requests that the user's server did not answer, in all of them.
    changes: adds and deletes that were asked for during churn.
    behind: pairs of add and delete that were not done when the last was asked for; the most of
        all turns.
    failed_changes: those that went wrong, or were not tried since their add had; ``errors`` are
        the first of them.
    cores: share of one core by process, during churn.
    replica_core: share of one core of the busiest replica (Traefik and agent) during churn.
    cpu_s_per_change: CPU seconds of all processes until all is applied, beyond those of the quiet
        load, per change that went well.
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


#: quiet and churn take turns, so that what the machine does besides meets both
TURNS = 3


async def measure(bench: Bench) -> Steady:
    """Quiet and churn turn about, then restarts; for the same time each."""
    await bench.settle()
    subject, paths = bench.subject, bench.paths()
    # so that the proxy has connections to the server
    await steady(subject.addresses, lambda _: paths[0], bench.settings.rate, 1)
    quiet, churn = Phase(), Phase()
    turn = bench.settings.seconds / TURNS
    for _ in range(TURNS):
        await _quiet(bench, turn, quiet)
        if not quiet.load.times:
            raise Failed(f"no request was answered by the server: {quiet.load.first_wrong}")
        if not bench.static:
            await _during_changes(bench, turn, [], churn)
    found = Steady(
        summary(quiet.load.times), failed=quiet.load.wrong, first_failure=quiet.load.first_wrong,
        quiet_cores=quiet.cost.shares,
    )  # fmt: skip
    if bench.static:
        return found

    found.churn = churn.times
    found.cpu_s_per_change = churn.cpu_s_per_change(quiet.cost)
    found.cores, found.replica_core = churn.cost.shares, _replica(churn.cost.shares)
    found.changes, found.behind = churn.asked, churn.left
    _add_failures(found, churn)

    others = bench.others()
    if len(others) >= bench.settings.changes * bench.settings.seconds / 2:
        restarts = Phase()
        await _during_changes(bench, bench.settings.seconds, others, restarts)
        found.restarts = restarts.times
        found.restarts_cpu_s_per_change = restarts.cpu_s_per_change(quiet.cost)
        _add_failures(found, restarts)
    return found


@dataclass
class Phase:
    """All turns of one kind: the load's answers, what it cost, and what was changed meanwhile."""

    load: Load = field(default_factory=Load)
    cost: Cost = field(default_factory=lambda: Cost(0.0, {}))
    #: after the loads had ended, until all changes were applied
    late: Cost = field(default_factory=lambda: Cost(0.0, {}))
    asked: int = 0
    done: int = 0
    left: int = 0  # at the end of the turn where it was most
    errors: list[str] = field(default_factory=list)

    @property
    def times(self) -> Times | None:
        return summary(self.load.times) if self.load.times else None

    def cpu_s_per_change(self, quiet: Cost) -> float | None:
        """CPU seconds beyond those that the quiet load takes in the same time."""
        cost = self.cost + self.late
        extra = cost.total - quiet.total * cost.seconds / quiet.seconds
        return round(extra / self.done, 5) if self.done else None


async def _quiet(bench: Bench, seconds: float, phase: Phase) -> None:
    before = Usage.now(bench.subject.pids())
    await _load(bench, seconds, phase.load)
    phase.cost += cpu_between(before, Usage.now(bench.subject.pids()))


async def _load(bench: Bench, seconds: float, load: Load) -> None:
    paths, sent = bench.paths(), load.sent
    await steady(
        bench.subject.addresses, lambda number: paths[(sent + number) % len(paths)],
        bench.settings.rate, seconds, load=load,
    )  # fmt: skip


async def _during_changes(bench: Bench, seconds: float, restarted: list[str], phase: Phase) -> None:
    settings, subject = bench.settings, bench.subject
    before = Usage.now(subject.pids())
    calling: asyncio.Task[Answer] = asyncio.create_task(
        bench.hub.call(
            "churn", per_second=settings.changes, seconds=seconds,
            target=bench.around.server_url, restarted=restarted,
        )
    )  # fmt: skip
    try:
        await _load(bench, seconds, phase.load)
        ended = Usage.now(subject.pids())
        try:
            async with asyncio.timeout(bench.around.limit):
                said: dict[str, Any] = (await calling).result
        except TimeoutError:
            raise TooSlow(f"the churn's changes: over {bench.around.limit:g} s more") from None
        await bench.settle()
    finally:
        calling.cancel()
        await asyncio.gather(calling, return_exceptions=True)
    phase.cost += cpu_between(before, ended)
    phase.late += cpu_between(ended, Usage.now(subject.pids()))
    phase.asked += said["asked"]
    phase.done += said["done"]
    phase.left = max(phase.left, said["left"])
    phase.errors += said["errors"]


def _add_failures(found: Steady, phase: Phase) -> None:
    found.failed += phase.load.wrong
    found.first_failure = found.first_failure or phase.load.first_wrong
    found.errors += phase.errors
    found.failed_changes = (found.failed_changes or 0) + phase.asked - phase.done


def _replica(shares: dict[str, float]) -> float | None:
    """The busiest replica's Traefik and agent together; None where there are no replicas."""
    sums: dict[str, float] = {}
    for role, share in shares.items():
        name, _, part = role.partition(" ")
        if part in ("traefik", "agent"):
            sums[name] = sums.get(name, 0.0) + share
    return round(max(sums.values()), 4) if sums else None
