"""The forwarder, against real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import socket
import ssl
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from certipy import Certipy
from harness.forwarding import (
    DEADLINE,
    OK,
    Forwarding,
    answer,
    app,
    body_of,
    deadline,
    echo_head,
    forwarding,
    let_ports_go,
    read_head,
    refused_url,
    serving,
)
from harness.waiting import until

from jupyterhub_junction.forwarder.server import ForwardedRules, Forwarder, Limits

__all__ = ["deadline", "let_ports_go"]  # fixtures of every test here

EVERY_LOOP = True


# -- what the server sees


@pytest.mark.parametrize(
    "path",
    [
        "/user/x/a",
        "/user/x",
        "/user/x/a%2Fb%2fc",
        "/user/x/%61//b/../c/./d",
        "/user/x/?a=%20&b=c%3Bd;e#".rstrip("#"),
        "/user/%78/a?/user/y/",
        "/user/x/a|b^{}\"'",
        "/user/x/秀樹",
    ],
)
async def test_the_target_reaches_the_server_as_sent(path: str) -> None:
    async with serving(echo_head) as server, forwarding({"/user/x/": server.url}) as f:
        seen = body_of(await f.get(path))
        assert seen.splitlines()[0] == f"GET {path} HTTP/1.1".encode()


@pytest.mark.parametrize(
    ("prefix", "seen"),
    [("", b"/x/a?b"), ("/", b"/x/a?b"), ("/base", b"/base/x/a?b"), ("/base/", b"/base/x/a?b")],
)
async def test_the_path_of_the_target_goes_before(prefix: str, seen: bytes) -> None:
    async with serving(echo_head) as server, forwarding({"/x/": server.url + prefix}) as f:
        assert body_of(await f.get("/x/a?b")).split()[1] == seen


async def test_targets_of_one_server_keep_their_own_paths() -> None:
    """They share connections, and the error page's target does too."""
    async with serving(echo_head) as server:
        routes = {"/x/": server.url + "/one", "/y/": server.url + "/two"}
        async with forwarding(routes, error_target=server.url + "/hub/error") as f:
            asked = [body_of(await f.get(path)).split()[1] for path in ("/x/", "/y/", "/z", "/x/")]
        assert asked == [b"/one/x/", b"/two/y/", b"/hub/error/404?url=%2Fz", b"/one/x/"]
        assert server.connections == 1


async def test_host_and_origin_are_kept_and_the_way_is_told() -> None:
    async with serving(echo_head) as server, forwarding({"/": server.url}) as f:
        seen = body_of(await f.get("/", "Origin: http://hub:1", "X-Forwarded-For: 6.6.6.6"))
        lines = seen.split(b"\r\n")
        assert b"Host: hub" in lines
        assert b"Origin: http://hub:1" in lines
        assert b"X-Forwarded-For: 127.0.0.1" in lines
        assert b"X-Forwarded-Proto: http" in lines
        assert not any(line.lower().startswith(b"connection:") for line in lines)


async def test_a_trusted_proxys_word_is_added_to() -> None:
    rules = ForwardedRules(["127.0.0.1"])
    async with (
        serving(echo_head) as server,
        forwarding({"/": server.url}, trust_forwarded=rules) as f,
    ):
        seen = body_of(await f.get("/", "X-Forwarded-For: 6.6.6.6", "X-Forwarded-Proto: https"))
        assert b"\r\nX-Forwarded-For: 6.6.6.6,127.0.0.1\r\n" in seen
        assert b"\r\nX-Forwarded-Proto: https,http\r\n" in seen


async def test_host_routes() -> None:
    async with (
        serving(answer(OK.replace(b"ok", b"me"))) as mine,
        serving(answer(OK)) as other,
        forwarding({"x.hub/": mine.url, "/": other.url}) as f,
    ):
        me = await f.ask(b"GET / HTTP/1.1\r\nHost: X.hub:8000\r\nConnection: close\r\n\r\n")
        assert body_of(me) == b"me"
        assert body_of(await f.get("/")) == b"ok"


async def test_connections_are_used_again_on_both_sides() -> None:
    async with serving(answer(OK)) as server, forwarding({"/": server.url}) as f:
        reader, writer = await f.connect()
        with contextlib.closing(writer):
            for _ in range(5):
                writer.write(b"GET / HTTP/1.1\r\nHost: hub\r\n\r\n")
                assert (await reader.readexactly(len(OK))) == OK
        assert server.connections == 1


async def test_pipelined_requests_are_answered_in_order() -> None:
    async with serving(echo_head) as server, forwarding({"/": server.url}) as f:
        ask = b"".join(b"GET /%d HTTP/1.1\r\nHost: hub\r\n\r\n" % n for n in range(50))
        ask += b"GET /last HTTP/1.1\r\nHost: hub\r\nConnection: close\r\n\r\n"
        got = await f.ask(ask)
        seen = [line.split()[1] for line in got.splitlines() if line.startswith(b"GET /")]
        assert seen == [*(b"/%d" % n for n in range(50)), b"/last"]


async def test_many_pipelined_requests_without_a_route() -> None:
    async with forwarding({}) as f:
        ask = b"GET / HTTP/1.1\r\nHost: hub\r\n\r\n" * 3000
        ask += b"GET / HTTP/1.1\r\nHost: hub\r\nConnection: close\r\n\r\n"
        assert (await f.ask(ask)).count(b"HTTP/1.1 404 Not Found") == 3001


# -- messages of all kinds


