"""Recording backends: servers that say what a proxy sent them, and answer as they are told."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import itertools
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from urllib.parse import quote

from .client import Answer
from .wire import (
    CLOSE,
    LIMIT,
    PING,
    PONG,
    Frame,
    Head,
    Headers,
    Truncated,
    WebSocket,
    chunk,
    encode_head,
    read_body,
    read_head,
)

__all__ = ["PROBE", "Backend", "Exchange", "Handler", "Seen", "echo", "echo_websocket"]

PROBE = "__probe__"
"""Requests whose path ends so are answered at once and not recorded."""

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


@dataclass
class Seen:
    """A request as the backend saw it."""

    method: str
    target: str
    head: Head
    connection: int
    size: int = 0
    sha256: str = ""
    body: bytes = b""
    complete: bool = False

    def get(self, name: str) -> str:
        """The value of a header field, ``""`` if there is none."""
        return self.head.get(name)


class Exchange:
    """One request, and the means to answer it."""

    def __init__(
        self,
        backend: Backend,
        seen: Seen,
        index: int,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self.backend = backend
        self.seen = seen
        self.index = index
        self.reader = reader
        self.writer = writer
        self.done = False

    async def stream(self) -> AsyncIterator[bytes]:
        """The request's body as it comes; records its size and hash."""
        digest = hashlib.sha256()
        async for data in read_body(self.reader, self.seen.head, until_eof=False):
            digest.update(data)
            self.seen.size += len(data)
            if self.seen.size <= LIMIT:
                self.seen.body += data
            yield data
        self.seen.sha256 = digest.hexdigest()
        self.seen.complete = True

    async def body(self) -> bytes:
        """Read the whole body, after asking for it if the client waits to be asked."""
        if self.seen.get("expect").lower() == "100-continue":
            await self.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        async for _ in self.stream():
            pass
        return self.seen.body

    async def write(self, data: bytes) -> None:
        """Send these bytes, whatever they are."""
        self.writer.write(data)
        await self.writer.drain()

    async def start(self, status: int, headers: Headers = (), reason: str = "") -> None:
        """Send the head of a response, with this backend's name in it."""
        if not reason:
            with contextlib.suppress(ValueError):
                reason = HTTPStatus(status).phrase
        marks = [("X-Backend", self.backend.name), ("X-Seen", str(self.index))]
        await self.write(encode_head(f"HTTP/1.1 {status} {reason}", [*headers, *marks]))

    async def reply(self, status: int, headers: Headers = (), body: bytes = b"") -> None:
        """Send a whole response."""
        fields = list(headers)
        if status not in (204, 304) and not any(k.lower() == "content-length" for k, _ in fields):
            fields.append(("Content-Length", str(len(body))))
        await self.start(status, fields)
        if self.seen.method != "HEAD" and status not in (204, 304):
            await self.write(body)

    async def chunk(self, data: bytes) -> None:
        """Send one chunk of a chunked body."""
        await self.write(chunk(data))

    async def websocket(self, headers: Headers = ()) -> WebSocket:
        """Accept a WebSocket."""
        key = self.seen.get("sec-websocket-key").encode()
        accept = base64.b64encode(hashlib.sha1(key + _GUID).digest()).decode()  # noqa: S324
        fields = [
            ("Upgrade", "websocket"),
            ("Connection", "Upgrade"),
            ("Sec-WebSocket-Accept", accept),
            *headers,
        ]
        await self.start(101, fields)
        self.done = True
        return WebSocket(self.seen.head, self.reader, self.writer, mask=False)

    def close(self) -> None:
        """End the connection; what was written is still sent."""
        self.done = True
        self.writer.close()

    def reset(self) -> None:
        """End the connection with a reset."""
        self.done = True
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


Handler = Callable[[Exchange], Awaitable[None]]


async def echo(exchange: Exchange) -> None:
    """Answer 200 with the backend's name."""
    await exchange.body()
    await exchange.reply(
        200, [("Content-Type", "text/plain")], f"{exchange.backend.name}\n".encode()
    )


