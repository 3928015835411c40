"""The forwarder behind Traefik's catch-all, on real replicas: what it carries, and its loss."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import quote

import pytest
from aiohttp import web
from harness.replicas import Replica
from harness.waiting import until
from harness.world import Load, World, make_world

from jupyterhub_junction.keys import REPLICAS

pytestmark = pytest.mark.needs_programs

#: Applies wait for ever, so what is live is so by the forwarder.
NO_APPLIES = ["--pace-covered=1000000"]


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with make_world(tmp_path, arguments=NO_APPLIES) as made:
        for replica in made.replicas:
            await replica.until("forwards", lambda s: s["forwarding"] and not s["pending"])
        yield made


async def _applied(world: World) -> list[int]:
    return [(await replica.status())["applied"] for replica in world.replicas]


async def test_a_covered_route_is_live_and_gone_without_an_apply(world: World) -> None:
    before = await _applied(world)
    for number in range(20):
        path = await world.add(f"u{number}")
        for replica in world.replicas:
            assert await world.ask(replica, path) == "200 server"
            assert await world.ask(replica, f"{path}a/..%2fb?c") == "200 server"
    await world.proxy.delete_route("/user/u3/")
    for replica in world.replicas:
        assert await world.ask(replica, "/user/u3/") == "200 hub"
    assert await _applied(world) == before


async def test_an_uncovered_change_is_live_on_return(world: World) -> None:
    """A deleted route that the document holds, and a named server below one that it holds."""
    path = await world.add("zoe/named")
    for replica in world.replicas:
        assert await world.ask(replica, path) == "200 server"
    await world.proxy.delete_route("/user/zoe/")
    for replica in world.replicas:
        assert await world.ask(replica, "/user/zoe/") == "200 hub"
        assert await world.ask(replica, path) == "200 server"


async def test_a_websocket_goes_through_the_forwarder(world: World) -> None:
    async def echo(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for message in socket:
            await socket.send_str(message.data)
        return socket

    app = web.Application()
    app.router.add_get("/user/ws/", echo)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        host, port = runner.addresses[0][:2]
        await world.proxy.add_route("/user/ws/", f"http://{host}:{port}", {})
        async with world.session.ws_connect(world.replicas[0].url + "/user/ws/") as socket:
            await socket.send_str("there")
            assert (await socket.receive(timeout=60)).data == "there"
    finally:
        await runner.cleanup()


async def test_a_unix_socket_target_is_reached(world: World, tmp_path: Path) -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(text="unix")

    app = web.Application()
    app.router.add_get("/user/unix/", answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
    await runner.setup()
    await web.UnixSite(runner, str(tmp_path / "s")).start()
    try:
        await world.proxy.add_route(
            "/user/unix/", f"http+unix://{quote(str(tmp_path / 's'), safe='')}", {}
        )
        assert await world.ask(world.replicas[0], "/user/unix/") == "200 unix"
    finally:
        await runner.cleanup()


async def test_a_path_that_leads_out_of_its_route_goes_where_it_leads(world: World) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", world.replicas[0].port)
    try:
        writer.write(b"GET /user/zoe/../../hub/x HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
        async with asyncio.timeout(60):
            answer = await reader.read()
    finally:
        writer.close()
    assert answer.endswith(b"hub")


async def test_the_hub_answers_for_a_forwarder_that_does_not(world: World) -> None:
    """Traefik's failover: an agent that stands still costs nobody an answer for long."""
    one, two = world.replicas
    agent = one.child("agent")
    covered = await world.add("covered")
    async with Load(world, one):
        one.signal_child("agent", signal.SIGSTOP)
        try:

            async def hub_answers() -> bool:
                return await world.ask(one, covered) == "200 hub"

            await until(hub_answers, "the hub answers in the forwarder's place")
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(agent, signal.SIGCONT)
        # its lease has ended meanwhile, and nobody waits for it before it has another
        store = world.cluster.store()

        async def registered() -> bool:
            items = (await store.read(REPLICAS)).items
            return REPLICAS + one.name in {item.key for item in items}

        await until(registered, "the replica is registered again")
        await store.close()
        # until Traefik has taken note that the forwarder is back, a route is not live by it
        path = await world.add("later")
        assert await world.ask(one, path) == "200 server"
        assert await world.ask(two, path) == "200 server"


