"""The figures to reach, and whether a run reached them.  Pure.

A goal compares one number with a bound; where the bound is a ratio, both numbers are of the same
run.  A run that lacks a goal's size is judged at its own greatest below it, and says so.

Invariant: nobody passes by failing.  Who failed at a size, gave wrong answers there or was not
measured because it had failed before, has missed the goal there; a smaller size does not count.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .results import Run

__all__ = ["GOALS", "Goal", "N", "Number", "Verdict", "verdicts"]

#: the size most goals are set at
N = 10_000

#: what may not have happened while a number was measured: by measure, the count's path and name
_WRONG = {
    "requests": (("small.failed", "wrong answers"), ("turns_failed", "wrong answers")),
    "forwarder": (("failed", "wrong answers"),),
    "steady": (("failed", "requests that failed"), ("failed_changes", "changes that failed")),
}


@dataclass(frozen=True)
class Number:
    """Where a number stands in a run."""

    contestant: str
    measure: str
    path: str

    def trouble(self, run: Run, routes: int) -> str:
        """Why there is none that counts, if that is its contestant's fault; empty if not."""
        outcome = run.find(self.contestant, routes, self.measure)
        if outcome is None:
            return ""
        why = outcome.failed or (outcome.skipped if outcome.kind else "")
        for path, what in _WRONG.get(self.measure, ()):
            if not why and (count := outcome.number(path)):
                why = f"{count:,.0f} {what}"
        return f"{self.contestant}, N = {routes:,}: {why}" if why else ""

    def of(self, run: Run, routes: int) -> float | None:
        """The number; None if it was not measured, or does not count."""
        if self.trouble(run, routes):
            return None
        return run.number(self.contestant, routes, self.measure, self.path)


@dataclass(frozen=True)
class Goal:
    """Attributes:
    what: as it stands in the table.
    bound: in words.
    routes: at this size; None for every size that was run.
    number: what is judged.
    holds: whether it is good enough.
    unit: after the number.
    scale: what the number is multiplied by.
    beside: what the number is divided by.
    beside_at: that number's size, if it is another.
    """

    what: str
    bound: str
    routes: int | None
    number: Number
    holds: Callable[[float], bool]
    unit: str = ""
    scale: float = 1.0
    beside: Number | None = None
    beside_at: int | None = None

    def value(self, run: Run, routes: int) -> float | None:
        """The number at a size; None if it was not measured, or does not count."""
        found = self.number.of(run, routes)
        if found is None or self.beside is None:
            return None if found is None else found * self.scale
        if routes == self.beside_at:
            return None
        below = self.beside.of(run, self.beside_at or routes)
        return found / below if below else None

    def other_trouble(self, run: Run, routes: int) -> str:
        """Why there is nothing to compare with."""
        return self.beside.trouble(run, self.beside_at or routes) if self.beside else ""


@dataclass(frozen=True)
class Verdict:
    """One row of the table of goals.

    Attributes:
        sizes: what was judged.
        reason: what failed, or why something was not compared.
        failed: whether that alone decides.
    """

    goal: Goal
    sizes: tuple[int, ...]
    value: float | None
    reason: str = ""
    failed: bool = False

    @property
    def word(self) -> str:
        """``met``, ``missed`` or ``not measured``, the reason, and where it is not the goal's size,
        at which.
        """
        if self.failed or self.value is not None:
            met = not self.failed and self.value is not None and self.goal.holds(self.value)
            word = "met" if met else "**missed**"
            if self.goal.routes is not None and self.sizes != (self.goal.routes,):
                word += f", at {_listed(self.sizes)} only"
        else:
            word = "not measured"
        return f"{word} ({self.reason})" if self.reason else word

    @property
    def size(self) -> str:
        """The sizes, as they stand in the table."""
        return f"N = {_listed(self.sizes)}" if self.sizes else "at no size"


def _listed(sizes: tuple[int, ...]) -> str:
    return ", ".join(f"{size:,}" for size in sizes)


def _at_most(bound: float) -> Callable[[float], bool]:
    return lambda value: value <= bound


def _at_least(bound: float) -> Callable[[float], bool]:
    return lambda value: value >= bound


def _speed(contestant: str) -> Number:
    """Beside bare Traefik's, turn about: so two contestants are compared over a machine's moods."""
    return Number(contestant, "requests", "beside_bare")


