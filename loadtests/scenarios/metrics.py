"""Figures that follow from rounds, and how sure they are.  Pure.

Every figure is computed from all rounds together, and again for each round.  Intervals are of 95 %,
on a logarithmic scale (times are skewed); the rounds' scatter is pooled over the contestants of a
scenario, since a few rounds alone say little.  One round alone has no interval: its parts would
share whatever was particular to it.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from .histogram import Histogram
from .results import Result, Round

__all__ = ["Figure", "cpu_seconds", "failures", "figures", "quantile", "times", "under_load"]

#: roles that are no part of the proxy
OTHERS = ("generator", "stand-in", "server")
#: what is timed beside requests: how late an event is, how long the hub takes to start a server
NO_REQUESTS = ("stream event", "server starts")
#: seconds between two looks at processes, and more
BETWEEN = 1.2
#: whose proxy is the hub's process
IN_HUB = "junction-inprocess"
#: relative half width that no interval goes below: what drifts between two runs is in no sample
FLOOR = 0.05
#: degrees of freedom from which more change nothing
EXACT = 200
SURE = 0.95


@dataclass(frozen=True)
class Figure:
    """A figure with its interval.

    Attributes:
        scatter: standard deviation of the samples' logarithms, pooled; ``freedom`` its degrees.
        samples: how many there were.
    """

    name: str
    unit: str
    value: float
    scatter: float
    freedom: int
    samples: int

    def half(self, sure: float = SURE) -> float:
        """The interval's half width, on the logarithmic scale."""
        if self.freedom < 1 or self.samples < 1:
            return math.inf
        error = self.scatter / math.sqrt(self.samples)
        return max(FLOOR, quantile(sure, self.freedom) * error)

    @property
    def interval(self) -> tuple[float, float]:
        """Its bounds, in its unit."""
        half = min(self.half(), 20.0)
        return self.value * math.exp(-half), self.value * math.exp(half)


def quantile(sure: float, freedom: int) -> float:
    """Student's t: what ``sure`` (two-sided) of all values are within, for degrees of freedom.

    Found by halving, as what is within an angle has a closed form (Abramowitz and Stegun, 26.7.3
    and 26.7.4).  Approximations are too small just where few rounds meet many figures.
    """
    if freedom > EXACT:
        return quantile(sure, EXACT)
    low, high = 0.0, math.pi / 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _within(middle, freedom) < sure else (low, middle)
    return math.tan(high) * math.sqrt(freedom)


def _within(angle: float, freedom: int) -> float:
    sine, square = math.sin(angle), math.cos(angle) ** 2
    odd = freedom % 2
    term = total = (math.cos(angle) if odd else 1.0) if freedom > 1 else 0.0
    for n in range(2 + odd, freedom - 1, 2):
        term *= square * (n - 1) / n
        total += term
    return (angle + sine * total) * 2 / math.pi if odd else sine * total


# --- what is in some rounds


def under_load(one: Round) -> list[dict[str, Any]]:
    """A round's lines without the last, of what was under way when its time was up."""
    return [line for line in one.seconds if not line.get("late")]


def _looks(one: Round) -> list[dict[str, Any]]:
    """What its processes used while it was loaded: idle ones would thin it out."""
    ends = max((line["t"] for line in under_load(one)), default=0.0)
    return [look for look in one.system if look["t"] <= ends + BETWEEN]


def _lines(rounds: Iterable[Round]) -> list[dict[str, Any]]:
    return [line for one in rounds for line in one.seconds]


def times(rounds: Iterable[Round], kind: str = "") -> Histogram:
    """Times of good requests of one kind, or of all that are one request's."""
    return Histogram.total(
        Histogram.of(one["times"])
        for line in _lines(rounds)
        for name, one in line["kinds"].items()
        if name == kind or (not kind and name not in NO_REQUESTS)
    )


def failures(rounds: Iterable[Round]) -> dict[str, int]:
    """Failed requests and changes, by kind."""
    found: dict[str, int] = {}
    for one in rounds:
        for line in one.seconds:
            for name, kind in line["kinds"].items():
                for why, count in kind["failed"].items():
                    found[f"{name}: {why}"] = found.get(f"{name}: {why}", 0) + count
        for change in one.changes:
            if "failed" in change:
                why = f"{change['do']}: {change['failed']}"
                found[why] = found.get(why, 0) + 1
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def kinds(rounds: Iterable[Round]) -> list[str]:
    """Of requests, by their number."""
    counts: dict[str, int] = {}
    for one in rounds:
        for line in one.seconds:
            for name, kind in line["kinds"].items():
                counts[name] = counts.get(name, 0) + sum(kind["times"].values())
    return sorted((name for name, count in counts.items() if count), key=lambda name: -counts[name])


