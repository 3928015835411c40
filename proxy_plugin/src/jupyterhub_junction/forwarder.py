"""A streaming reverse proxy for HTTP/1.1 and WebSockets, on plain asyncio.

Every request goes to the route that ``resolve`` names, its target as sent, byte for byte,
behind the path of the route's own target.  Bodies stream both ways with back-pressure, of any
size and for any time; a WebSocket's bytes are passed as they are.  Invariants:

* All runs in callbacks of one loop; no task but for a connection being opened.
* A connection answers its requests in order, one exchange at a time.
* A client that stops reading, or goes away, costs no more than the limits.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import socket
import ssl
from collections.abc import Callable
from typing import Any

from .backends import Backends
from .connection import Limits, Registry
from .exchange import Client, Exchange, plain_response, reason_of
from .http11 import BadMessage, RequestHead, find_head
from .rewrite import ForwardedRules, Peer
from .routes import Route

__all__ = ["ForwardedRules", "Forwarder", "Limits"]

_ACTIVITY_INTERVAL = 1.0
_ACTIVITY_ROUTES = 100_000


class _ClientConnection(Client):
    """A client's connection: reads requests, one after another, and lets exchanges run."""

    def __init__(self, forwarder: Forwarder, registry: Registry) -> None:
        super().__init__(registry)
        self.forwarder = forwarder
        self.exchange: Exchange | None = None
        self._held = b""
        self._seen = 0
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
                if len(self._held) > self.registry.limits.buffer_bytes:
                    self.transport.pause_reading()
            return
        if not self._held:
            self.wait(self.registry.limits.header_timeout)
        self._held += data
        self._advance()

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

    def _next(self) -> bool:
        while self._held.startswith(b"\r\n"):  # RFC 9112 §2.2
            self._held, self._seen = self._held[2:], 0
        try:
            end = find_head(self._held, self._seen, self.registry.limits.header_bytes)
            if end < 0:
                self._seen = len(self._held)
                return False
            head = RequestHead(self._held[: end + 2])
            exchange = Exchange(self.forwarder, self, head)
        except BadMessage as error:
            self.refuse(error.status, str(error))
            return False
        self._held, self._seen = self._held[end + 4 :], 0
        self.wait(None)
        if self._own(head):
            return True
        self.exchange = exchange
        exchange.start()
        if self._held and self.exchange is exchange and not exchange.body.done:
            held, self._held = self._held, b""
            self._held = exchange.request_data(held)
        return True

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
        limits = self.registry.limits
        self._seen = 0
        self.wait(limits.header_timeout if self._held else limits.keepalive_timeout)
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
        if self.transport.can_write_eof() and not self.transport.is_closing():
            self.transport.write_eof()
        self.transport.resume_reading()
        self.wait(self.registry.limits.linger)

    def close_idle(self) -> None:
        """Close unless a request is being served."""
        if self.exchange is None and not self.tunnelling and not self._lingering:
            self._linger()

    def expired(self) -> None:
        if self.exchange is not None:
            self.exchange.expired()
        elif self.tunnelling or self.transport.is_closing():
            self.transport.abort()
        elif self._lingering:
            unread = self.transport.get_write_buffer_size()
            if unread and self.registry.now() < self._give_up:
                self.wait(self.registry.limits.linger)
            else:
                self.transport.abort()
        elif self._held:
            self.refuse(408, "the request's header did not come in time")
        else:
            self._linger()


