"""HTTP/1.1 messages as bytes: heads, framing, bodies (RFC 9112).

Pure: no I/O and no clock.  Invariants:

* What could be read in two ways is refused, never guessed: two parties that frame a message
  differently are how requests get smuggled (RFC 9112 §11.2).
* A decoder holds less than one line of input; payload is given back at once.
* Names and values keep the bytes they came with.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Protocol

__all__ = [
    "BadMessage",
    "Body",
    "ChunkedBody",
    "LengthBody",
    "RequestHead",
    "ResponseHead",
    "UntilClose",
    "chunk",
    "find_head",
    "last_chunk",
    "request_body",
    "response_body",
    "tokens",
]

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_VALUE = rb"[^\x00-\x08\x0a-\x1f\x7f]*"
_REQUEST_LINE = re.compile(rb"(" + _TOKEN + rb") ([^\x00-\x20\x7f]+) HTTP/([0-9])\.([0-9])")
_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9]{2})(?: (" + _VALUE + rb"))?")
_FIELDS = re.compile(rb"(?:" + _TOKEN + rb":" + _VALUE + rb"\r\n)*")
_FIELD = re.compile(rb"(" + _TOKEN + rb"):(" + _VALUE + rb")\r\n")
_BARE_LF = re.compile(rb"(?<!\r)\n")
_HOST = re.compile(rb"[A-Za-z0-9._~%!$&'()*+,;=\-]*(?::[0-9]*)?|\[[0-9A-Fa-f:.]+\](?::[0-9]*)?")
_LENGTH = re.compile(rb"[0-9]{1,18}")
_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})(?:;" + _VALUE + rb")?")

MAX_CHUNK_LINE = 256
MAX_TRAILER_BYTES = 8192


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
    """Fields in their order, as ``(lower-case name, name, value)``, and by lower-case name."""

    __slots__ = ("_by_name", "fields", "minor")

    def __init__(self, minor: int, block: bytes) -> None:
        if not _FIELDS.fullmatch(block):
            raise BadMessage("malformed header line")
        self.minor = minor
        self.fields: list[tuple[bytes, bytes, bytes]] = []
        self._by_name: dict[bytes, list[bytes]] = {}
        for name, raw in _FIELD.findall(block):
            lower, value = name.lower(), raw.strip(b" \t")
            self.fields.append((lower, name, value))
            self._by_name.setdefault(lower, []).append(value)

    def all(self, name: bytes) -> list[bytes]:
        """All values of a field; ``name`` in lower case."""
        return self._by_name.get(name, [])

    def first(self, name: bytes) -> bytes | None:
        """The first value of a field, or None; ``name`` in lower case."""
        values = self._by_name.get(name)
        return values[0] if values else None

    def keeps_alive(self) -> bool:
        """Whether its sender lets the connection be used again (RFC 9112 §9.3)."""
        if b"connection" not in self._by_name:
            return self.minor == 1
        options = tokens(self._by_name[b"connection"])
        return b"close" not in options and (self.minor == 1 or b"keep-alive" in options)


class RequestHead(_Head):
    """A request's line and fields, from the bytes before the empty line (its CRLF included).

    Attributes:
        method: as sent.
        target: in origin form (``/path?query``) as sent, or ``*``.
        minor: 0 or 1, of HTTP/1.x.

    Raises:
        BadMessage: malformed, ambiguous about its host, or not for a proxy like this one.
    """

    __slots__ = ("host", "method", "target")

    def __init__(self, data: bytes) -> None:
        line, _, block = data.partition(b"\r\n")
        match = _REQUEST_LINE.fullmatch(line)
        if match is None:
            raise BadMessage("malformed request line")
        self.method, target, major, minor = match.groups()
        if major != b"1" or minor not in b"01":
            raise BadMessage("this server speaks HTTP/1.1", 505)
        super().__init__(int(minor), block)
        hosts = self.all(b"host")
        if len(hosts) > 1 or (not hosts and self.minor == 1):
            raise BadMessage("a request needs one Host header")
        self.host = hosts[0] if hosts else b""
        if not _HOST.fullmatch(self.host):
            raise BadMessage("malformed Host header")
        self.target = self._origin_form(target)

    def _origin_form(self, target: bytes) -> bytes:
        if b"#" in target:
            raise BadMessage("a request target holds no fragment")
        if target.startswith(b"/"):
            return target
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
        line, _, block = data.partition(b"\r\n")
        match = _STATUS_LINE.fullmatch(line)
        if match is None:
            raise BadMessage("malformed status line")
        minor, status, reason = match.groups()
        super().__init__(int(minor), block)
        self.status = int(status)
        self.reason: bytes = reason or b""


def find_head(data: bytes, seen: int, limit: int) -> int:
    """Where the head in ``data`` ends (the index of its last CRLF CRLF), or -1 if it has not.

    Args:
        data: all that has come so far.
        seen: how much of it an earlier call has looked at.
        limit: the greatest head allowed, in bytes.

    Raises:
        BadMessage: too long, or lines that end without CR.
    """
    end = data.find(b"\r\n\r\n", max(0, seen - 3))
    if (end if end >= 0 else len(data)) > limit:
        raise BadMessage(f"headers of more than {limit} bytes", 431)
    if end < 0 and _BARE_LF.search(data, max(0, seen - 1)):
        raise BadMessage("a line ends without CR")
    return end


class Body(Protocol):
    """Takes a body's bytes off a connection."""

    @property
    def done(self) -> bool:
        """Whether the body has come to its end."""

    def feed(self, data: bytes) -> tuple[bytes, bytes]:
        """Split ``data`` into payload and what follows the body.

        Raises:
            BadMessage: broken framing.
        """


