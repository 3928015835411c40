"""Bodies of any size and duration, and what happens when they end before their time."""

from __future__ import annotations

import asyncio
import hashlib

from .backend import Exchange
from .behaviours import behaviour
from .client import Connection
from .wire import Truncated
from .world import DEADLINES, World, until

BLOCK = bytes(range(256)) * 256
"""64 KiB in which a byte that is lost or moved changes the hash."""

LARGE = 64 << 20
"""Bytes of a body that nothing on its way should hold at once."""


def _blocks_hash(count: int) -> str:
    digest = hashlib.sha256()
    for _ in range(count):
        digest.update(BLOCK)
    return digest.hexdigest()


@behaviour("upload-large", "An upload of 64 MiB arrives whole.")
async def upload_large(world: World) -> None:
    backend = await world.serve()
    count = LARGE // len(BLOCK)
    for connection in world.connections():
        async with connection, asyncio.timeout(DEADLINES["stream"]):
            await connection.start("PUT", world.path("x"), [("Content-Length", str(LARGE))])
            for _ in range(count):
                await connection.send(BLOCK)
            seen = backend.seen(await connection.answer())
            assert (seen.size, seen.sha256) == (LARGE, _blocks_hash(count))


@behaviour("upload-chunked", "An upload in chunks, its size unknown, arrives whole.")
async def upload_chunked(world: World) -> None:
    backend = await world.serve()
    for connection in world.connections():
        async with connection, asyncio.timeout(DEADLINES["stream"]):
            await connection.start("POST", world.path("x"), [("Transfer-Encoding", "chunked")])
            sent = b""
            for size in (1, 10, 70_000, 3, 200_000):
                sent += BLOCK[:size]
                await connection.send_chunk(BLOCK[:size])
            await connection.send_chunk(b"")
            seen = backend.seen(await connection.answer())
            assert seen.sha256 == hashlib.sha256(sent).hexdigest()


@behaviour("upload-streamed", "The server gets the start of an upload before its end is sent.")
async def upload_streamed(world: World) -> None:
    backend = await world.serve()
    for url in world.urls:
        async with world.connect(url) as connection:
            before = len(backend.requests)
            await connection.start("POST", world.path("x"), [("Content-Length", "2000")])
            for sent in (1000, 1500):
                await connection.send(b"x" * (1000 if sent == 1000 else 500))
                await until(
                    lambda at=before, size=sent: (  # type: ignore[misc]
                        len(backend.requests) > at and backend.requests[at].size == size
                    ),
                    f"{sent} bytes of the upload are there",
                    times=1,
                )
            await connection.send(b"x" * 500)
            assert backend.seen(await connection.answer()).size == 2000


@behaviour("upload-slow", "An upload that takes its time is not cut short.")
async def upload_slow(world: World) -> None:
    backend = await world.serve()

    async def upload(connection: Connection) -> None:
        async with connection:
            await connection.start("POST", world.path("x"), [("Content-Length", "20")])
            for _ in range(20):
                await connection.send(b"x")
                await asyncio.sleep(0.1)
            assert backend.seen(await connection.answer()).size == 20

    await asyncio.gather(*map(upload, world.connections()))


@behaviour("download-large", "A download of 64 MiB arrives whole.")
async def download_large(world: World) -> None:
    count = LARGE // len(BLOCK)

    async def handler(exchange: Exchange) -> None:
        await exchange.body()
        await exchange.start(200, [("Content-Length", str(LARGE))])
        for _ in range(count):
            await exchange.write(BLOCK)

    await world.serve(handler)
    for connection in world.connections():
        async with connection, asyncio.timeout(DEADLINES["stream"]):
            await connection.start("GET", world.path("x"))
            status, head = await connection.head()
            assert (status, head.get("content-length")) == (200, str(LARGE))
            digest = hashlib.sha256()
            async for data in connection.stream(head):
                digest.update(data)
            assert digest.hexdigest() == _blocks_hash(count)


@behaviour("download-chunked", "A download in chunks arrives whole.")
async def download_chunked(world: World) -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.body()
        await exchange.start(200, [("Transfer-Encoding", "chunked")])
        for size in (1, 10, 65536, 3, 40_000):
            await exchange.chunk(BLOCK[:size])
        await exchange.chunk(b"")

    backend = await world.serve(handler)
    for answer in await world.get(world.path("x")):
        backend.seen(answer)
        assert answer.body == b"".join(BLOCK[:size] for size in (1, 10, 65536, 3, 40_000))


@behaviour("download-until-close", "An answer that ends with its connection arrives whole.")
async def download_until_close(world: World) -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.body()
        await exchange.start(200, [("Connection", "close")])
        await exchange.write(BLOCK)
        exchange.close()

    backend = await world.serve(handler)
    for answer in await world.get(world.path("x")):
        backend.seen(answer)
        assert answer.body == BLOCK


