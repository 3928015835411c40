"""Servers that answer nothing, half, garbage, or without end: others are served, memory is kept."""

from __future__ import annotations

import asyncio
import contextlib
import tracemalloc
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from harness.forwarding import (
    DEADLINE,
    OK,
    Forwarding,
    Handler,
    Server,
    answer,
    body_of,
    deadline,
    forwarding,
    let_ports_go,
    read_head,
    serving,
)
from harness.waiting import until

from jupyterhub_junction.forwarder.backends import Backend
from jupyterhub_junction.forwarder.server import Limits

__all__ = ["deadline", "let_ports_go"]  # fixtures of every test here

EVERY_LOOP = True
SHORT = Limits(response_timeout=0.3)
GET = b"GET /bad/ HTTP/1.1\r\nHost: hub\r\n\r\n"


def begins_with(begun: bytes) -> Handler:
    """Say so much, and nothing more."""

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        writer.write(begun)
        await reader.read()

    return handler


def endless(first: bytes, piece: bytes) -> Handler:
    """Say the same for ever, as fast as it is taken; ``sent`` counts it."""

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        writer.write(first)
        while True:
            writer.write(piece)
            await writer.drain()

    return handler


@contextlib.asynccontextmanager
async def one_bad(
    handler: Handler, limits: Limits | None = None, **options: Any
) -> AsyncIterator[tuple[Server, Forwarding]]:
    """A forwarder with a bad server under /bad/, a good one under / and a hub's error page."""
    async with serving(handler) as bad, serving(answer(OK)) as good:
        page = OK.replace(b"ok", b"no")
        async with (
            serving(answer(page)) as hub,
            forwarding(
                {"/bad/": bad.url, "/": good.url}, limits=limits, error_target=hub.url, **options
            ) as f,
        ):
            yield bad, f


@pytest.mark.parametrize(
    "begun",
    [b"", b"H", b"HTTP/1.1 200 OK\r\nContent-Le", b"HTTP/1.1 100 Continue\r\n\r\n"],
    ids=["nothing", "letter", "half-a-head", "interim"],
)
async def test_a_server_that_never_answers_is_given_up(begun: bytes) -> None:
    async with one_bad(begins_with(begun), SHORT) as (bad, f):
        got = await f.get("/bad/")
        assert b"HTTP/1.1 503 Service Unavailable\r\n" in got
        assert body_of(got).endswith(b"no")
        await bad.until(lambda: bad.connections == 1 and not bad.open)


async def test_many_silent_servers_keep_nobody_waiting() -> None:
    async with one_bad(begins_with(b""), Limits(response_timeout=600)) as (bad, f):
        waiting = []
        for _ in range(50):
            reader, writer = await f.connect()
            waiting.append((reader, writer))
            writer.write(GET)
        await bad.until(lambda: bad.open == 50)
        for _ in range(20):
            assert body_of(await f.get("/")) == b"ok"
        for _, writer in waiting:
            writer.close()
        await bad.until(lambda: not bad.open)


@pytest.mark.parametrize(
    "begun",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n8\r\nhalf",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n0\r\nX: ",
        b"HTTP/1.1 200 OK\r\n\r\nhalf",
    ],
)
async def test_half_an_answer_is_cut_off_and_shows_no_end(begun: bytes) -> None:
    async with one_bad(begins_with(begun), SHORT) as (bad, f):
        got = await f.ask(GET)
        assert got.startswith(b"HTTP/1.1 200 OK\r\n")
        assert b"half" in got
        assert not got.endswith(b"0\r\n\r\n")
        await bad.until(lambda: bad.connections == 1 and not bad.open)


@pytest.mark.parametrize(
    ("first", "piece"),
    [
        (b"", b"\x00\xff garbage"),
        (b"", b"SSH-2.0-OpenSSH_9.2\r\n"),
        (b"HTTP/1.1 200 OK\r\n", b"X-Header: " + b"x" * 1000 + b"\r\n"),
        (b"HTTP/1.1 200 OK\r\nX-Header: ", b"x" * 10_000),
        (b"HTTP/1.1 200 ", b"x" * 10_000),
    ],
    ids=["garbage", "another-protocol", "headers", "a-header", "a-status-line"],
)
async def test_an_endless_head_is_a_503(first: bytes, piece: bytes) -> None:
    async with one_bad(endless(first, piece)) as (bad, f):
        got = await f.get("/bad/")
        assert got.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
        assert body_of(got) == b"no"
        await bad.until(lambda: not bad.open)


