"""Servers that are gone, slow or confused; many of everything at once."""

from __future__ import annotations

import asyncio
from urllib.parse import unquote

from ..ports import free_port
from .backend import Exchange
from .behaviours import behaviour
from .client import Answer
from .implementation import Options
from .surroundings import error_page
from .world import World


def _hubs_page(answer: Answer, status: int) -> None:
    assert answer.status == status
    assert answer.get("content-type").startswith("text/html")
    assert answer.body.decode() == error_page(status)


@behaviour("dead-status", "For a server that is gone, the proxy answers 503.")
async def dead_status(world: World) -> None:
    await world.add(world.spec, f"http://127.0.0.1:{free_port()}")
    for method, sent in (("GET", None), ("POST", b"x" * 100_000), ("DELETE", None), ("HEAD", None)):
        for answer in await world.request(method, world.path("x"), body=sent):
            assert answer.status == 503, method


@behaviour("dead-page", "For a server that is gone, the hub's page is shown.", needs=["error-page"])
async def dead_page(world: World) -> None:
    await world.add(world.spec, f"http://127.0.0.1:{free_port()}")
    for answer in await world.get(world.path("x")):
        _hubs_page(answer, 503)
    for answer in await world.request("POST", world.path("x"), body=b"x" * 1000):
        _hubs_page(answer, 503)


@behaviour(
    "dead-page-request",
    "The hub is asked for its page with GET, and told which URL failed, but no credentials.",
    needs=["error-page"],
)
async def dead_page_request(world: World) -> None:
    await world.add(world.spec, f"http://127.0.0.1:{free_port()}")
    before = len(world.hub.requests)
    target = world.path("a%20b?c=d")
    await world.request("POST", target, body=b"secret")
    asked = world.hub.requests[before:]
    assert len(asked) == len(world.urls)
    for seen in asked:
        assert (seen.method, seen.size) == ("GET", 0)
        path, _, query = seen.target.partition("?")
        assert path == f"{world.around.hub.base_url}error/503"
        assert query.startswith("url=")
        assert unquote(query.removeprefix("url=")).endswith((target, unquote(target)))


@behaviour(
    "dead-page-base-url",
    "The hub's page is found under a base URL too.",
    needs=["error-page"],
    options=Options(base_url="/b%20se/"),
)
async def dead_page_base_url(world: World) -> None:
    await world.add(world.spec, f"http://127.0.0.1:{free_port()}")
    for answer in await world.get(world.path("x")):
        _hubs_page(answer, 503)


@behaviour(
    "dead-page-internal-ssl",
    "The hub's page is found under internal SSL too.",
    needs=["error-page"],
    options=Options(internal_ssl=True),
)
async def dead_page_internal_ssl(world: World) -> None:
    await world.add(world.spec, f"https://127.0.0.1:{free_port()}")
    for answer in await world.get(world.path("x")):
        _hubs_page(answer, 503)


@behaviour(
    "dead-page-not-found",
    "What no route matches is answered with the hub's page for 404.",
    needs=["error-page"],
    options=Options(base_url="/b%20se/"),
)
async def dead_page_not_found(world: World) -> None:
    for answer in await world.get("/outside"):
        _hubs_page(answer, 404)


@behaviour("dead-hub", "While the hub is down, the proxy still answers 503, and goes on serving.")
async def dead_hub(world: World) -> None:
    backend = await world.serve()
    await world.add(f"{world.spec}dead/", f"http://127.0.0.1:{free_port()}")
    port = world.hub.port
    await world.hub.stop()
    try:
        for target in (world.path("dead/x"), f"{world.options.base_url}hub/home"):
            for answer in await world.get(target):
                assert answer.status == 503, target
        for answer in await world.get(world.path("x")):
            backend.seen(answer)
    finally:
        await world.hub.start(port=port)
        await world.served_by(world.hub, world.around.hub.routespec)


@behaviour("dead-unresolved", "For a server whose name nobody knows, the proxy answers 503.")
async def dead_unresolved(world: World) -> None:
    await world.add(world.spec, "http://no-such-host.invalid:8888")
    for answer in await world.get(world.path("x")):
        assert answer.status == 503


def _dies_at_once(name: str, sentence: str, reset: bool) -> None:
    @behaviour(name, sentence)
    async def body(world: World) -> None:
        async def handler(exchange: Exchange) -> None:
            if reset:
                exchange.reset()
            else:
                exchange.close()

        backend = await world.serve(handler)
        for answer in await world.get(world.path("x")):
            assert answer.status == 503
        assert backend.requests


_dies_at_once("dead-no-answer", "A server that closes without an answer: 503.", False)
_dies_at_once("dead-reset", "A server that resets without an answer: 503.", True)


