"""WebSockets: kernels, terminals and all that a notebook is made of."""

from __future__ import annotations

import asyncio

from .backend import Exchange, default
from .behaviours import behaviour
from .client import Answer, Connection, UpgradeRefused
from .implementation import Options
from .wire import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, Frame
from .world import DEADLINES, World, until


def _answer() -> asyncio.Timeout:
    return asyncio.timeout(DEADLINES["answer"])


async def _refusal(world: World, url: str) -> Answer:
    """The answer to a WebSocket that is not to be opened."""
    try:
        async with world.websocket(url):
            raise AssertionError("the WebSocket was opened")
    except UpgradeRefused as refused:
        return refused.answer


@behaviour("ws-text", "Text messages arrive and come back.")
async def ws_text(world: World) -> None:
    backend = await world.serve()
    for url in world.urls:
        async with world.websocket(url, world.path("a%2Fb/ws?c=d%20e")) as websocket, _answer():
            for text in ("hi", "", "秀樹 ✓", "x" * 70_000):
                await websocket.send(TEXT, text.encode())
                assert await websocket.message() == (TEXT, text.encode())
        assert backend.requests[-1].target == world.path("a%2Fb/ws?c=d%20e")


@behaviour("ws-binary", "Binary messages arrive and come back, large ones too.")
async def ws_binary(world: World) -> None:
    await world.serve()
    for url in world.urls:
        async with world.websocket(url) as websocket, _answer():
            for payload in (b"\x00\xff", bytes(range(256)) * 20_000):
                await websocket.send(BINARY, payload)
                assert await websocket.message() == (BINARY, payload)


@behaviour("ws-fragments", "Fragmented messages arrive, with a ping between the fragments.")
async def ws_fragments(world: World) -> None:
    await world.serve()
    for url in world.urls:
        async with world.websocket(url) as websocket, _answer():
            await websocket.send(TEXT, b"one ", fin=False)
            await websocket.send(PING, b"between")
            await websocket.send(CONTINUATION, b"two")
            frames = [await websocket.receive() for _ in range(3)]
            assert b"".join(f.payload for f in frames if f.opcode <= TEXT) == b"one two"
            assert [f.payload for f in frames if f.opcode == PONG] == [b"between"]


@behaviour("ws-ping-client", "A client's ping is answered with its own payload.")
async def ws_ping_client(world: World) -> None:
    await world.serve()
    for url in world.urls:
        async with world.websocket(url) as websocket, _answer():
            await websocket.send(PING, b"are you there")
            assert await websocket.receive() == Frame(PONG, b"are you there")


@behaviour("ws-ping-server", "A server's ping reaches the client, and its pong the server.")
async def ws_ping_server(world: World) -> None:
    async def handler(exchange: Exchange) -> None:
        websocket = await exchange.websocket()
        await websocket.send(PING, b"tornado")
        frame = await websocket.receive()
        await websocket.send(TEXT, b"pong was " + frame.payload)
        await websocket.receive()

    await world.serve(handler)
    for url in world.urls:
        async with world.websocket(url) as websocket, _answer():
            assert await websocket.receive() == Frame(PING, b"tornado")
            await websocket.send(PONG, b"tornado")
            assert await websocket.message() == (TEXT, b"pong was tornado")


@behaviour("ws-close-server", "A server's close code and reason reach the client.")
async def ws_close_server(world: World) -> None:
    async def handler(exchange: Exchange) -> None:
        websocket = await exchange.websocket()
        code = int(exchange.seen.target.rpartition("/")[2])
        await websocket.close(code, "because")
        await websocket.receive()
        exchange.close()

    await world.serve(handler)
    for url in world.urls:
        for code in (1000, 1001, 1011, 4001):
            async with world.websocket(url, world.path(str(code))) as websocket, _answer():
                frame = await websocket.receive()
                assert (frame.opcode, frame.close_code) == (CLOSE, code)
                assert frame.payload[2:] == b"because"
                await websocket.send_frames([frame])


@behaviour("ws-close-client", "A client's close code and reason reach the server.")
async def ws_close_client(world: World) -> None:
    backend = await world.serve()
    for url in world.urls:
        for code in (1000, 1001, 4321):
            async with world.websocket(url) as websocket, _answer():
                await websocket.close(code, "bye")
                frame = await websocket.receive()
                assert (frame.opcode, frame.close_code) == (CLOSE, code)
            assert backend.frames[-1].close_code == code
            assert backend.frames[-1].payload[2:] == b"bye"


@behaviour("ws-subprotocol", "The offered subprotocols reach the server, its choice the client.")
async def ws_subprotocol(world: World) -> None:
    async def handler(exchange: Exchange) -> None:
        offered = exchange.seen.get("sec-websocket-protocol").split(", ")
        websocket = await exchange.websocket([("Sec-WebSocket-Protocol", offered[-1])])
        await websocket.receive()

    backend = await world.serve(handler)
    offer = "bearer.token.xyz, v1.kernel.websocket.jupyter.org"
    for url in world.urls:
        headers = [("Sec-WebSocket-Protocol", offer)]
        async with world.websocket(url, headers=headers) as websocket:
            assert backend.requests[-1].get("sec-websocket-protocol") == offer
            chosen = websocket.head.all("sec-websocket-protocol")
            assert chosen == ["v1.kernel.websocket.jupyter.org"]


