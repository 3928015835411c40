"""What was counted, for the end of the run: figures are told, not asserted."""

from __future__ import annotations

__all__ = ["LINES", "note"]

#: what was noted, in order
LINES: list[str] = []


def note(event: str, what: object) -> None:
    """Note what came of an event."""
    LINES.append(f"{event}: {what}")
