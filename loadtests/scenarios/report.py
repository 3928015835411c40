"""What a run writes: ``results.json``, ``report.md`` and ``report.html``, in one folder.

The page needs nothing but itself: its images are in it.
"""

from __future__ import annotations

import html
import math
from collections.abc import Callable
from pathlib import Path

from .flames import flame_graph
from .metrics import Figure, cpu_seconds, failures, figures, under_load
from .plots import plots
from .results import Result
from .stage import Scenario

__all__ = ["generator_note", "markdown", "page", "write_report"]

#: share of a core, and of what it reaches without a proxy, from which the generator is in the way
BUSY, NEAR = 0.8, 0.5
#: processes whose CPU time is told, at most
PROCESSES = 15

_SHOWN = (
    "users", "rate", "seconds", "changes", "routes", "students", "real", "fault", "during",
    "at", "workers",
)  # fmt: skip

_CAUTION = (
    "Everything that is started by the test shares this machine's cores with the load: compare rows"
    " of one run. Users wait for an answer before they ask again, so a stall costs requests as well"
    " as time. Intervals are of 95 %; none is narrower than ±5 %."
)


def generator_note(result: Result) -> str:
    """Whether the load generator was in the way."""
    # a short one says little
    lines = [line for one in result.rounds for line in under_load(one) if line["for_s"] > 0.5]
    shares = [line["cpu"] for line in lines]
    rates = [
        sum(sum(kind["times"].values()) for kind in line["kinds"].values()) / line["for_s"]
        for line in lines
    ]
    most, rate = max(shares, default=0.0), max(rates, default=0.0)
    null = result.null.get("per_second", 0)
    said = (
        f"At most {most:.0%} of a core and {rate:.0f} answers/s in any second of a load; without a"
        f" proxy it reaches {result.null.get('said', 'an unknown rate')}."
    )
    if most > BUSY or (null and rate > NEAR * null and most > BUSY / 2):
        return f"**The load generator may be in the way.** {said} Use workers, or believe wrk."
    return f"The load generator was not in the way. {said}"


def _shown(figure: Figure | None) -> str:
    if figure is None:
        return "–"
    low, high = figure.interval if figure.samples else (0.0, math.inf)

    def number(value: float) -> str:
        return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"

    known = f" ({number(low)} – {number(high)})" if high < 1e6 * max(low, 1e-9) else ""
    return number(figure.value) + known


Table = tuple[list[str], list[list[str]]]


def _figures(result: Result, scenario: str) -> Table:
    found = figures(result, scenario)
    names = list(found)
    whats: dict[str, str] = {}
    for one in found.values():
        for what, figure in one.items():
            whats.setdefault(what, figure.unit)
    rows = [
        [f"{what} ({unit})", *(_shown(found[name].get(what)) for name in names)]
        for what, unit in whats.items()
    ]
    rows.append(
        ["failed", *(f"{sum(failures(result.of(scenario, name)).values()):,}" for name in names)]
    )
    return ["", *names], rows


def _costs(result: Result, scenario: str) -> Table:
    """CPU seconds of each process, those that used most first."""
    found = {
        name: cpu_seconds(rounds)
        for name in result.contestants()
        if (rounds := result.of(scenario, name)) and any(one.system for one in rounds)
    }
    most = {
        role: max(one.get(role, 0.0) for one in found.values())
        for each in found.values()
        for role in each
    }
    roles = sorted(most, key=lambda role: -most[role])[:PROCESSES]
    rows = [[role, *(_seconds(one.get(role)) for one in found.values())] for role in roles]
    rows.append(["all processes", *(_seconds(sum(one.values())) for one in found.values())])
    return ["CPU seconds", *found], rows


def _seconds(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f}"


def _notes(result: Result, scenario: str) -> list[str]:
    """What was skipped, failed, left behind or killed, each once."""
    found: dict[str, None] = {}
    for one in result.rounds:
        if one.scenario != scenario:
            continue
        for what, why in (("not played", one.skipped), ("ended early", one.failed)):
            if why:
                found[f"{one.contestant}, {what}: {why}"] = None
        for event in one.events:
            found[
                f"{one.contestant}, round {one.number}, after {event['t']:.1f} s: {event['what']}"
            ] = None
        for left in one.left:
            found[f"{one.contestant}: could not be removed: {left}"] = None
        for role, why in one.no_profiles.items():
            found[f"{one.contestant}: no profile of {role}: {why}"] = None
    for name in result.contestants():
        for why, count in list(failures(result.of(scenario, name)).items())[:8]:
            found[f"{name}, failed {count:,} times: {why}"] = None
    return list(found)