@behaviour("dead-garbage", "A server that does not speak HTTP: 502 or 503, and no garbage.")
async def dead_garbage(world: World) -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.write(b"SSH-2.0-OpenSSH_9.6\r\n\r\nnothing here is HTTP\r\n")
        exchange.close()

    await world.serve(handler)
    for answer in await world.get(world.path("x")):
        assert answer.status in (502, 503)
        assert b"SSH" not in answer.body


@behaviour("dead-not-replayed", "A POST that a server took and did not answer is not sent again.")
async def dead_not_replayed(world: World) -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.body()
        exchange.close()

    backend = await world.serve(handler)
    for answer in await world.request("POST", world.path("x"), body=b"pay"):
        assert answer.status == 503
    assert len(backend.requests) == len(world.urls)


@behaviour("comes-back", "A server that comes back is served again, with nothing to do.")
async def comes_back(world: World) -> None:
    backend = await world.serve()
    for _ in range(3):
        port = backend.port
        await backend.stop()
        for answer in await world.get(world.path("x")):
            assert answer.status >= 500
        await backend.start(port=port)
        await world.served_by(backend, world.spec)


@behaviour("dead-keeps-connection", "After an error of the proxy's, the next request is served.")
async def dead_keeps_connection(world: World) -> None:
    backend = await world.serve()
    await world.add(f"{world.spec}dead/", f"http://127.0.0.1:{free_port()}")
    for url in world.urls:
        for _ in range(3):
            async with world.connect(url) as connection:
                answer = await connection.request("GET", world.path("dead/x"))
                assert answer.status == 503
                if answer.get("connection").lower() != "close":
                    backend.seen(await connection.request("GET", world.path("x")))


@behaviour("dead-alone", "A dead or hanging server does not hold up the others.")
async def dead_alone(world: World) -> None:
    async def hang(exchange: Exchange) -> None:
        await asyncio.Event().wait()

    backend, hanging = await world.serve(), await world.backend(hang)
    await world.route(hanging, f"{world.spec}hang/")

    async def ask(url: str) -> None:
        async with world.connect(url) as connection:
            await connection.request("GET", world.path("hang/x"))

    for url in world.urls:
        before = len(hanging.requests)
        waiting = [asyncio.ensure_future(ask(url)) for _ in range(30)]
        try:
            for _ in range(10):
                async with world.connect(url) as connection:
                    backend.seen(await connection.request("GET", world.path("x")))
        finally:
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
        assert len(hanging.requests) >= before


@behaviour("slow-answer", "A server may take its time before it answers.")
async def slow_answer(world: World) -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.body()
        await asyncio.sleep(2)
        await exchange.reply(200, [], b"at last")

    await world.serve(handler)

    async def ask(url: str) -> None:
        async with world.connect(url) as connection:
            answer = await connection.request("GET", world.path("x"))
            assert (answer.status, answer.body) == (200, b"at last")

    await asyncio.gather(*map(ask, world.urls))


@behaviour("many-requests", "A hundred requests at once are each answered with their own answer.")
async def many_requests(world: World) -> None:
    async def handler(exchange: Exchange) -> None:
        body = await exchange.body()
        await exchange.reply(200, [], body + exchange.seen.target.encode())

    await world.serve(handler)

    async def ask(url: str, number: int) -> None:
        async with world.connect(url) as connection:
            for turn in range(3):
                sent = f"{number}:{turn}:".encode() * 500
                target = world.path(f"{number}/{turn}")
                answer = await connection.request("POST", target, body=sent)
                assert answer.body == sent + target.encode()

    for url in world.urls:
        await asyncio.gather(*(ask(url, number) for number in range(100)))


@behaviour("bad-request", "What is not HTTP is refused, and does no harm to others.")
async def bad_request(world: World) -> None:
    backend = await world.serve()
    for url in world.urls:
        for nonsense in (b"nonsense\r\n\r\n", b"\x16\x03\x01\x02\x00\x01", b"GET\r\n\r\n"):
            async with world.connect(url) as connection:
                await connection.send(nonsense)
                connection.writer.write_eof()
                try:
                    answer = await connection.answer()
                except (EOFError, ConnectionError):
                    continue
                assert answer.status >= 400
        async with world.connect(url) as connection:
            backend.seen(await connection.request("GET", world.path("x")))


@behaviour("half-request", "A client that stops in the middle of a request harms nobody.")
async def half_request(world: World) -> None:
    backend = await world.serve()
    for url in world.urls:
        async with world.connect(url) as half:
            await half.send(f"GET {world.path('half')} HTTP/1.1\r\nHo".encode())
            async with world.connect(url) as connection:
                backend.seen(await connection.request("GET", world.path("x")))
    assert not any(seen.target.endswith("half") for seen in backend.requests)
