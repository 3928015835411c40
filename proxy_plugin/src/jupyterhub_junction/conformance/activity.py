"""last_activity: what the hub's culler goes by."""

from __future__ import annotations

import asyncio
import datetime

from ..ports import free_port
from .backend import Backend, Exchange
from .behaviours import behaviour
from .client import UpgradeRefused
from .wire import TEXT
from .world import World, until


async def _time(world: World) -> datetime.datetime:
    """The last activity, the beginning of time if there is none."""
    text = await world.activity()
    if not text:
        return datetime.datetime.min.replace(tzinfo=datetime.UTC)
    time = datetime.datetime.fromisoformat(text)
    assert time.tzinfo is not None, f"{text} has no time zone"
    return time


async def _settled(world: World) -> None:
    """Return when all that has happened until now has been counted.

    Requests to a route of its own are waited for, twice: what came before the first is counted
    by then, even where a proxy reports a route's activity only so often.
    """
    marker = World(world.running, world.around, world.directory)
    try:
        await marker.serve()
        for _ in range(2):
            before = await _time(marker)

            async def moved(before: datetime.datetime = before) -> bool:
                await marker.get(marker.path("marker"))
                return await _time(marker) > before

            await until(moved, "last_activity moves", deadline="activity", times=1)
    finally:
        await marker.close()


async def _quiet(world: World) -> datetime.datetime:
    """The last activity, once all that has happened until now has been counted."""
    await _settled(world)
    return await _time(world)


async def _moves(world: World, since: datetime.datetime) -> None:
    async def moved() -> bool:
        return await _time(world) > since

    await until(moved, "last_activity moves", deadline="activity", times=1)


async def _stays(world: World, since: datetime.datetime) -> None:
    """Nothing that has happened by now moves the time later on either."""
    await _settled(world)
    assert await _time(world) == since


async def _added(world: World, backend: Backend) -> None:
    # Without the probes that world.route() makes: they are activity.
    await world.add(world.spec, backend.url)


@behaviour("activity-request", "A request moves its route's last_activity.", needs=["activity"])
async def activity_request(world: World) -> None:
    backend = await world.backend()
    await _added(world, backend)
    for url in world.urls:
        before = await _quiet(world)
        async with world.connect(url) as connection:
            backend.seen(await connection.request("GET", world.path("x")))
            await _moves(world, before)


@behaviour("activity-now", "last_activity is the time of the request.", needs=["activity"])
async def activity_now(world: World) -> None:
    backend = await world.backend()
    await _added(world, backend)
    before = await _quiet(world)
    await world.get(world.path("x"))
    await _moves(world, before)
    age = datetime.datetime.now(datetime.UTC) - await _time(world)
    # Minutes, not hours: a wrong time zone is what this finds.
    assert abs(age) < datetime.timedelta(minutes=10)


@behaviour("activity-own", "A request moves no other route's last_activity.", needs=["activity"])
async def activity_own(world: World) -> None:
    backend, other = await world.backend(), await world.backend()
    await _added(world, backend)
    await world.add(f"{world.spec}other/", other.url)
    before = await _quiet(world)
    await world.get(world.path("other/x"))
    await _stays(world, before)


@behaviour("activity-none", "Without requests, last_activity stands still.", needs=["activity"])
async def activity_none(world: World) -> None:
    backend = await world.backend()
    await _added(world, backend)
    before = await _quiet(world)
    await _stays(world, before)
    assert not backend.requests


@behaviour(
    "activity-websocket-server",
    "What a server sends over a WebSocket moves last_activity.",
    needs=["activity"],
)
async def activity_websocket_server(world: World) -> None:
    told: list[asyncio.Queue[None]] = []  # by connection: an old one's must not take the word

    async def handler(exchange: Exchange) -> None:
        go: asyncio.Queue[None] = asyncio.Queue()
        told.append(go)
        websocket = await exchange.websocket()
        while True:
            await go.get()
            await websocket.send(TEXT, b"output")

    backend = await world.backend(handler)
    await _added(world, backend)
    for url in world.urls:
        async with world.websocket(url) as websocket:
            before = await _quiet(world)
            told[-1].put_nowait(None)
            await websocket.message()
            await _moves(world, before)


@behaviour(
    "activity-websocket-client",
    "What a client sends over a WebSocket moves last_activity.",
    needs=["activity"],
)
async def activity_websocket_client(world: World) -> None:
    async def handler(exchange: Exchange) -> None:
        websocket = await exchange.websocket()
        while True:
            exchange.backend.frames.append(await websocket.receive())

    backend = await world.backend(handler)
    await _added(world, backend)
    for url in world.urls:
        async with world.websocket(url) as websocket:
            before = await _quiet(world)
            await websocket.send(TEXT, b"input")
            await _moves(world, before)


@behaviour(
    "activity-websocket-idle",
    "A WebSocket over which nothing goes does not move last_activity.",
    needs=["activity"],
)
async def activity_websocket_idle(world: World) -> None:
    backend = await world.backend()
    await _added(world, backend)
    for url in world.urls:
        async with world.websocket(url):
            before = await _quiet(world)
            await _stays(world, before)


@behaviour(
    "activity-dead-server",
    "Requests and WebSockets to a server that is gone are no activity.",
    needs=["activity"],
)
async def activity_dead_server(world: World) -> None:
    await world.add(world.spec, f"http://127.0.0.1:{free_port()}")
    before = await _quiet(world)
    for answer in await world.get(world.path("x")):
        assert answer.status == 503
    for url in world.urls:
        try:
            async with world.websocket(url):
                raise AssertionError("a dead server's WebSocket was opened")
        except (UpgradeRefused, EOFError):
            pass
    await _stays(world, before)


@behaviour(
    "activity-errors",
    "Answers of 300 and above are no activity.",
    needs=["activity", "activity-statuses"],
)
async def activity_errors(world: World) -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.body()
        await exchange.reply(int(exchange.seen.target.rpartition("/")[2]))

    backend = await world.backend(handler)
    await _added(world, backend)
    before = await _quiet(world)
    for status in (302, 403, 404, 500, 503):
        for answer in await world.get(world.path(str(status))):
            backend.seen(answer)
    await _stays(world, before)


@behaviour(
    "activity-deleted",
    "A route that is deleted and added again does not inherit a later last_activity.",
    needs=["activity"],
)
async def activity_deleted(world: World) -> None:
    backend = await world.backend()
    await _added(world, backend)
    before = await _quiet(world)
    await world.get(world.path("x"))
    await _moves(world, before)
    await world.proxy.delete_route(world.spec)
    assert world.spec not in await world.proxy.get_all_routes()
    await _added(world, backend)
    before = await _quiet(world)
    await _stays(world, before)
