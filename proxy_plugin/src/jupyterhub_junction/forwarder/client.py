"""A client's connection: its requests, one after another, each of them an exchange.

Invariants:

* Requests are answered in their order, one exchange at a time; what comes meanwhile is held up
  to the limit, and no more is read until some of it has been looked at.
* What cannot be read is answered and the connection closed: nothing after it is a request.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

from .connection import Registry
from .exchange import Exchange
from .http11 import BadMessage, RequestHead, find_head
from .parties import Client, Service
from .responses import plain_response, reason_of
from .rewrite import Peer

__all__ = ["ClientConnection", "Host"]

# before one request; some old clients send one after a body (RFC 9112 §2.2)
_EMPTY_LINES = 8


class Host(Service, Protocol):
    """What serves the clients: a forwarder."""

    clients: set[ClientConnection]
    health_path: bytes | None


class ClientConnection(Client):
    """A client's connection: reads requests, one after another, and lets exchanges run."""

    def __init__(self, forwarder: Host, registry: Registry) -> None:
        super().__init__(registry)
        self.forwarder = forwarder
        self.exchange: Exchange | None = None
        self._held = b""
        self._seen = 0
        self._empty_lines = 0
        self._head_begun = False
        self._busy = False
        self._lingering = False
        self._give_up = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        name = transport.get_extra_info("peername")
        address = name[0] if isinstance(name, tuple) else ""
        self.remote = Peer(address, transport.get_extra_info("ssl_object") is not None)
        self.forwarder.clients.add(self)
        if len(self.forwarder.clients) > self.registry.limits.connections:
            self.refuse(503, "too many connections")
        else:
            self.wait(self.registry.limits.header_timeout)

    def connection_lost(self, exc: Exception | None) -> None:
        self.forwarder.clients.discard(self)
        exchange, self.exchange = self.exchange, None
        if exchange is not None:
            exchange.client_lost()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.tunnelling:
            self.relay(data)
            return
        if self._lingering:
            return
        exchange = self.exchange
        if exchange is not None:
            if not exchange.body.done:
                data = exchange.request_data(data)
            if data and not self._lingering:
                self._held += data
                if self._full:
                    self.pause_reading()
            return
        self._held += data
        self._advance()

    @property
    def _full(self) -> bool:
        # a head that has yet to end is never too much: there is a limit to it of its own
        limits = self.registry.limits
        return len(self._held) > max(limits.buffer_bytes, limits.header_bytes)

    def resume_reading(self) -> None:
        # an exchange that ends frees its reader, but has taken little of what is held
        if not self._full:
            super().resume_reading()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._advance()

    def _advance(self) -> None:
        # an exchange that ends at once comes back here: the loop goes on, not the recursion
        if self._busy or self.tunnelling:
            return
        self._busy = True
        try:
            # a client that does not read its responses gets no more of them
            while self._held and not (self.exchange or self._lingering or self.write_paused):
                if self.transport.is_closing() or not self._next():
                    break
        finally:
            self._busy = False
        if self._full:
            self.pause_reading()
        elif self.exchange is None:
            self.resume_reading()

    def _next(self) -> bool:
        try:
            self._skip_empty_lines()
            end = find_head(self._held, self._seen, self.registry.limits.header_bytes)
            if end < 0:
                self._seen = len(self._held)
                if not self._head_begun:  # bytes, empty lines too, do not buy more time
                    self._head_begun = True
                    self.wait(self.registry.limits.header_timeout)
                return False
            head = RequestHead(self._held[: end + 2])
            exchange = Exchange(self.forwarder, self, head)
        except BadMessage as error:
            self.refuse(error.status, str(error))
            return False
        self._held, self._seen = self._held[end + 4 :], 0
        self._empty_lines = 0
        self._head_begun = False
        self.wait(None)
        if self._own(head):
            return True
        self.exchange = exchange
        exchange.start()
        if self._held and self.exchange is exchange and not exchange.body.done:
            held, self._held = self._held, b""
            self._held = exchange.request_data(held)
        return True

    def _skip_empty_lines(self) -> None:
        at = 0
        while self._held.startswith(b"\r\n", at):
            at += 2
            self._empty_lines += 1
            if self._empty_lines > _EMPTY_LINES:
                raise BadMessage(f"more than {_EMPTY_LINES} empty lines before a request")
        if at:
            self._held, self._seen = self._held[at:], 0

    def _own(self, head: RequestHead) -> bool:
        """Answer what is asked of the proxy itself."""
        asterisk = head.target == b"*"
        if not asterisk and head.target != self.forwarder.health_path:
            return False
        keep = head.keeps_alive() and not head.all(b"content-length")
        keep = keep and not head.all(b"transfer-encoding")
        body = head.method != b"HEAD"
        self.write(plain_response(200, "OK", keep=keep, minor=head.minor, body=body))
        self.finished(keep)
        return True

    def release(self) -> bytes:
        self.exchange = None
        held, self._held = self._held, b""
        return held

    def finished(self, keep: bool) -> None:
        self.exchange = None
        if not keep or (self.forwarder.stopping and not self._held):
            self._linger()
            return
        self._seen = 0
        self.wait(self.registry.limits.keepalive_timeout)
        self._advance()

    def refuse(self, status: int, why: str) -> None:
        self.exchange = None
        text = f"{reason_of(status).decode()}: {why}"
        self.write(plain_response(status, text, keep=False))
        self._linger()

    def _linger(self) -> None:
        """Close once the client has read its answer.

        To close while it still sends would reset the connection, and the answer with it.
        """
        self._held = b""
        self._lingering = True
        self._give_up = self.registry.now() + self.registry.limits.stall_timeout
        self.resume_reading()
        if not self.transport.is_closing():
            if self.transport.can_write_eof():
                self.transport.write_eof()
            else:  # TLS has no half-closed state: it sends its end, and reads on for the other's
                self.transport.close()
        self.wait(self.registry.limits.linger)

    def close_idle(self) -> None:
        """Close unless a request is being served."""
        if self.exchange is None and not self.tunnelling and not self._lingering:
            self._linger()

    def expired(self) -> None:
        if self.exchange is not None:
            self.exchange.expired()
        elif self._lingering:
            if self.unread and self.registry.now() < self._give_up:
                self.wait(self.registry.limits.linger)
            else:
                self.transport.abort()
        elif self.tunnelling or self.transport.is_closing():
            self.transport.abort()
        elif self.write_paused:  # it has answers to read first, and a limit for that
            self.wait(self.registry.limits.keepalive_timeout)
        elif self._held:
            self.refuse(408, "the request's header did not come in time")
        else:
            self._linger()