@behaviour("ws-no-subprotocol", "No subprotocol and no extension is made up.")
async def ws_no_subprotocol(world: World) -> None:
    backend = await world.serve()
    for url in world.urls:
        async with world.websocket(url) as websocket:
            for name in ("sec-websocket-protocol", "sec-websocket-extensions"):
                assert not backend.requests[-1].get(name)
                assert not websocket.head.get(name)


@behaviour("ws-compression", "Compression is between client and server; its frames pass as sent.")
async def ws_compression(world: World) -> None:
    offer = "permessage-deflate; client_max_window_bits"
    chosen = "permessage-deflate; server_no_context_takeover"

    async def handler(exchange: Exchange) -> None:
        websocket = await exchange.websocket([("Sec-WebSocket-Extensions", chosen)])
        await websocket.send_frames([await websocket.receive()])
        await websocket.receive()

    backend = await world.serve(handler)
    compressed = Frame(TEXT, b"\xf2\x48\xcd\xc9\xc9\x07\x00", rsv1=True)
    for url in world.urls:
        headers = [("Sec-WebSocket-Extensions", offer)]
        async with world.websocket(url, headers=headers) as websocket, _answer():
            assert backend.requests[-1].get("sec-websocket-extensions") == offer
            assert websocket.head.all("sec-websocket-extensions") == [chosen]
            await websocket.send_frames([compressed])
            assert await websocket.receive() == compressed


@behaviour("ws-headers", "Host, Origin, Cookie and Authorization of a WebSocket arrive as sent.")
async def ws_headers(world: World) -> None:
    backend = await world.serve()
    headers = [
        ("Origin", "https://hub.example.org"),
        ("Cookie", "a=1; b=2"),
        ("Authorization", "token x"),
        ("User-Agent", "conformance"),
    ]
    for url in world.urls:
        async with world.websocket(url, headers=[("Host", "hub.example.org"), *headers]):
            seen = backend.requests[-1]
            assert seen.head.all("host") == ["hub.example.org"]
            for name, value in headers:
                assert seen.head.all(name) == [value]


@behaviour("ws-refused", "A server that refuses a WebSocket is heard by the client.")
async def ws_refused(world: World) -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.reply(403, [("Content-Type", "text/own")], b"not you")

    await world.serve(handler)
    for url in world.urls:
        answer = await _refusal(world, url)
        assert (answer.status, answer.body) == (403, b"not you")
        assert answer.get("content-type") == "text/own"


@behaviour("ws-dead-server", "A WebSocket to a server that is gone is refused, not left waiting.")
async def ws_dead_server(world: World) -> None:
    backend = await world.serve()
    await backend.stop()
    for url in world.urls:
        assert (await _refusal(world, url)).status == 503


@behaviour("ws-unrouted", "A WebSocket without a route goes to the hub, which refuses it.")
async def ws_unrouted(world: World) -> None:
    for url in world.urls:
        assert (await _refusal(world, url)).backend == world.hub.name


@behaviour("ws-first-word", "Frames that a server sends right with its 101 reach the client.")
async def ws_first_word(world: World) -> None:
    async def handler(exchange: Exchange) -> None:
        writer = exchange.writer
        # One write, one segment: head and frames arrive at the proxy together.
        frames = b"\x81\x05hello\x82\x03\x00\x01\x02"
        original, written = exchange.write, []

        async def collect(data: bytes) -> None:
            written.append(data)

        exchange.write = collect  # type: ignore[method-assign]
        websocket = await exchange.websocket()
        exchange.write = original  # type: ignore[method-assign]
        writer.write(b"".join(written) + frames)
        await writer.drain()
        await websocket.receive()

    await world.serve(handler)
    for url in world.urls:
        async with world.websocket(url) as websocket, _answer():
            assert await websocket.message() == (TEXT, b"hello")
            assert await websocket.message() == (BINARY, b"\x00\x01\x02")


@behaviour("ws-server-dies", "When the server dies, the client's WebSocket ends.")
async def ws_server_dies(world: World) -> None:
    backend = await world.serve()
    for url in world.urls:
        async with world.websocket(url) as websocket, _answer():
            await websocket.send(TEXT, b"x")
            await websocket.message()
            port = backend.port
            await backend.stop()
            try:
                while (await websocket.receive()).opcode != CLOSE:
                    pass
            except EOFError:
                pass
        await backend.start(port=port)


@behaviour("ws-client-dies", "When clients vanish, no connection to the server is left behind.")
async def ws_client_dies(world: World) -> None:
    backend = await world.serve()
    for url in world.urls:
        for _ in range(20):
            async with world.websocket(url) as websocket, _answer():
                await websocket.send(TEXT, b"x")
                await websocket.message()
    assert len(backend.requests) == 20 * len(world.urls)
    await until(lambda: not backend.busy, "the server's ends are closed")