class LengthBody:
    """A body of a known number of bytes, 0 for none."""

    __slots__ = ("left",)

    def __init__(self, length: int) -> None:
        self.left = length

    @property
    def done(self) -> bool:
        """Whether all of it has come."""
        return self.left == 0

    def feed(self, data: bytes) -> tuple[bytes, bytes]:
        """Split what came into payload and what follows the body."""
        if len(data) <= self.left:
            self.left -= len(data)
            return data, b""
        payload, rest = data[: self.left], data[self.left :]
        self.left = 0
        return payload, rest


class UntilClose:
    """A response's body that ends with its connection."""

    __slots__ = ()
    done = False

    def feed(self, data: bytes) -> tuple[bytes, bytes]:
        """All that came is payload."""
        return data, b""


class ChunkedBody:
    """A chunked body (RFC 9112 §7.1); extensions are checked and dropped.

    Attributes:
        trailers: the trailer fields, as in a head, once done.
    """

    __slots__ = ("_held", "_left", "_read", "_trailer_bytes", "done", "trailers")

    def __init__(self) -> None:
        self.done = False
        self.trailers: list[tuple[bytes, bytes, bytes]] = []
        self._held = b""
        self._left = 0
        self._trailer_bytes = 0
        self._read = "size"

    def _line(self, data: bytes, start: int, limit: int) -> int:
        end = data.find(b"\r\n", start, start + limit + 2)
        if end < 0:
            if len(data) - start > limit:
                raise BadMessage("a line of a chunked body is too long")
            if _BARE_LF.search(data, start):
                raise BadMessage("a line of a chunked body ends without CR")
        return end

    def feed(self, data: bytes) -> tuple[bytes, bytes]:
        """Split what came into payload and what follows the body.

        Raises:
            BadMessage: the framing is broken or ambiguous.
        """
        if self._held:
            data, self._held = self._held + data, b""
        pieces: list[bytes] = []
        at, size = 0, len(data)
        while not self.done:
            if self._read == "data":
                stop = min(size, at + self._left)
                pieces.append(data[at:stop])
                self._left -= stop - at
                at = stop
                if self._left:
                    break
                self._read = "end"
            elif self._read == "end":
                if not b"\r\n".startswith(data[at : at + 2]):
                    raise BadMessage("a chunk is longer than it says")
                if size - at < 2:
                    break
                at += 2
                self._read = "size"
            elif self._read == "size":
                end = self._line(data, at, MAX_CHUNK_LINE)
                if end < 0:
                    break
                match = _CHUNK_SIZE.fullmatch(data, at, end)
                if match is None:
                    raise BadMessage("malformed chunk size")
                self._left = int(match[1], 16)
                self._read = "data" if self._left else "trailers"
                at = end + 2
            else:
                end = self._line(data, at, MAX_TRAILER_BYTES - self._trailer_bytes)
                if end < 0:
                    break
                self._trailer_bytes += end + 2 - at
                if end == at:
                    self.done = True
                else:
                    field = _FIELD.fullmatch(data, at, end + 2)
                    if field is None:
                        raise BadMessage("malformed trailer line")
                    self.trailers.append((field[1].lower(), field[1], field[2].strip(b" \t")))
                at = end + 2
        if self.done:
            return b"".join(pieces), data[at:]
        self._held = data[at:]
        return b"".join(pieces), b""


def _length(values: list[bytes]) -> int:
    # equal repetitions could be merged (RFC 9110 §8.6), but nobody honest sends them
    if len(values) != 1 or not _LENGTH.fullmatch(values[0]):
        raise BadMessage("malformed or repeated Content-Length")
    return int(values[0])


def request_body(head: RequestHead) -> LengthBody | ChunkedBody:
    """How a request's body is framed (RFC 9112 §6.3).

    Raises:
        BadMessage: framed in two ways, or in one that this proxy does not know (501).
    """
    codings, lengths = head.all(b"transfer-encoding"), head.all(b"content-length")
    if codings:
        if lengths or head.minor == 0:
            raise BadMessage("Transfer-Encoding with Content-Length or in HTTP/1.0")
        coding = b",".join(codings).lower()
        if coding == b"chunked":
            return ChunkedBody()
        unknown = coding.endswith(b"chunked") and coding.count(b"chunked") == 1
        raise BadMessage("unknown or malformed Transfer-Encoding", 501 if unknown else 400)
    return LengthBody(_length(lengths) if lengths else 0)


def response_body(head: ResponseHead, method: bytes) -> LengthBody | ChunkedBody | UntilClose:
    """How a final response's body is framed (RFC 9112 §6.3).

    Raises:
        BadMessage: framed in two ways, or in one that this proxy does not know.
    """
    codings, lengths = head.all(b"transfer-encoding"), head.all(b"content-length")
    length = _length(lengths) if lengths else None
    if codings and (
        length is not None or head.minor == 0 or b",".join(codings).lower() != b"chunked"
    ):
        raise BadMessage("ambiguous or unknown Transfer-Encoding")
    if method == b"HEAD" or head.status in (204, 304):
        return LengthBody(0)
    if codings:
        return ChunkedBody()
    return UntilClose() if length is None else LengthBody(length)


def chunk(payload: bytes) -> bytes:
    """One chunk with its framing; nothing for no payload, which would end the body."""
    return b"%x\r\n%b\r\n" % (len(payload), payload) if payload else b""


def last_chunk(trailers: Iterable[tuple[bytes, bytes]] = ()) -> bytes:
    """The end of a chunked body."""
    return b"0\r\n%b\r\n" % b"".join(b"%b: %b\r\n" % field for field in trailers)
