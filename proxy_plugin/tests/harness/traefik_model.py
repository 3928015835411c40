"""A document as Traefik would serve it: its rules read as Traefik and Go read them."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, unquote_to_bytes

# --- Go ------------------------------------------------------------------------------------------

_GO_ESCAPES = {
    "a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v",
    "\\": "\\", '"': '"',
}  # fmt: skip


def go_unquote(text: str) -> bytes:
    """strconv.Unquote of a double-quoted literal; ValueError for what Go refuses."""
    if len(text) < 2 or text[0] != '"' or text[-1] != '"':
        raise ValueError(f"no literal: {text!r}")
    body, value = text[1:-1], b""
    while body:
        head, body = body[0], body[1:]
        if head in '"\n':
            raise ValueError(f"{head!r} within a literal: {text!r}")
        if head != "\\":
            value += head.encode()
            continue
        kind, body = body[0], body[1:]
        if kind in _GO_ESCAPES:
            value += _GO_ESCAPES[kind].encode()
        elif kind in "xuU":
            digits = {"x": 2, "u": 4, "U": 8}[kind]
            number, body = int(body[:digits], 16), body[digits:]
            if kind == "x":
                value += bytes([number])
            elif 0xD800 <= number < 0xE000 or number > 0x10FFFF:
                raise ValueError(f"no character: {text!r}")
            else:
                value += chr(number).encode()
        else:
            raise ValueError(f"no escape of Go's: \\{kind} in {text!r}")
    return value


def runes(value: bytes) -> str:
    """A Go string as its regexp package reads it: a byte that is not UTF-8 is U+FFFD."""
    return re.sub("[\udc80-\udcff]", "\ufffd", value.decode("utf-8", "surrogateescape"))


@functools.cache
def go_regexp(pattern: bytes) -> re.Pattern[str]:
    r"""Only what RE2 and Python read alike, and ``\x{…}``, which Python lacks; else ValueError."""
    text = runes(pattern)
    python = ""
    for part in re.findall(r"\\x\{[0-9a-f]+\}|\(\?:|\\.|.", text, re.DOTALL):
        if part.startswith("\\x{"):
            python += re.escape(chr(int(part[3:-1], 16)))
        elif len(part) == 2 and part[1].isalnum():
            raise ValueError(f"{part} in {text!r}")
        elif part == "$":
            python += r"\Z"  # Python's $ also stands before a last line feed
        elif part in "{}[]*+":
            raise ValueError(f"{part} in {text!r}")
        else:
            python += part
    return re.compile(python, re.DOTALL)


_PATH_PLAIN = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.~$&+,/:;=@"


def escaped_path(path: str) -> str:
    """What Go's URL.EscapedPath gives for a path sent, after Traefik's normalizePath."""
    raw = path.encode("utf-8", "surrogateescape")
    decoded = unquote_to_bytes(raw)
    own = quote(decoded, safe=_PATH_PLAIN)
    if raw == own.encode():
        return own
    if all(byte in _PATH_PLAIN + b"!'()*[]%" for byte in raw):
        return re.sub("%[0-9A-Fa-f]{2}", _normal_escape, path)
    return own  # not validly encoded, so Go encodes the decoded path anew


def _normal_escape(found: re.Match[str]) -> str:
    character = chr(int(found[0][1:], 16))
    if character.isascii() and (character.isalnum() or character in "-._~"):
        return character
    return found[0].upper()


_RESERVED = {f"%{ord(c):02X}" for c in ":/?#[]@!$&'()*+,;=%"}


def routing_path(path: str) -> bytes:
    """The muxer's withRoutingPath."""
    parts = re.split("(%[0-9A-F]{2})", escaped_path(path))
    return b"".join(
        part.encode() if part in _RESERVED else unquote_to_bytes(part) for part in parts
    )


# --- Traefik -------------------------------------------------------------------------------------

_TERM = re.compile(r'(Path|PathPrefix|PathRegexp|Host|HostRegexp)\(("(?:[^"\\\n]|\\.)*")\)')


