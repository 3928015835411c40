"""What etcd knows of the replicas, read through its HTTP gateway, and how a terminal shows it."""

from __future__ import annotations

import base64
import json
import urllib.error
import urllib.request
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from .programs import answers

__all__ = ["Etcd", "Report", "Row", "render"]

PREFIX = "/junction/"


@dataclass(frozen=True, slots=True)
class Report:
    """What a live replica says of itself in etcd."""

    revision: int
    routes: int


class Etcd:
    """Reads the keys that the table shows; the next endpoint when one does not answer."""

    def __init__(self, endpoints: Sequence[str]) -> None:
        self.endpoints = list(endpoints)

    def healthy(self) -> bool:
        """Whether each member answers, and the cluster has a leader."""
        return all(answers(f"{endpoint}/health") for endpoint in self.endpoints)

    def reports(self) -> dict[str, Report]:
        """The live replicas; none when no member answers."""
        prefix = f"{PREFIX}replicas/"
        reports = {}
        for pair in self._range(prefix).get("kvs", []):
            name = base64.b64decode(pair["key"]).decode().removeprefix(prefix)
            value = json.loads(base64.b64decode(pair["value"]))
            reports[name] = Report(value["revision"], value["routes"])
        return reports

    def routes(self) -> int | None:
        """How many routes the hub has stored; None when no member answers."""
        found = self._range(f"{PREFIX}routes/", count_only=True)
        return int(found.get("count", 0)) if found else None

    def _range(self, prefix: str, **options: Any) -> dict[str, Any]:
        start = prefix.encode()
        end = start[:-1] + bytes([start[-1] + 1])
        keys = {
            "key": base64.b64encode(start).decode(),
            "range_end": base64.b64encode(end).decode(),
        }
        body = json.dumps(keys | options).encode()
        for endpoint in self.endpoints:
            request = urllib.request.Request(f"{endpoint}/v3/kv/range", body)  # noqa: S310
            try:
                with urllib.request.urlopen(request, timeout=2) as reply:  # noqa: S310
                    found: dict[str, Any] = json.load(reply)
                    return found
            except (OSError, urllib.error.URLError, ValueError):
                continue
        return {}


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table."""

    name: str
    pid: int | None
    address: str
    report: Report | None


def render(rows: Iterable[Row], routes: int | None, members: int, of: int) -> list[str]:
    """The table, one string per line."""
    head = f"{'replica':<12}{'process':>9}  {'state':<10}{'revision':>9}{'routes':>8}"
    lines = [head + "  its own address"]
    for row in rows:
        # A killed replica's key stays until its lease ends.
        state = "gone" if row.pid is None else "live" if row.report else "loading"
        revision = str(row.report.revision) if row.report else "-"
        held = str(row.report.routes) if row.report else "-"
        pid = str(row.pid) if row.pid else "-"
        lines.append(f"{row.name:<12}{pid:>9}  {state:<10}{revision:>9}{held:>8}  {row.address}")
    stored = "unreachable" if routes is None else f"{routes} routes"
    lines.append(f"{'etcd':<12}{'':>9}  {f'{members} of {of}':<10}{stored:>17}")
    return lines
