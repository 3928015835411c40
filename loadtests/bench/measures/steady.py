"""What users notice while others come and go, and what that costs.

A steady, moderate load on every replica in turn, first while nothing changes, then while servers
start and stop all the time.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

from ..client import Load, steady
from ..hub import Answer
from ..processes import Usage, cpu_between
from ..results import Failed, TooSlow
from ..stats import Times, summary
from .bench import Bench

__all__ = ["Steady", "measure"]


@dataclass
class Steady:
    """Attributes:
    quiet: times of requests while nothing changes.
    churn: the same while routes are added and deleted; None where routes never change.
    failed: requests that the user's server did not answer, in both.
    changes: adds and deletes that were asked for during churn.
    behind: pairs of add and delete that were not done when the last was asked for.
    failed_changes: those that went wrong, or were not tried since their add had; ``errors`` are
        the first of them.
    cores: share of one core by process, during churn.
    replica_core: share of one core of the busiest replica (Traefik and agent) during churn.
    cpu_s_per_change: CPU seconds of all processes beyond those of the quiet load, per change that
        went well.
    """

    quiet: Times
    churn: Times | None = None
    failed: int = 0
    first_failure: str = ""
    changes: int | None = None
    behind: int | None = None
    failed_changes: int | None = None
    cores: dict[str, float] = field(default_factory=dict)
    quiet_cores: dict[str, float] = field(default_factory=dict)
    replica_core: float | None = None
    cpu_s_per_change: float | None = None
    errors: list[str] = field(default_factory=list)


async def measure(bench: Bench) -> Steady:
    """Quiet, then churn, for the same time each."""
    await bench.settle()
    settings, subject, paths = bench.settings, bench.subject, bench.paths()
    seconds = settings.seconds

    async def load() -> Load:
        return await steady(
            subject.addresses, lambda number: paths[number % len(paths)], settings.rate, seconds
        )

    await steady(subject.addresses, lambda _: paths[0], settings.rate, 1)  # connections, caches
    before = Usage.now(subject.pids())
    quiet = await load()
    idle = cpu_between(before, Usage.now(subject.pids()))
    if not quiet.times:
        raise Failed(f"no request was answered by the server: {quiet.first_wrong}")
    found = Steady(
        summary(quiet.times), failed=quiet.wrong, first_failure=quiet.first_wrong,
        quiet_cores=idle.shares,
    )  # fmt: skip
    if bench.static:
        return found

    before = Usage.now(subject.pids())
    calling: asyncio.Task[Answer] = asyncio.create_task(
        bench.hub.call(
            "churn", per_second=settings.changes, seconds=seconds, target=bench.around.server_url
        )
    )
    try:
        busy = await load()
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
    found.churn = summary(busy.times) if busy.times else None
    found.failed += busy.wrong
    found.first_failure = found.first_failure or busy.first_wrong
    found.changes, found.behind, found.errors = said["asked"], said["left"], said["errors"]
    found.failed_changes = said["asked"] - said["done"]
    found.cores = cost.shares
    found.replica_core = _replica(cost.shares)
    # changes that were late cost their share after the load has ended
    extra = cost.total - idle.total * cost.seconds / idle.seconds + drained.total
    found.cpu_s_per_change = round(extra / said["done"], 5) if said["done"] else None
    return found


def _replica(shares: dict[str, float]) -> float | None:
    """The busiest replica's Traefik and agent together; None where there are no replicas."""
    sums: dict[str, float] = {}
    for role, share in shares.items():
        name, _, part = role.partition(" ")
        if part in ("traefik", "agent"):
            sums[name] = sums.get(name, 0.0) + share
    return round(max(sums.values()), 4) if sums else None