async def echo_websocket(exchange: Exchange) -> None:
    """Accept a WebSocket and send everything back; answer pings and closes."""
    websocket = await exchange.websocket()
    while True:
        frame = await websocket.receive()
        exchange.backend.frames.append(frame)
        if frame.opcode == CLOSE:
            await websocket.send_frames([frame])
            exchange.close()
            return
        if frame.opcode == PING:
            await websocket.send(PONG, frame.payload)
        elif frame.opcode != PONG:
            await websocket.send_frames([frame])


async def default(exchange: Exchange) -> None:
    """:func:`echo_websocket` for upgrades, :func:`echo` for everything else."""
    if exchange.seen.get("upgrade").lower() == "websocket":
        await echo_websocket(exchange)
    else:
        await echo(exchange)


@dataclass
class Backend:
    """One server on a port of the system's choice, or on a Unix socket."""

    name: str
    handler: Handler = default
    requests: list[Seen] = field(default_factory=list)
    frames: list[Frame] = field(default_factory=list)
    errors: list[BaseException] = field(default_factory=list)
    url: str = ""
    probed: int = 0

    def __post_init__(self) -> None:
        self._server: asyncio.Server | None = None
        self._open: dict[asyncio.StreamWriter, asyncio.Task[None]] = {}
        self._numbers = itertools.count()
        self._busy = 0

    @property
    def connections(self) -> int:
        """Connections that are open now."""
        return len(self._open)

    @property
    def busy(self) -> int:
        """Requests and WebSockets that are being answered now."""
        return self._busy

    @property
    def port(self) -> int:
        """The TCP port."""
        return int(self.url.rpartition(":")[2])

    def seen(self, answer: Answer) -> Seen:
        """The request that got this answer."""
        assert answer.backend == self.name, (
            f"{self.name} should have answered, but the answer came from "
            f"{answer.backend or 'the proxy'}: {answer.status} {answer.body[:200]!r}"
        )
        return self.requests[int(answer.get("x-seen"))]

    async def start(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        path: Path | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> Backend:
        """Listen; :attr:`url` is the target for a route from then on."""
        if path is not None:
            self._server = await asyncio.start_unix_server(self._serve, str(path), limit=LIMIT)
            self.url = "http+unix://" + quote(str(path), safe="")
            return self
        self._server = await asyncio.start_server(
            self._serve, host, port, limit=LIMIT, ssl=tls, backlog=1000
        )
        port = self._server.sockets[0].getsockname()[1]
        shown = f"[{host}]" if ":" in host else host
        self.url = f"{'https' if tls else 'http'}://{shown}:{port}"
        return self

    async def stop(self) -> None:
        """Stop listening and end all connections."""
        if self._server is not None:
            self._server.close()
            self._server = None
        tasks = list(self._open.values())
        for writer in list(self._open):
            writer.transport.abort()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open[writer] = task
        try:
            await self._connection(next(self._numbers), reader, writer)
        except (EOFError, ConnectionError, Truncated, asyncio.CancelledError):
            # The other side went away, or the backend is being stopped.  A cancelled
            # stream callback must end normally: asyncio reports it as an error otherwise.
            pass
        except Exception as error:
            self.errors.append(error)
        finally:
            del self._open[writer]
            writer.close()
            with contextlib.suppress(Exception, asyncio.CancelledError):
                await writer.wait_closed()

    async def _connection(
        self, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        while True:
            head = await read_head(reader)
            method, _, rest = head.start.partition(" ")
            seen = Seen(method, rest.rpartition(" ")[0], head, number)
            if seen.target.endswith(PROBE):
                self.probed += 1
                exchange = Exchange(self, seen, -1, reader, writer)
                await echo(exchange)
                continue
            self.requests.append(seen)
            exchange = Exchange(self, seen, len(self.requests) - 1, reader, writer)
            self._busy += 1
            try:
                await self.handler(exchange)
            finally:
                self._busy -= 1
            if exchange.done or head.get("connection").lower() == "close":
                return
