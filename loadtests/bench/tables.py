"""A run's outcomes as Markdown tables.  Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .goals import N, verdicts
from .results import Outcome, Run

__all__ = ["COLUMNS", "Column", "figure", "glance_table", "goals_table", "notes", "size_table"]


@dataclass(frozen=True)
class Column:
    """Numbers of one measure that stand in one cell, as ``a / b``."""

    title: str
    measure: str
    paths: tuple[str, ...]


#: the tables of the report, by their measure's place in it
COLUMNS = [
    Column("N at once, live everywhere (s)", "fill", ("live_s",)),
    Column("add → live, median / p99 (ms)", "live", ("live.median", "live.p99")),
    Column("add_route returned, median / p99 (ms)", "live", ("returned.median", "returned.p99")),
    Column("delete → gone, median / p99 (ms)", "live", ("gone.median", "gone.p99")),
    Column("adds / deletes that returned too early", "live", ("early", "early_gone")),
    Column("probes sent again, as a kept connection was closed", "live", ("renewed",)),
    Column("1,000 more at once, live everywhere (s)", "batch", ("live_s",)),
    Column("requests/s, 6 bytes", "requests", ("small.per_second",)),
    Column("beside bare Traefik, turn about (×)", "requests", ("beside_bare",)),
    Column("the control: without a proxy, just before", "requests", ("control",)),
    Column("their median / p99 (ms)", "requests", ("small.median", "small.p99")),
    Column("requests/s, 1 MB", "requests", ("large.per_second",)),
    Column("their median / p99 (ms), 1 MB", "requests", ("large.median", "large.p99")),
    Column("wrong answers, 6 bytes / 1 MB", "requests", ("small.failed", "large.failed")),
    Column("requests/s to a Unix socket (the forwarder)", "forwarder", ("per_second",)),
    Column("WebSocket echo, median / p99 (ms)", "echo", ("median", "p99")),
    Column("p99 of requests, quiet / churn (ms)", "steady", ("quiet.p99", "churn.p99")),
    Column("the same while old servers restart, 20 changes/s", "steady", ("restarts.p99",)),
    Column("failed requests of those", "steady", ("failed",)),
    Column("pairs of add and delete behind at the end", "steady", ("behind",)),
    Column("changes / of them failed", "steady", ("changes", "failed_changes")),
    Column("CPU s of all processes per change that went well", "steady", ("cpu_s_per_change",)),
    Column("the same while old servers restart (CPU s)", "steady", ("restarts_cpu_s_per_change",)),
    Column("cores of the busiest replica during churn", "steady", ("replica_core",)),
    Column("memory of all proxies / hub's side / etcd (MB)", "memory", ("proxies", "hub", "etcd")),
    Column("memory of the greatest Traefik / agent (MB)", "memory", ("traefik", "agent")),
    Column("a killed replica is back (s)", "recovery", ("back_s",)),
    Column("N restored into an empty etcd (s)", "restore", ("live_s",)),
    Column("failed requests meanwhile", "restore", ("failed",)),
]

#: what the table at a glance shows
GLANCE = [
    Column("add → live everywhere, median / p99 (ms)", "live", ("live.median", "live.p99")),
    Column("1,000 at once (s)", "batch", ("live_s",)),
    Column("requests/s", "requests", ("small.per_second",)),
    Column("p99 quiet / during 20 changes/s (ms)", "steady", ("quiet.p99", "churn.p99")),
    Column("CPU s per change", "steady", ("cpu_s_per_change",)),
    Column("memory of proxies / hub / etcd (MB)", "memory", ("proxies", "hub", "etcd")),
    Column("killed, and back (s)", "recovery", ("back_s",)),
]


def figure(value: float) -> str:
    """A number with three significant digits, and none lost of a great one."""
    value = value or 0.0  # -0.0 is none
    if value == int(value) or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def _word(outcome: Outcome) -> str:
    return "over the limit" if outcome.kind == "limit" else "failed"


def _cell(outcome: Outcome | None, paths: Sequence[str]) -> str:
    if outcome is None:
        return ""
    if outcome.failed:
        return _word(outcome)
    numbers = [outcome.number(path) for path in paths]
    if all(number is None for number in numbers):
        return "–"
    return " / ".join("–" if number is None else figure(number) for number in numbers)


def size_table(run: Run, column: Column) -> str:
    """One measure: a row for each contestant, a column for each size; empty if nobody has it."""
    sizes = run.sizes()
    rows = []
    for name in run.contestants():
        found = [run.find(name, size, column.measure) for size in sizes]
        cells = [_cell(one, column.paths) for one in found]
        if any(cell not in ("", "–") for cell in cells):
            rows.append(f"| {name} | {' | '.join(cells)} |")
    if not rows:
        return ""
    head = " | ".join(f"N = {size:,}" for size in sizes)
    return "\n".join([f"| {column.title} | {head} |", "|---" * (1 + len(sizes)) + "|", *rows])


def glance_table(run: Run) -> str:
    """A row for each contestant with what matters most, at the size of the goals."""
    size = max((one for one in run.sizes() if one <= N), default=0)
    lines = [
        f"| N = {size:,} | {' | '.join(column.title for column in GLANCE)} |",
        "|---" * (1 + len(GLANCE)) + "|",
    ]
    for name in run.contestants():
        cells = [_cell(run.find(name, size, one.measure), one.paths) for one in GLANCE]
        fill = run.find(name, size, "fill")
        if fill is not None and fill.kind:
            cells = [_word(fill), *["–"] * (len(GLANCE) - 1)]
        if any(cell not in ("", "–") for cell in cells):
            lines.append(f"| {name} | {' | '.join(cell or '–' for cell in cells)} |")
    return "\n".join(lines)


def goals_table(run: Run) -> str:
    """The goals, what was measured, and the verdict."""
    lines = ["| | goal | measured | |", "|---|---|---|---|"]
    for verdict in verdicts(run):
        goal = verdict.goal
        value = "–" if verdict.value is None else figure(verdict.value) + goal.unit
        what = f"{goal.what}, {verdict.size}"
        lines.append(f"| {what} | {goal.bound} | {value} | {verdict.word} |")
    return "\n".join(lines)


def notes(run: Run, measures: Sequence[str]) -> list[str]:
    """What was skipped, failed or went wrong meanwhile, and why; one line for each reason."""
    found: dict[tuple[str, str], list[str]] = {}
    for one in run.outcomes:
        if one.measure in measures:
            for reason in _reasons(one):
                found.setdefault((one.contestant, reason), []).append(f"{one.routes:,}")
    return [
        f"- {contestant}, N = {', '.join(dict.fromkeys(sizes))}: {reason}"
        for (contestant, reason), sizes in found.items()
    ]


def _reasons(outcome: Outcome) -> list[str]:
    found = []
    if outcome.failed or outcome.skipped:
        word = "failed" if outcome.failed else "not measured"
        found.append(f"{word}: {outcome.failed or outcome.skipped}")
    if first := outcome.values.get("first_failure"):
        found.append(f"the first request that failed: {first}")
    if errors := outcome.values.get("errors"):
        found.append(f"the first change that failed: {errors[0]}")
    return found
