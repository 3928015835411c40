"""Two runs side by side: ratios, and which differences are above the noise.  Pure.

A difference counts when it is outside an interval that is wide enough for all comparisons of the
two runs together (Bonferroni): two equal runs are told apart once in fifty times, not once in
fifty figures; a machine that others use as well may double or treble that.  What the machine
itself differed by is added to the interval of every time and rate.  Runs of one round each have no
interval, so nothing in them is told apart but failures.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from .metrics import Figure, failures, figures, quantile, times
from .results import Result, Round

__all__ = ["Row", "Verdict", "compare", "render", "summary"]

#: how sure all of it together is
SURE = 0.98
#: failures beyond this multiple of their own noise (Poisson's) count
FAILURES = 4.0
#: units of figures that depend on how fast the machine is
TIMES = ("ms", "cores", "1/s")
#: from which on the machine's own drift between two runs is said
DRIFT = 0.1


@dataclass(frozen=True)
class Row:
    """One figure in both runs; the ratio is the later one's, ``low`` and ``high`` its interval."""

    scenario: str
    contestant: str
    what: str
    unit: str
    before: float
    after: float
    ratio: float
    low: float
    high: float

    @property
    def differs(self) -> bool:
        """Whether the difference is above the noise."""
        return not self.low <= 1 <= self.high


@dataclass(frozen=True)
class Verdict:
    """``unlike`` are reasons not to compare the two at all, ``broken`` what one of them lacks."""

    rows: list[Row]
    unlike: list[str]
    broken: list[str] = field(default_factory=list)

    @property
    def different(self) -> list[Row]:
        """What is above the noise."""
        return [row for row in self.rows if row.differs]

    @property
    def same(self) -> bool:
        """Whether nothing is above the noise, and nothing is missing."""
        return not self.different and not self.broken


def _unlike(before: Result, after: Result) -> list[str]:
    found = []
    for what in ("cpu", "cpus", "memory"):
        if before.host.get(what) != after.host.get(what):
            found.append(f"{what}: {before.host.get(what)} / {after.host.get(what)}")
    for what in sorted({*before.settings, *after.settings}):
        if before.settings.get(what) != after.settings.get(what):
            found.append(f"{what}: {before.settings.get(what)} / {after.settings.get(what)}")
    if not any(len(one.rounds) > len({(r.scenario, r.contestant) for r in one.rounds})
               for one in (before, after)):  # fmt: skip
        found.append("one round each: how much chance does is not known (--rounds)")
    if (drift := _drift(before, after)) > DRIFT:
        found.append(f"the machine was slower or faster by {math.expm1(drift):.0%} without a proxy")
    return found


def _drift(before: Result, after: Result) -> float:
    """How much faster or slower the machine itself was, on the logarithmic scale.

    Both runs have begun with the same requests to a server without a proxy.
    """
    found = 0.0
    for what in ("per_second", "wrk"):
        a, b = (float(one.null.get(what) or 0) for one in (before, after))
        if a > 0 and b > 0:
            found = max(found, abs(math.log(b / a)))
    return found


def _row(scenario: str, contestant: str, a: Figure, b: Figure, sure: float, drift: float) -> Row:
    freedom = a.freedom + b.freedom
    half = math.inf
    if a.freedom and b.freedom:
        scatter = math.sqrt((a.scatter**2 * a.freedom + b.scatter**2 * b.freedom) / freedom)
        error = scatter * math.sqrt(1 / a.samples + 1 / b.samples)
        half = max(math.hypot(a.half(0), b.half(0)), quantile(sure, freedom) * error)
    if a.unit in TIMES:
        half += drift
    ratio = b.value / a.value
    half = min(half, 700.0 - abs(math.log(ratio)))
    return Row(
        scenario, contestant, a.name, a.unit, a.value, b.value, ratio,
        ratio * math.exp(-half), ratio * math.exp(half),
    )  # fmt: skip


def _counts(rounds: Sequence[Round]) -> list[tuple[int, int]]:
    """Of each round: what failed, and all that was tried, requests and changes."""
    found = []
    for one in rounds:
        failed = sum(failures([one]).values())
        good = times([one]).count + sum("failed" not in change for change in one.changes)
        found.append((failed, failed + good))
    return found