@dataclass
class Rule:
    """A rule: matchers joined by ``||``, which is all that the renderer writes."""

    text: str
    terms: list[tuple[str, bytes]] = field(default_factory=list)

    def __post_init__(self) -> None:
        rest = self.text
        while True:
            term = _TERM.match(rest)
            if term is None:
                raise ValueError(f"no rule: {self.text}")
            name, value = term[1], go_unquote(term[2])
            if name in ("Path", "PathPrefix") and not value.startswith(b"/"):
                raise ValueError(f"path without a slash: {self.text}")
            if name.startswith("Host") and not value.isascii():
                raise ValueError(f"host that is not ASCII: {self.text}")
            if name.endswith("Regexp"):
                go_regexp(value)
            self.terms.append((name, value))
            rest = rest[term.end() :]
            if not rest:
                return
            if not rest.startswith(" || "):
                raise ValueError(f"no rule: {self.text}")
            rest = rest[4:]

    def matches(self, host: str, path: bytes) -> bool:
        return any(self._matches(name, value, host, path) for name, value in self.terms)

    @staticmethod
    def _matches(name: str, value: bytes, host: str, path: bytes) -> bool:
        if name == "Path":
            return path == value
        if name == "PathPrefix":
            return path.startswith(value)
        if name == "PathRegexp":
            return go_regexp(value).search(runes(path)) is not None
        if name == "Host":
            wanted = value.decode().lower()
            return host != "" and wanted in (host, host.removesuffix("."))
        return go_regexp(value).search(host) is not None


class Model:
    """A document as Traefik would serve it."""

    def __init__(self, document: dict[str, Any]) -> None:
        self.http = document["http"]
        self.routers: dict[str, dict[str, Any]] = self.http["routers"]
        self.rules = {name: Rule(body["rule"]) for name, body in self.routers.items()}
        self.children: dict[str, list[str]] = {}
        for name, body in self.routers.items():
            for parent in body.get("parentRefs", ()):
                assert parent in self.routers, f"{name} hangs under {parent}, which is not there"
                self.children.setdefault(parent, []).append(name)
        for name, body in self.routers.items():
            # Traefik refuses a parent with a service, and a leaf without one
            assert ("service" in body) != (name in self.children), name
            assert not ("entryPoints" in body and "parentRefs" in body), name
            for middleware in body.get("middlewares", ()):
                assert middleware in self.http["middlewares"]

    def target(self, host: str, path: str, *, failed_over: bool = False) -> str | None:
        """The URL that a request goes to; None for the 404 of Traefik or of the hub.

        Args:
            failed_over: the first part of a failover service is not well.
        """
        name = host.lower()
        if not name.startswith("["):
            name = name.partition(":")[0]
        found = self._choose(["root"], name, routing_path(path))
        while found in self.children:
            found = self._choose(self.children[found], name, routing_path(path))
        if found is None:
            return None
        body = self.routers[found]
        if body["service"] == "noop@internal":
            assert found == "root" or body["middlewares"] == ["missing"]
            return None
        service = self.http["services"][body["service"]]
        if "failover" in service:
            part = "fallback" if failed_over else "service"
            service = self.http["services"][service["failover"][part]]
        [server] = service["loadBalancer"]["servers"]
        target: str = server["url"]
        for middleware in body.get("middlewares", ()):
            rewrite = self.http["middlewares"][middleware]["replacePathRegex"]
            assert rewrite["regex"] == "^/"
            target += rewrite["replacement"].replace("$$", "$").removesuffix("/")
        return target

    def _choose(self, names: list[str], host: str, path: bytes) -> str | None:
        """The first match by priority; that no two of the same priority match is checked."""
        matching = [name for name in names if self.rules[name].matches(host, path)]
        if not matching:
            return None
        priority = max(self.routers[name].get("priority", 0) for name in matching)
        [best] = [n for n in matching if self.routers[n].get("priority", 0) == priority]
        return best
