"""The heads of HTTP/1.1 messages as bytes (RFC 9112 §2 to §5); bodies are in ``bodies``.

Pure: no I/O and no clock.  Invariants:

* What could be read in two ways is refused, never guessed.
* Names and values keep the bytes they came with; the white space around values does not.
* Every field is checked.  Most only pass through, so they are checked in one go, and taken
  apart only when asked for, which costs more than the check.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

__all__ = [
    "BARE_LF",
    "HOP",
    "TOKEN",
    "VALUE",
    "BadMessage",
    "RequestHead",
    "ResponseHead",
    "find_head",
    "tokens",
]

TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
VALUE = rb"[^\x00-\x08\x0a-\x1f\x7f]*"
BARE_LF = re.compile(rb"(?<!\r)\n")

# The fields that concern one connection alone, and end there (RFC 9110 §7.6.1).
HOP = frozenset(
    (b"connection", b"keep-alive", b"proxy-connection", b"te", b"transfer-encoding", b"upgrade")
)

_REQUEST_LINE = re.compile(rb"(" + TOKEN + rb") ([^\x00-\x20\x7f]+) HTTP/([0-9])\.([0-9])\r\n")
_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9]{2})(?: (" + VALUE + rb"))?\r\n")
_FIELDS = re.compile(rb"(?:" + TOKEN + rb":" + VALUE + rb"\r\n)*+")
_FIELD = re.compile(rb"(" + TOKEN + rb"):(" + VALUE + rb")\r\n")
# one space before each value and none after: how nearly all heads come
_NORMAL_FIELDS = re.compile(rb"(?:" + TOKEN + rb": (?![ \t])" + VALUE + rb"(?<![ \t])\r\n)*+")
_READ = frozenset((*HOP, b"host", b"content-length", b"expect"))
# what the forwarder reads; the look-ahead spares most lines the alternatives
_READ_FIELD = re.compile(
    rb"\r\n(?=[CEFHKPTUXcefhkptux])((?i:host|connection|content-length|transfer-encoding|upgrade"
    rb"|te|expect|keep-alive|proxy-connection|forwarded|x-forwarded-[^:\r]*|x-real-ip|x-scheme"
    rb"|x-proxyscheme)): (" + VALUE + rb")"
)
_HOST = re.compile(rb"[A-Za-z0-9._~%!$&'()*+,;=\-]*(?::[0-9]*)?|\[[0-9A-Fa-f:.]+\](?::[0-9]*)?")
_CLOSE, _KEEP_ALIVE = frozenset((b"close",)), frozenset((b"keep-alive",))
_PLAIN_OPTIONS = {
    b"close": _CLOSE,
    b"Close": _CLOSE,
    b"keep-alive": _KEEP_ALIVE,
    b"Keep-Alive": _KEEP_ALIVE,
}


class BadMessage(Exception):
    """A message that is no HTTP/1.1, or that could be read in two ways.

    Attributes:
        status: what to answer if it was a request.
    """

    def __init__(self, why: str, status: int = 400) -> None:
        super().__init__(why)
        self.status = status


def tokens(values: Iterable[bytes]) -> set[bytes]:
    """The members of a comma-separated field, in lower case."""
    found = {part.strip(b" \t").lower() for value in values for part in value.split(b",")}
    found.discard(b"")
    return found


class _Head:
    """What heads of requests and responses have in common.

    Attributes:
        minor: 0 or 1, of HTTP/1.x.
        hop: it has fields of one hop, other than a plain ``Connection``.
        claims: it has fields that say who sent it, which are for proxies to add.
    """

    __slots__ = ("_data", "_fields", "_read", "_start", "claims", "hop", "minor")

    def __init__(self, minor: int, data: bytes, start: int) -> None:
        if not _NORMAL_FIELDS.fullmatch(data, start):
            if not _FIELDS.fullmatch(data, start):
                raise BadMessage("malformed header line")
            lines = [
                b"%b: %b\r\n" % (name, value.strip(b" \t"))
                for name, value in _FIELD.findall(data, start)
            ]
            data = data[:start] + b"".join(lines)
        self.minor = minor
        self._data, self._start = data, start
        self._fields: list[tuple[bytes, bytes, bytes]] | None = None
        self._read: dict[bytes, list[bytes]] = {}
        self.hop = self.claims = False
        for name, value in _READ_FIELD.findall(data, start - 2):
            lower = name.lower()
            if lower in self._read:
                self._read[lower].append(value)
            else:
                self._read[lower] = [value]
            if lower in HOP:
                if lower != b"connection" or value not in _PLAIN_OPTIONS:
                    self.hop = True
            elif lower not in _READ:
                self.claims = True

    @property
    def fields(self) -> list[tuple[bytes, bytes, bytes]]:
        """All fields in their order, as ``(lower-case name, name, value)``."""
        if self._fields is None:
            self._fields = [
                (name.lower(), name, value[1:])
                for name, value in _FIELD.findall(self._data, self._start)
            ]
        return self._fields

    def lines(self) -> bytes | None:
        """The lines of all fields but a plain ``Connection``; None if :attr:`hop`."""
        values = self._read.get(b"connection")
        if self.hop:
            return None
        if values is None:
            return self._data[self._start :]
        at = self._data.find(b"\r\nConnection: ", self._start - 2)
        if at < 0 or len(values) > 1:
            return None
        after = at + len(b"\r\nConnection: ") + len(values[0])
        return self._data[self._start : at + 2] + self._data[after + 2 :]

    def has(self, name: bytes) -> bool:
        """Whether there is such a field; ``name`` in lower case."""
        return name in self._read or bool(self.all(name))

    def claims_any(self, names: frozenset[bytes]) -> bool:
        """Whether there is one of some fields of :attr:`claims`; ``names`` in lower case."""
        return not names.isdisjoint(self._read)

    def all(self, name: bytes) -> list[bytes]:
        """All values of a field; ``name`` in lower case."""
        found = self._read.get(name)
        if found is None:
            if name in _READ:
                return []
            found = [value for lower, _, value in self.fields if lower == name]
        return found

    def first(self, name: bytes) -> bytes | None:
        """The first value of a field, or None; ``name`` in lower case."""
        values = self.all(name)
        return values[0] if values else None

    def keeps_alive(self) -> bool:
        """Whether its sender lets the connection be used again (RFC 9112 §9.3)."""
        values = self._read.get(b"connection")
        if values is None:
            return self.minor == 1
        options = _PLAIN_OPTIONS.get(values[0]) if len(values) == 1 else None
        if options is None:
            options = frozenset(tokens(values))
        return b"close" not in options and (self.minor == 1 or b"keep-alive" in options)


class RequestHead(_Head):
    """A request's line and fields, from the bytes before the empty line (its CRLF included).

    Attributes:
        method: as sent.
        target: in origin form (``/path?query``) as sent, or ``*``.
        host: the Host header, "" for an HTTP/1.0 client that sent none.

    Raises:
        BadMessage: malformed, ambiguous about its host, or not for a proxy like this one.
    """

    __slots__ = ("host", "method", "target")

    def __init__(self, data: bytes) -> None:
        match = _REQUEST_LINE.match(data)
        if match is None:
            raise BadMessage("malformed request line")
        self.method, target, major, minor = match.groups()
        if major != b"1" or minor not in b"01":
            raise BadMessage("this server speaks HTTP/1.1", 505)
        super().__init__(int(minor), data, match.end())
        hosts = self._read.get(b"host", ())
        if len(hosts) > 1 or (not hosts and self.minor == 1):
            raise BadMessage("a request needs one Host header")
        self.host = hosts[0] if hosts else b""
        if not _HOST.fullmatch(self.host):
            raise BadMessage("malformed Host header")
        self.target = (
            target if target[:1] == b"/" and b"#" not in target else self._origin_form(target)
        )

    def _origin_form(self, target: bytes) -> bytes:
        if b"#" in target:
            raise BadMessage("a request target holds no fragment")
        if self.method == b"CONNECT":
            raise BadMessage("CONNECT is not served here", 405)
        if target == b"*" and self.method == b"OPTIONS":
            return target
        scheme, separator, rest = target.partition(b"://")
        if not separator or scheme.lower() not in (b"http", b"https"):
            raise BadMessage("malformed request target")
        end = next((i for i, byte in enumerate(rest) if byte in b"/?"), len(rest))
        # the target's host would win over the header (RFC 9112 §3.2.2), and a server behind
        # might read the header: they must say the same
        if not rest[:end] or rest[:end].lower() != self.host.lower():
            raise BadMessage("the request target and the Host header disagree")
        path = rest[end:]
        return path if path.startswith(b"/") else b"/" + path


class ResponseHead(_Head):
    """A response's status line and fields; arguments and errors as :class:`RequestHead`.

    Attributes:
        status: 100 to 999.
        reason: as sent, often empty.
    """

    __slots__ = ("reason", "status")

    def __init__(self, data: bytes) -> None:
        match = _STATUS_LINE.match(data)
        if match is None:
            raise BadMessage("malformed status line")
        minor, status, reason = match.groups()
        super().__init__(int(minor), data, match.end())
        self.status = int(status)
        self.reason: bytes = reason or b""


def find_head(data: bytes, seen: int, limit: int, start: int = 0) -> int:
    """Where a head in ``data`` ends (the index of its last CRLF CRLF), or -1 if it has not.

    Args:
        data: all that has come so far.
        seen: how much of it an earlier call has looked at.
        limit: the greatest head allowed, in bytes.
        start: where it begins.

    Raises:
        BadMessage: too long, or lines that end without CR.
    """
    end = data.find(b"\r\n\r\n", max(start, seen - 3))
    if (end if end >= 0 else len(data)) - start > limit:
        raise BadMessage(f"headers of more than {limit} bytes", 431)
    if end < 0 and BARE_LF.search(data, max(start, seen - 1)):
        raise BadMessage("a line ends without CR")
    return end
