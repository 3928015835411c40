"""What a run leaves behind: plain data, as it stands in ``results.json``."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["FORMAT", "NULL", "Result", "Round"]

#: changes when an older file can no longer be understood
FORMAT = 1
#: the name of the contestant that is no proxy at all
NULL = "null"


@dataclass
class Round:
    """One scenario on one contestant, once.

    Times ``t`` are in seconds since its load began.

    Attributes:
        seconds: a line each of the generator's (see :mod:`.load.__main__`).
        system: CPU (shares of a core) and memory (MB) by role, once a second.
        changes: servers that started or stopped: ``t``, ``do``, ``live_ms`` (called until in
            effect at every replica), ``returned_ms``; ``failed`` says why one did not.
        events: what happened, ``t`` and ``what``.
        failed: why it ended early or could not be done; empty if it was done.
        skipped: why it does not apply; empty if it does.
        left: what could not be removed afterwards.
        profiles: flame graphs' folded stacks by role; what could not be had, and why, by role.
    """

    scenario: str
    contestant: str
    number: int
    seconds: list[dict[str, Any]] = field(default_factory=list)
    system: list[dict[str, Any]] = field(default_factory=list)
    changes: list[dict[str, Any]] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)
    failed: str = ""
    skipped: str = ""
    left: list[str] = field(default_factory=list)
    profiles: dict[str, dict[str, int]] = field(default_factory=dict)
    no_profiles: dict[str, str] = field(default_factory=dict)
    etcd: dict[str, float] = field(default_factory=dict)


@dataclass
class Result:
    """A whole run: where, when, with what, and what came of it.

    ``null`` is what the generator reaches without any proxy.
    """

    command: str
    date: str
    commit: str
    host: dict[str, str] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    target: str = "started here"
    null: dict[str, Any] = field(default_factory=dict)
    rounds: list[Round] = field(default_factory=list)
    took_s: float = 0.0
    format: int = FORMAT

    def contestants(self) -> list[str]:
        """All names, in the order of the run."""
        return list(dict.fromkeys(one.contestant for one in self.rounds))

    def scenarios(self) -> list[str]:
        """All names, in the order of the run."""
        return list(dict.fromkeys(one.scenario for one in self.rounds))

    def of(self, scenario: str, contestant: str) -> list[Round]:
        """The rounds in which something was measured.

        Those that ended early only if there are no others, and then profiled ones only if there
        are no others: a profiler costs its processes time, and not each contestant as much.
        """
        found = [
            one
            for one in self.rounds
            if (one.scenario, one.contestant) == (scenario, contestant) and one.seconds
        ]
        found = [one for one in found if not one.failed] or found
        return [one for one in found if not (one.profiles or one.no_profiles)] or found

    def broken(self) -> dict[tuple[str, str], str]:
        """Why a scenario's figures of a contestant are missing, or not whole."""
        return {
            (one.scenario, one.contestant): one.failed or f"skipped: {one.skipped}"
            for one in self.rounds
            if one.failed or one.skipped
        }

    def write(self, path: Path) -> None:
        """As JSON, a line for each second."""
        path.write_text(json.dumps(dataclasses.asdict(self), separators=(",", ":")) + "\n")

    @classmethod
    def read(cls, path: Path) -> Result:
        """From JSON.

        Raises:
            ValueError: it is no result of this format.
            OSError: it cannot be read.
        """
        try:
            raw = json.loads(path.read_text())
            if raw.get("format") != FORMAT:
                raise ValueError(f"format {raw.get('format')}, not {FORMAT}")
            rounds = [Round(**one) for one in raw.pop("rounds")]
            return cls(**raw, rounds=rounds)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ValueError(f"{path} is no results.json of a load test: {error}") from None