@behaviour("download-slow", "A download that takes its time is not cut short.")
async def download_slow(world: World) -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.body()
        await exchange.start(200, [("Content-Length", "20")])
        for _ in range(20):
            await exchange.write(b"x")
            await asyncio.sleep(0.1)

    await world.serve(handler)

    async def download(connection: Connection) -> None:
        async with connection:
            answer = await connection.request("GET", world.path("x"))
            assert answer.body == b"x" * 20

    await asyncio.gather(*map(download, world.connections()))


@behaviour("sse", "Each server-sent event reaches the client before the next is sent.")
async def sse(world: World) -> None:
    received: asyncio.Queue[None] = asyncio.Queue()

    async def handler(exchange: Exchange) -> None:
        await exchange.body()
        fields = [("Content-Type", "text/event-stream"), ("Transfer-Encoding", "chunked")]
        await exchange.start(200, fields)
        for number in range(5):
            await exchange.chunk(f"data: {number}\n\n".encode())
            await received.get()
        await exchange.chunk(b"")

    await world.serve(handler)
    for connection in world.connections():
        async with connection, asyncio.timeout(DEADLINES["answer"]):
            await connection.start("GET", world.path("x"), [("Accept", "text/event-stream")])
            status, head = await connection.head()
            assert (status, head.get("content-type")) == (200, "text/event-stream")
            text, number = b"", 0
            async for data in connection.stream(head):
                text += data
                while text.startswith(f"data: {number}\n\n".encode()):
                    text = text[len(f"data: {number}\n\n") :]
                    number += 1
                    received.put_nowait(None)
            assert number == 5


@behaviour("head-before-body", "The answer's head reaches the client before its body is sent.")
async def head_before_body(world: World) -> None:
    received: asyncio.Queue[None] = asyncio.Queue()

    async def handler(exchange: Exchange) -> None:
        await exchange.body()
        await exchange.start(200, [("Content-Length", "4")])
        await received.get()
        await exchange.write(b"done")

    await world.serve(handler)
    for connection in world.connections():
        async with connection, asyncio.timeout(DEADLINES["answer"]):
            await connection.start("GET", world.path("x"))
            status, head = await connection.head()
            assert status == 200
            received.put_nowait(None)
            assert b"".join([data async for data in connection.stream(head)]) == b"done"


@behaviour("both-ways", "A server may answer while the client is still sending.")
async def both_ways(world: World) -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.start(200, [("Transfer-Encoding", "chunked")])
        async for data in exchange.stream():
            await exchange.chunk(data.upper())
        await exchange.chunk(b"")

    await world.serve(handler)
    for connection in world.connections():
        async with connection, asyncio.timeout(DEADLINES["answer"]):
            await connection.start("POST", world.path("x"), [("Transfer-Encoding", "chunked")])
            await connection.send_chunk(b"one")
            _, head = await connection.head()
            stream = connection.stream(head)
            assert await anext(stream) == b"ONE"
            await connection.send_chunk(b"two")
            assert await anext(stream) == b"TWO"
            await connection.send_chunk(b"")
            assert b"".join([data async for data in stream]) == b""


async def _stalls(sent: list[int]) -> None:
    """Wait until a counter has stood still for a while."""
    last = -1

    def still() -> bool:
        nonlocal last
        same, last = sent[0] == last, sent[0]
        return same

    await until(still, "the sender is held back", deadline="stream", times=25)


HELD = 48 << 20
"""Bytes that may be under way, in all sockets and buffers together, when nobody reads."""


@behaviour("download-held-back", "A server is held back when its client does not read.")
async def download_held_back(world: World) -> None:
    sent = [0]

    async def handler(exchange: Exchange) -> None:
        await exchange.body()
        await exchange.start(200, [("Content-Length", str(1 << 40))])
        while True:
            await exchange.write(BLOCK)
            sent[0] += len(BLOCK)
            assert sent[0] <= 4 * HELD, "nothing holds the server back"

    await world.serve(handler)
    for connection in world.connections():
        async with connection:
            sent[0] = 0
            await connection.start("GET", world.path("x"))
            await connection.head()
            await _stalls(sent)
            assert sent[0] <= HELD


@behaviour("upload-held-back", "A client is held back when the server does not read.")
async def upload_held_back(world: World) -> None:
    ended = asyncio.Event()

    async def handler(exchange: Exchange) -> None:
        await ended.wait()
        exchange.reset()

    await world.serve(handler)
    try:
        for connection in world.connections():
            async with connection:
                sent = [0]

                async def send(connection: Connection = connection, sent: list[int] = sent) -> None:
                    while sent[0] <= 4 * HELD:
                        await connection.send(BLOCK)
                        sent[0] += len(BLOCK)

                await connection.start("PUT", world.path("x"), [("Content-Length", str(1 << 40))])
                task = asyncio.ensure_future(send())
                await _stalls(sent)
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
                assert sent[0] <= HELD
    finally:
        ended.set()


