"""The suite's client: sends exactly what a body says, and keeps all that came back."""

from __future__ import annotations

import asyncio
import base64
import os
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from types import TracebackType
from urllib.parse import urlsplit

from .wire import LIMIT, Head, Headers, WebSocket, chunk, encode_head, read_body, read_head

__all__ = ["Answer", "Connection", "UpgradeRefused", "handshake"]


@dataclass
class Answer:
    """A whole response, with the interim (1xx) ones before it."""

    status: int
    head: Head
    body: bytes
    interim: list[int] = field(default_factory=list)
    sent_to: str = ""

    def get(self, name: str) -> str:
        """The value of a header field, ``""`` if there is none."""
        return self.head.get(name)

    @property
    def backend(self) -> str:
        """The name of the backend that answered, ``""`` if none did."""
        return self.head.get("x-backend")


class UpgradeRefused(Exception):
    """The answer to a WebSocket handshake was not ``101``; :attr:`answer` is what it was."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(f"status {answer.status}: {answer.body[:80]!r}")
        self.answer = answer


def handshake(
    target: str, host: str, headers: Headers = (), key: str = "bm90aGluZyBidXQgdGVzdA=="
) -> bytes:
    """The request that opens a WebSocket."""
    fields = [
        ("Host", host),
        ("Upgrade", "websocket"),
        ("Connection", "Upgrade"),
        ("Sec-WebSocket-Key", key),
        ("Sec-WebSocket-Version", "13"),
        *headers,
    ]
    return encode_head(f"GET {target} HTTP/1.1", fields)


class Connection:
    """One TCP connection to a proxy."""

    def __init__(self, url: str, tls: ssl.SSLContext | None = None) -> None:
        parts = urlsplit(url)
        self.url = url
        self.netloc = parts.netloc
        self.host = parts.hostname or ""
        self.port = parts.port or (443 if parts.scheme == "https" else 80)
        self.tls = tls if parts.scheme == "https" else None
        self.reader: asyncio.StreamReader
        self.writer: asyncio.StreamWriter

    async def __aenter__(self) -> Connection:
        self.reader, self.writer = await asyncio.open_connection(
            self.host, self.port, ssl=self.tls, limit=LIMIT
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.writer.transport.abort()
        # The transport's end takes one turn of the loop; without it the socket is left
        # to the garbage collector, which warns.
        await asyncio.sleep(0)

    async def send(self, data: bytes) -> None:
        """Send these bytes."""
        self.writer.write(data)
        await self.writer.drain()

    async def start(self, method: str, target: str, headers: Headers = ()) -> None:
        """Send a request's head, with a Host field unless there is one."""
        fields = list(headers)
        if not any(name.lower() == "host" for name, _ in fields):
            fields.insert(0, ("Host", self.netloc))
        await self.send(encode_head(f"{method} {target} HTTP/1.1", fields))

    async def request(
        self, method: str, target: str, headers: Headers = (), body: bytes | None = None
    ) -> Answer:
        """Send a request and read its answer."""
        fields = list(headers)
        if body is not None:
            fields.append(("Content-Length", str(len(body))))
        await self.start(method, target, fields)
        if body:
            # An early answer (a refusal) has to be read while the body is still being sent.
            sending = asyncio.ensure_future(self.send(body))
            try:
                return await self.answer(method)
            finally:
                sending.cancel()
                await asyncio.gather(sending, return_exceptions=True)
        return await self.answer(method)

    async def send_chunk(self, data: bytes) -> None:
        """Send one chunk of a chunked body; an empty one ends it."""
        await self.send(chunk(data))

    async def head(self) -> tuple[int, Head]:
        """The status and the head of the next response, interim ones included."""
        head = await read_head(self.reader)
        return int(head.start.split(" ")[1]), head

    async def stream(self, head: Head) -> AsyncIterator[bytes]:
        """The body that follows a head, piece by piece as it comes."""
        async for data in read_body(self.reader, head, until_eof=True):
            yield data

    async def answer(self, method: str = "GET") -> Answer:
        """Read one whole answer."""
        interim = []
        status, head = await self.head()
        while 100 <= status < 200 and status != 101:
            interim.append(status)
            status, head = await self.head()
        parts = []
        if method != "HEAD" and status not in (101, 204, 304):
            async for data in self.stream(head):
                parts.append(data)
        return Answer(status, head, b"".join(parts), interim, self.url)

    async def websocket(self, target: str, headers: Headers = ()) -> WebSocket:
        """Open a WebSocket on this connection.

        Raises:
            UpgradeRefused: the answer was another than 101.
        """
        key = base64.b64encode(os.urandom(16)).decode()
        fields = [(name, value) for name, value in headers if name.lower() != "host"]
        host = next((value for name, value in headers if name.lower() == "host"), self.netloc)
        await self.send(handshake(target, host, fields, key))
        answer = await self.answer()
        if answer.status != 101:
            raise UpgradeRefused(answer)
        return WebSocket(answer.head, self.reader, self.writer, mask=True)
