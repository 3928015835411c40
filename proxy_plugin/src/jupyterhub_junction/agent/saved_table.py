"""The last complete table on disk, for an agent that starts while etcd is away.

The file holds a line about the table, then a line for each key.

Invariants:

* The file is replaced whole, and only its owner can read it.
* What cannot be read is as good as nothing: it is said, and never fatal.
* Saving takes a small share of the time, whatever the size of the table; a route that stays as it
  was is not encoded again.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import time
from pathlib import Path

from ..changed import Changed
from ..files import write_private
from ..keys import ROUTES, TABLE, encode_route
from ..routes import Route, RouteTable
from ..store import Item, Snapshot
from .replica import Replica

__all__ = ["SavedTable"]

_FORMAT = 1
_LEAST = 2.0  # seconds between two saves
_SHARE = 50  # and as many times what the last one took


class SavedTable:
    """A replica's table in a file."""

    def __init__(self, path: Path, log: logging.Logger) -> None:
        self.path = path
        self._log = log
        #: each route that was saved last, and its line
        self._lines: dict[str, tuple[Route, str]] = {}

    async def keep(self, replica: Replica, changed: Changed) -> None:
        """Save the table whenever it has changed, until cancelled."""
        saved = ("", 0)
        while True:
            await changed.until(
                lambda: replica.known > 0 and (replica.cluster_id, replica.known) != saved  # noqa: B023
            )
            saved = replica.cluster_id, replica.known
            assert replica.info is not None
            table, info = replica.table.copy(), replica.info.encode()
            begun = time.monotonic()
            try:
                await asyncio.to_thread(self.write, *saved, table, info)
            except OSError as error:
                self._log.error("the table cannot be saved in %s: %s", self.path, error)
            await asyncio.sleep(max(_LEAST, _SHARE * (time.monotonic() - begun)))

    def write(self, cluster_id: str, revision: int, table: RouteTable, info: bytes) -> None:
        """Replace the file.

        Raises:
            OSError: it cannot be written; the old one stays.
        """
        # line by line: one call for all would hold up other threads
        self._lines = {route.routespec: (route, self._line(route)) for route in table.values()}
        rows = [line for _, line in self._lines.values()]
        rows.append(_line(TABLE, info))
        head = {
            "format": _FORMAT,
            "cluster_id": cluster_id,
            "revision": revision,
            "keys": len(rows),
        }
        new = self.path.with_suffix(".new")
        write_private(new, f"{json.dumps(head)}\n{''.join(rows)}")
        os.replace(new, self.path)

    def _line(self, route: Route) -> str:
        known, line = self._lines.get(route.routespec, (None, ""))
        return line if known is route else _line(ROUTES + route.routespec, encode_route(route))

    def read(self) -> tuple[Snapshot, float] | None:
        """The table, and how many seconds ago it was saved; None if there is none."""
        try:
            age = time.time() - self.path.stat().st_mtime
            first, *rows = self.path.read_text().rstrip("\n").split("\n")
            head = json.loads(first)
            if head["format"] != _FORMAT or head["keys"] != len(rows):
                raise ValueError(f"format {head['format']!r} with {len(rows)} keys")
            pairs = (json.loads(row) for row in rows)
            items = tuple(Item(str(key), str(value).encode(), 0) for key, value in pairs)
            return Snapshot(str(head["cluster_id"]), int(head["revision"]), items), age
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            self._log.error("the table saved in %s cannot be used: %s", self.path, error)
            return None


def _line(key: str, value: bytes) -> str:
    return f"{json.dumps((key, value.decode()))}\n"
