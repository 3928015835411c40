"""What a browser asks for when JupyterLab starts, as it was recorded (:mod:`scenarios.record`)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Asked", "phase", "sign_in_files"]

RECORDING = Path(__file__).parents[1] / "lab_start.json"


@dataclass(frozen=True, slots=True)
class Asked:
    """One request: when (s after the first of its phase), how, and how much came back."""

    at: float
    method: str
    path: str
    kind: str
    size: int
    sends: int

    @property
    def is_file(self) -> bool:
        """Whether it is a file of JupyterLab's or JupyterHub's own."""
        return self.kind not in ("fetch", "document", "eventsource")


def _load() -> list[tuple[str, Asked, int]]:
    found = json.loads(RECORDING.read_text())["requests"]
    return [
        (
            one["phase"],
            Asked(
                one["at"] / 1000, one["method"], one["path"], one["kind"], max(0, one["size"]),
                max(0, one["sends"]),
            ),
            one["status"],
        )
        for one in found
    ]  # fmt: skip


_ALL = _load()


def sign_in_files() -> list[Asked]:
    """What the sign-in page consists of."""
    paths: dict[str, Asked] = {}
    for _, one, status in _ALL:
        if one.path.startswith("/hub/") and one.is_file and status == 200:
            paths.setdefault(one.path, one)
    return list(paths.values())


def phase(name: str) -> list[Asked]:
    """What was asked of the user's server; ``lab`` begins with JupyterLab's page.

    The page itself, redirects, and what creates something are left out: who plays it does those.
    """
    found = [
        one
        for which, one, status in _ALL
        if (which == name or (name == "lab" and which == "sign in"))
        and one.path.startswith("/user/") and one.kind != "document" and status < 300
        and one.method in ("GET", "PUT")
    ]  # fmt: skip
    first = found[0].at if found else 0.0
    return [
        Asked(round(one.at - first, 3), one.method, one.path, one.kind, one.size, one.sends)
        for one in found
    ]
