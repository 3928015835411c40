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

from ..routes import Route
from .backends import Backends
from .client import ClientConnection
from .connection import Registry
from .http11 import RequestHead
from .limits import Limits, raise_file_limit
from .rewrite import ForwardedRules

__all__ = ["ForwardedRules", "Forwarder", "Limits"]

_ACTIVITY_INTERVAL = 1.0
_ACTIVITY_ROUTES = 100_000


class Forwarder:
    """The reverse proxy.

    Args:
        resolve: the route for a request's Host header (as sent, "" if there is none) and path
            (as sent, without the query); called in the forwarder's loop, must not block.
        error_target: URL of the hub's error pages: ``{error_target}/{status}?url=<target>`` is
            shown when a request has no route (404) or its server does not answer (503).
            Without one, or if it does not answer, a line of plain text is.
        limits: sizes and times; fewer connections if the system does not allow for so many
            open files, for which the process's limit is raised as far as it may be.
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
        self.clients: set[ClientConnection] = set()
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
            self._fit_limits()
            self._registry = Registry(self.limits)
            self.backends = Backends(self._registry, self._client_ssl)
        return self._registry

    def _fit_limits(self) -> None:
        wanted, files = self.limits, raise_file_limit(self.limits.files)
        self.limits = wanted.within(files)
        if self.limits is not wanted:
            self._log.warning(
                "%d connections are served at once, not %d: only %d open files are allowed; %d"
                " need LimitNOFILE=%d (ulimit -Hn)",
                self.limits.connections,
                wanted.connections,
                files,
                wanted.connections,
                wanted.files,
            )

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
            lambda: ClientConnection(self, registry),
            host,
            port,
            ssl=ssl,
            ssl_handshake_timeout=self.limits.header_timeout if ssl else None,
            # how long a client may take to read what is left is not TLS's to say
            ssl_shutdown_timeout=self.limits.stall_timeout if ssl else None,
            reuse_port=reuse_port or None,
            backlog=1024,
        )
        self._servers.append(server)

    async def start_on(self, sock: socket.socket) -> None:
        """Listen on a socket that is bound already; it stays its owner's."""
        registry = self._ready()
        self._servers.append(
            await registry.loop.create_server(
                lambda: ClientConnection(self, registry), sock=sock.dup(), backlog=1024
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
            lambda: ClientConnection(self, registry), path, backlog=1024
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
