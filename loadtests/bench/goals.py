"""The figures to reach, and whether a run reached them.  Pure.

A goal compares one number with a bound; where the bound is a ratio, both numbers are of the same
run.  A run that lacks a goal's size is judged at its own greatest below it, and says so.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .results import Run

__all__ = ["GOALS", "Goal", "N", "Verdict", "verdicts"]

#: the size most goals are set at
N = 10_000


@dataclass(frozen=True)
class Goal:
    """Attributes:
    what: as it stands in the table.
    bound: in words.
    routes: at this size.
    value: the number at a size; None if it was not measured.
    holds: whether it is good enough.
    unit: after the number.
    """

    what: str
    bound: str
    routes: int
    value: Callable[[Run, int], float | None]
    holds: Callable[[float], bool]
    unit: str = ""


@dataclass(frozen=True)
class Verdict:
    """One row of the table of goals."""

    goal: Goal
    routes: int
    value: float | None

    @property
    def word(self) -> str:
        """``met``, ``missed`` or ``not measured``; at which size, if it is not the goal's."""
        if self.value is None:
            return "not measured"
        word = "met" if self.goal.holds(self.value) else "**missed**"
        return word if self.routes == self.goal.routes else f"{word}, at {self.routes:,} only"


def _number(
    contestant: str, measure: str, path: str, scale: float = 1.0
) -> Callable[[Run, int], float | None]:
    def value(run: Run, routes: int) -> float | None:
        found = run.number(contestant, routes, measure, path)
        return None if found is None else found * scale

    return value


def _ratio(
    contestant: str, other: str, measure: str, path: str
) -> Callable[[Run, int], float | None]:
    def value(run: Run, routes: int) -> float | None:
        above = run.number(contestant, routes, measure, path)
        below = run.number(other, routes, measure, path)
        return above / below if above is not None and below else None

    return value


def _growth(run: Run, routes: int) -> float | None:
    """add → live at a size, as a multiple of that at the smallest."""
    large = run.number("junction-3", routes, "live", "live.median")
    small = run.number("junction-3", 10, "live", "live.median")
    return large / small if routes > 10 and large is not None and small else None


def _churn(run: Run, routes: int) -> float | None:
    churn = run.number("junction-3", routes, "steady", "churn.p99")
    quiet = run.number("junction-3", routes, "steady", "quiet.p99")
    return churn / quiet if churn is not None and quiet else None


def _any_size(run: Run, routes: int) -> float | None:
    """The proxy in the hub's process, at the size that suits it least."""
    ratio = _ratio("junction-inprocess", "chp", "requests", "small.per_second")
    found = [one for size in run.sizes() if (one := ratio(run, size)) is not None]
    return min(found, default=None)


def _at_most(bound: float) -> Callable[[float], bool]:
    return lambda value: value <= bound


def _at_least(bound: float) -> Callable[[float], bool]:
    return lambda value: value >= bound


GOALS = [
    Goal("add → live on all of 3 replicas, median", "≤ 15 ms", N,
         _number("junction-3", "live", "live.median"), _at_most(15), " ms"),
    Goal("add → live on all of 3 replicas, p99", "≤ 60 ms", N,
         _number("junction-3", "live", "live.p99"), _at_most(60), " ms"),
    Goal("the same at 50,000, beside 10 (median)", "≤ 2 ×", 50_000, _growth, _at_most(2), " ×"),
    Goal("1,000 adds at once, live on all of 3 replicas", "≤ 1.5 s", N,
         _number("junction-3", "batch", "live_s"), _at_most(1.5), " s"),
    Goal("requests/s of a replica, beside CHP", "≥ 2.5 ×", N,
         _ratio("junction-1", "chp", "requests", "small.per_second"), _at_least(2.5), " ×"),
    Goal("requests/s of a replica, beside bare Traefik", "≥ 0.85 ×", N,
         _ratio("junction-1", "traefik-bare", "requests", "small.per_second"),
         _at_least(0.85), " ×"),
    Goal("p99 of requests during 20 changes/s, beside the quiet p99 (3 replicas)", "≤ 1.5 ×", N,
         _churn, _at_most(1.5), " ×"),
    Goal("CPU of one replica (Traefik and agent) during that", "≤ 35 % of a core", N,
         _number("junction-3", "steady", "replica_core", 100), _at_most(35), " %"),
    Goal("memory of a replica's Traefik", "≤ 350 MB", N,
         _number("junction-3", "memory", "traefik"), _at_most(350), " MB"),
    Goal("memory of a replica's agent", "≤ 120 MB", N,
         _number("junction-3", "memory", "agent"), _at_most(120), " MB"),
    Goal("requests/s of junction-inprocess, beside CHP, at any size", "≥ 1.5 ×", 50_000,
         _any_size, _at_least(1.5), " ×"),
    Goal("requests/s through the forwarder, beside CHP with the same target", "≥ 1 ×", N,
         _ratio("junction-1", "chp", "forwarder", "per_second"), _at_least(1), " ×"),
    Goal("routes restored into an empty etcd, live on all of 3 replicas", "≤ 10 s", N,
         _number("junction-3", "restore", "live_s"), _at_most(10), " s"),
    Goal("requests that failed meanwhile", "0", N,
         _number("junction-3", "restore", "failed"), _at_most(0)),
]  # fmt: skip


def verdicts(run: Run) -> list[Verdict]:
    """One for each goal."""
    found = []
    for goal in GOALS:
        sizes = [size for size in run.sizes() if size <= goal.routes]
        size = next((s for s in reversed(sizes) if goal.value(run, s) is not None), goal.routes)
        found.append(Verdict(goal, size, goal.value(run, size)))
    return found
