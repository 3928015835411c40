"""Two runs side by side: ratios, and which differences are above the noise.  Pure.

A difference counts when it is outside an interval that is wide enough for all comparisons of the
two runs together (Bonferroni): two equal runs are told apart once in twenty times, not once in
twenty figures.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from .metrics import Figure, failures, figures, quantile
from .results import Result

__all__ = ["Row", "Verdict", "compare", "render"]

#: how sure all of it together is
SURE = 0.95
#: failures beyond this multiple of their own noise (Poisson's) count
FAILURES = 4.0


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
    """``unlike`` are reasons not to compare the two at all."""

    rows: list[Row]
    unlike: list[str]

    @property
    def different(self) -> list[Row]:
        """What is above the noise."""
        return [row for row in self.rows if row.differs]


def _unlike(before: Result, after: Result) -> list[str]:
    found = []
    for what in ("cpu", "cpus", "memory"):
        if before.host.get(what) != after.host.get(what):
            found.append(f"{what}: {before.host.get(what)} / {after.host.get(what)}")
    for what in sorted({*before.settings, *after.settings}):
        if before.settings.get(what) != after.settings.get(what):
            found.append(f"{what}: {before.settings.get(what)} / {after.settings.get(what)}")
    return found


def _row(scenario: str, contestant: str, a: Figure, b: Figure, sure: float) -> Row:
    freedom = a.freedom + b.freedom
    half = math.inf
    if a.freedom and b.freedom:
        scatter = math.sqrt((a.scatter**2 * a.freedom + b.scatter**2 * b.freedom) / freedom)
        error = scatter * math.sqrt(1 / a.samples + 1 / b.samples)
        half = max(math.hypot(a.half(0), b.half(0)), quantile(sure, freedom) * error)
    ratio = b.value / a.value
    half = min(half, 700.0 - abs(math.log(ratio)))
    return Row(
        scenario, contestant, a.name, a.unit, a.value, b.value, ratio,
        ratio * math.exp(-half), ratio * math.exp(half),
    )  # fmt: skip


def _failed(scenario: str, contestant: str, before: Result, after: Result) -> Row:
    a, b = (sum(failures(one.of(scenario, contestant)).values()) for one in (before, after))
    noise = FAILURES * math.sqrt(a + b)
    ratio = (b + 1) / (a + 1)
    same = abs(a - b) <= noise
    return Row(
        scenario, contestant, "failed", "", a, b, ratio,
        min(ratio, 1.0) if same else ratio, max(ratio, 1.0) if same else ratio,
    )  # fmt: skip


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
    sure = 1 - (1 - SURE) / max(1, len(pairs))
    last: tuple[str, str] | None = None
    for scenario, contestant, figure, other in pairs:
        if last != (scenario, contestant):
            last = (scenario, contestant)
            rows.append(_failed(scenario, contestant, before, after))
        rows.append(_row(scenario, contestant, figure, other, sure))
    return Verdict(rows, _unlike(before, after))


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def render(verdict: Verdict, before: str, after: str) -> str:
    """As lines for a terminal."""
    lines = [f"{before}  →  {after}"]
    lines += [f"not alike: {why}" for why in verdict.unlike]
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
    if not verdict.rows:
        lines += ["", "nothing in common: other scenarios, or other contestants"]
    elif verdict.different:
        lines += [
            "",
            f"{len(verdict.different)} of {len(verdict.rows)} differences are above the noise",
        ]
    else:
        lines += ["", "no difference (above the noise)"]
    return "\n".join(lines)
