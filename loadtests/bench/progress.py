"""How far a run is: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

__all__ = ["Bar"]


class Bar:
    """So many steps; ``total`` may be exceeded by none."""

    def __init__(self, total: int) -> None:
        console = Console(stderr=True)
        self._plain = not console.is_terminal
        self._begun = time.monotonic()
        self._progress = Progress(
            BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn(),
            TextColumn("{task.description}"), console=console, disable=self._plain,
        )  # fmt: skip
        self._task = self._progress.add_task("", total=total)
        self._done, self._total = 0, total

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def now(self, what: str) -> None:
        """What is being done."""
        self._progress.update(self._task, description=what)

    def say(self, line: str) -> None:
        """A line that stays."""
        if self._plain:
            at = time.monotonic() - self._begun
            print(f"[{self._done}/{self._total} {at:.0f} s] {line}", file=sys.stderr, flush=True)
        else:
            self._progress.console.print(line, markup=False, highlight=False)

    def step(self, count: int = 1) -> None:
        """So many are done."""
        self._done += count
        self._progress.advance(self._task, count)