async def test_methods_bodies_and_trailers() -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await read_head(reader)
        assert b"Transfer-Encoding: chunked" in head
        data = await reader.readuntil(b"X-Sum: 1\r\n\r\n")
        assert data == b"5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n"
        writer.write(b"HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n")
        writer.write(b"3;ext=1\r\nabc\r\n0\r\nX-Done: yes\r\nContent-Length: 5\r\n\r\n")

    async with serving(handler) as server, forwarding({"/": server.url}) as f:
        got = await f.ask(
            b"PATCH / HTTP/1.1\r\nHost: hub\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n"
            b"\r\n5;x=y\r\nhello\r\n0\r\nX-Sum: 1\r\nX-Forwarded-For: 1\r\n\r\n".replace(
                b"X-Sum: 1\r\nX-Forwarded-For: 1", b"X-Forwarded-For: 1\r\nX-Sum: 1"
            )
        )
        assert got.startswith(b"HTTP/1.1 201 Created\r\n")
        assert body_of(got) == b"3\r\nabc\r\n0\r\nX-Done: yes\r\n\r\n"


async def test_head_and_options_and_no_content() -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            method = (await read_head(reader)).split()[0]
            if method == b"HEAD":
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
            elif method == b"OPTIONS":
                writer.write(b"HTTP/1.1 204 No Content\r\nAllow: GET\r\n\r\n")
            else:
                writer.write(b"HTTP/1.1 304 Not Modified\r\nContent-Length: 1000\r\n\r\n")

    async with serving(handler) as server, forwarding({"/": server.url}) as f:
        rest = b" / HTTP/1.1\r\nHost: hub\r\n\r\n"
        last = b"GET / HTTP/1.1\r\nHost: hub\r\nConnection: close\r\n\r\n"
        got = await f.ask(b"HEAD" + rest + b"OPTIONS" + rest + last)
        assert got == (
            b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"
            b"HTTP/1.1 204 No Content\r\nAllow: GET\r\n\r\n"
            b"HTTP/1.1 304 Not Modified\r\nContent-Length: 1000\r\nConnection: close\r\n\r\n"
        )
        assert server.connections == 1


