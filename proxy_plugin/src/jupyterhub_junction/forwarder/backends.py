"""Connections to the servers that requests are forwarded to, and their pool.

Invariants:

* A connection in the pool is between two messages: its last response ended where its framing
  said, and nothing came after it.
* One that speaks out of turn, or is closed by its server, leaves the pool at once.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Protocol
from urllib.parse import unquote, urlsplit

from .connection import Connection, Registry

__all__ = ["Backend", "Backends", "Target", "Waiter", "parse_target"]


@dataclass(frozen=True, slots=True)
class Target:
    """Where to connect, and what to put before the path.

    Attributes:
        host: name or address; "" for a unix socket.
        port: 0 for a unix socket.
        socket_path: "" unless a unix socket.
        tls: speak TLS.
        netloc: for the Host header of a request that comes without one.
        prefix: the URL's path, without its last slash; as configurable-http-proxy's
            ``--prepend-path``, it goes before the request's path.
        address: what tells one pool from another.
    """

    host: str
    port: int
    socket_path: str
    tls: bool
    netloc: bytes
    prefix: bytes
    address: tuple[str, int, str, bool] = field(init=False, compare=False)

    def __post_init__(self) -> None:
        address = (self.host, self.port, self.socket_path, self.tls)
        object.__setattr__(self, "address", address)

    def path(self, target: bytes) -> bytes:
        """The request target to ask this server for, from the one that the client sent."""
        return self.prefix + target if target.startswith(b"/") else target


@lru_cache(maxsize=4096)
def parse_target(url: str) -> Target:
    """Read a target URL: ``http``, ``https``, or ``http+unix`` with the socket's path as host."""
    parts = urlsplit(url)
    prefix = parts.path.removesuffix("/").encode()
    if parts.scheme in ("http+unix", "unix+http"):
        return Target("", 0, unquote(parts.netloc), False, b"localhost", prefix)
    tls = parts.scheme == "https"
    port = parts.port or (443 if tls else 80)
    return Target(parts.hostname or "", port, "", tls, parts.netloc.encode(), prefix)


class Waiter(Protocol):
    """What uses a connection to a server: one request's exchange."""

    def connected(self, backend: Backend) -> None:
        """The connection that was asked for is there."""

    def backend_failed(self, error: BaseException) -> None:
        """There will be none."""

    def response_data(self, data: bytes) -> None:
        """The server has sent something."""

    def backend_silent(self) -> None:
        """Nothing has come or gone for as long as is allowed."""

    def backend_drained(self) -> None:
        """The server reads again, after it had not for a while."""

    def backend_lost(self, error: Exception | None) -> None:
        """The connection is gone; None if the server ended it in an orderly way."""


class Backend(Connection):
    """A connection to a server."""

    def __init__(self, registry: Registry, target: Target, forget: Callable[[Backend], None]):
        super().__init__(registry)
        self.target = target
        self.user: Waiter | None = None
        self.idle_since = 0.0
        self._forget = forget

    def data_received(self, data: bytes) -> None:
        if self.tunnelling:
            self.relay(data)
        elif self.user is not None:
            self.user.response_data(data)
        else:
            self._forget(self)
            self.transport.abort()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self.user is not None:
            self.user.backend_drained()

    def expired(self) -> None:
        if self.user is not None:
            self.user.backend_silent()
        else:
            self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget(self)
        super().connection_lost(exc)
        user, self.user = self.user, None
        if user is not None:
            user.backend_lost(exc)


class Backends:
    """Opens connections to servers, and keeps those that can be used again.

    Args:
        registry: where connections are entered.
        client_ssl: for ``https`` targets; without one, the system's authorities and names
            are checked.
    """

    def __init__(self, registry: Registry, client_ssl: ssl.SSLContext | None = None) -> None:
        self._registry = registry
        self._ssl = client_ssl
        self._idle: dict[tuple[str, int, str, bool], list[Backend]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    def _forget(self, backend: Backend) -> None:
        idle = self._idle.get(backend.target.address)
        if idle and backend in idle:
            idle.remove(backend)
            if not idle:
                del self._idle[backend.target.address]

    def take(self, target: Target, max_idle: float) -> Backend | None:
        """A pooled connection that has been unused for at most ``max_idle`` seconds."""
        idle = self._idle.get(target.address)
        while idle:
            if idle[-1].idle_since + max_idle < self._registry.now():
                return None
            backend = idle.pop()
            if not idle:
                del self._idle[target.address]
            if not backend.transport.is_closing():
                return backend
        return None

    def put(self, backend: Backend) -> None:
        """Keep a connection for the next request, if there is room."""
        limits, address = self._registry.limits, backend.target.address
        idle = self._idle.get(address)
        if self._closed or len(idle or ()) >= limits.idle_per_target:
            backend.transport.abort()
            return
        backend.idle_since = now = self._registry.now()
        backend.deadline = now + limits.backend_idle
        if idle is None:
            self._idle[address] = [backend]
        else:
            idle.append(backend)

    def connect(self, target: Target, waiter: Waiter) -> asyncio.Task[None]:
        """Open a connection; the waiter is told.  Cancel the task to give it up."""
        task = self._registry.loop.create_task(self._connect(target, waiter))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _context(self) -> ssl.SSLContext:
        if self._ssl is None:
            self._ssl = ssl.create_default_context()
        return self._ssl

    async def _connect(self, target: Target, waiter: Waiter) -> None:
        def made() -> Backend:
            return Backend(self._registry, target, self._forget)

        loop = self._registry.loop
        try:
            async with asyncio.timeout(self._registry.limits.connect_timeout):
                if target.socket_path:
                    _, backend = await loop.create_unix_connection(made, target.socket_path)
                else:
                    context = self._context() if target.tls else None
                    _, backend = await loop.create_connection(
                        made, target.host, target.port, ssl=context
                    )
        except TimeoutError:
            waiter.backend_failed(TimeoutError("timed out"))
        except Exception as error:
            # whatever it is (names that cannot be encoded, TLS, limits of the system), a
            # client is waiting to be told
            waiter.backend_failed(error)
        else:
            waiter.connected(backend)

    def close(self) -> None:
        """Close all pooled connections, and keep none from now on."""
        self._closed = True
        for idle in list(self._idle.values()):
            for backend in list(idle):
                backend.transport.abort()
        self._idle.clear()

    def cancel(self) -> None:
        """Give up the connections being opened."""
        for task in tuple(self._tasks):
            task.cancel()