async def test_no_request_fails_while_a_killed_agents_forwarder_is_away(world: World) -> None:
    """The supervisor holds its socket, so they stand in its queue until there is a new one.

    Where that takes long, Traefik gives it up meanwhile, and the hub answers.
    """
    one, _ = world.replicas
    path = await world.add("covered")
    assert await world.ask(one, path) == "200 server"
    async with (
        Load(world, one) as direct,
        Load(world, one, path=path, allowed=("200 server", "200 hub")) as forwarded,
    ):
        before = one.child("agent")
        one.signal_child("agent")

        async def back() -> bool:
            with contextlib.suppress(ProcessLookupError):
                return one.child("agent") != before
            return False

        await until(back, "the agent runs again")
        await one.ready()
        await until(lambda: min(direct.sent, forwarded.sent) > 40, "requests enough")


async def test_an_agent_started_while_etcd_is_away_serves_the_last_table(world: World) -> None:
    one, _ = world.replicas
    path = await world.add("covered")
    known = (await one.status())["known"]

    async def saved() -> bool:
        with contextlib.suppress(OSError):
            head = json.loads(one.runtime("table.json").partition("\n")[0])
            return bool(head["revision"] >= known)
        return False

    await until(saved, "the table is saved")
    world.cluster.kill_all()
    one.signal_child("agent")
    await one.until("ready with the table saved", lambda s: s["ready"] and not s["following"])
    assert await world.ask(one, "/user/zoe/") == "200 server"
    assert await world.ask(one, path) == "200 server"
    assert await world.ask(one, "/user/nobody/") == "200 hub"
    await world.cluster.restart()
    await one.ready()
    await world.add("later")
    assert await world.ask(one, "/user/later/") == "200 server"


async def _flood(replica: Replica, answered: list[int]) -> None:
    """Ask for paths that nobody has, several requests at a time, until cancelled."""
    reader, writer = await asyncio.open_connection("127.0.0.1", replica.port)
    try:
        number = 0
        while True:
            for _ in range(8):
                number += 1
                writer.write(b"GET /nobody/%d HTTP/1.1\r\nHost: h\r\n\r\n" % number)
            await writer.drain()
            for _ in range(8):
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
                await reader.readexactly(length)
                answered[0] += 1
    finally:
        writer.close()


async def test_a_flood_of_unknown_paths_costs_no_lease_no_answer_and_no_apply(
    tmp_path: Path,
) -> None:
    async with make_world(tmp_path) as world:
        one, _ = world.replicas
        before = await one.status()
        answered = [0]
        floods = [asyncio.create_task(_flood(one, answered)) for _ in range(64)]
        try:
            async with Load(world, one):
                for number in range(20):
                    path = await world.add(f"u{number}")
                    assert await world.ask(one, path) == "200 server"
                await world.proxy.delete_route("/user/u0/")
                assert await world.ask(one, "/user/u0/") == "200 hub"
                # longer than the lease would live without a word from the agent
                enough = asyncio.get_running_loop().time() + 12

                async def lived_on() -> bool:
                    assert not any(flood.done() for flood in floods)
                    return asyncio.get_running_loop().time() > enough

                await until(lived_on, "the lease has been renewed")
                after = await one.status()
                assert after["forwarder_connections"] > 10
                assert after["applies"] > before["applies"]
                assert "following etcd" in one.log.read_text()
                assert one.log.read_text().count("not following etcd") == 0
                assert one.log.read_text().count("following etcd at revision") == 1
        finally:
            for flood in floods:
                flood.cancel()
            ended = await asyncio.gather(*floods, return_exceptions=True)
        broken = [each for each in ended if not isinstance(each, asyncio.CancelledError)]
        assert not broken
        assert answered[0] > 1000
