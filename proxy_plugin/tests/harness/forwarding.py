"""A forwarder, servers made of bytes, and clients, on real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from aiohttp import web

from jupyterhub_junction.forwarder.server import Forwarder
from jupyterhub_junction.routes import Route, RouteTable

DEADLINE = 60.0
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@pytest.fixture(autouse=True)
async def deadline() -> AsyncIterator[None]:
    """No test waits for ever; nothing is left behind, and nothing fails unseen."""
    before = asyncio.all_tasks()
    unseen: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: unseen.append(context))
    yield
    async with asyncio.timeout(DEADLINE):
        while left := {t for t in asyncio.all_tasks() - before if t is not asyncio.current_task()}:
            await asyncio.wait(left)
    gc.collect(1)  # a task's exception that nobody asked for shows when the task goes
    assert not unseen


class Server:
    """A server made of a handler that reads and writes bytes."""

    def __init__(self, handler: Handler) -> None:
        self.handler = handler
        self.url = ""
        self.connections = 0
        self.open = 0
        self.changed = asyncio.Condition()
        self._tasks: set[asyncio.Task[Any]] = set()

    async def _run(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        await self._count(1)
        try:
            await self.handler(reader, writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.close()
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await writer.wait_closed()
            self._tasks.discard(task)
            await self._count(-1)

    async def _count(self, change: int) -> None:
        self.open += change
        self.connections += change > 0
        async with self.changed:
            self.changed.notify_all()

    async def until(self, check: Callable[[], bool]) -> None:
        async with asyncio.timeout(DEADLINE), self.changed:
            await self.changed.wait_for(check)

    async def stop(self, listener: asyncio.Server) -> None:
        listener.close()
        for task in tuple(self._tasks):
            task.cancel()
        await self.until(lambda: not self.open)


@contextlib.asynccontextmanager
async def serving(
    handler: Handler, *, path: Path | None = None, tls: ssl.SSLContext | None = None
) -> AsyncIterator[Server]:
    server = Server(handler)
    if path is not None:
        listener = await asyncio.start_unix_server(server._run, path)
        server.url = "http+unix://" + quote(str(path), safe="")
    else:
        listener = await asyncio.start_server(server._run, "127.0.0.1", 0, ssl=tls)
        port = listener.sockets[0].getsockname()[1]
        server.url = f"{'https' if tls else 'http'}://127.0.0.1:{port}"
    try:
        yield server
    finally:
        await server.stop(listener)


@contextlib.asynccontextmanager
async def app(*routes: web.RouteDef, **options: Any) -> AsyncIterator[str]:
    """An aiohttp server; yields its URL."""
    application = web.Application(**options)
    application.add_routes(routes)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


class Forwarding:
    """A running forwarder and its routes."""

    def __init__(self, forwarder: Forwarder, table: RouteTable, active: list[str]) -> None:
        self.forwarder = forwarder
        self.table = table
        self.active = active

    @property
    def port(self) -> int:
        return int(self.forwarder.addresses[0][1])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def route(self, routespec: str, target: str) -> None:
        """Add a route."""
        self.table.add(Route(routespec.removesuffix("/") + "/", target))

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port)

    async def ask(self, data: bytes) -> bytes:
        """All that comes back on one connection, until the forwarder closes it."""
        async with asyncio.timeout(DEADLINE):
            reader, writer = await self.connect()
            with contextlib.closing(writer):
                writer.write(data)
                return await reader.read()

    async def get(self, path: str, *lines: str) -> bytes:
        fields = "".join(f"{line}\r\n" for line in ("Connection: close", *lines))
        return await self.ask(f"GET {path} HTTP/1.1\r\nHost: hub\r\n{fields}\r\n".encode())


@contextlib.asynccontextmanager
async def forwarding(
    routes: dict[str, str], *, tls: ssl.SSLContext | None = None, **options: Any
) -> AsyncIterator[Forwarding]:
    table = RouteTable(Route(spec, target) for spec, target in routes.items())
    active: list[str] = []
    forwarder = Forwarder(
        resolve=table.match, on_activity=lambda route: active.append(route.routespec), **options
    )
    try:
        await forwarder.start("127.0.0.1", 0, ssl=tls)
        yield Forwarding(forwarder, table, active)
    finally:
        async with asyncio.timeout(DEADLINE):
            await forwarder.stop()


async def read_head(reader: asyncio.StreamReader) -> bytes:
    return await reader.readuntil(b"\r\n\r\n")


def answer(response: bytes, times: int = 1000) -> Handler:
    """Answer each request that has no body; close after so many."""

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(times):
            await read_head(reader)
            writer.write(response)

    return handler


async def echo_head(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while True:
        head = await read_head(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(head) + head)


def body_of(response: bytes) -> bytes:
    return response.partition(b"\r\n\r\n")[2]


def refused_url() -> str:
    """A URL at which nobody listens: its port is bound, and not listened on."""
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    HELD.append(sock)
    return f"http://127.0.0.1:{sock.getsockname()[1]}"


HELD: list[socket.socket] = []


@pytest.fixture(autouse=True)
def let_ports_go() -> Any:
    yield
    while HELD:
        HELD.pop().close()