async def test_100_mb_of_headers_are_neither_read_nor_held() -> None:
    line = b"X-Header: " + b"x" * 99_988 + b"\r\n"
    taken = 0

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal taken
        await read_head(reader)
        writer.write(b"HTTP/1.1 200 OK\r\n")
        for _ in range(1000):
            writer.write(line)
            await writer.drain()
            taken += len(line)
        writer.write(b"\r\n")

    async with one_bad(handler) as (bad, f):
        tracemalloc.start()
        try:
            assert b" 503 " in await f.get("/bad/")
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        await bad.until(lambda: not bad.open)
        assert peak < 10_000_000
        assert taken < 30_000_000  # what the sockets' own buffers hold is not ours to say


async def test_interim_answers_without_end_come_to_one() -> None:
    interim = b"HTTP/1.1 102 Processing\r\n\r\n"
    async with one_bad(endless(b"", interim * 100), SHORT) as (bad, f):
        got = await f.get("/bad/")
        assert got.startswith(interim)
        assert b"HTTP/1.1 503 Service Unavailable\r\n" in got
        await bad.until(lambda: not bad.open)


@pytest.mark.parametrize(
    ("first", "piece"),
    [
        (b"0\r\n", b"X-Trailer: x\r\n"),
        (b"0\r\nX-Trailer: ", b"x" * 1000),
        (b"", b"0" * 1000),
        (b"5;", b"extension" * 100),
        (b"", b"2\r\nhello\r\n"),
    ],
    ids=["trailers", "a-trailer", "a-size", "an-extension", "too-long"],
)
async def test_chunks_that_never_end_in_order_are_cut_off(first: bytes, piece: bytes) -> None:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nwell\r\n"
    async with one_bad(endless(head + first, piece)) as (bad, f):
        got = await f.get("/bad/")
        # an error that shows at once is answered in the server's place
        assert got.startswith((b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 503 "))
        assert got.startswith(b"HTTP/1.1 503 ") or not got.endswith(b"0\r\n\r\n")
        await bad.until(lambda: not bad.open)


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 999999999999999999\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n",
    ],
    ids=["length", "until-close"],
)
async def test_an_endless_answer_ends_with_its_reader(head: bytes) -> None:
    async with one_bad(endless(head, b"x" * 65_536), SHORT) as (bad, f):
        reader, writer = await f.connect()
        writer.write(GET)
        tracemalloc.start()
        try:
            async with asyncio.timeout(DEADLINE):
                for _ in range(400):
                    await reader.readexactly(100_000)
            assert body_of(await f.get("/")) == b"ok"
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        writer.close()
        await bad.until(lambda: not bad.open)
        assert peak < 10_000_000


@pytest.mark.parametrize("begun", [b"half", b""])
async def test_an_upload_that_stops_is_given_up(begun: bytes) -> None:
    async with one_bad(begins_with(b""), Limits(body_timeout=0.3)) as (bad, f):
        post = b"POST /bad/ HTTP/1.1\r\nHost: hub\r\nContent-Length: 10\r\n\r\n" + begun
        got = await f.ask(post)
        assert got.startswith(b"HTTP/1.1 408 Request Timeout\r\n")
        await bad.until(lambda: not bad.open)


