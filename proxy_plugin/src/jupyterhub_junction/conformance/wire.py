"""HTTP/1.1 and WebSocket messages, as bytes.

The suite's clients and backends both speak through this module and no HTTP library, because
libraries normalise: what a proxy does to a byte can only be seen by something that does
nothing to it.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, field

__all__ = [
    "BINARY",
    "CLOSE",
    "CONTINUATION",
    "LIMIT",
    "PING",
    "PONG",
    "TEXT",
    "Frame",
    "Head",
    "Headers",
    "Truncated",
    "WebSocket",
    "chunk",
    "encode_head",
    "read_body",
    "read_head",
]

LIMIT = 1 << 20
"""Bytes that a reader may hold before it stops reading from its socket."""

Headers = Sequence[tuple[str, str]]

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10


class Truncated(Exception):
    """The peer went away in the middle of a message."""


@dataclass
class Head:
    """The start line and the header fields of one message, as they came."""

    start: str
    headers: list[tuple[str, str]]
    trailers: list[tuple[str, str]] = field(default_factory=list)

    def all(self, name: str) -> list[str]:
        """The values of all fields with this name, in order."""
        return [value for key, value in self.headers if key.lower() == name.lower()]

    def get(self, name: str, default: str = "") -> str:
        """The value of the first field with this name."""
        return next(iter(self.all(name)), default)


def encode_head(start: str, headers: Headers) -> bytes:
    """A message's head with the empty line that ends it."""
    lines = [start, *(f"{name}: {value}" for name, value in headers), "", ""]
    return "\r\n".join(lines).encode("latin-1")


def chunk(data: bytes) -> bytes:
    """One chunk of a chunked body."""
    return b"%x\r\n%b\r\n" % (len(data), data)


async def _line(reader: asyncio.StreamReader) -> str:
    line = await reader.readline()
    if not line.endswith(b"\n"):
        raise Truncated(f"the connection ended in the line {line[:80]!r}")
    return line.rstrip(b"\r\n").decode("latin-1")


async def _fields(reader: asyncio.StreamReader) -> list[tuple[str, str]]:
    fields = []
    while line := await _line(reader):
        name, _, value = line.partition(":")
        fields.append((name, value.strip()))
    return fields


async def read_head(reader: asyncio.StreamReader) -> Head:
    """Read one message's head.

    Raises:
        EOFError: the peer closed the connection instead of sending a message.
        Truncated: it closed it in the middle of the head.
    """
    line = await reader.readline()
    if not line:
        raise EOFError("the connection is closed")
    if not line.endswith(b"\n"):
        raise Truncated(f"the connection ended in the line {line[:80]!r}")
    start = line.rstrip(b"\r\n").decode("latin-1")
    return Head(start, await _fields(reader))


async def read_body(
    reader: asyncio.StreamReader, head: Head, *, until_eof: bool
) -> AsyncIterator[bytes]:
    """The body that belongs to a head, piece by piece; trailers are put into the head.

    Raises:
        Truncated: the connection ended before the body did.
    """
    if head.get("transfer-encoding").lower().endswith("chunked"):
        while size := int((await _line(reader)).partition(";")[0], 16):
            async for data in _exactly(reader, size):
                yield data
            await _line(reader)
        head.trailers.extend(await _fields(reader))
    elif head.get("content-length"):
        async for data in _exactly(reader, int(head.get("content-length"))):
            yield data
    elif until_eof:
        while data := await reader.read(1 << 16):
            yield data


async def _exactly(reader: asyncio.StreamReader, size: int) -> AsyncIterator[bytes]:
    while size:
        data = await reader.read(min(size, 1 << 18))
        if not data:
            raise Truncated(f"the connection ended {size} bytes before the body did")
        size -= len(data)
        yield data


@dataclass(frozen=True)
class Frame:
    """One WebSocket frame."""

    opcode: int
    payload: bytes
    fin: bool = True
    rsv1: bool = False

    @property
    def close_code(self) -> int:
        """The code of a close frame; 1005 if it has none (RFC 6455 §7.1.5)."""
        return int(struct.unpack("!H", self.payload[:2])[0]) if self.payload else 1005


class WebSocket:
    """One end of a WebSocket, frame by frame: nothing is answered or put together unasked."""

    def __init__(
        self,
        head: Head,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        *,
        mask: bool,
    ) -> None:
        self.head = head
        self.reader = reader
        self.writer = writer
        self.mask = mask

    def encode(self, frame: Frame) -> bytes:
        """The frame's bytes, masked if this is a client's end."""
        size = len(frame.payload)
        first = frame.fin << 7 | frame.rsv1 << 6 | frame.opcode
        bit = 0x80 if self.mask else 0
        if size < 126:
            head = struct.pack("!BB", first, bit | size)
        elif size < 1 << 16:
            head = struct.pack("!BBH", first, bit | 126, size)
        else:
            head = struct.pack("!BBQ", first, bit | 127, size)
        if not self.mask:
            return head + frame.payload
        key = b"\x1a\x2b\x3c\x4d"
        return head + key + _masked(frame.payload, key)

    async def send(self, opcode: int, payload: bytes = b"", *, fin: bool = True) -> None:
        """Send one frame."""
        await self.send_frames([Frame(opcode, payload, fin)])

    async def send_frames(self, frames: Iterable[Frame]) -> None:
        """Send frames in one write."""
        self.writer.write(b"".join(map(self.encode, frames)))
        await self.writer.drain()

    async def close(self, code: int, reason: str = "") -> None:
        """Send a close frame."""
        await self.send(CLOSE, struct.pack("!H", code) + reason.encode())

    async def receive(self) -> Frame:
        """The next frame.

        Raises:
            EOFError: the connection ended.
        """
        try:
            first, second = await self.reader.readexactly(2)
            size = second & 0x7F
            if size == 126:
                size = struct.unpack("!H", await self.reader.readexactly(2))[0]
            elif size == 127:
                size = struct.unpack("!Q", await self.reader.readexactly(8))[0]
            key = await self.reader.readexactly(4) if second & 0x80 else b""
            payload = await self.reader.readexactly(size)
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            raise EOFError("the WebSocket's connection is closed") from error
        if key:
            payload = _masked(payload, key)
        return Frame(first & 0x0F, payload, bool(first & 0x80), bool(first & 0x40))

    async def message(self) -> tuple[int, bytes]:
        """The next message's opcode and payload, its fragments put together."""
        frame = await self.receive()
        opcode, parts = frame.opcode, [frame.payload]
        while not frame.fin:
            frame = await self.receive()
            parts.append(frame.payload)
        return opcode, b"".join(parts)

    def abort(self) -> None:
        """End the connection without a word."""
        transport = self.writer.transport
        transport.abort()


def _masked(payload: bytes, key: bytes) -> bytes:
    size = len(payload)
    pad = (key * (size // 4 + 1))[:size]
    return (int.from_bytes(payload) ^ int.from_bytes(pad)).to_bytes(size)
