"""Where Traefik sends requests under a document: to a server, or to the agent's forwarder.

Pure.  :mod:`.documents` renders a document such that the hub's own prefix and every route of its
table go straight to their servers, and all else to the forwarder, which holds the newest table.
So a change can be in effect without a new document.  Invariants:

* :meth:`Dispatch.serves` is true only if every request that the newest table sends to a route
  gets there, whether by the document or by the forwarder.
* When in doubt it is false: that costs an apply, never a wrong answer.
"""

from __future__ import annotations

from ..keys import TableInfo
from ..routes import Key, Route, RouteTable, canonical_path

__all__ = ["WHOLE", "Dispatch", "hub_path", "hub_route", "is_catch_all"]

#: stands, among keys, for what the document says as a whole; no host is named so
WHOLE: Key = ("*", "")


def hub_route(table: RouteTable) -> Route | None:
    """The route that the hub marks as its own (``data: {"hub": true}``), else the default one."""
    hubs = [route for route in table.values() if route.data.get("hub")]
    return min(hubs, key=lambda route: route.routespec) if hubs else table.get("/")


def hub_path(error_path: str) -> str:
    """The canonical path of the hub itself, ``/hub``; "" if the error pages do not tell it."""
    return canonical_path(error_path[: -len("error/")]) if error_path.endswith("/error/") else ""


def is_catch_all(route: Route | None, hub: Route | None) -> bool:
    """Whether what falls back to this route goes to the forwarder: nothing, or the hub."""
    return route is None or (route is hub and not route.path)


def _is_within(path: str, parent: str) -> bool:
    return path == parent or path.startswith(parent + "/")


class Dispatch:
    """What a document made from a table does.

    Args:
        table: never changed afterwards.
        info: the paths that the document was made with.
    """

    def __init__(self, table: RouteTable, info: TableInfo) -> None:
        self.table = table
        self.info = info
        self._hub = hub_route(table)
        self._hub_path = hub_path(info.error_path)

    def holds(self, key: Key, wanted: Route | None, info: TableInfo | None) -> bool:
        """Whether a new document would say the same of this key."""
        if key == WHOLE:
            return info is not None and info.error_path == self.info.error_path
        mine = self.table.at(key)
        if mine is None or wanted is None:
            return mine is wanted
        return mine is wanted or (
            mine.target == wanted.target and mine.data.get("hub") == wanted.data.get("hub")
        )

    def serves(
        self, key: Key, wanted: Route | None, info: TableInfo | None, *, forwarder: bool
    ) -> bool:
        """Whether what the newest table says of this key is in effect.

        Args:
            forwarder: unmatched requests reach a forwarder that has the newest table.
            wanted: the route of the newest table at this key, None if it has none.
            info: of the newest table.
        """
        if self.holds(key, wanted, info):
            return True
        if key == WHOLE or wanted is None or self.table.at(key) is not None:
            return False
        return forwarder and not wanted.data.get("hub") and self._is_forwarded(*key)

    def _is_forwarded(self, host: str, path: str) -> bool:
        """Whether all requests at and below a path without a route reach the forwarder."""
        if not path or self._near_hub(path):
            return False
        if not is_catch_all(self.table.match(host, path), self._hub):
            return False
        # until the document knows a host, its requests meet the routes without a host
        return not host or bool(self.table.paths(host)) or self.table.paths("") <= {""}

    def _near_hub(self, path: str) -> bool:
        hub = self._hub_path
        return bool(hub) and (_is_within(path, hub) or _is_within(hub, path))