def _failed(scenario: str, contestant: str, before: Result, after: Result, sure: float) -> Row:
    """Shares of what was tried: the two may have tried more or less, in more rounds or fewer.

    Failures come in clusters, as when a replica is killed: where rounds scatter more than chance
    alone would have it, the noise is as much larger.
    """
    counts = [_counts(one.of(scenario, contestant)) for one in (before, after)]
    (a, tried_a), (b, tried_b) = (
        [sum(column) for column in zip(*one, strict=True)] for one in counts
    )
    share = (a + b) / max(1, tried_a + tried_b)
    spread, freedom = 0.0, 0
    for one, failed, tried in ((counts[0], a, tried_a), (counts[1], b, tried_b)):
        expected = [failed * each / max(1, tried) for _, each in one]
        spread += sum(
            (each - mean) ** 2 / mean for (each, _), mean in zip(one, expected, strict=True) if mean
        )
        freedom += len(one) - 1
    wider = math.sqrt(max(1.0, spread / freedom)) if freedom else 1.0
    times_noise = max(FAILURES, quantile(sure, freedom)) * wider if wider > 1 else FAILURES
    noise = times_noise * math.sqrt(share * (1 / max(1, tried_a) + 1 / max(1, tried_b)))
    ratio = (b + 1) / max(1, tried_b) / ((a + 1) / max(1, tried_a))
    same = abs(a / max(1, tried_a) - b / max(1, tried_b)) <= noise
    return Row(
        scenario, contestant, "failed", "", a, b, ratio,
        min(ratio, 1.0) if same else ratio, max(ratio, 1.0) if same else ratio,
    )  # fmt: skip


def _broken(before: Result, after: Result) -> list[str]:
    """What one of the two lacks, or has not whole."""
    found = []
    for which, one, other in (("before", before, after), ("after", after, before)):
        for (scenario, contestant), why in one.broken().items():
            if not why.startswith("skipped") or other.of(scenario, contestant):
                found.append(f"{which}: {scenario}, {contestant}: {why}")
        for scenario in one.scenarios():
            for contestant in one.contestants():
                known = (scenario, contestant) in other.broken() or other.of(scenario, contestant)
                if one.of(scenario, contestant) and not known:
                    found.append(f"only {which}: {scenario}, {contestant}")
    return found


def compare(before: Result, after: Result) -> Verdict:
    """Every figure that both runs have."""
    pairs: list[tuple[str, str, Figure, Figure]] = []
    rows: list[Row] = []
    for scenario in before.scenarios():
        first, second = figures(before, scenario), figures(after, scenario)
        for contestant in first:
            for what, figure in first[contestant].items():
                other = second.get(contestant, {}).get(what)
                if other is not None:
                    pairs.append((scenario, contestant, figure, other))
    drift = _drift(before, after)
    sure = 1 - (1 - SURE) / max(1, len(pairs))
    last: tuple[str, str] | None = None
    for scenario, contestant, figure, other in pairs:
        if last != (scenario, contestant):
            last = (scenario, contestant)
            rows.append(_failed(scenario, contestant, before, after, sure))
        rows.append(_row(scenario, contestant, figure, other, sure, drift))
    return Verdict(rows, _unlike(before, after), _broken(before, after))


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def summary(verdict: Verdict) -> str:
    """All of it in one line."""
    if not verdict.rows:
        return "nothing in common: other scenarios, or other contestants"
    if not verdict.different:
        if verdict.broken:
            return f"no difference in what both have, but {len(verdict.broken)} are not whole"
        return "no difference (above the noise)"
    found = [
        f"{row.scenario}, {row.contestant}: {row.what} × {row.ratio:.2f}"
        f" ({row.low:.2f} – {row.high:.2f})"
        for row in verdict.different
    ]
    head = f"{len(found)} of {len(verdict.rows)} differences are above the noise"
    return f"{head}: {'; '.join(found)}"


def render(verdict: Verdict, before: str, after: str) -> str:
    """As lines for a terminal."""
    lines = [f"{before}  →  {after}"]
    lines += [f"not alike: {why}" for why in verdict.unlike]
    lines += [f"not whole: {why}" for why in verdict.broken]
    width = max([len(row.what) for row in verdict.rows] or [0])
    group = ("", "")
    for row in verdict.rows:
        if group != (row.scenario, row.contestant):
            group = (row.scenario, row.contestant)
            lines += ["", f"{row.scenario}, {row.contestant}"]
        mark = ("  MORE" if row.ratio > 1 else "  LESS") if row.differs else ""
        ratio = f"{row.ratio:.2f} ({row.low:.2f} – {row.high:.2f})"
        lines.append(
            f"  {row.what:<{width}}  {_number(row.before):>9} → {_number(row.after):>9}"
            f" {row.unit:<5}  × {ratio}{mark}"
        )
    lines += ["", summary(verdict).partition(": ")[0] if verdict.rows else summary(verdict)]
    return "\n".join(lines)
