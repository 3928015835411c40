"""The table implementation × behaviour, as JSON and as Markdown."""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import os
import platform
import shlex
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .behaviours import BEHAVIOURS
from .implementation import FEATURES, Implementation

__all__ = ["Result", "write_report"]

MARKS = {
    "pass": "✓",
    "fail": "**✗**",
    "difference": "≠",
    "not claimed": "–",
    "not run": "?",
}


@dataclass(frozen=True)
class Result:
    """What came of one behaviour on one implementation; ``reason`` for all but a pass."""

    implementation: str
    behaviour: str
    outcome: str
    reason: str = ""


def _packages() -> dict[str, str]:
    versions = {}
    for name in ("jupyterhub-junction", "jupyterhub", "pytest"):
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = "not installed"
    return versions


def _document(
    implementations: Sequence[Implementation], results: Sequence[Result]
) -> dict[str, Any]:
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "host": {
            "system": platform.platform(),
            "processors": os.cpu_count(),
            "python": platform.python_version(),
        },
        "versions": _packages(),
        "command": shlex.join(["pytest", *sys.argv[1:]]),
        "features": dict(FEATURES),
        "implementations": [
            {
                "name": each.name,
                "version": each.version() if each.missing() is None else "",
                "reference": each.reference,
                "features": sorted(each.features),
            }
            for each in implementations
        ],
        "behaviours": [
            {
                "name": each.name,
                "theme": each.theme,
                "sentence": each.sentence,
                "needs": sorted(each.needs),
                "options": str(each.options),
            }
            for each in BEHAVIOURS.values()
        ],
        "results": [asdict(result) for result in results],
    }


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _markdown(document: Mapping[str, Any], results: Mapping[tuple[str, str], Result]) -> str:
    names = [each["name"] for each in document["implementations"]]
    versions = ", ".join(f"{name} {value}" for name, value in document["versions"].items())
    host = document["host"]
    lines = [
        "# Conformance of JupyterHub proxies",
        "",
        f"Run on {document['date']}, {host['system']}, {host['processors']} processors, "
        f"Python {host['python']}; {versions}.",
        "",
        f"To repeat it: `{document['command']}`",
        "",
        _row(["implementation", "what runs", *MARKS]),
        _row(["---"] * (2 + len(MARKS))),
    ]
    for each in document["implementations"]:
        counts = Counter(r.outcome for (name, _), r in results.items() if name == each["name"])
        shown = each["name"] + (" (reference)" if each["reference"] else "")
        lines.append(_row([shown, each["version"], *(str(counts[mark]) for mark in MARKS)]))
    legend = ", ".join(f"{mark} {outcome}" for outcome, mark in MARKS.items())
    lines += ["", f"{legend}; the reasons are below the table.", ""]
    theme = ""
    for each in document["behaviours"]:
        if each["theme"] != theme:
            theme = each["theme"]
            lines += ["", f"## {theme}", "", _row(["behaviour", "what is expected", *names])]
            lines.append(_row(["---"] * (2 + len(names))))
        cells = []
        for name in names:
            result = results.get((name, each["name"]))
            cells.append(MARKS[result.outcome] if result else MARKS["not run"])
        lines.append(_row([f"`{each['name']}`", _cell(each["sentence"]), *cells]))
    for outcome, title in (("fail", "Failures"), ("difference", "Known differences")):
        rows = [r for r in results.values() if r.outcome == outcome]
        if rows:
            lines += ["", f"## {title}", "", _row(["implementation", "behaviour", "reason"])]
            lines.append(_row(["---"] * 3))
            for r in rows:
                lines.append(_row([r.implementation, f"`{r.behaviour}`", _cell(r.reason)]))
    return "\n".join(lines) + "\n"


def write_report(
    directory: Path, implementations: Sequence[Implementation], results: Sequence[Result]
) -> tuple[Path, Path]:
    """Write ``conformance.json`` and ``conformance.md``; returns their paths."""
    directory.mkdir(parents=True, exist_ok=True)
    document = _document(implementations, results)
    data, table = directory / "conformance.json", directory / "conformance.md"
    data.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")
    table.write_text(_markdown(document, {(r.implementation, r.behaviour): r for r in results}))
    return data, table