_LIVE = Number("junction-3", "live", "live.median")

GOALS = [
    Goal("add → live on all of 3 replicas, median", "≤ 15 ms", N, _LIVE, _at_most(15), " ms"),
    Goal("add → live on all of 3 replicas, p99", "≤ 60 ms", N,
         Number("junction-3", "live", "live.p99"), _at_most(60), " ms"),
    Goal("the same at 50,000, beside 10 (median)", "≤ 2 ×", 50_000, _LIVE, _at_most(2), " ×",
         beside=_LIVE, beside_at=10),
    Goal("1,000 adds at once, live on all of 3 replicas", "≤ 1.5 s", N,
         Number("junction-3", "batch", "live_s"), _at_most(1.5), " s"),
    Goal("requests/s of a replica, beside CHP", "≥ 2.5 ×", N,
         _speed("junction-1"), _at_least(2.5), " ×", beside=_speed("chp")),
    Goal("requests/s of a replica, beside bare Traefik", "≥ 0.85 ×", N,
         _speed("junction-1"), _at_least(0.85), " ×"),
    Goal("p99 of requests during 20 changes/s, beside the quiet p99 (1 replica)", "≤ 1.5 ×", N,
         Number("junction-1", "steady", "churn.p99"), _at_most(1.5), " ×",
         beside=Number("junction-1", "steady", "quiet.p99")),
    Goal("p99 of requests during 20 changes/s, beside the quiet p99 (3 replicas)", "≤ 1.5 ×", N,
         Number("junction-3", "steady", "churn.p99"), _at_most(1.5), " ×",
         beside=Number("junction-3", "steady", "quiet.p99")),
    Goal("CPU of one replica (Traefik and agent) during that", "≤ 35 % of a core", N,
         Number("junction-3", "steady", "replica_core"), _at_most(35), " %", scale=100),
    Goal("memory of a replica's Traefik", "≤ 350 MB", N,
         Number("junction-3", "memory", "traefik"), _at_most(350), " MB"),
    Goal("memory of a replica's agent", "≤ 120 MB", N,
         Number("junction-3", "memory", "agent"), _at_most(120), " MB"),
    Goal("requests/s of junction-inprocess, beside CHP, at any size", "≥ 1.5 ×", None,
         _speed("junction-inprocess"), _at_least(1.5), " ×", beside=_speed("chp")),
    Goal("requests/s through the forwarder, beside CHP with the same target", "≥ 1 ×", N,
         Number("junction-1", "forwarder", "per_second"), _at_least(1), " ×",
         beside=Number("chp", "forwarder", "per_second")),
    Goal("routes restored into an empty etcd, live on all of 3 replicas", "≤ 10 s", N,
         Number("junction-3", "restore", "live_s"), _at_most(10), " s"),
    Goal("requests that failed meanwhile", "0", N,
         Number("junction-3", "restore", "failed"), _at_most(0)),
]  # fmt: skip


def verdicts(run: Run) -> list[Verdict]:
    """One for each goal."""
    return [
        _at_every_size(run, goal) if goal.routes is None else _at_size(run, goal, goal.routes)
        for goal in GOALS
    ]


def _at_size(run: Run, goal: Goal, routes: int) -> Verdict:
    """At the goal's size, or else at the greatest that was run below it."""
    reason = ""
    for size in reversed([size for size in run.sizes() if size <= routes]):
        if why := goal.number.trouble(run, size):
            return Verdict(goal, (size,), None, why, failed=True)
        value = goal.value(run, size)
        if value is not None:
            return Verdict(goal, (size,), value, reason)
        reason = reason or goal.other_trouble(run, size)
    return Verdict(goal, (routes,), None, reason)


def _at_every_size(run: Run, goal: Goal) -> Verdict:
    """At the size that suits it least, of those where there was something to compare with."""
    compared: dict[int, float] = {}
    reasons: list[str] = []
    for size in run.sizes():
        if why := goal.number.trouble(run, size):
            return Verdict(goal, (size,), None, why, failed=True)
        value = goal.value(run, size)
        if value is not None:
            compared[size] = value
        elif why := goal.other_trouble(run, size):
            reasons.append(why)
    worst = min(compared.values(), default=None)  # the one such goal is a lower bound
    return Verdict(goal, tuple(compared), worst, "; ".join(reasons))