async def test_expect_100_is_between_client_and_server() -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert b"Expect: 100-continue" in await read_head(reader)
        writer.write(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        assert await reader.readexactly(5) == b"hello"
        writer.write(OK)

    async with serving(handler) as server, forwarding({"/": server.url}) as f:
        reader, writer = await f.connect()
        with contextlib.closing(writer):
            writer.write(
                b"PUT / HTTP/1.1\r\nHost: hub\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n"
            )
            assert (await read_head(reader)).startswith(b"HTTP/1.1 103 Early Hints\r\nLink: </a>")
            assert await read_head(reader) == b"HTTP/1.1 100 Continue\r\n\r\n"
            writer.write(b"hello")
            assert await reader.readexactly(len(OK)) == OK


async def test_a_refused_expectation_closes() -> None:
    refusal = b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n"
    async with serving(answer(refusal)) as server, forwarding({"/": server.url}) as f:
        got = await f.ask(
            b"PUT / HTTP/1.1\r\nHost: hub\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n"
        )
        assert got.startswith(b"HTTP/1.1 413 Too Large")
        assert b"\r\nConnection: close\r\n" in got


async def test_http10_clients() -> None:
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"
    async with serving(answer(chunked)) as server, forwarding({"/": server.url}) as f:
        got = await f.ask(b"GET / HTTP/1.0\r\n\r\n")
        assert got == b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nok"
        got = await f.ask(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        assert got == b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nok"
    async with serving(answer(OK)) as server, forwarding({"/": server.url}) as f:
        ask = b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"
        got = await f.ask(ask + b"GET / HTTP/1.0\r\n\r\n")
        assert got.count(b"\r\n\r\nok") == 2
        assert b"Connection: keep-alive" in got


async def test_a_body_that_ends_with_its_connection() -> None:
    old = b"HTTP/1.0 200 OK\r\n\r\nall of it"
    async with serving(answer(old, times=1)) as server, forwarding({"/": server.url}) as f:
        got = body_of(await f.get("/"))
        assert got == b"9\r\nall of it\r\n0\r\n\r\n"


async def test_events_arrive_one_by_one() -> None:
    more = asyncio.Event()

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n")
        await more.wait()
        writer.write(b"data: 2\n\n")

    async with serving(handler) as server, forwarding({"/": server.url}) as f:
        reader, writer = await f.connect()
        with contextlib.closing(writer):
            writer.write(b"GET / HTTP/1.1\r\nHost: hub\r\n\r\n")
            await reader.readuntil(b"data: 1\n\n\r\n")
            more.set()
            await reader.readuntil(b"data: 2\n\n\r\n0\r\n\r\n")


@pytest.mark.parametrize("status", [302, 404, 500, 502, 503])
async def test_a_servers_own_answers_are_untouched(status: int) -> None:
    response = (
        b"HTTP/1.1 %d Mine\r\nLocation: http://127.0.0.1:9/x\r\nContent-Length: 2\r\n\r\nok"
        % status
    )
    async with (
        serving(answer(OK.replace(b"ok", b"no"))) as hub,
        serving(answer(response)) as server,
        forwarding({"/": server.url}, error_target=hub.url) as f,
    ):
        reader, writer = await f.connect()
        with contextlib.closing(writer):
            writer.write(b"GET / HTTP/1.1\r\nHost: hub\r\n\r\n")
            assert await reader.readexactly(len(response)) == response
        assert not hub.connections
        assert not f.active


# -- hostile framing

HOSTILE = [
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5, 5\r\n\r\nhello",
    b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding:chunked\r\n\r\n0\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n",
    b"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nX: a\nContent-Length: 5\r\n\r\n",
    b"GET / HTTP/1.1\nHost: a\n\n",
    b"GET / HTTP/1.1\r\nHost: a\n\r\n",
    b"GET / HTTP/1.1\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
    b"GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /\x80%41 HTTP/1.1\r\nHost: a\r\n\r\n",
    b" GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost : a\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nX : a\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nX\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +5\r\n\r\nhello",
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x5\r\n\r\nhello",
    *(
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks
        for chunks in (
            b"zz\r\n",
            b"-1\r\n",
            b"+1\r\na\r\n0\r\n\r\n",
            b"0x1\r\na\r\n0\r\n\r\n",
            b"1 \r\na\r\n0\r\n\r\n",
            b"\r\n0\r\n\r\n",
            b"1\na\n0\n\n",
            b"1\r\nab\r\n0\r\n\r\n",
            b"ffffffffffffffff1\r\na",
            b"0\r\nX : y\r\n\r\n",
        )
    ),
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\n\r\n\r\n",
]


@pytest.mark.parametrize("data", HOSTILE)
async def test_what_can_be_read_in_two_ways_reaches_no_server(data: bytes) -> None:
    async with serving(answer(OK)) as server, forwarding({"/": server.url}) as f:
        got = await f.ask(data + b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n")
        assert got.startswith(b"HTTP/1.1 400 Bad Request\r\n")
        assert got.count(b"HTTP/1.1") == 1
        assert b"\r\nConnection: close\r\n" in got
        assert not server.connections


async def test_broken_chunks_end_both_connections() -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with serving(handler) as server, forwarding({"/": server.url}) as f:
        got = await f.ask(
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"5\r\nhello\r\n0x5\r\nhello\r\n0\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"
        )
        assert got.startswith(b"HTTP/1.1 400 Bad Request\r\n")
        assert got.count(b"HTTP/1.1") == 1
        await server.until(lambda: not server.open)


async def test_a_header_has_a_limit() -> None:
    limits = Limits(header_bytes=2000)
    async with serving(answer(OK)) as server, forwarding({"/": server.url}, limits=limits) as f:
        assert b" 200 " in await f.get("/", "X: " + "x" * 1000)
        assert b" 431 " in await f.get("/", "X: " + "x" * 3000)


async def test_a_slow_header_has_a_deadline() -> None:
    async with forwarding({}, limits=Limits(header_timeout=0.05)) as f:
        assert (await f.ask(b"GET / HTTP/1.1\r\nHo")).startswith(b"HTTP/1.1 408 ")
        assert await f.ask(b"") == b""


async def test_empty_lines_buy_no_time() -> None:
    async with forwarding({}, limits=Limits(header_timeout=0.2)) as f:
        reader, writer = await f.connect()
        ended = asyncio.ensure_future(reader.read())
        async with asyncio.timeout(DEADLINE):
            while not ended.done():
                with contextlib.suppress(ConnectionError):
                    writer.write(b"\r\n")
                    await writer.drain()
                await asyncio.wait([ended], timeout=0.05)
        writer.close()
        with contextlib.suppress(ConnectionError):
            assert await ended == b""


async def test_a_few_empty_lines_before_a_request_are_passed_over_and_no_more() -> None:
    get = b"GET / HTTP/1.1\r\nHost: hub\r\n\r\n"
    last = b"GET / HTTP/1.1\r\nHost: hub\r\nConnection: close\r\n\r\n"
    async with serving(answer(OK)) as server, forwarding({"/": server.url}) as f:
        got = await f.ask((b"\r\n" * 5 + get) * 3 + b"\r\n" * 5 + last)
        assert got.count(b"HTTP/1.1 200 OK\r\n") == 4
        got = await f.ask(get + b"\r\n" * 20 + last)
        assert got.count(b"HTTP/1.1 ") == 2
        assert b"HTTP/1.1 400 Bad Request\r\n" in got
        reader, writer = await f.connect()
        with contextlib.closing(writer):
            writer.write(b"\r\n" * 5)
            await begun(f)
            writer.write(b"\r\n" * 5)
            assert (await read_head(reader)).startswith(b"HTTP/1.1 400 ")


async def begun(f: Forwarding) -> None:
    """Return once all that was sent on the only connection has been looked at."""

    async def seen() -> bool:
        return any(client._head_begun for client in f.forwarder.clients)

    await until(seen, "a request's head begins", deadline=DEADLINE)


async def test_a_slow_reader_is_not_taken_for_a_slow_writer() -> None:
    """It has sent its next requests, and has answers to read before they are looked at."""
    limits = Limits(header_timeout=0.1, keepalive_timeout=0.1, buffer_bytes=4096)
    page, times = b"HTTP/1.1 200 OK\r\nContent-Length: 10000\r\n\r\n" + bytes(10_000), 2000
    async with (
        serving(answer(page, times)) as server,
        forwarding({"/": server.url}, limits=limits) as f,
    ):

        async def stuck() -> bool:
            return any(c.write_paused and c.exchange is None for c in f.forwarder.clients)

        reader, writer = await asyncio.open_connection("127.0.0.1", f.port, limit=1000)
        with contextlib.closing(writer):
            writer.write(b"GET / HTTP/1.1\r\nHost: hub\r\n\r\n" * times)
            async with asyncio.timeout(DEADLINE):
                await until(stuck, "the client's next request waits for it to read")
                for _ in range(3):  # these are given up for being slow, and are younger
                    assert (await f.ask(b"GET / HTTP/1.1\r\nHo")).startswith(b"HTTP/1.1 408 ")
                for _ in range(times):
                    await reader.readexactly(len(page))


async def test_connections_have_a_limit() -> None:
    async with (
        serving(answer(OK)) as server,
        forwarding({"/": server.url}, limits=Limits(connections=1)) as f,
    ):
        reader, writer = await f.connect()
        with contextlib.closing(writer):
            writer.write(b"GET / HTTP/1.1\r\nHost: hub\r\n\r\n")
            await reader.readexactly(len(OK))
            assert b" 503 " in await f.get("/")


@pytest.mark.parametrize(
    "response",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: a\r\n b\r\n\r\nok",
        b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok",
        b"HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
        b"ICY 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000,
    ],
)
async def test_a_response_that_cannot_be_read_is_a_503(response: bytes) -> None:
    async with serving(answer(response)) as server, forwarding({"/": server.url}) as f:
        got = await f.get("/")
        assert got.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
        await server.until(lambda: not server.open)


async def test_a_server_that_says_too_much_is_not_used_again() -> None:
    async with serving(answer(OK + OK)) as server, forwarding({"/": server.url}) as f:
        for _ in range(3):
            assert body_of(await f.get("/")) == b"ok"
        assert server.connections == 3


# -- servers that fail


async def test_a_dead_server_and_no_route_show_the_hubs_page() -> None:
    page = (
        b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nX-Hub: 1\r\nContent-Length: 5\r\n\r\n<hub>"
    )
    asked: list[bytes] = []

    async def hub_handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            asked.append((await read_head(reader)).split(b"\r\n")[0])
            writer.write(page)

    async with (
        serving(hub_handler) as hub,
        forwarding({"/dead/": refused_url()}, error_target=hub.url + "/hub/error") as f,
    ):
        got = await f.get("/dead/a%2Fb?c=d&e")
        assert got.startswith(b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/html\r\n")
        assert body_of(got) == b"<hub>"
        assert b"X-Hub" not in got
        got = await f.get("/none")
        assert got.startswith(b"HTTP/1.1 404 Not Found\r\n")
        assert body_of(got) == b"<hub>"
        assert asked == [
            b"GET /hub/error/503?url=%2Fdead%2Fa%252Fb%3Fc%3Dd%26e HTTP/1.1",
            b"GET /hub/error/404?url=%2Fnone HTTP/1.1",
        ]
        assert not f.active


async def test_the_hub_is_dead_too() -> None:
    url = refused_url()
    async with forwarding({"/": url}, error_target=url) as f:
        got = await f.get("/")
        assert got.startswith(b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain")
        assert body_of(got) == b"Service Unavailable\n"


async def test_the_hub_is_silent() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    limits = Limits(error_page_timeout=0.05)
    async with serving(silent) as hub, forwarding({}, error_target=hub.url, limits=limits) as f:
        assert (await f.get("/")).startswith(b"HTTP/1.1 404 Not Found\r\n")
        await hub.until(lambda: hub.connections == 1 and not hub.open)


async def test_an_upload_to_a_dead_server_gets_its_answer() -> None:
    async with forwarding({"/": refused_url()}) as f:
        size = 5_000_000
        ask = b"POST / HTTP/1.1\r\nHost: hub\r\nContent-Length: %d\r\n\r\n" % size
        assert b" 503 " in await f.ask(ask + b"x" * size)


async def test_head_and_websockets_get_errors_without_a_body() -> None:
    async with forwarding({}) as f:
        got = await f.ask(b"HEAD / HTTP/1.1\r\nHost: hub\r\nConnection: close\r\n\r\n")
        assert got.startswith(b"HTTP/1.1 404 ")
        assert body_of(got) == b""


@pytest.mark.parametrize(
    "begun",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n4\r\n",
    ],
)
async def test_a_server_dies_in_the_middle(begun: bytes) -> None:
    """The client must not take what came for all there is."""
    async with serving(answer(begun, times=1)) as server, forwarding({"/": server.url}) as f:
        async with aiohttp.ClientSession() as session, session.get(f.url) as response:
            with pytest.raises(aiohttp.ClientPayloadError):
                await response.read()
        got = await f.get("/")
        assert not got.endswith(b"0\r\n\r\n")
        assert b" 503 " not in got
        with contextlib.suppress(ConnectionResetError):
            await f.ask(b"GET / HTTP/1.0\r\n\r\n")


async def test_a_server_reset_while_an_old_client_reads() -> None:
    """HTTP/1.0 has no other sign of an incomplete response than a reset."""

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n")
        await writer.drain()

    async with serving(handler) as server, forwarding({"/": server.url}) as f:
        with pytest.raises(ConnectionResetError):
            await f.ask(b"GET / HTTP/1.0\r\n\r\n")


async def test_a_connection_closed_while_pooled_is_no_error() -> None:
    async with serving(answer(OK, times=1)) as server, forwarding({"/": server.url}) as f:
        for _ in range(5):
            assert b" 200 " in await f.get("/")


async def test_only_harmless_requests_are_sent_twice() -> None:
    """The server takes a second request on a connection and closes without a word."""
    heads: list[bytes] = []

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append((await read_head(reader)).split()[0])
        writer.write(OK)
        heads.append((await read_head(reader)).split()[0])

    async with serving(handler) as server, forwarding({"/": server.url}) as f:
        assert b" 200 " in await f.get("/")
        assert b" 200 " in await f.get("/")
        assert server.connections == 2
        rest = b" / HTTP/1.1\r\nHost: hub\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
        assert b" 503 " in await f.ask(b"POST" + rest)
        assert b" 200 " in await f.get("/")
        assert b" 503 " in await f.ask(b"DELETE" + rest)
        assert heads == [b"GET", b"GET", b"GET", b"POST", b"GET", b"DELETE"]


async def test_a_request_whose_server_has_spoken_is_not_sent_twice() -> None:
    """A word on the way to the answer is one too: the server is at work."""
    asked: list[bytes] = []

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await read_head(reader))
        writer.write(OK)
        asked.append(await read_head(reader))
        writer.write(b"HTTP/1.1 102 Processing\r\n\r\n")
        await writer.drain()

    async with serving(handler) as server, forwarding({"/": server.url}) as f:
        assert b" 200 " in await f.get("/")
        got = await f.get("/")
        assert got.startswith(b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 503 ")
        assert len(asked) == 2


async def test_activity_moves_on_success_alone() -> None:
    async with (
        serving(answer(OK)) as good,
        serving(answer(OK.replace(b"200 OK", b"403 No"))) as bad,
        forwarding({"/good/": good.url, "/bad/": bad.url, "/dead/": refused_url()}) as f,
    ):
        for path in ("/good/", "/good/", "/bad/", "/dead/", "/none/"):
            await f.get(path)
        assert f.active == ["/good/"]


# -- clients that go away


async def test_a_client_that_goes_away_takes_its_servers_connection_along() -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        assert await reader.read() == b""

    async with serving(handler) as server, forwarding({"/": server.url}) as f:
        for reset in (False, True):
            _, writer = await f.connect()
            writer.write(b"GET / HTTP/1.1\r\nHost: hub\r\n\r\n")
            await server.until(lambda: server.open == 1)
            if reset:
                writer.transport.abort()
            writer.close()
            await server.until(lambda: server.open == 0)
        assert server.connections == 2


async def test_a_client_goes_away_while_its_server_is_being_connected_to(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    started, cancelled = asyncio.Event(), asyncio.Event()

    async def never(*args: Any, **kwargs: Any) -> Any:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    async with forwarding({"/": refused_url()}) as f:
        _, writer = await f.connect()
        with monkeypatch.context() as patch:
            patch.setattr(asyncio.get_running_loop(), "create_connection", never)
            writer.write(b"GET / HTTP/1.1\r\nHost: hub\r\n\r\n")
            async with asyncio.timeout(DEADLINE):
                await started.wait()
                writer.close()
                await cancelled.wait()


async def test_a_server_that_does_not_answer_the_connection() -> None:
    # a listener with no room in its backlog lets connections hang
    with socket.socket() as sock, contextlib.ExitStack() as stack:
        sock.bind(("127.0.0.1", 0))
        sock.listen(0)
        for _ in range(8):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(sock.getsockname())
        url = f"http://127.0.0.1:{sock.getsockname()[1]}"
        async with forwarding({"/": url}, limits=Limits(connect_timeout=0.1)) as f:
            assert b" 503 " in await f.get("/")


# -- size


def held(f: Forwarding) -> int:
    registry = f.forwarder._registry
    assert registry is not None
    return sum(
        c.transport.get_write_buffer_size() + len(getattr(c, "_held", b""))
        for c in registry.connections
    )


@pytest.mark.parametrize("chunked", [False, True])
async def test_100_mb_up_in_bounded_memory(chunked: bool) -> None:
    piece, count = b"x" * 2**16, 1600
    most = 0

    async def take(request: web.Request) -> web.Response:
        nonlocal most
        total = 0
        async for data in request.content.iter_any():
            total += len(data)
            most = max(most, held(f))
        return web.Response(text=str(total))

    async def body() -> AsyncIterator[bytes]:
        for _ in range(count):
            yield piece

    headers = {} if chunked else {"Content-Length": str(len(piece) * count)}
    limits = Limits(buffer_bytes=64 * 1024)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    async with (
        app(web.post("/", take)) as url,
        forwarding({"/": url}, limits=limits) as f,
        aiohttp.ClientSession() as session,
        session.post(f.url, data=body(), headers=headers) as response,
    ):
        assert await response.text() == str(len(piece) * count)
    assert most <= 64 * 1024 + 2 * 256 * 1024
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 40 * 1024  # KiB


async def test_a_client_that_does_not_read_stops_its_server() -> None:
    sent = 0
    stuck = asyncio.Event()

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await read_head(reader)
        size = 200_000_000
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        while sent < size:
            writer.write(b"x" * 100_000)
            sent += 100_000
            drained = asyncio.ensure_future(writer.drain())
            await asyncio.wait([drained], timeout=0.3)
            if not drained.done():
                stuck.set()
            await drained

    async with serving(handler) as server, forwarding({"/": server.url}) as f:
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.setblocking(False)
        loop = asyncio.get_running_loop()
        with contextlib.closing(sock):
            await loop.sock_connect(sock, ("127.0.0.1", f.port))
            await loop.sock_sendall(sock, b"GET / HTTP/1.1\r\nHost: hub\r\n\r\n")
            async with asyncio.timeout(DEADLINE):
                await stuck.wait()
            assert held(f) <= 3 * 256 * 1024
            assert sent < 50_000_000
        await server.until(lambda: not server.open)


@pytest.mark.parametrize("routed", [False, True])
async def test_a_client_that_asks_on_without_reading_is_not_read_from(routed: bool) -> None:
    """Its requests are small, so that nearly all it has sent is still to be looked at."""
    limits = Limits(buffer_bytes=16 * 1024, header_bytes=16 * 1024)
    page = b"HTTP/1.1 200 OK\r\nContent-Length: 10000\r\n\r\n" + bytes(10_000)
    async with serving(answer(page, 100_000)) as server:
        async with forwarding({"/x/": server.url} if routed else {}, limits=limits) as f:
            _, writer = await f.connect()
            with contextlib.closing(writer):
                writer.transport.set_write_buffer_limits(0)
                writer.transport.pause_reading()
                asked, most, stuck = 0, 0, False
                while asked < 32_000_000 and not stuck:
                    writer.write(b"GET /x HTTP/1.1\r\nHost: hub\r\n\r\n" * 10_000)
                    asked += 310_000
                    drained = asyncio.ensure_future(writer.drain())
                    await asyncio.wait([drained], timeout=0.5)
                    stuck = not drained.done()
                    drained.cancel()
                    most = max([most, *(len(c._held) for c in f.forwarder.clients)])
                assert stuck
                assert most <= 16 * 1024 + 256 * 1024
                writer.transport.abort()
        await server.until(lambda: not server.open)


async def test_a_client_that_asks_faster_than_it_is_answered_waits() -> None:
    """Each answer frees its reader, and makes room for one small request only."""
    limits = Limits(buffer_bytes=16 * 1024, header_bytes=16 * 1024)
    async with (
        serving(answer(OK)) as server,
        forwarding({"/": server.url}, limits=limits) as f,
    ):
        reader, writer = await f.connect()
        writer.write(b"GET / HTTP/1.1\r\nHost: hub\r\n\r\n" * 500_000)
        async with asyncio.timeout(DEADLINE):
            for _ in range(300):
                await reader.readexactly(len(OK))
        [client] = f.forwarder.clients
        assert len(client._held) <= 16 * 1024 + 256 * 1024
        writer.transport.abort()


async def test_what_was_held_back_is_answered_once_the_client_reads() -> None:
    limits = Limits(buffer_bytes=4096, header_bytes=4096)
    page = b"HTTP/1.1 200 OK\r\nContent-Length: 10000\r\n\r\n" + bytes(10_000)
    times = 3000
    async with (
        serving(answer(page, times)) as server,
        forwarding({"/": server.url}, limits=limits) as f,
    ):
        reader, writer = await f.connect()

        async def stuck() -> bool:
            return any(c.write_paused and c._read_paused for c in f.forwarder.clients)

        with contextlib.closing(writer):
            writer.transport.pause_reading()
            writer.write(b"GET / HTTP/1.1\r\nHost: hub\r\n\r\n" * times)
            await until(stuck, "the client is neither read from nor written to", deadline=DEADLINE)
            writer.transport.resume_reading()
            async with asyncio.timeout(DEADLINE):
                for _ in range(times):
                    await reader.readexactly(len(page))


async def test_a_stalled_client_is_dropped_in_the_end() -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            writer.write(b"x" * 100_000)
            await writer.drain()

    limits = Limits(stall_timeout=0.1)
    async with serving(handler) as server, forwarding({"/": server.url}, limits=limits) as f:
        _, writer = await f.connect()
        with contextlib.closing(writer):
            writer.transport.pause_reading()
            writer.write(b"GET / HTTP/1.1\r\nHost: hub\r\n\r\n")
            await server.until(lambda: server.connections == 1 and not server.open)


# -- WebSockets


async def ws_echo(request: web.Request) -> web.WebSocketResponse:
    socket = web.WebSocketResponse(protocols=["v1"], max_msg_size=0)
    await socket.prepare(request)
    async for message in socket:
        if message.data == "bye":
            await socket.close(code=4001, message=b"as asked")
        elif isinstance(message.data, str):
            await socket.send_str(message.data)
        else:
            await socket.send_bytes(message.data)
    return socket


async def test_a_websocket_passes_both_ways_and_closes() -> None:
    async with (
        app(web.get("/user/x/ws", ws_echo)) as url,
        forwarding({"/user/x/": url}) as f,
        aiohttp.ClientSession() as session,
        session.ws_connect(f.url + "/user/x/ws", protocols=["v1"], max_msg_size=0) as socket,
    ):
        assert socket.protocol == "v1"
        await socket.send_str("hello")
        assert await socket.receive_str(timeout=DEADLINE) == "hello"
        large = bytes(5_000_000)
        await socket.send_bytes(large)
        assert await socket.receive_bytes(timeout=DEADLINE) == large
        await socket.send_str("bye")
        message = await socket.receive(timeout=DEADLINE)
        assert (message.type, message.data) == (aiohttp.WSMsgType.CLOSE, 4001)
        assert f.active[0] == "/user/x/"


async def test_a_websocket_refused_by_its_server_is_a_response() -> None:
    async def no(request: web.Request) -> web.Response:
        return web.Response(status=403, text="not yours")

    async with (
        app(web.get("/", no)) as url,
        forwarding({"/": url}) as f,
        aiohttp.ClientSession() as session,
    ):
        with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
            await session.ws_connect(f.url)
        assert caught.value.status == 403
    async with forwarding({"/": refused_url()}) as f, aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
            await session.ws_connect(f.url)
        assert caught.value.status == 503


UPGRADE = (
    b"GET / HTTP/1.1\r\nHost: hub\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n\r\n"
)
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"


async def test_bytes_sent_early_go_through_the_tunnel() -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await read_head(reader)).lower()
        assert b"upgrade: websocket" in head
        assert b"connection: upgrade" in head
        writer.write(SWITCH + b"first")
        writer.write(await reader.readexactly(5))

    async with serving(handler) as server, forwarding({"/": server.url}) as f:
        assert await f.ask(UPGRADE + b"early") == SWITCH + b"firstearly"


async def test_what_follows_a_refused_upgrade_is_no_request() -> None:
    async with serving(answer(OK)) as server, forwarding({"/": server.url}) as f:
        got = await f.ask(UPGRADE + b"GET /smuggled HTTP/1.1\r\nHost: hub\r\n\r\n")
        assert got.count(b"HTTP/1.1 200 OK") == 1
        assert server.connections == 1


async def test_only_websockets_are_upgrades() -> None:
    async with serving(echo_head) as server, forwarding({"/": server.url}) as f:
        seen = body_of(await f.get("/", "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c"))
        assert b"upgrade" not in seen.lower()


async def test_a_half_closed_tunnel_goes_on_the_other_way() -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        writer.write(SWITCH)
        assert await reader.read() == b"question"
        writer.write(b"answer")

    async with serving(handler) as server, forwarding({"/": server.url}) as f:
        reader, writer = await f.connect()
        with contextlib.closing(writer):
            writer.write(UPGRADE)
            assert await read_head(reader) == SWITCH
            writer.write(b"question")
            writer.write_eof()
            async with asyncio.timeout(DEADLINE):
                assert await reader.read() == b"answer"
        await server.until(lambda: not server.open)


@pytest.mark.parametrize("reset", [False, True])
async def test_no_side_of_a_tunnel_outlives_the_other(reset: bool) -> None:
    """Idle tabs' WebSockets to stopped servers filled CHP with sockets (CHP #557)."""
    gone = asyncio.Event()

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        writer.write(SWITCH)
        if gone.is_set():
            if reset:
                writer.transport.abort()
            return
        await reader.read()

    limits = Limits(half_closed_timeout=0.1)
    async with serving(handler) as server, forwarding({"/": server.url}, limits=limits) as f:
        reader, writer = await f.connect()
        writer.write(UPGRADE)
        await read_head(reader)
        if reset:
            writer.transport.abort()
        writer.close()
        await server.until(lambda: server.connections == 1 and not server.open)
        gone.set()
        with contextlib.suppress(ConnectionResetError):
            assert await f.ask(UPGRADE) == SWITCH
        registry = f.forwarder._registry
        assert registry is not None
        async with asyncio.timeout(DEADLINE):
            await registry.wait_empty()


async def test_a_tunnel_whose_reader_stops_is_paused() -> None:
    sent = 0
    stuck = asyncio.Event()

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await read_head(reader)
        writer.write(SWITCH)
        while sent < 200_000_000:
            writer.write(b"x" * 100_000)
            sent += 100_000
            drained = asyncio.ensure_future(writer.drain())
            await asyncio.wait([drained], timeout=0.3)
            if not drained.done():
                stuck.set()
            await drained

    async with serving(handler) as server, forwarding({"/": server.url}) as f:
        _, writer = await f.connect()
        with contextlib.closing(writer):
            writer.transport.pause_reading()
            writer.write(UPGRADE)
            async with asyncio.timeout(DEADLINE):
                await stuck.wait()
            assert held(f) <= 3 * 256 * 1024
            assert sent < 50_000_000
        await server.until(lambda: not server.open)


# -- TLS and unix sockets


class Certificates:
    """A certificate for 127.0.0.1, one for a client, and their authorities."""

    def __init__(self, folder: Path) -> None:
        certipy = Certipy(store_dir=str(folder))
        for name in ("server", "client"):
            certipy.create_ca(f"{name}-ca")
            certipy.create_signed_pair(
                name, f"{name}-ca", alt_names=["IP:127.0.0.1", "DNS:localhost"]
            )
        self.files = {
            name: {k: str(v) for k, v in certipy.store.get_record(name)["files"].items()}
            for name in ("server", "client", "server-ca", "client-ca")
        }

    def context(self, purpose: ssl.Purpose, own: str, authority: str) -> ssl.SSLContext:
        """Certificates wanted of both sides."""
        context = ssl.create_default_context(purpose, cafile=self.files[authority]["cert"])
        context.load_cert_chain(self.files[own]["cert"], self.files[own]["key"])
        context.verify_mode = ssl.CERT_REQUIRED
        return context


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


async def test_tls_to_the_server_with_certificates_of_both(certificates: Certificates) -> None:
    server_tls = certificates.context(ssl.Purpose.CLIENT_AUTH, "server", "client-ca")
    client_tls = certificates.context(ssl.Purpose.SERVER_AUTH, "client", "server-ca")
    async with serving(answer(OK), tls=server_tls) as server:
        async with forwarding({"/": server.url}, client_ssl=client_tls) as f:
            assert body_of(await f.get("/")) == b"ok"
            assert body_of(await f.get("/")) == b"ok"
        async with forwarding({"/": server.url}) as f:  # does not know the authority
            assert b" 503 " in await f.get("/")
        wrong_name = server.url.replace("127.0.0.1", "127.0.0.2")
        async with forwarding({"/": wrong_name}, client_ssl=client_tls) as f:
            assert b" 503 " in await f.get("/")


async def test_tls_from_the_client(certificates: Certificates) -> None:
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(certificates.files["server"]["cert"], certificates.files["server"]["key"])
    trust = ssl.create_default_context(cafile=certificates.files["server-ca"]["cert"])

    async def seen(request: web.Request) -> web.Response:
        return web.Response(text=request.headers["X-Forwarded-Proto"] + " " * 1_000_000)

    async with (
        app(web.get("/", seen), web.get("/ws", ws_echo)) as url,
        forwarding({"/": url}, tls=tls) as f,
        aiohttp.ClientSession() as session,
    ):
        https = f.url.replace("http:", "https:")
        async with session.get(https, ssl=trust) as response:
            assert (await response.text()).startswith("https ")
        async with session.ws_connect(https + "/ws", ssl=trust) as socket:
            await socket.send_str("hello")
            assert await socket.receive_str(timeout=DEADLINE) == "hello"


async def test_tls_ends_in_order_and_at_once(certificates: Certificates) -> None:
    """The client can tell the end of an answer from a connection that was cut."""
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(certificates.files["server"]["cert"], certificates.files["server"]["key"])
    trust = ssl.create_default_context(cafile=certificates.files["server-ca"]["cert"])

    def read_all(port: int, asked: bytes) -> bytes:
        with (
            socket.create_connection(("127.0.0.1", port), DEADLINE) as plain,
            trust.wrap_socket(
                plain, server_hostname="127.0.0.1", suppress_ragged_eofs=False
            ) as sock,
        ):
            sock.sendall(asked)
            return b"".join(iter(lambda: sock.recv(2**16), b""))  # a cut raises

    body = b"x" * 3_000_000
    page = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2dc6c0\r\n%b\r\n0\r\n\r\n" % body
    limits = Limits(linger=10 * DEADLINE)
    async with (
        serving(answer(page)) as server,
        forwarding({"/x/": server.url}, tls=tls, limits=limits) as f,
    ):
        for asked, seen in (
            (b"GET /x/ HTTP/1.0\r\n\r\n", body),
            (b"GET / HTTP/1.1\r\nHost: hub\r\nConnection: close\r\n\r\n", b"Not Found\n"),
            (b"nonsense\r\n\r\n", b"Bad Request: malformed request line\n"),
        ):
            assert body_of(await asyncio.to_thread(read_all, f.port, asked)) == seen


async def test_a_tls_client_that_reads_slowly_gets_all_of_its_answer(
    certificates: Certificates,
) -> None:
    """What TLS has handed on to the socket is still to be read, though it does not count it."""
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(certificates.files["server"]["cert"], certificates.files["server"]["key"])
    trust = ssl.create_default_context(cafile=certificates.files["server-ca"]["cert"])
    go_on = threading.Event()

    def read_late(port: int) -> bytes:
        with (
            socket.create_connection(("127.0.0.1", port), DEADLINE) as plain,
            trust.wrap_socket(
                plain, server_hostname="127.0.0.1", suppress_ragged_eofs=False
            ) as sock,
        ):
            sock.sendall(b"GET / HTTP/1.0\r\n\r\n")
            assert go_on.wait(DEADLINE)
            return b"".join(iter(lambda: sock.recv(2**16), b""))

    body = b"x" * 20_000_000
    page = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    limits = Limits(linger=0.05, buffer_bytes=2 * len(body))
    async with (
        serving(answer(page)) as server,
        forwarding({"/": server.url}, tls=tls, limits=limits) as f,
    ):
        reading = asyncio.create_task(asyncio.to_thread(read_late, f.port))
        try:
            await until(
                lambda: any(client._lingering for client in f.forwarder.clients),
                "it waits for the client to read",
                deadline=DEADLINE,
            )
            [client] = f.forwarder.clients
            deadlines, expired = 0, client.expired

            def counted() -> None:
                nonlocal deadlines
                deadlines += 1
                expired()

            client.expired = counted  # type: ignore[method-assign]
            await until(
                lambda: deadlines > 2 or not f.forwarder.clients,
                "its deadline has passed some times",
                deadline=DEADLINE,
            )
        finally:
            go_on.set()
        assert body_of(await reading) == body


async def test_unix_sockets_on_both_sides(tmp_path: Path) -> None:
    inner, outer = tmp_path / "a b%.sock", tmp_path / "outer.sock"
    async with serving(echo_head, path=inner) as server, forwarding({"/": server.url}) as f:
        await f.forwarder.start_unix(str(outer), 0o600)
        assert outer.stat().st_mode & 0o777 == 0o600
        reader, writer = await asyncio.open_unix_connection(outer)
        with contextlib.closing(writer):
            writer.write(b"GET /a HTTP/1.1\r\nHost: hub\r\nConnection: close\r\n\r\n")
            seen = await reader.read()
        assert b"GET /a HTTP/1.1" in seen
        assert b"X-Forwarded-For" not in seen
        with pytest.raises(OSError, match="another process"):
            await f.forwarder.start_unix(str(outer))
    assert not outer.exists()


# -- start and stop


async def test_stop_lets_requests_end() -> None:
    go = asyncio.Event()

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        await go.wait()
        writer.write(OK)

    async with serving(handler) as server, forwarding({"/": server.url}) as f:
        idle_reader, idle_writer = await f.connect()
        asking = asyncio.ensure_future(f.ask(b"GET / HTTP/1.1\r\nHost: hub\r\n\r\n"))
        await server.until(lambda: server.open == 1)
        port = f.port
        stopping = asyncio.ensure_future(f.forwarder.stop(DEADLINE))
        with contextlib.closing(idle_writer):
            assert await idle_reader.read() == b""
        with pytest.raises(OSError, match=r"."):
            await asyncio.open_connection("127.0.0.1", port)
        go.set()
        got = await asking
        assert got.endswith(b"ok")
        assert b"\r\nConnection: close\r\n" in got
        await stopping


async def test_a_port_in_use_is_an_error() -> None:
    async with forwarding({}) as f:
        with pytest.raises(OSError, match="in use"):
            await Forwarder(resolve=lambda host, path: None).start("127.0.0.1", f.port)


async def test_the_proxys_own_health() -> None:
    async with forwarding({}, health_path="/_chp_healthz") as f:
        assert (await f.get("/_chp_healthz")).startswith(b"HTTP/1.1 200 OK")
        assert (await f.get("/_chp_healthz/x")).startswith(b"HTTP/1.1 404")


def test_limits_are_checked() -> None:
    with pytest.raises(ValueError, match="connect_timeout"):
        Limits(connect_timeout=0)