@behaviour("ws-dead-server-leak", "Many WebSockets to a dead server leave the proxy well.")
async def ws_dead_server_leak(world: World) -> None:
    backend = await world.serve()
    port = backend.port
    await backend.stop()

    async def attempt(url: str) -> None:
        try:
            async with world.websocket(url):
                raise AssertionError("a dead server's WebSocket was opened")
        except (UpgradeRefused, EOFError, ConnectionError):
            pass

    for url in world.urls:
        await asyncio.gather(*(attempt(url) for _ in range(100)))
    await backend.start(port=port)
    await world.served_by(backend, world.spec)
    for url in world.urls:
        async with world.websocket(url) as websocket, _answer():
            await websocket.send(TEXT, b"again")
            assert await websocket.message() == (TEXT, b"again")


@behaviour("ws-many", "A hundred WebSockets at once each get their own messages.")
async def ws_many(world: World) -> None:
    await world.serve()

    async def talk(url: str, number: int) -> None:
        async with world.websocket(url) as websocket, _answer():
            for turn in range(3):
                text = f"{number} {turn}".encode()
                await websocket.send(TEXT, text)
                assert await websocket.message() == (TEXT, text)

    for url in world.urls:
        await asyncio.gather(*(talk(url, number) for number in range(100)))


@behaviour("ws-through-changes", "A WebSocket lives on while other routes come and go.")
async def ws_through_changes(world: World) -> None:
    await world.serve()
    other = await world.backend()
    for url in world.urls:
        async with world.websocket(url) as websocket, _answer():
            for number in range(5):
                spec = f"{world.host}{world.base.rstrip('/')}-{number}/"
                await world.add(spec, other.url)
                await websocket.send(TEXT, b"still")
                assert await websocket.message() == (TEXT, b"still")
                await world.proxy.delete_route(spec)
                await websocket.send(TEXT, b"here")
                assert await websocket.message() == (TEXT, b"here")


@behaviour("ws-held-back", "A server is held back when its WebSocket client does not read.")
async def ws_held_back(world: World) -> None:
    limit = 48 << 20
    sent = [0]

    async def handler(exchange: Exchange) -> None:
        websocket = await exchange.websocket()
        while sent[0] <= 4 * limit:
            await websocket.send(BINARY, bytes(1 << 16))
            sent[0] += 1 << 16

    await world.serve(handler)
    for url in world.urls:
        sent[0], last = 0, -1
        async with world.websocket(url):

            def still() -> bool:
                nonlocal last
                same, last = sent[0] == last, sent[0]
                return same

            await until(still, "the server is held back", deadline="stream", times=25)
            assert sent[0] <= limit


@behaviour("ws-after-requests", "A connection that served requests may become a WebSocket.")
async def ws_after_requests(world: World) -> None:
    backend = await world.serve(default)
    for connection in world.connections():
        async with connection, _answer():
            for _ in range(2):
                backend.seen(await connection.request("GET", world.path("x")))
            websocket = await connection.websocket(world.path("ws"))
            await websocket.send(TEXT, b"now")
            assert await websocket.message() == (TEXT, b"now")


@behaviour("ws-upgrade-case", "The words of an upgrade are understood in any case.")
async def ws_upgrade_case(world: World) -> None:
    await world.serve()
    for url in world.urls:
        async with Connection(url, world.tls) as connection, _answer():
            await connection.send(
                f"GET {world.path('ws')} HTTP/1.1\r\nHost: {connection.netloc}\r\n"
                "upgrade: WebSocket\r\nconnection: keep-alive, upgrade\r\n"
                "sec-websocket-key: bm90aGluZyBidXQgdGVzdA==\r\n"
                "sec-websocket-version: 13\r\n\r\n".encode()
            )
            assert (await connection.answer()).status == 101


@behaviour("ws-tls", "WebSockets work over TLS.", options=Options(tls=True))
async def ws_tls(world: World) -> None:
    await world.serve()
    for url in world.urls:
        async with world.websocket(url) as websocket, _answer():
            await websocket.send(TEXT, b"secret")
            assert await websocket.message() == (TEXT, b"secret")


@behaviour(
    "ws-internal-ssl", "WebSockets work under internal SSL.", options=Options(internal_ssl=True)
)
async def ws_internal_ssl(world: World) -> None:
    await world.serve()
    for url in world.urls:
        async with world.websocket(url) as websocket, _answer():
            await websocket.send(TEXT, b"secret")
            assert await websocket.message() == (TEXT, b"secret")


@behaviour(
    "ws-host-routing", "WebSockets are routed by host too.", options=Options(host_routing=True)
)
async def ws_host_routing(world: World) -> None:
    await world.serve()
    for url in world.urls:
        async with world.websocket(url) as websocket, _answer():
            await websocket.send(TEXT, b"here")
            assert await websocket.message() == (TEXT, b"here")


@behaviour("ws-unix-target", "WebSockets reach Unix sockets.", needs=["unix-target"])
async def ws_unix_target(world: World) -> None:
    await world.serve(path=world.directory / "s")
    for url in world.urls:
        async with world.websocket(url) as websocket, _answer():
            await websocket.send(TEXT, b"here")
            assert await websocket.message() == (TEXT, b"here")