class Forwarder:
    """The reverse proxy.

    Args:
        resolve: the route for a request's Host header (as sent, "" if there is none) and path
            (as sent, without the query); called in the forwarder's loop, must not block.
        error_target: URL of the hub's error pages: ``{error_target}/{status}?url=<target>`` is
            shown when a request has no route (404) or its server does not answer (503).
            Without one, or if it does not answer, a line of plain text is.
        limits: sizes and times.
        on_activity: called at most once a second for a route whose server has answered with a
            status below 300, or on whose WebSocket data has come either way.
        client_ssl: for ``https`` targets and an ``https`` error target.
        trust_forwarded: whose X-Forwarded-* headers count; by default nobody's.
        health_path: a path that the proxy answers itself, with 200.
        log: where requests that failed are noted.
    """

    def __init__(
        self,
        *,
        resolve: Callable[[str, str], Route | None],
        error_target: str | None = None,
        limits: Limits | None = None,
        on_activity: Callable[[Route], None] | None = None,
        client_ssl: ssl.SSLContext | None = None,
        trust_forwarded: ForwardedRules | None = None,
        health_path: str | None = None,
        log: logging.Logger | logging.LoggerAdapter[Any] | None = None,
    ) -> None:
        self.resolve = resolve
        self.error_target = error_target
        self.limits = limits or Limits()
        self.rules = trust_forwarded or ForwardedRules()
        self.health_path = health_path.encode() if health_path else None
        self.stopping = False
        self.clients: set[_ClientConnection] = set()
        self._on_activity = on_activity
        self._last_active: dict[str, float] = {}
        self._client_ssl = client_ssl
        self._log = log or logging.getLogger(__name__)
        self._servers: list[asyncio.Server] = []
        self._socket_paths: list[str] = []
        self._registry: Registry | None = None

    @property
    def addresses(self) -> list[Any]:
        """Where it listens: ``(host, port, ...)``, or a path, for each socket."""
        return [s.getsockname() for server in self._servers for s in server.sockets]

    def _ready(self) -> Registry:
        if self._registry is None:
            self._registry = Registry(self.limits)
            self.backends = Backends(self._registry, self._client_ssl)
        return self._registry

    async def start(
        self,
        host: str | None,
        port: int,
        ssl: ssl.SSLContext | None = None,
        reuse_port: bool = False,
    ) -> None:
        """Listen; may be called for several addresses.

        Args:
            host: a name or address; None for all interfaces.
            port: 0 for one that the system chooses (see :attr:`addresses`).
            ssl: serve TLS with this context.
            reuse_port: let other processes listen there too.

        Raises:
            OSError: the address cannot be listened on.
        """
        registry = self._ready()
        server = await registry.loop.create_server(
            lambda: _ClientConnection(self, registry),
            host,
            port,
            ssl=ssl,
            ssl_handshake_timeout=self.limits.header_timeout if ssl else None,
            reuse_port=reuse_port or None,
            backlog=1024,
        )
        self._servers.append(server)

    async def start_on(self, sock: socket.socket) -> None:
        """Listen on a socket that is bound already; it stays its owner's."""
        registry = self._ready()
        self._servers.append(
            await registry.loop.create_server(
                lambda: _ClientConnection(self, registry), sock=sock.dup(), backlog=1024
            )
        )

    async def start_unix(self, path: str, mode: int | None = None) -> None:
        """Listen on a unix socket, in place of one that nobody listens on any more.

        Args:
            path: where to make it; it is removed on :meth:`stop`.
            mode: its permissions; None leaves them to the umask.

        Raises:
            OSError: it cannot be made, or somebody listens there.
        """
        registry = self._ready()
        probe = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        with contextlib.closing(probe):
            probe.setblocking(False)
            if probe.connect_ex(path) == 0:
                raise OSError(errno.EADDRINUSE, "another process listens there", path)
        server = await registry.loop.create_unix_server(
            lambda: _ClientConnection(self, registry), path, backlog=1024
        )
        if mode is not None:
            os.chmod(path, mode)
        self._servers.append(server)
        self._socket_paths.append(path)

    async def stop(self, grace: float = 0.0) -> None:
        """Stop listening, give requests and WebSockets ``grace`` seconds to end, cut the rest.

        Returns with no connection left; the forwarder cannot be started again.
        """
        self.stopping = True
        for server in self._servers:
            server.close()
        for path in self._socket_paths:
            with contextlib.suppress(OSError):
                os.unlink(path)
        self._servers.clear()
        self._socket_paths.clear()
        registry = self._registry
        if registry is None:
            return
        for client in tuple(self.clients):
            client.close_idle()
        self.backends.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace):
                await registry.wait_empty()
        self.backends.cancel()
        for connection in tuple(registry.connections):
            connection.transport.abort()
        await registry.wait_empty()

    def active(self, route: Route) -> None:
        """Report activity, at most once a second for each route."""
        if self._on_activity is None:
            return
        now = self._ready().now()
        last = self._last_active.get(route.routespec)
        if last is not None and now - last < _ACTIVITY_INTERVAL:
            return
        if len(self._last_active) >= _ACTIVITY_ROUTES:
            self._last_active.clear()
        self._last_active[route.routespec] = now
        self._on_activity(route)

    def failed(self, status: int, head: RequestHead, route: Route | None, why: str) -> None:
        """Log a request that had to be answered here; its query may hold secrets."""
        path = head.target.partition(b"?")[0].decode("utf-8", "backslashreplace")
        method = head.method.decode()
        if route is None:
            self._log.info("%d %s %s: %s", status, method, path, why)
        else:
            self._log.warning("%d %s %s: %s: %s", status, method, path, route.target, why)