async def test_an_upload_that_its_server_does_not_take_is_not_given_up() -> None:
    """Nor does the time in which it could not be sent count against its client."""
    size, take = 30_000_000, asyncio.Event()

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await read_head(reader)
        if b"/slow" not in head:
            await reader.read()
            return
        await take.wait()
        await reader.readexactly(size)
        writer.write(OK)

    async with one_bad(slow, Limits(body_timeout=0.3)) as (_, f):
        post = b"POST /bad/%b HTTP/1.1\r\nHost: hub\r\nContent-Length: %d\r\n\r\n"
        reader, writer = await f.connect()
        with contextlib.closing(writer):
            writer.write(post % (b"slow", size) + bytes(size))
            backend = await backend_of(f, paused=True)
            for _ in range(2):  # these are younger
                assert b" 408 " in await f.ask(post % (b"", 10))
            backend.registry.limits = Limits()  # from now on it may take what time it needs
            backend.wait(DEADLINE)
            take.set()
            assert await reader.readexactly(len(OK)) == OK


async def test_a_server_that_takes_more_gives_its_client_time_to_send_it() -> None:
    async with one_bad(begins_with(b""), Limits(body_timeout=4 * DEADLINE)) as (_, f):
        _, writer = await f.connect()
        with contextlib.closing(writer):
            head = b"POST /bad/ HTTP/1.1\r\nHost: hub\r\nContent-Length: 2\r\n\r\n"
            writer.write(head)
            backend = await backend_of(f)
            assert backend.deadline < backend.registry.now() + 5 * DEADLINE
            backend.wait(DEADLINE)
            backend.pause_writing()
            backend.resume_writing()
            assert backend.deadline > backend.registry.now() + 2 * DEADLINE


async def backend_of(f: Forwarding, *, paused: bool = False) -> Backend:
    """The only connection to a server that is in use, once there is one."""

    async def there() -> Backend | None:
        registry = f.forwarder._registry
        connections = registry.connections if registry else ()
        found = (c for c in connections if isinstance(c, Backend) and c.user)
        return next((c for c in found if c.write_paused or not paused), None)

    return await until(there, "a connection to the server", deadline=DEADLINE)


async def test_the_error_pages_server_never_answers_either() -> None:
    async with (
        serving(begins_with(b"HTTP/1.1 200 OK\r\n")) as server,
        forwarding({"/": server.url}, error_target=server.url, limits=SHORT) as f,
    ):
        got = await f.get("/")
        assert got.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
        assert body_of(got) == b"Service Unavailable\n"


async def test_a_silent_websocket_is_not_given_up() -> None:
    async def echo(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for message in socket:
            await socket.send_str(message.data)
        return socket

    application = web.Application()
    application.add_routes([web.get("/ws", echo)])
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        async with one_bad(begins_with(b""), SHORT) as (_, f), aiohttp.ClientSession() as session:
            f.route("/ws", f"http://127.0.0.1:{runner.addresses[0][1]}")
            async with session.ws_connect(f.url + "/ws") as socket:
                for _ in range(2):  # a request after it is given up: the WebSocket is older
                    assert b" 503 " in await f.get("/bad/")
                await socket.send_str("still there")
                assert await socket.receive_str(timeout=DEADLINE) == "still there"
    finally:
        await runner.cleanup()


async def test_what_moves_is_not_given_up() -> None:
    """Each piece, of the request's body or the response's, buys the whole time again."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n")
        await reader.readexactly(1)
        writer.write(b"1")
        await reader.readexactly(1)
        uploaded.set()
        await more.wait()
        writer.write(b"2")

    uploaded, more = asyncio.Event(), asyncio.Event()
    async with one_bad(echo) as (_, f):
        reader, writer = await f.connect()
        with contextlib.closing(writer):
            post = b"POST /bad/ HTTP/1.1\r\nHost: hub\r\nContent-Length: 2\r\n\r\n"
            writer.write(post)
            await read_head(reader)
            registry = f.forwarder._registry
            assert registry is not None
            [backend] = [c for c in registry.connections if isinstance(c, Backend)]

            backend.wait(DEADLINE)
            writer.write(b"1")
            assert await reader.readexactly(1) == b"1"
            assert backend.deadline > registry.now() + 2 * DEADLINE

            backend.wait(DEADLINE)
            writer.write(b"2")
            await uploaded.wait()
            assert backend.deadline > registry.now() + 2 * DEADLINE

            more.set()
            assert await reader.readexactly(1) == b"2"
