"""What the users' requests took, second by second, counted from Locust's events."""

from __future__ import annotations

from typing import Any

from ..histogram import Histogram

__all__ = ["Recorder", "failure"]

#: kinds of failures that are told apart; more are counted together
KINDS = 20


def failure(error: object) -> str:
    """A failure's kind: short, and the same for all failures of one kind."""
    text = str(error) or type(error).__name__
    name = type(error).__name__
    text = text.partition(" -+-")[0]  # a WebSocket's error goes on with the answer's headers
    return (text if name in ("CatchResponseError", "str") else f"{name}: {text}")[:80]


class Recorder:
    """Counts of one second, of this process and of the workers that report to it."""

    def __init__(self) -> None:
        self._kinds: dict[str, tuple[Histogram, dict[str, int]]] = {}
        self._bytes = 0

    def _of(self, name: str) -> tuple[Histogram, dict[str, int]]:
        return self._kinds.setdefault(name, (Histogram(), {}))

    def request(
        self, name: str, response_time: float, response_length: int | None,
        exception: BaseException | None = None, **_: Any,
    ) -> None:  # fmt: skip
        """One request: Locust's event, times in milliseconds."""
        times, failed = self._of(name)
        if exception is None:
            times.add(response_time)
            self._bytes += response_length or 0
            return
        kind = failure(exception)
        if kind not in failed and len(failed) >= KINDS:
            kind = "other"
        failed[kind] = failed.get(kind, 0) + 1

    def take(self) -> dict[str, Any]:
        """What was counted since it was last taken, as JSON has it."""
        found = {
            "bytes": self._bytes,
            "kinds": {
                name: {"times": times.plain(), "failed": failed}
                for name, (times, failed) in self._kinds.items()
            },
        }
        self._kinds, self._bytes = {}, 0
        return found

    def add(self, taken: dict[str, Any]) -> None:
        """What a worker has taken."""
        self._bytes += taken["bytes"]
        for name, one in taken["kinds"].items():
            times, failed = self._of(name)
            times.merge(Histogram.of(one["times"]))
            for kind, count in one["failed"].items():
                failed[kind] = failed.get(kind, 0) + count
