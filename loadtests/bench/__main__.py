"""``python -m bench``: a run, and what it writes to ``build/bench``."""

from __future__ import annotations

import dataclasses
import shlex
import shutil
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from . import signals
from .contestants import CONTESTANTS
from .machine import ROOT, commit, host, versions
from .measures import MEASURES
from .options import parse
from .report import write_report
from .results import Run
from .runner import run
from .world import answered_by

BUILD = ROOT / "build" / "bench"
REPORTS = ROOT / "loadtests" / "reports"


def main() -> int:
    """Run, write, and say where."""
    options = parse(sys.argv[1:], [one.name for one in CONTESTANTS], list(MEASURES))
    words = [word for word in sys.argv[1:] if word != "--quick"]
    goal = "make bench-quick" if options.quick else "make bench"
    found = Run(
        command=f'{goal} ARGS="{shlex.join(words)}"' if words else goal,
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        commit=commit(),
        host=host(),
        versions=versions(),
        servers=answered_by(),
        settings={"limit": options.limit, **dataclasses.asdict(options.settings)},
    )
    begun, interrupted = time.monotonic(), False
    try:
        signals.run(run(options, found.outcomes))
    except KeyboardInterrupt:
        print("bench: interrupted; what was measured so far is written", file=sys.stderr)
        interrupted = True
        for one in found.outcomes:
            if not (one.values or one.failed or one.skipped):
                one.skipped = "interrupted"
    found.took_s = round(time.monotonic() - begun, 1)
    write_report(found, BUILD)
    print(f"bench: {BUILD / 'report.md'}")
    if interrupted:
        return 130
    if options.keep:
        kept = _keep(options.keep, found.date)
        print(f"bench: kept as {kept}")
    return 0


def _keep(name: str, date: str) -> Path:
    kept = REPORTS / f"{date[:10]}-{name}"
    shutil.copytree(BUILD, kept, dirs_exist_ok=True)
    return kept


if __name__ == "__main__":
    sys.exit(main())
