"""Routes, and which of them a request belongs to.

Pure: no I/O and no clock.  Invariants:

* A :class:`Route` that exists is valid: nothing downstream checks it again.
* A routespec is stored as the hub wrote it and compared in *canonical* form, in which
  every way a client may percent-encode the same name is one string.
* ``/user/x/`` matches ``/user/x`` and all below it, and never ``/user/xy``.
* A host that has routes of its own falls back to ``/`` alone, never to routes without a host.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote_to_bytes, urlsplit

__all__ = [
    "MAX_ROUTESPEC_BYTES",
    "Key",
    "Route",
    "RouteError",
    "RouteTable",
    "canonical_path",
    "check_routespec",
    "check_target",
    "split_routespec",
    "without_dot_segments",
]

#: host in lower case ("" for path routes) and canonical path
Key = tuple[str, str]

MAX_ROUTESPEC_BYTES = 1000
MAX_DATA_BYTES = 64 * 1024

_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
# the unreserved characters of RFC 3986 §2.3: user names stand in host names as well
_HOST = re.compile(r"[A-Za-z0-9~_-]+(\.[A-Za-z0-9~_-]+)*")
_KEPT = re.compile(r"(%2[Ff]|%25)")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_TARGET_SCHEMES = ("http", "https", "http+unix", "unix+http")


class RouteError(ValueError):
    """A routespec, target or data that no proxy can serve; the message names the value."""


def split_routespec(routespec: str) -> tuple[str, str]:
    """Split ``[host]/path/`` into ``(host, path)``; the host is ``""`` for a path route."""
    slash = routespec.find("/")
    if slash < 0:
        return routespec, ""
    return routespec[:slash], routespec[slash:]


def canonical_path(path: str) -> str:
    """One string for all percent-encoded forms of a path, without its trailing slash.

    ``%2F`` and ``%25`` stay encoded, because decoding them would change what the path means
    (RFC 3986 §2.2, §2.4).  Bytes that are not UTF-8 become lone surrogates.
    """
    if path.endswith("/"):
        path = path[:-1]
    if "%" not in path:
        return path
    parts = _KEPT.split(path)
    for i, part in enumerate(parts):
        if i % 2:
            parts[i] = part.upper()
        elif "%" in part:
            raw = part.encode("utf-8", "surrogateescape")
            parts[i] = unquote_to_bytes(raw).decode("utf-8", "surrogateescape")
    return "".join(parts)


def without_dot_segments(path: str) -> str:
    """A canonical path with its ``.`` and ``..`` segments resolved (RFC 3986 §5.2.4)."""
    kept: list[str] = []
    for segment in path.split("/"):
        if segment == "..":
            del kept[max(1, len(kept) - 1) :]
        elif segment != ".":
            kept.append(segment)
    return "/".join(kept)


def check_routespec(routespec: str) -> str:
    """Return ``routespec`` unchanged if a proxy can serve it.

    Raises:
        RouteError: no slash at the end, a host that is none, control characters, empty or
            dot segments, a broken percent-encoding, ``?`` or ``#``, or over 1,000 bytes.
    """

    def refuse(why: str) -> RouteError:
        shown = routespec if len(routespec) <= 120 else routespec[:117] + "..."
        return RouteError(f"routespec {shown!r} {why}")

    if not isinstance(routespec, str):
        raise RouteError(f"routespec {routespec!r} is no string")
    try:
        size = len(routespec.encode())
    except UnicodeEncodeError:
        raise refuse("is not valid Unicode") from None
    if size > MAX_ROUTESPEC_BYTES:
        raise refuse(f"has {size} bytes, more than the {MAX_ROUTESPEC_BYTES} allowed")
    if not routespec.endswith("/"):
        raise refuse("must end with '/': write [host]/path/")
    host, path = split_routespec(routespec)
    if host and not _HOST.fullmatch(host):
        raise refuse(f"has a host {host!r} that is no host name")
    if "?" in path or "#" in path:
        raise refuse("holds '?' or '#': write them as %3F and %23")
    if _BAD_ESCAPE.search(path):
        raise refuse("holds a '%' that begins no percent-encoding: write it as %25")
    canonical = canonical_path(path)
    try:
        canonical.encode()
    except UnicodeEncodeError:
        raise refuse("is not UTF-8 once decoded") from None
    if _CONTROL.search(canonical):
        raise refuse("holds a control character")
    if "//" in path:
        raise refuse("holds '//'")
    if any(segment in (".", "..") for segment in canonical.split("/")):
        raise refuse("holds a '.' or '..' segment")
    return routespec


def check_target(target: str) -> str:
    """Return ``target`` unchanged if it is a URL that a proxy can forward to.

    Raises:
        RouteError: no absolute ``http``, ``https`` or ``http+unix`` URL, or one with user
            information, a query or a fragment, or with characters that no URL holds.
    """

    def refuse(why: str) -> RouteError:
        return RouteError(f"target {target!r} {why}")

    if not isinstance(target, str):
        raise RouteError(f"target {target!r} is no string")
    if len(target) > 2000:
        raise RouteError(f"target {target[:60]!r}... has over 2000 characters")
    if not target.isascii() or not target.isprintable() or re.search(r"[\s\"<>\\^`{|}]", target):
        raise refuse("holds a character that no URL may hold")
    if _BAD_ESCAPE.search(target):
        raise refuse("holds a '%' that begins no percent-encoding")
    try:
        url = urlsplit(target)
        port = url.port
    except ValueError as error:
        raise refuse(f"is no URL: {error}") from None
    if url.scheme not in _TARGET_SCHEMES:
        raise refuse("is no http://, https:// or http+unix:// URL")
    if not url.hostname or port == 0:
        raise refuse("names no host and port to connect to")
    if url.username is not None or url.password is not None:
        raise refuse("holds user information")
    if url.query or url.fragment:
        raise refuse("holds a query or a fragment")
    return target


def check_data(data: Any) -> dict[str, Any]:
    """Return ``data`` as a plain dict if it survives JSON unchanged.

    Raises:
        RouteError: not an object that JSON can hold, or over 64 KiB.
    """
    if data is None:
        return {}
    try:
        text = json.dumps(data, allow_nan=False)
        value = json.loads(text)
    except (TypeError, ValueError) as error:
        raise RouteError(f"data {data!r:.120} cannot be written as JSON: {error}") from None
    except RecursionError:
        raise RouteError("data is nested too deeply to be written as JSON") from None
    if len(text) > MAX_DATA_BYTES:
        raise RouteError(f"data of {len(text)} bytes is over the {MAX_DATA_BYTES} allowed")
    if not isinstance(value, dict):
        raise RouteError(f"data {data!r:.120} is no JSON object")
    return value


@dataclass(frozen=True, slots=True)
class Route:
    """One row of the routing table.

    Attributes:
        routespec: ``[host]/path/`` as the hub wrote it.
        target: the URL that requests are forwarded to.
        data: the hub's own JSON object; proxies give it back and read nothing in it.
        host: the host in lower case, ``""`` for a path route.
        path: the canonical path, without its trailing slash: ``""`` for ``/``.
    """

    routespec: str
    target: str
    data: Mapping[str, Any] = field(default_factory=dict, compare=False, hash=False)
    host: str = field(init=False, repr=False, compare=False)
    path: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_routespec(self.routespec)
        check_target(self.target)
        host, path = split_routespec(self.routespec)
        object.__setattr__(self, "data", check_data(self.data))
        object.__setattr__(self, "host", host.lower())
        object.__setattr__(self, "path", canonical_path(path))

    @property
    def key(self) -> Key:
        """What a table serves one route for."""
        return self.host, self.path


class RouteTable(Mapping[str, Route]):
    """Routes by routespec, with longest-prefix match; changed in place, in O(1) per change.

    One thread changes it; others may call :meth:`match` and :meth:`at` meanwhile.
    """

    def __init__(self, routes: Iterable[Route] = ()) -> None:
        self._routes: dict[str, Route] = {}
        # host → canonical path → the routes that mean it, by routespec; the first is served
        self._hosts: dict[str, dict[str, tuple[Route, ...]]] = {}
        for route in routes:
            self.add(route)

    def __getitem__(self, routespec: str) -> Route:
        return self._routes[routespec]

    def __iter__(self) -> Iterator[str]:
        return iter(self._routes)

    def __len__(self) -> int:
        return len(self._routes)

    def copy(self) -> RouteTable:
        """A table of its own with the same routes."""
        table = RouteTable()
        table._routes = self._routes.copy()
        table._hosts = {host: paths.copy() for host, paths in self._hosts.items()}
        return table

    def add(self, route: Route) -> Route | None:
        """Add or replace a route; returns the one it replaced."""
        old = self._routes.get(route.routespec)
        self._routes[route.routespec] = route
        paths = self._hosts.get(route.host, {})
        others = [other for other in paths.get(route.path, ()) if other is not old]
        paths[route.path] = tuple(sorted([*others, route], key=lambda each: each.routespec))
        self._hosts[route.host] = paths  # never without a path: others may be reading
        return old

    def remove(self, routespec: str) -> Route | None:
        """Remove a route if it is there; returns it."""
        old = self._routes.pop(routespec, None)
        if old is not None:
            paths = self._hosts[old.host]
            others = tuple(other for other in paths[old.path] if other is not old)
            if others:
                paths[old.path] = others
            elif len(paths) > 1:
                del paths[old.path]
            else:
                del self._hosts[old.host]
        return old

    def served(self) -> Iterator[Route]:
        """The routes that can match: one for each host and canonical path."""
        for paths in self._hosts.values():
            for routes in paths.values():
                yield routes[0]

    def at(self, key: Key) -> Route | None:
        """The route that is served for exactly this host and canonical path."""
        routes = self._hosts.get(key[0], {}).get(key[1])
        return routes[0] if routes else None

    def paths(self, host: str) -> Set[str]:
        """The canonical paths that have routes under a host; "" for the path routes."""
        return self._hosts.get(host, {}).keys()

    def match(self, host: str, path: str) -> Route | None:
        """The route that a request belongs to: the longest prefix of whole segments.

        Args:
            host: the request's ``Host`` header, with or without a port.
            path: the path of the request target as sent, without its query.
        """
        name = host.lower()
        if not name.startswith("["):
            name = name.partition(":")[0].removesuffix(".")
        paths = self._hosts.get(name) if name else None
        if paths is None:
            paths = self._hosts.get("", {})
        rest = canonical_path(path)
        while True:
            routes = paths.get(rest)
            if routes is not None:
                return routes[0]
            if not rest:
                return self.at(("", ""))
            rest = rest.rpartition("/")[0]

    def resolve(self, host: str, path: str) -> Route | None:
        """As :meth:`match`, for a proxy that hands dot segments on: by where the path leads.

        So that no server is asked for another's paths.
        """
        path = canonical_path(path)
        return self.match(host, without_dot_segments(path) if "/." in path else path)
