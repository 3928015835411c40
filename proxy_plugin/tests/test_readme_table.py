"""README's table of the common suite: what is in it, and of which runs."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "ci"))

from readme_table import MARKERS, Partial, filled, main, section  # noqa: E402

from jupyterhub_junction.conformance.behaviours import BEHAVIOURS  # noqa: E402
from jupyterhub_junction.conformance.implementation import Implementation  # noqa: E402
from jupyterhub_junction.conformance.report import Result, write_report  # noqa: E402

# it knows the behaviours
pytest_plugins = ["jupyterhub_junction.conformance.plugin"]

GO = "Go's library | drops it"
RESULTS = {
    "chp": ("pass", "difference", "pass"),
    "junction": ("difference", "difference", "pass"),
    "junction-file": ("difference", "difference", "not claimed"),
    "junction-inprocess": ("pass", "pass", "pass"),
    "peer": ("pass", "fail", "not claimed"),
}


@pytest.fixture
def document() -> dict[str, Any]:
    names = ("a-first", "b-second", "c-third")
    return {
        "date": "2026-01-02T03:04:05+00:00",
        "host": {"python": "3.12.1"},
        "versions": {"jupyterhub": "5.3.0"},
        "behaviours": [{"name": name} for name in names],
        "implementations": [
            {"name": name, "version": f"{name} 1.0", "reference": name == "chp"} for name in RESULTS
        ],
        "results": [
            {"implementation": name, "behaviour": behaviour, "outcome": outcome, "reason": GO}
            for name, outcomes in RESULTS.items()
            for behaviour, outcome in zip(names, outcomes, strict=True)
        ],
    }


def test_counts_and_differences_of_a_run(document: dict[str, Any]) -> None:
    lines = section(document).splitlines()
    assert "| `chp` (the reference) | chp 1.0 | 2 | 1 | 0 | 0 |" in lines
    assert "| `junction-file` | junction-file 1.0 | 0 | 2 | 1 | 0 |" in lines
    assert "| `peer` | peer 1.0 | 1 | 0 | 1 | 1 |" in lines
    # one line for those that share a reason, and none for the others' differences
    assert [line for line in lines if line.startswith("- ")] == [
        f"- `junction`, `junction-file`: `a-first`, `b-second`. {GO}.",
        "- `junction-inprocess`: nothing.",
    ]
    assert lines[-1].startswith("3 behaviours, on 2026-01-02 with JupyterHub 5.3.0 and Python 3.12")
    assert "build/conformance/conformance.md" in lines[-1]


def test_ours_with_reasons_of_their_own_have_their_own_lines(document: dict[str, Any]) -> None:
    document["results"][6]["reason"] = "the file has no agent"  # junction-file, a-first
    assert [line for line in section(document).splitlines() if line.startswith("- ")] == [
        f"- `junction`: `a-first`, `b-second`. {GO}.",
        "- `junction-file`: `a-first`. The file has no agent.",
        f"- `junction-file`: `b-second`. {GO}.",
        "- `junction-inprocess`: nothing.",
    ]


def test_a_run_that_left_something_out_is_refused(document: dict[str, Any]) -> None:
    last = document["results"].pop()
    with pytest.raises(Partial, match="peer has 2 of 3 behaviours"):
        section(document)
    document["results"].append(last | {"outcome": "not run"})  # a peer need not be there
    assert "| `peer` | not to be had here |" in section(document)
    document["results"][3]["outcome"] = "not run"
    with pytest.raises(Partial, match="junction was not run: Go's"):
        section(document)
    document["implementations"] = document["implementations"][1:]
    document["results"] = document["results"][3:]
    with pytest.raises(Partial, match="chp is not in it"):
        section(document)


def test_only_what_is_between_the_markers_changes() -> None:
    begin, end = MARKERS
    assert filled(f"a\n{begin}\nold\n{end}\nb\n", "new") == f"a\n{begin}\nnew\n{end}\nb\n"
    for text in ("", begin, f"{end}{begin}", f"{begin}{end}{begin}"):
        with pytest.raises(ValueError, match="each once"):
            filled(text, "new")
    filled((ROOT / "README.md").read_text(), "new")


def test_the_command_works_from_the_suites_own_report(
    tmp_path: Path, document: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    implementations = [
        Implementation(name, lambda around: None, frozenset(), version=lambda: "1.0")  # type: ignore
        for name in RESULTS
    ]
    assert BEHAVIOURS
    results = [Result(name, behaviour, "pass") for name in RESULTS for behaviour in BEHAVIOURS]
    report, _ = write_report(tmp_path, implementations, results)
    readme = tmp_path / "README.md"
    readme.write_text("\n".join(["before", *MARKERS, "after"]))
    assert main([str(report), str(readme)]) == 0
    text = readme.read_text()
    assert f"{len(BEHAVIOURS)} behaviours" in text
    assert text.endswith("after")
    # a part of the suite leaves it alone
    report.write_text(json.dumps(document | {"results": document["results"][1:]}))
    assert main([str(report), str(readme)]) == 0
    assert readme.read_text() == text
    assert "left as it was" in capsys.readouterr().out
    readme.write_text("no place")
    report.write_text(json.dumps(document))
    assert main([str(report), str(readme)]) == 1