def _percentile(kind: str, share: float) -> Callable[[Sequence[Round]], float]:
    def of(rounds: Sequence[Round]) -> float:
        found = times(rounds, kind)
        return found.percentile(share) if found.counts else 0.0

    return of


def _per_second(rounds: Sequence[Round]) -> float:
    lasted = sum(line["for_s"] for one in rounds for line in under_load(one))
    return times(rounds).count / lasted if lasted else 0.0


def _changes(do: str, what: str, share: float) -> Callable[[Sequence[Round]], float]:
    def of(rounds: Sequence[Round]) -> float:
        found = sorted(
            change[what]
            for one in rounds
            for change in one.changes
            if change["do"] == do and what in change
        )
        return found[max(0, math.ceil(share * len(found)) - 1)] if found else 0.0

    return of


def _is_proxy(one: Round, role: str) -> bool:
    if role == "hub":
        return one.contestant == IN_HUB
    return not role.startswith(OTHERS)


def _cpu(rounds: Sequence[Round]) -> float:
    looks = [(one, look) for one in rounds for look in _looks(one)]
    used = sum(
        share for one, look in looks for role, share in look["cpu"].items() if _is_proxy(one, role)
    )
    return used / len(looks) if looks else 0.0


def cpu_seconds(rounds: Sequence[Round]) -> dict[str, float]:
    """CPU seconds of each role in a round, on average; the most first."""
    found: dict[str, float] = {}
    for one in rounds:
        before = 0.0
        for look in _looks(one):
            for role, share in look["cpu"].items():
                found[role] = found.get(role, 0.0) + share * (look["t"] - before)
            before = look["t"]
    each = {role: used / len(rounds) for role, used in found.items()}
    return dict(sorted(each.items(), key=lambda item: -item[1]))


def _memory(rounds: Sequence[Round]) -> float:
    return max(
        (
            sum(size for role, size in look["memory"].items() if _is_proxy(one, role))
            for one in rounds
            for look in one.system
        ),
        default=0.0,
    )


def _measures(rounds: Sequence[Round]) -> list[tuple[str, str, Callable[[Sequence[Round]], float]]]:
    found: list[tuple[str, str, Callable[[Sequence[Round]], float]]] = [
        ("all requests, median", "ms", _percentile("", 0.5)),
        ("all requests, p99", "ms", _percentile("", 0.99)),
    ]
    for kind in kinds(rounds):
        found += [
            (f"{kind}, median", "ms", _percentile(kind, 0.5)),
            (f"{kind}, p99", "ms", _percentile(kind, 0.99)),
        ]
    found.append(("requests", "1/s", _per_second))
    for do, name in (("start", "add → live"), ("stop", "delete → gone")):
        found += [
            (f"{name}, median", "ms", _changes(do, "live_ms", 0.5)),
            (f"{name}, p99", "ms", _changes(do, "live_ms", 0.99)),
        ]
    found += [("proxy CPU", "cores", _cpu), ("proxy memory", "MB", _memory)]
    return found


def figures(result: Result, scenario: str) -> dict[str, dict[str, Figure]]:
    """Of each contestant, all figures that a scenario gave, by name."""
    everyone = {
        name: rounds for name in result.contestants() if (rounds := result.of(scenario, name))
    }
    raw: dict[str, dict[str, tuple[str, float, list[float]]]] = {}
    for name, rounds in everyone.items():
        for what, unit, measure in _measures(rounds):
            value = measure(rounds)
            if value > 0:
                logs = [math.log(one) for each in rounds if (one := measure([each])) > 0]
                raw.setdefault(name, {})[what] = (unit, value, logs)
    scatter = _pooled(raw)
    return {
        name: {
            what: Figure(what, unit, value, *scatter[what], len(logs))
            for what, (unit, value, logs) in found.items()
        }
        for name, found in raw.items()
    }


def _pooled(
    raw: dict[str, dict[str, tuple[str, float, list[float]]]],
) -> dict[str, tuple[float, int]]:
    squares: dict[str, float] = {}
    freedom: dict[str, int] = {}
    for found in raw.values():
        for what, (_, _, logs) in found.items():
            squares.setdefault(what, 0.0)
            freedom.setdefault(what, 0)
            if len(logs) > 1:
                squares[what] += statistics.variance(logs) * (len(logs) - 1)
                freedom[what] += len(logs) - 1
    return {
        what: (math.sqrt(squares[what] / n) if (n := freedom[what]) else math.inf, n)
        for what in squares
    }
