"""What the body of a behaviour gets: a running proxy, clients, backends, and patience."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import itertools
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .backend import PROBE, Backend, Handler
from .backend import default as default_handler
from .client import Answer, Connection
from .implementation import Options, Running
from .surroundings import DOMAIN, Surroundings
from .wire import Headers, WebSocket

__all__ = ["DEADLINES", "World", "until"]

DEADLINES = {
    "start": 60.0,
    "body": 120.0,
    "known": 5.0,
    "answer": 15.0,
    "stream": 60.0,
    "live": 20.0,
    "activity": 90.0,
    "cleanup": 30.0,
}
"""Seconds that anything may take at most; nothing waits that long when all is well."""

PAUSE = 0.02
"""Seconds between two looks at a condition."""

_numbers = itertools.count(1)


async def until(
    check: Callable[[], Any], what: str, *, deadline: str = "live", times: int = 3
) -> None:
    """Wait until ``check`` has been true ``times`` times in a row.

    Args:
        check: returns, or resolves to, something true when the condition holds.
        what: the condition, for the error.
        deadline: which of :data:`DEADLINES` applies.
        times: successes in a row: one may be luck, for example one of two replicas.
    """
    row = 0
    last: BaseException | None = None
    try:
        async with asyncio.timeout(DEADLINES[deadline]):
            while row < times:
                try:
                    result = check()
                    if inspect.isawaitable(result):
                        result = await result
                    last = None
                except (AssertionError, OSError, EOFError) as error:
                    result, last = False, error
                row = row + 1 if result else 0
                if row < times:
                    await asyncio.sleep(PAUSE)
    except TimeoutError:
        raise AssertionError(f"{what}: not within {DEADLINES[deadline]:.0f} s") from last


@dataclass
class World:
    """One behaviour's share of a running proxy.

    Every world has a user name of its own, so that behaviours cannot meet; what a body adds
    through the world is gone when it ends.
    """

    running: Running
    around: Surroundings
    directory: Path
    user: str = ""
    backends: list[Backend] = field(default_factory=list)
    specs: dict[str, None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.user = self.user or f"u{next(_numbers)}"

    # -- where things are

    @property
    def proxy(self) -> Any:
        """The hub's side of the proxy."""
        return self.running.proxy

    @property
    def options(self) -> Options:
        """How the proxy was set up."""
        return self.around.options

    @property
    def urls(self) -> tuple[str, ...]:
        """The address of every replica."""
        return self.running.urls

    @property
    def hub(self) -> Backend:
        """The hub, which has the default route."""
        return self.around.server

    @property
    def tls(self) -> ssl.SSLContext | None:
        """For clients of the public address."""
        return self.around.client_tls

    @property
    def base(self) -> str:
        """The path of this world's user, with a slash at its end."""
        return f"{self.options.base_url}user/{self.user}/"

    @property
    def host(self) -> str:
        """The host name of this world's user under host routing, else ``""``."""
        return f"{self.user}.{DOMAIN}" if self.options.host_routing else ""

    @property
    def spec(self) -> str:
        """The routespec of this world's user."""
        return self.host + self.base

    def path(self, rest: str = "") -> str:
        """A path below the user's."""
        return self.base + rest

    def replica_number(self, url: str) -> int:
        """Which replica an address belongs to."""
        return self.urls.index(url)

    # -- routes and backends

    async def backend(self, handler: Handler = default_handler, **listen: Any) -> Backend:
        """Start a backend; see :meth:`.backend.Backend.start` for where it may listen."""
        backend = Backend(f"{self.user}-{len(self.backends)}", handler)
        self.backends.append(backend)
        listen.setdefault("tls", self.around.server_tls)
        return await backend.start(**listen)

    async def add(self, spec: str, target: str, data: dict[str, Any] | None = None) -> None:
        """Add a route, to be deleted when the behaviour ends."""
        self.specs[spec] = None
        await self.proxy.add_route(spec, target, {} if data is None else data)

    async def route(
        self, backend: Backend, spec: str = "", data: dict[str, Any] | None = None
    ) -> None:
        """Add a route and wait until every replica serves it, as it goes on serving it.

        That it is live at once is one behaviour of its own (``live-on-return``); the others
        are not to fail with it.
        """
        spec = spec or self.spec
        await self.add(spec, backend.url, data)
        await self.served_by(backend, spec)
        if self.running.settled is not None:
            await self.running.settled()

    async def served_by(self, backend: Backend, spec: str, path: str = "") -> None:
        """Wait until every replica sends requests for a routespec to this backend."""
        host, slash, rest = spec.partition("/")
        target = path or f"{slash}{rest.rstrip('/')}/{PROBE}"

        async def check() -> bool:
            answers = await self.request("GET", target, host=host or None)
            return all(answer.backend == backend.name for answer in answers)

        await until(check, f"{spec} is served by {backend.name}", times=2)

    async def serve(
        self, handler: Handler = default_handler, data: dict[str, Any] | None = None, **listen: Any
    ) -> Backend:
        """Start a backend and route this world's user to it."""
        backend = await self.backend(handler, **listen)
        await self.route(backend, data=data)
        return backend

    # -- clients

    def _headers(self, headers: Headers, host: str | None) -> list[tuple[str, str]]:
        host = self.host if host is None else host
        return [("Host", host), *headers] if host else list(headers)

    def connect(self, url: str) -> Connection:
        """A connection to one replica, to be entered with ``async with``."""
        return Connection(url, self.tls)

    async def request(
        self,
        method: str,
        target: str,
        headers: Headers = (),
        body: bytes | None = None,
        *,
        host: str | None = None,
    ) -> list[Answer]:
        """Send a request to every replica, on a new connection each; their answers.

        The target is sent as it is.  Under host routing, ``host`` is the user's unless given.
        """
        answers = []
        for url in self.urls:
            async with asyncio.timeout(DEADLINES["answer"]), self.connect(url) as connection:
                answers.append(
                    await connection.request(method, target, self._headers(headers, host), body)
                )
        return answers

    async def get(self, target: str, headers: Headers = (), **rest: Any) -> list[Answer]:
        """:meth:`request` with GET."""
        return await self.request("GET", target, headers, **rest)

    def connections(self) -> Iterator[Connection]:
        """A connection to each replica, each to be entered with ``async with``."""
        return (self.connect(url) for url in self.urls)

    @contextlib.asynccontextmanager
    async def websocket(
        self, url: str, target: str = "", headers: Headers = ()
    ) -> AsyncIterator[WebSocket]:
        """A WebSocket through one replica, to the user's server unless a target is given."""
        async with self.connect(url) as connection:
            async with asyncio.timeout(DEADLINES["answer"]):
                websocket = await connection.websocket(
                    target or self.path("ws"), self._headers(headers, None)
                )
            yield websocket

    # -- what the proxy says

    async def activity(self, spec: str = "") -> str:
        """What the proxy says of a route's last activity, ``""`` if nothing."""
        routes = await self.proxy.get_all_routes()
        return str(routes[spec or self.spec]["data"].get("last_activity") or "")

    async def close(self) -> None:
        """Delete this world's routes and end its backends.

        Raises:
            AssertionError: a backend could not make sense of what it was sent.
        """
        deletions: list[Awaitable[None]] = [self.proxy.delete_route(spec) for spec in self.specs]
        async with asyncio.timeout(DEADLINES["cleanup"]):
            await asyncio.gather(*deletions, return_exceptions=True)
        for backend in self.backends:
            await backend.stop()
        errors = [error for backend in self.backends for error in backend.errors]
        assert not errors, f"a backend failed: {errors[0]!r}"
