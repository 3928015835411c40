"""``junction-loadtest``, or ``python -m scenarios``: runs, what they write, and comparisons."""

from __future__ import annotations

import argparse
import importlib.metadata
import shlex
import shutil
import sys
import tempfile
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from bench import signals
from bench.machine import ROOT, commit, host, versions

from .compare import Verdict, compare, render, summary
from .options import Options, chosen, parse
from .remote import Deployment, consent
from .report import write_report
from .results import Result
from .runner import SCENARIOS, local_opener, missing, run
from .stage import LoadtestError

__all__ = ["main"]

BUILD = ROOT / "build" / "loadtest"
REPORTS = ROOT / "loadtests" / "reports"
#: share of comparisons of equal runs that have to say so
ENOUGH = 0.9


async def _load(options: Options, result: Result, deployment: Deployment | None) -> None:
    """The run, here or on a deployment."""
    if deployment is None:
        await run(options, result, local_opener(options))
        return
    async with deployment:
        result.target = deployment.about
        await run(options, result, deployment.opener)


def _said(words: list[str]) -> str:
    """The command, without its token."""
    kept: list[str] = []
    for word in words:
        hide = kept and kept[-1] in ("--token", "--password")
        start = word.partition("=")[0]
        kept.append(
            "…"
            if hide
            else f"{start}=…"
            if start in ("--token", "--password") and "=" in word
            else word
        )
    return f"junction-loadtest {shlex.join(kept)}"


def _run(options: Options, words: list[str], folder: Path) -> int:
    """One run and what it writes; returns the exit code."""
    found = Result(
        command=_said(words), date=datetime.now(UTC).isoformat(timespec="seconds"),
        commit=commit(), host=host(),
        versions={**versions(), "locust": importlib.metadata.version("locust")},
        settings={key: value for key, value in options.settings.items() if key != "password"},
    )  # fmt: skip
    deployment = None if options.local else Deployment(options)
    begun, code = time.monotonic(), 0
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass  # what is measured can be written there
    except OSError as error:
        print(f"junction-loadtest: --out {folder}: {error.strerror or error}", file=sys.stderr)
        return 2
    try:
        consent(options)
        signals.run(_load(options, found, deployment))
    except LoadtestError as why:
        print(f"junction-loadtest: {why}", file=sys.stderr)
        code = 1
    except KeyboardInterrupt:
        print(
            "junction-loadtest: interrupted; what was measured so far is written", file=sys.stderr
        )
        code = 130
    finally:
        left = deployment.left if deployment else []
        for each in left:
            print(f"junction-loadtest: could not be removed: {each}", file=sys.stderr)
    code = code or bool(left)
    if not found.rounds:
        return code
    found.rounds[-1].left += left
    found.took_s = round(time.monotonic() - begun, 1)
    write_report(found, folder, SCENARIOS)
    print(f"junction-loadtest: {folder / 'report.html'}")
    if options.printed:  # where files go with the container
        print((folder / "report.md").read_text())
        print((folder / "results.json").read_text(), end="")
    if options.keep and not code:
        kept = REPORTS / f"{found.date[:10]}-{options.keep}"
        shutil.copytree(folder, kept, dirs_exist_ok=True)
        print(f"junction-loadtest: kept as {kept}")
    failed = [one for one in found.rounds if one.failed]
    for one in failed:
        print(f"junction-loadtest: {one.scenario}, {one.contestant}: {one.failed}", file=sys.stderr)
    return code or bool(failed)


def _equal(options: Options, words: list[str], repeats: int, folder: Path) -> int:
    """Equal runs, each compared with the one before it; 0 if enough are not told apart."""
    verdicts: list[Verdict] = []
    before: Path | None = None
    for number in range(repeats + 1):
        here = folder / f"run-{number}"
        if code := _run(options, words, here):
            return code
        options = replace(options, yes=True)  # who was asked once has said yes to all of it
        after = here / "results.json"
        if before is not None:
            verdicts.append(compare(Result.read(before), Result.read(after)))
            print(f"junction-loadtest: {number} of {repeats}: {summary(verdicts[-1])}", flush=True)
        before = after
    same = sum(verdict.same for verdict in verdicts)
    print(f'junction-loadtest: {same} of {repeats} comparisons of equal runs say "no difference"')
    return int(same < ENOUGH * repeats)


def _compare(given: argparse.Namespace) -> int:
    try:
        before, after = (Result.read(Path(name)) for name in (given.before, given.after))
    except (OSError, ValueError) as error:
        print(f"junction-loadtest: {error}", file=sys.stderr)
        return 2
    print(render(compare(before, after), given.before, given.after))
    return 0


def main(words: list[str] | None = None) -> int:
    """Run, compare, or run what is equal and compare it."""
    words = sys.argv[1:] if words is None else words
    given = parse(words)
    if given.command == "compare":
        return _compare(given)
    options = chosen(given, missing)
    folder = Path(options.out or BUILD)
    if given.command == "equal":
        return _equal(options, words, given.repeats, folder)
    return _run(options, words, folder)


if __name__ == "__main__":
    signals.heed_sigterm()
    sys.exit(main())