def _facts(result: Result) -> list[tuple[str, str]]:
    return [
        ("command", result.command), ("date", result.date), ("commit", result.commit),
        ("loaded", result.target), ("took", f"{result.took_s / 60:.1f} minutes"),
        *result.host.items(), *result.versions.items(),
        ("settings", ", ".join(
            f"{key} {value}" for key, value in result.settings.items() if key in _SHOWN
        )),
    ]  # fmt: skip


def markdown(result: Result, scenarios: dict[str, Scenario]) -> str:
    """The summary."""
    lines = [f"# Load test of {result.date[:10]}", "", f"> {_CAUTION}", "", generator_note(result)]
    for name in result.scenarios():
        one = scenarios[name]
        lines += [
            "",
            f"## {name.capitalize()}",
            "",
            f"**Why.** {one.WHY}",
            "",
            f"**How.** {one.HOW}",
            "",
        ]
        for head, rows in (_figures(result, name), _costs(result, name)):
            if len(head) > 1:
                lines += [
                    f"| {' | '.join(head)} |", f"|{'---|' * len(head)}",
                    *(f"| {' | '.join(row)} |" for row in rows), "",
                ]  # fmt: skip
        lines += [f"- {note}" for note in _notes(result, name)]
    lines += ["", "## With what", "", "| | |", "|---|---|"]
    lines += [f"| {key} | {value} |" for key, value in _facts(result)]
    return "\n".join(lines) + "\n"


_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 64rem; margin: 2rem auto; color: #222 }
table { border-collapse: collapse; margin: 1rem 0; font-size: 13px; display: block }
table { overflow-x: auto }
td, th { border: 1px solid #ccc; padding: .2rem .6rem; text-align: left; vertical-align: top }
td:not(:first-child) { font-variant-numeric: tabular-nums }
img, svg { max-width: 100%; height: auto }
blockquote { color: #555; border-left: 3px solid #ccc; margin: 0; padding-left: 1rem }
figure { margin: 1rem 0 } figcaption { font-weight: 600 }
"""


def _plain(text: str) -> str:
    """Markdown's text without its marks, for the page."""
    return html.escape(text.replace("*", "").replace("`", ""))


def _table(head: list[str], rows: list[list[str]]) -> str:
    cells: Callable[[str, list[str]], str] = lambda tag, row: "".join(  # noqa: E731
        f"<{tag}>{html.escape(cell)}</{tag}>" for cell in row
    )
    body = "".join(f"<tr>{cells('td', row)}</tr>" for row in rows)
    return f"<table><tr>{cells('th', head)}</tr>{body}</table>"


def page(result: Result, scenarios: dict[str, Scenario]) -> str:
    """The whole report as one HTML page."""
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8>",
        "<meta name=viewport content='width=device-width'>",
        f"<title>Load test of {result.date[:10]}</title><style>{_STYLE}</style>",
        f"<h1>Load test of {result.date[:10]}</h1><blockquote>{html.escape(_CAUTION)}</blockquote>",
        f"<p>{html.escape(generator_note(result).replace('**', ''))}</p>",
    ]
    for name in result.scenarios():
        one = scenarios[name]
        parts.append(f"<h2>{html.escape(name.capitalize())}</h2>")
        parts.append(
            f"<p><b>Why.</b> {html.escape(one.WHY)}</p><p><b>How.</b> {_plain(one.HOW)}</p>"
        )
        for head, rows in (_figures(result, name), _costs(result, name)):
            if len(head) > 1:
                parts.append(_table(head, rows))
        notes = "".join(f"<li>{html.escape(note)}</li>" for note in _notes(result, name))
        parts.append(f"<ul>{notes}</ul>")
        for title, image in plots(result, name):
            parts.append(
                f"<figure><figcaption>{html.escape(title)}</figcaption>"
                f"<img alt='{html.escape(title)}' src='data:image/png;base64,{image}'></figure>"
            )
        for each in result.rounds:
            if each.scenario == name:
                for role, stacks in each.profiles.items():
                    title = f"{each.contestant}, {role}: where its CPU time went"
                    parts.append(
                        f"<figure><figcaption>{html.escape(title)}</figcaption>"
                        f"{flame_graph(stacks)}</figure>"
                    )
                if each.etcd:
                    parts.append(f"<h3>etcd's own metrics, {html.escape(each.contestant)}</h3>")
                    parts.append(_table(["", ""], [[k, f"{v:,.6g}"] for k, v in each.etcd.items()]))
    parts.append("<h2>With what</h2>" + _table(["", ""], [list(fact) for fact in _facts(result)]))
    return "\n".join(parts) + "</html>\n"


def write_report(result: Result, folder: Path, scenarios: dict[str, Scenario]) -> None:
    """All of it; what an earlier run left there is replaced."""
    folder.mkdir(parents=True, exist_ok=True)
    result.write(folder / "results.json")
    (folder / "report.md").write_text(markdown(result, scenarios))
    (folder / "report.html").write_text(page(result, scenarios))
