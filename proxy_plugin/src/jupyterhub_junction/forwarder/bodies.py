"""Where the bodies of HTTP/1.1 messages end, and what is in them (RFC 9112 §6, §7).

Pure: no I/O and no clock.  Invariants:

* What could be read in two ways is refused, never guessed: two parties that frame a message
  differently are how requests get smuggled (RFC 9112 §11.2).
* A decoder holds less than one line of input; payload is given back at once, and a piece that
  is all payload is given back as it is, without a copy.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Protocol

from .http11 import BARE_LF, TOKEN, VALUE, BadMessage, RequestHead, ResponseHead

__all__ = [
    "Body",
    "ChunkedBody",
    "LengthBody",
    "UntilClose",
    "chunk",
    "last_chunk",
    "request_body",
    "response_body",
]

_FIELD = re.compile(rb"(" + TOKEN + rb"):(" + VALUE + rb")\r\n")
_LENGTH = re.compile(rb"[0-9]{1,18}")
_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})(?:;" + VALUE + rb")?")

_MAX_CHUNK_LINE = 256
_MAX_TRAILER_BYTES = 8192


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
            if BARE_LF.search(data, start):
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
                end = self._line(data, at, _MAX_CHUNK_LINE)
                if end < 0:
                    break
                match = _CHUNK_SIZE.fullmatch(data, at, end)
                if match is None:
                    raise BadMessage("malformed chunk size")
                self._left = int(match[1], 16)
                self._read = "data" if self._left else "trailers"
                at = end + 2
            else:
                end = self._line(data, at, _MAX_TRAILER_BYTES - self._trailer_bytes)
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
