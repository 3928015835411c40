"""Torn and hostile bytes: a server never sees a request that its client did not frame.

What a recording server got is compared with what an independent strict reader makes of the
bytes that were sent.  The forwarder may refuse more than that reader, and never less.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
import uvloop
from harness.forwarding import DEADLINE
from harness.strict_http import Request, requests_in
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from jupyterhub_junction.forwarder.server import Forwarder
from jupyterhub_junction.routes import Route, RouteTable

TE = "Transfer-Encoding: chunked"
LAST = b"GET /last HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
BOUNDED = settings(
    max_examples=200,
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


class Recorder(asyncio.Protocol):
    """A server that answers each request it can read, and writes down what it got."""

    got: list[Request]
    outcomes: list[str]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport
        self.data = b""

    def data_received(self, data: bytes) -> None:
        self.data += data
        found, outcome = requests_in(self.data)
        if outcome != "incomplete":
            self.data = b""
        elif found:  # the forwarder waits for each answer, so there is at most one
            self.outcomes.append("pipelined")
        if outcome == "refused":
            self.outcomes.append(f"refused: {data!r}")
        for request in found:
            if request.target != b"/marker":
                self.got.append(request)
            self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")


class Fuzzed:
    """A forwarder before a recorder, in a loop of their own; one example after another."""

    def __init__(self, loop_factory: Callable[[], asyncio.AbstractEventLoop]) -> None:
        self.runner = asyncio.Runner(loop_factory=loop_factory)
        self.got: list[Request] = []
        self.outcomes: list[str] = []
        self.unseen: list[dict[str, Any]] = []

    async def start(self) -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: self.unseen.append(context))

        def recorder() -> Recorder:
            made = Recorder()
            made.got, made.outcomes = self.got, self.outcomes
            return made

        self.server = await loop.create_server(recorder, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{self.server.sockets[0].getsockname()[1]}"
        self.forwarder = Forwarder(resolve=RouteTable([Route("/", url)]).match)
        await self.forwarder.start("127.0.0.1", 0)
        self.address = self.forwarder.addresses[0]

    async def stop(self) -> None:
        await self.forwarder.stop()
        self.server.close()

    async def _send(self, pieces: Sequence[bytes], whole: int, outcome: str) -> bytes:
        """All that comes back; the client stays until all has come that can."""
        reader, writer = await asyncio.open_connection(*self.address)
        came = b""
        with contextlib.closing(writer), contextlib.suppress(ConnectionError):
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
                for _ in range(3):  # the forwarder reads each piece by itself
                    await asyncio.sleep(0)
            if outcome == "incomplete":
                while len(self.got) < whole and (data := await reader.read(65536)):
                    came += data
                writer.write_eof()  # by when this is read, all before it has been
            came += await reader.read()
        return came

    async def _marker(self) -> None:
        reader, writer = await asyncio.open_connection(*self.address)
        with contextlib.closing(writer):
            writer.write(b"GET /marker HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
            assert (await reader.read()).startswith(b"HTTP/1.1 200 ")

    async def _one(self, pieces: Sequence[bytes], whole: int, outcome: str) -> bytes:
        async with asyncio.timeout(DEADLINE):
            came = await self._send(pieces, whole, outcome)
            await self._marker()  # the forwarder lives, and the server has read what it got
            return came

    def send(self, pieces: Sequence[bytes]) -> tuple[list[Request], list[Request], str, bytes]:
        """What the client framed, what the server got, how the framing ended, what came back."""
        self.got.clear()
        self.outcomes.clear()
        framed, outcome = requests_in(b"".join(pieces))
        framed = [request for request in framed if request.target != b"*"]
        came = self.runner.run(self._one(pieces, len(framed), outcome))
        assert not self.unseen
        assert not self.outcomes
        return framed, list(self.got), outcome, came


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def fuzzed(request: pytest.FixtureRequest) -> Iterator[Fuzzed]:
    fuzzed = Fuzzed(request.param)
    with fuzzed.runner:
        fuzzed.runner.run(fuzzed.start())
        yield fuzzed
        fuzzed.runner.run(fuzzed.stop())


def same(sent: Request, got: Request) -> bool:
    """Whether the server read what the client wrote, but for what a proxy changes."""
    if (sent.method, sent.target, sent.body) != (got.method, got.target, got.body):
        return False
    if sent.host and sent.host != got.host:
        return False
    ours = (b"x-forwarded-", b"host", b"connection", b"te", b"transfer-encoding", b"upgrade")
    theirs = [field for field in got.fields if not field[0].startswith(ours)]
    return all(field in sent.fields for field in theirs)


def cut(data: bytes, places: Sequence[int]) -> list[bytes]:
    edges = [0, *sorted({place % (len(data) + 1) for place in places}), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(edges) if a < b]


PLACES = st.lists(st.integers(0, 5000), max_size=8)
BODIES = st.binary(max_size=40)


def chunked(pieces: list[bytes], trailer: bool) -> bytes:
    chunks = b"".join(b"%X;x=y\r\n%b\r\n" % (len(p), p) for p in pieces if p)
    return chunks + b"0\r\n" + (b"X-Sum: 1\r\n" if trailer else b"") + b"\r\n"


GETS = st.builds(
    lambda path, field: b"GET /%d HTTP/1.1\r\nHost: h\r\n%b\r\n" % (path, field),
    st.integers(0, 99),
    st.sampled_from([b"", b"Connection: keep-alive\r\n", b"X-Name:a \t\r\nCookie: b=c\r\n"]),
)
LENGTHS = st.builds(
    lambda body: b"PUT /l HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body),
    BODIES,
)
CHUNKS = st.builds(
    lambda pieces, trailer: (
        b"POST /c HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
        + chunked(pieces, trailer)
    ),
    st.lists(BODIES, max_size=4),
    st.booleans(),
)
VALID = st.lists(GETS | LENGTHS | CHUNKS, max_size=6).map(b"".join)

FRAGMENTS = st.sampled_from(
    [
        b"GET ",
        b"POST ",
        b"OPTIONS * ",
        b"/a",
        b"/smuggled ",
        b"http://h/b ",
        b" HTTP/1.1\r\n",
        b" HTTP/1.0\r\n",
        b" HTTP/1.1\n",
        b"Host: h\r\n",
        b"Host : h\r\n",
        b"Content-Length: 5\r\n",
        b"Content-Length: 0\r\n",
        b"Content-Length:6\r\n",
        b"Content-Length: 5, 5\r\n",
        b"Content-Length : 5\r\n",
        b"Content-Length: +5\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Transfer-Encoding:\x0bchunked\r\n",
        b"Transfer-Encoding: identity\r\n",
        b"Transfer-Encoding : chunked\r\n",
        b"transfer-encoding:chunked \r\n",
        b"Connection: close\r\n",
        b"Connection: Content-Length, X-Name\r\n",
        b"Connection: Upgrade\r\nUpgrade: websocket\r\n",
        b"Expect: 100-continue\r\n",
        b"X-Forwarded-For: 6.6.6.6\r\n",
        b"X-Name: a\r\n",
        b" folded\r\n",
        b"\r\n",
        b"\n",
        b"\r",
        b"\n\n",
        b"\r\n\r\n",
        b"hello",
        b"5\r\nhello\r\n",
        b"5\nhello\n",
        b"5 \r\nhello\r\n",
        b"0x5\r\nhello\r\n",
        b"5;\nhello\r\n",
        b"0\r\n\r\n",
        b"0\n\n",
        b"\x00",
        b"\xff",
        b" ",
        b"\t",
        b":",
    ]
)
SOUP = st.lists(FRAGMENTS | st.binary(max_size=6), max_size=14).map(b"".join)
EDITS = st.lists(
    st.tuples(st.integers(0, 5000), st.integers(0, 12), st.just(b"") | FRAGMENTS), max_size=4
)


def edited(data: bytes, edits: list[tuple[int, int, bytes]]) -> bytes:
    for place, removed, added in edits:
        at = place % (len(data) + 1)
        data = data[:at] + added + data[at + removed :]
    return data


LINES = (
    b"Content-Length: 5\r\n",
    b"Content-Length: 6\r\n",
    b"Content-Length: 0\r\n",
    b"Content-Length: 40\r\n",
    b"Content-Length : 40\r\n",
    b"Content-Length: +5\r\n",
    b"Content-Length: 5, 5\r\n",
    b"Content-Length:\t5 \r\n",
    b"Content-Length\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding : chunked\r\n",
    b"Transfer-Encoding: xchunked\r\n",
    b"Transfer-Encoding: chunked, identity\r\n",
    b"Connection: Content-Length, Transfer-Encoding, Host\r\n",
    b"Connection: Upgrade\r\nUpgrade: websocket\r\n",
    b"X-Name: a\nContent-Length: 40\r\n",
    b"X-Name: a\rContent-Length: 40\r\n",
    b"X-Name: a\r\n Content-Length: 40\r\n",
    b"X-Name: a\x00b\r\n",
    b"Host: other\r\n",
    b"Host : other\r\n",
    b"TE: trailers\r\n",
    b"X-Forwarded-For: 6.6.6.6\r\n",
)
INNER = b"GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n"
CONTENTS = (
    b"",
    b"hello",
    INNER,
    b"5\r\nhello\r\n0\r\n\r\n",
    b"5 \r\nhello\r\n0\r\n\r\n",
    b"0x5\r\nhello\r\n0\r\n\r\n",
    b"5;a\nhello\r\n0\r\n\r\n",
    b"4\r\nhello\r\n0\r\n\r\n",
    b"5\r\nhello..0\r\n\r\n",
    b"5\r\nhello\n0\n\n",
    b"\r\n0\r\n\r\n",
    b"0\r\nX-Sum : 1\r\n\r\n",
    b"0\r\n" + INNER,
    b"26\r\n" + INNER + b"\r\n0\r\n\r\n",
)
FIRST = st.sampled_from(
    [b"GET /a", b"POST /a", b"PUT http://h/a", b"PUT http://other/a", b"OPTIONS *", b"GET /a b"]
)
VERSIONS = st.sampled_from([b"HTTP/1.1\r\n"] * 4 + [b"HTTP/1.0\r\n", b"HTTP/1.1\n"])
NEARLY = st.builds(
    lambda first, version, lines, content: b"".join(
        (first, b" ", version, b"Host: h\r\n", *lines, b"\r\n", content)
    ),
    FIRST,
    VERSIONS,
    st.lists(st.sampled_from(LINES), max_size=3),
    st.sampled_from(CONTENTS),
)

HOSTILE = st.one_of(
    st.builds(edited, VALID, EDITS),
    st.builds(lambda *parts: b"".join(parts), VALID, SOUP),
    *[st.lists(GETS | NEARLY, min_size=1, max_size=3).map(b"".join)] * 2,
)


@BOUNDED
@given(data=VALID, places=PLACES)
def test_pipelined_requests_cut_anywhere_arrive_whole(
    fuzzed: Fuzzed, data: bytes, places: list[int]
) -> None:
    framed, got, outcome, came = fuzzed.send(cut(data + LAST, places))
    assert outcome == "end"
    assert len(framed) == len(got)
    assert all(map(same, framed, got))
    assert came.count(b"HTTP/1.1 200 OK\r\n") == len(framed)


def check(fuzzed: Fuzzed, pieces: Sequence[bytes]) -> None:
    framed, got, outcome, came = fuzzed.send(pieces)
    assert len(got) <= len(framed), "a request was smuggled"
    assert all(map(same, framed, got))
    if outcome == "refused":
        last = came.rpartition(b"HTTP/1.1 ")[2]
        # a WebSocket refused, or the client's own wish, closes before the bad bytes are read
        assert last[:1] in (b"4", b"5") or b"Connection: close\r\n" in last


@BOUNDED
@given(data=HOSTILE, places=PLACES)
@example(b"GET /a HTTP/1.1\r\nHost: h\r\nX: a\nContent-Length: 60\r\n\r\n", [])
@example(b"POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5;\nhello\r\n", [70])
@example(b"\r\n\r\nGET /a HTTP/1.1\r\nHost: h\r\n\r", [1, 3])
def test_no_server_sees_a_request_that_its_client_did_not_frame(
    fuzzed: Fuzzed, data: bytes, places: list[int]
) -> None:
    check(fuzzed, cut(data + LAST, places))


@pytest.mark.parametrize("first", ["Content-Length: 5", "Content-Length: 38", TE, ""])
def test_every_framing_with_every_line_and_content(fuzzed: Fuzzed, first: str) -> None:
    framing = f"{first}\r\n".encode() if first else b""
    for line, content in itertools.product((b"", *LINES), CONTENTS):
        head = b"POST /a HTTP/1.1\r\nHost: h\r\n" + framing + line + b"\r\n"
        check(fuzzed, [head + content + LAST])
