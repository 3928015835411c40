"""What a run leaves behind: plain data, as it stands in ``results.json``."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["Failed", "Outcome", "Run", "Skipped", "TooSlow"]


class Skipped(Exception):
    """A measure that does not apply to a contestant, and why."""


class TooSlow(Exception):
    """A contestant that took more than it was given, and at what."""


class Failed(Exception):
    """A measure that applies to a contestant, and at which it failed: how."""


@dataclass
class Outcome:
    """One measure on one contestant at one size.

    Attributes:
        values: what was measured; its units are in the names, and in :mod:`.measures`.
        skipped: why it was not measured; empty if it was.
        failed: what went wrong; empty if nothing did.
        kind: of what went wrong, here or before, so that this was not measured: ``limit`` (it took
            more than it was given) or ``error``; empty if nothing did.
        took_s: how long measuring took.
    """

    contestant: str
    routes: int
    measure: str
    values: dict[str, Any] = field(default_factory=dict)
    skipped: str = ""
    failed: str = ""
    kind: str = ""
    took_s: float = 0.0

    def number(self, path: str) -> float | None:
        """A value by its path (``live.p99``); None if it was not measured."""
        found: Any = self.values
        for part in path.split("."):
            if not isinstance(found, dict) or part not in found:
                return None
            found = found[part]
        return float(found) if isinstance(found, int | float) else None


@dataclass
class Run:
    """A whole run: where, when, with what, and what came of it.

    ``servers`` is what answered for the user servers.
    """

    command: str
    date: str
    commit: str
    host: dict[str, str] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    outcomes: list[Outcome] = field(default_factory=list)
    took_s: float = 0.0
    servers: str = ""

    def find(self, contestant: str, routes: int, measure: str) -> Outcome | None:
        """One outcome, if there is one."""
        for one in self.outcomes:
            if (one.contestant, one.routes, one.measure) == (contestant, routes, measure):
                return one
        return None

    def number(self, contestant: str, routes: int, measure: str, path: str) -> float | None:
        """One number, if it was measured."""
        found = self.find(contestant, routes, measure)
        return found.number(path) if found else None

    def sizes(self) -> list[int]:
        """All numbers of routes, in order."""
        return sorted({one.routes for one in self.outcomes})

    def contestants(self) -> list[str]:
        """All names, in the order of the run."""
        return list(dict.fromkeys(one.contestant for one in self.outcomes))

    def write(self, path: Path) -> None:
        """As JSON."""
        path.write_text(json.dumps(dataclasses.asdict(self), indent=1) + "\n")

    @classmethod
    def read(cls, path: Path) -> Run:
        """From JSON."""
        raw = json.loads(path.read_text())
        outcomes = [Outcome(**one) for one in raw.pop("outcomes")]
        return cls(**raw, outcomes=outcomes)
