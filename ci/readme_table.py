"""Put a run of the common suite into README.md, in short.

    python ci/readme_table.py build/conformance/conformance.json README.md

Only between the markers, and only of a whole run: one that has left out a proxy that README speaks
of, or a behaviour, changes nothing, and a line says so.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["Partial", "filled", "section"]

MARKERS = ("<!-- conformance -->", "<!-- /conformance -->")
REFERENCE = "chp"
OURS = ("junction", "junction-file", "junction-inprocess")
#: outcomes, as the report has them, and what stands above their counts
COLUMNS = {
    "pass": "as expected",
    "difference": "named differences",
    "not claimed": "not claimed",
    "fail": "fails",
}


class Partial(Exception):
    """What a run has left out."""


def _outcomes(document: Mapping[str, Any]) -> dict[str, dict[str, tuple[str, str]]]:
    """Outcome and reason by proxy and behaviour.

    Raises:
        Partial: some are not there.
    """
    found: dict[str, dict[str, tuple[str, str]]] = {
        one["name"]: {} for one in document["implementations"]
    }
    for one in document["results"]:
        found[one["implementation"]][one["behaviour"]] = one["outcome"], one["reason"]
    for name in (REFERENCE, *OURS):
        if name not in found:
            raise Partial(f"{name} is not in it")
    total = len(document["behaviours"])
    for name, results in found.items():
        if len(results) < total:
            raise Partial(f"{name} has {len(results)} of {total} behaviours")
        if name in (REFERENCE, *OURS):
            for outcome, reason in results.values():
                if outcome == "not run":
                    raise Partial(f"{name} was not run: {reason}")
    return found


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _names(names: tuple[str, ...] | list[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def section(document: Mapping[str, Any]) -> str:
    """What stands between the markers, from the suite's JSON report.

    Raises:
        Partial: the run was not a whole one.
    """
    outcomes = _outcomes(document)
    lines = [_row(["proxy", "what ran", *COLUMNS.values()]), "|---|---|" + "---:|" * len(COLUMNS)]
    for one in document["implementations"]:
        results = outcomes[one["name"]]
        counts = Counter(outcome for outcome, _ in results.values())
        version = "not to be had here" if counts["not run"] else one["version"]
        name = f"`{one['name']}`" + (" (the reference)" if one["reference"] else "")
        lines.append(_row([name, version, *(str(counts[outcome]) for outcome in COLUMNS)]))

    lines += ["", "Ours differ in:", ""]
    for (reason, behaviours), names in _differences(outcomes).items():
        lines.append(f"- {_names(names)}: {_names(behaviours)}. {reason[:1].upper()}{reason[1:]}.")
    if none := [
        name
        for name in OURS
        if all(outcome != "difference" for outcome, _ in outcomes[name].values())
    ]:
        lines.append(f"- {_names(none)}: nothing.")

    total, date = len(document["behaviours"]), document["date"][:10]
    hub, python = document["versions"]["jupyterhub"], document["host"]["python"]
    lines += [
        "",
        f"{total} behaviours, on {date} with JupyterHub {hub} and Python {python}."
        " `make conformance` writes the whole table, each behaviour in a sentence and all reasons,"
        " to `build/conformance/conformance.md`.",
    ]
    return "\n".join(lines)


def _differences(
    outcomes: Mapping[str, Mapping[str, tuple[str, str]]],
) -> dict[tuple[str, tuple[str, ...]], list[str]]:
    """Ours that differ in the same behaviours for the same reason, by both."""
    found: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for name in OURS:
        reasons: dict[str, list[str]] = {}
        for behaviour, (outcome, reason) in outcomes[name].items():
            if outcome == "difference":
                reasons.setdefault(reason, []).append(behaviour)
        for reason, behaviours in reasons.items():
            found.setdefault((reason, tuple(sorted(behaviours))), []).append(name)
    return found


def filled(readme: str, text: str) -> str:
    """README with this between its markers.

    Raises:
        ValueError: the markers are not there, each once and in order.
    """
    begin, end = MARKERS
    if (
        readme.count(begin) != 1
        or readme.count(end) != 1
        or readme.index(end) < readme.index(begin)
    ):
        raise ValueError(f"needs {begin} and {end} after it, each once")
    before, _, rest = readme.partition(begin)
    return f"{before}{begin}\n{text}\n{end}{rest.partition(end)[2]}"


def main(words: list[str]) -> int:
    """Do it; 1 where README has no place for it."""
    report, readme = map(Path, words)
    try:
        text = section(json.loads(report.read_text()))
        readme.write_text(filled(readme.read_text(), text))
    except Partial as why:
        print(f"{readme.name} is left as it was, since the run was not a whole one: {why}")
    except ValueError as error:
        print(f"{readme.name} {error}", file=sys.stderr)
        return 1
    else:
        print(f"{readme.name} has the table now")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
