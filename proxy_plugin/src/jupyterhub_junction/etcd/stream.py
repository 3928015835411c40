"""A streaming call of etcd's gateway: lines of JSON, both ways."""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from contextlib import suppress

import aiohttp

from .errors import Json, Transport, parse, reason, rpc_error

__all__ = ["Stream"]


class Stream:
    """An open streaming call: ``first`` is its first message, :meth:`next` gives the others."""

    def __init__(
        self, endpoint: str, response: aiohttp.ClientResponse, requests: asyncio.Queue[Json]
    ) -> None:
        self.endpoint = endpoint
        self.first: Json = {}
        self._response = response
        self._requests = requests
        connection = response.connection
        self._transport = connection.transport if connection else None
        self._lines: deque[bytes] = deque()
        self._rest = bytearray()

    def send(self, request: Json) -> None:
        """Send one more request on the stream."""
        self._requests.put_nowait(request)

    async def next(self) -> Json:
        """The next message; a call that is cancelled loses nothing.

        Raises:
            Transport: the stream broke.
            RpcError: etcd ended it with an error.
        """
        # StreamReader.readline() refuses lines over 128 KiB; a batch of events can be far longer.
        while not self._lines:
            try:
                chunk = await self._response.content.readany()
            except (aiohttp.ClientError, OSError) as error:
                raise Transport(self.endpoint, f"the stream broke: {reason(error)}") from None
            if not chunk and self._response.content.at_eof():
                raise Transport(self.endpoint, "the stream ended")
            head, *parts = chunk.split(b"\n")
            self._rest += head
            for part in parts:
                if self._rest.strip():
                    self._lines.append(bytes(self._rest))
                self._rest = bytearray(part)
        message = parse(self.endpoint, self._response, self._lines.popleft())
        if "error" in message:
            raise rpc_error(self.endpoint, message["error"])
        result = message.get("result")
        return result if isinstance(result, dict) else message

    def keep_tcp_alive(self) -> None:
        """Notice a peer that went away without a word, although nothing is being sent."""
        raw = self._transport.get_extra_info("socket") if self._transport else None
        if raw is None:
            return
        with suppress(OSError):
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for option, value in (("TCP_KEEPIDLE", 10), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 3)):
                if hasattr(socket, option):
                    raw.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)

    def close(self) -> None:
        """Close the stream, and its connection."""
        # TLS's goodbye would take a round trip that nobody waits for; there is nothing to lose.
        if self._transport is not None:
            self._transport.abort()
        self._response.close()
