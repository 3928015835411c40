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
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote_to_bytes, urlsplit

__all__ = [
    "MAX_ROUTESPEC_BYTES",
    "Route",
    "RouteError",
    "RouteTable",
    "canonical_path",
    "check_routespec",
    "check_target",
    "split_routespec",
    "without_dot_segments",
]

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
    """

    routespec: str
    target: str
    data: Mapping[str, Any] = field(default_factory=dict, compare=False, hash=False)

    def __post_init__(self) -> None:
        check_routespec(self.routespec)
        check_target(self.target)
        object.__setattr__(self, "data", check_data(self.data))

    @property
    def host(self) -> str:
        """The host in lower case, ``""`` for a path route."""
        return split_routespec(self.routespec)[0].lower()

    @property
    def path(self) -> str:
        """The canonical path, without its trailing slash: ``""`` for ``/``."""
        return canonical_path(split_routespec(self.routespec)[1])


class RouteTable(Mapping[str, Route]):
    """Routes by routespec, with longest-prefix match; changed in place, in O(1) per change."""

    def __init__(self, routes: Iterable[Route] = ()) -> None:
        self._routes: dict[str, Route] = {}
        # host → canonical path → the routespecs that mean it; the least of them is served
        self._hosts: dict[str, dict[str, list[str]]] = {}
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
        table._routes = dict(self._routes)
        table._hosts = {
            host: {path: list(specs) for path, specs in paths.items()}
            for host, paths in self._hosts.items()
        }
        return table

    def add(self, route: Route) -> Route | None:
        """Add or replace a route; returns the one it replaced."""
        old = self._routes.get(route.routespec)
        self._routes[route.routespec] = route
        if old is None:
            specs = self._hosts.setdefault(route.host, {}).setdefault(route.path, [])
            specs.append(route.routespec)
            specs.sort()
        return old

    def remove(self, routespec: str) -> Route | None:
        """Remove a route if it is there; returns it."""
        old = self._routes.pop(routespec, None)
        if old is not None:
            paths = self._hosts[old.host]
            specs = paths[old.path]
            specs.remove(routespec)
            if not specs:
                del paths[old.path]
                if not paths:
                    del self._hosts[old.host]
        return old

    def served(self) -> Iterator[Route]:
        """The routes that can match: one for each host and canonical path."""
        for paths in self._hosts.values():
            for specs in paths.values():
                yield self._routes[specs[0]]

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
            specs = paths.get(rest)
            if specs is not None:
                return self._routes[specs[0]]
            if not rest:
                default = self._hosts.get("", {}).get("")
                return self._routes[default[0]] if default else None
            rest = rest.rpartition("/")[0]