@behaviour("trailers-response", "Trailer fields of a chunked answer reach the client.")
async def trailers_response(world: World) -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.body()
        await exchange.start(200, [("Transfer-Encoding", "chunked"), ("Trailer", "X-Sum")])
        await exchange.chunk(b"data")
        await exchange.write(b"0\r\nX-Sum: 42\r\n\r\n")

    backend = await world.serve(handler)
    for answer in await world.get(world.path("x"), [("TE", "trailers")]):
        backend.seen(answer)
        assert answer.body == b"data"
        assert ("x-sum", "42") in [(name.lower(), value) for name, value in answer.head.trailers]


@behaviour("trailers-request", "Trailer fields of a chunked upload reach the server.")
async def trailers_request(world: World) -> None:
    backend = await world.serve()
    for connection in world.connections():
        async with connection:
            headers = [("Transfer-Encoding", "chunked"), ("Trailer", "X-Sum")]
            await connection.start("POST", world.path("x"), headers)
            await connection.send_chunk(b"data")
            await connection.send(b"0\r\nX-Sum: 42\r\n\r\n")
            seen = backend.seen(await connection.answer())
            assert seen.body == b"data"
            trailers = [(name.lower(), value) for name, value in seen.head.trailers]
            assert ("x-sum", "42") in trailers


@behaviour("trailers-harmless", "Trailer fields do not spoil the connection that they came on.")
async def trailers_harmless(world: World) -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.body()
        await exchange.start(200, [("Transfer-Encoding", "chunked")])
        await exchange.chunk(exchange.seen.body or b"none")
        await exchange.write(b"0\r\nX-Sum: 42\r\nX-Backend: evil\r\n\r\n")

    backend = await world.serve(handler)
    for connection in world.connections():
        async with connection:
            for _ in range(3):
                await connection.start("POST", world.path("x"), [("Transfer-Encoding", "chunked")])
                await connection.send_chunk(b"data")
                await connection.send(b"0\r\nX-Sum: 42\r\n\r\n")
                answer = await connection.answer()
                assert backend.seen(answer).body == b"data"
                assert answer.body == b"data"


def _dies(name: str, sentence: str, chunked: bool, reset: bool) -> None:
    @behaviour(name, sentence)
    async def body(world: World) -> None:
        async def handler(exchange: Exchange) -> None:
            await exchange.body()
            if chunked:
                await exchange.start(200, [("Transfer-Encoding", "chunked")])
                await exchange.chunk(b"a part")
            else:
                await exchange.start(200, [("Content-Length", "1000")])
                await exchange.write(b"a part")
            await received.get()
            if reset:
                exchange.reset()
            else:
                exchange.close()

        received: asyncio.Queue[None] = asyncio.Queue()
        await world.serve(handler)
        for connection in world.connections():
            async with connection, asyncio.timeout(DEADLINES["answer"]):
                await connection.start("GET", world.path("x"))
                status, head = await connection.head()
                assert status == 200
                stream = connection.stream(head)
                assert await anext(stream) == b"a part"
                received.put_nowait(None)
                try:
                    rest = [data async for data in stream]
                except (Truncated, ConnectionError):
                    continue
                raise AssertionError(f"the client was told that the answer is whole: {rest}")


_dies("dies-counted", "A server that dies in an answer leaves it visibly cut short.", False, False)
_dies("dies-chunked", "So does one that dies between chunks.", True, False)
_dies("dies-reset", "So does one whose connection is reset.", False, True)


@behaviour("client-leaves-download", "When the client goes away, the server's connection ends.")
async def client_leaves_download(world: World) -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.body()
        await exchange.start(200, [("Transfer-Encoding", "chunked")])
        await exchange.chunk(b"event")
        # EOF is how this end learns that the other side has gone.
        await exchange.reader.read()
        exchange.close()

    backend = await world.serve(handler)
    for connection in world.connections():
        async with connection:
            await connection.start("GET", world.path("x"))
            _, head = await connection.head()
            assert await anext(connection.stream(head)) == b"event"
    assert len(backend.requests) == len(world.urls)
    await until(lambda: not backend.busy, "the connections to the server have ended")


@behaviour("client-leaves-upload", "A client that goes away in an upload does not complete it.")
async def client_leaves_upload(world: World) -> None:
    backend = await world.serve()
    for connection in world.connections():
        async with connection:
            before = len(backend.requests)
            await connection.start("POST", world.path("x"), [("Content-Length", "1000")])
            await connection.send(b"x" * 500)
            await until(
                lambda at=before: len(backend.requests) > at,  # type: ignore[misc]
                "the upload has begun",
                times=1,
            )
    await until(lambda: not backend.busy, "the server was told")
    assert not any(seen.complete for seen in backend.requests)
