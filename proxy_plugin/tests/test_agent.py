"""One agent between a store in memory and a small stand-in for Traefik's API."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from harness.waiting import SOON, until

from jupyterhub_junction.agent.activity_reports import ActivityReports
from jupyterhub_junction.agent.agent import Agent, AgentOptions
from jupyterhub_junction.keys import (
    ACTIVITY,
    REPLICAS,
    ROUTES,
    TABLE,
    ReplicaReport,
    TableInfo,
    decode_activity,
    encode_route,
)
from jupyterhub_junction.routes import Route
from jupyterhub_junction.store import Delete, MemoryStore, Put, StoreRefused
from jupyterhub_junction.traefik.api import TraefikAPI, TraefikError
from jupyterhub_junction.traefik.documents import RenderOptions

PASSWORD = "secret"  # noqa: S105
LOG = logging.getLogger("test.agent")


class StandIn:
    """What the agent uses of Traefik's API; a document is in effect some looks after its PUT."""

    def __init__(self) -> None:
        self.starts = 1
        self.alive = True
        self.refuse = False
        self.documents: list[dict[str, Any]] = []
        self.in_effect: dict[str, Any] | None = None
        self.looks = 0
        self.hold = False  # takes documents, and does not put them into effect

    def routes(self) -> set[str]:
        """The servers that the document in effect names."""
        services = (self.in_effect or {"http": {}})["http"].get("services", {})
        return {service["loadBalancer"]["servers"][0]["url"] for service in services.values()}

    def restart(self) -> None:
        """All that came over REST is lost."""
        self.starts += 1
        self.in_effect = None

    async def handle(self, request: web.Request) -> web.Response:
        if not self.alive:
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        given = request.headers.get("Authorization", "")
        if base64.b64decode(given.removeprefix("Basic ")) != f"junction:{PASSWORD}".encode():
            return web.Response(status=401)
        if request.path == "/api/version":
            return web.json_response({"Version": "3.7.15", "startDate": str(self.starts)})
        if request.path == "/api/providers/rest" and request.method == "PUT":
            if self.refuse:
                return web.Response(status=400, text="no")
            self.documents.append(json.loads(await request.read()))
            self.looks = 0
            return web.Response()
        self.looks += 1
        if self.looks > 2 and self.documents and not self.hold:
            self.in_effect = self.documents[-1]
        name = request.path.removeprefix("/api/http/routers/").removesuffix("@rest")
        routers = (self.in_effect or {"http": {"routers": {}}})["http"]["routers"]
        return web.Response(status=200 if name in routers else 404)


class World:
    """The store as the hub sees it, Traefik, and agents."""

    def __init__(self, traefik: StandIn, url: str) -> None:
        self.traefik, self.url = traefik, url
        self.hub = MemoryStore()
        self.store = self.hub.client()  # the agent's
        self.tables = 0

    async def put(self, *names: str, target: str = "http://{}:80") -> int:
        operations = []
        for name in names:
            route = Route(f"/user/{name}/", target.format(name))
            operations.append(Put(ROUTES + route.routespec, encode_route(route)))
        return (await self.hub.write(operations)).revision

    async def declare(self) -> int:
        self.tables += 1
        info = TableInfo(f"{self.tables:016x}")
        return (await self.hub.write([Put(TABLE, info.encode())])).revision

    async def report(self) -> ReplicaReport | None:
        items = (await self.hub.read(REPLICAS)).items
        return ReplicaReport.decode(items[0].key, items[0].value) if items else None

    @contextlib.asynccontextmanager
    async def agent(self, password: str = PASSWORD, **options: Any) -> AsyncIterator[Agent]:
        api = TraefikAPI(self.url, password)
        settings: dict[str, Any] = {"name": "one", "activity": 0, "poll": 0.01} | options
        agent = Agent(self.store, api, AgentOptions(**settings), RenderOptions(), LOG)
        run = asyncio.create_task(agent.run())
        try:
            yield agent
            assert not run.done(), run
        finally:
            run.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await run
            await api.close()


@pytest.fixture
async def world() -> AsyncIterator[World]:
    traefik = StandIn()
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", traefik.handle)
    async with TestServer(application) as server:
        yield World(traefik, str(server.make_url("")).rstrip("/"))


async def live(world: World, revision: int) -> None:
    """Wait until the agent has told the hub that a revision is in effect."""
    async with asyncio.timeout(SOON):
        while (report := await world.report()) is None or report.revision < revision:  # noqa: ASYNC110
            await asyncio.sleep(0.001)


async def ready(agent: Agent) -> None:
    await until(lambda: not agent.not_ready, f"ready: {agent.not_ready}")


async def unregistered(world: World) -> None:
    async with asyncio.timeout(SOON):
        while await world.report() is not None:  # noqa: ASYNC110
            await asyncio.sleep(0.001)


# --- loading and following -----------------------------------------------------------------------


async def test_it_applies_confirms_registers_and_follows(world: World) -> None:
    await world.put("a", "b")
    first = await world.declare()
    async with world.agent() as agent:
        await ready(agent)
        await live(world, first)
        assert world.traefik.routes() == {"http://a:80", "http://b:80"}
        revision = await world.put("c")
        await live(world, revision)
        assert "http://c:80" in world.traefik.routes()
        revision = (await world.hub.write([Delete(ROUTES + "/user/a/")])).revision
        await live(world, revision)
        assert world.traefik.routes() == {"http://b:80", "http://c:80"}
        status = agent.status()
        assert status["ready"]
        assert status["following"]
        assert (status["routes"], status["bad_keys"]) == (2, {})
        assert json.dumps(status)
    report = await world.report()
    assert report is None  # a replica that is stopped leaves at once


async def test_no_table_no_word_to_traefik_and_not_ready(world: World) -> None:
    await world.put("a")
    async with world.agent() as agent:
        await until(lambda: "no complete table" in agent.not_ready)
        assert world.traefik.documents == []
        assert await world.report() is None
        await world.declare()
        await ready(agent)


async def test_it_is_not_registered_before_traefik_has_the_table(world: World) -> None:
    world.traefik.hold = True
    await world.put("a")
    revision = await world.declare()
    async with world.agent() as agent:
        await until(lambda: world.traefik.looks > 5)
        assert await world.report() is None
        assert agent.not_ready
        world.traefik.hold = False
        await live(world, revision)
        await ready(agent)


async def test_a_change_is_not_reported_before_it_is_confirmed(world: World) -> None:
    await world.declare()
    async with world.agent() as agent:
        await ready(agent)
        world.traefik.hold = True
        documents = len(world.traefik.documents)
        revision = await world.put("a")
        await until(lambda: len(world.traefik.documents) > documents and world.traefik.looks > 5)
        report = await world.report()
        assert report is not None
        assert report.revision < revision
        assert not agent.not_ready  # it serves all that was there when it registered
        world.traefik.hold = False
        await live(world, revision)


async def test_changes_while_an_apply_runs_share_the_next(world: World) -> None:
    await world.declare()
    async with world.agent() as agent:
        await ready(agent)
        world.traefik.hold = True
        applies = agent.applier.applies
        await world.put("first")
        await until(lambda: agent.applier.applies == applies + 1 and world.traefik.looks > 2)
        for name in "abcdefgh":
            revision = await world.put(name)
        await until(lambda: agent.replica.known == revision)
        world.traefik.hold = False
        await live(world, revision)
        assert agent.applier.applies == applies + 2


async def test_a_document_that_is_refused_is_tried_again(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.traefik.refuse = True
    revision = await world.declare()
    async with world.agent() as agent:
        await until(lambda: "refuses the routes with 400" in caplog.text)
        assert agent.not_ready
        world.traefik.refuse = False
        await live(world, revision)


async def test_broken_values_are_skipped_named_and_mended(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    await world.put("a")
    broken = ROUTES + "/user/b/"
    await world.hub.write(
        [Put(broken, b"nonsense"), Put(ROUTES + "foreign", b"1"), Put(ROUTES + "/c/", b"{}")]
    )
    await world.declare()
    async with world.agent() as agent:
        await ready(agent)
        assert world.traefik.routes() == {"http://a:80"}
        assert set(agent.status()["bad_keys"]) == {  # type: ignore[call-overload]
            broken, ROUTES + "foreign", ROUTES + "/c/",
        }  # fmt: skip
        assert broken in caplog.text
        await world.put("d")
        await live(world, await world.put("b"))
        assert world.traefik.routes() == {"http://a:80", "http://b:80", "http://d:80"}
        assert broken not in agent.replica.bad


# --- Traefik -------------------------------------------------------------------------------------


async def test_a_restarted_traefik_is_loaded_again(world: World) -> None:
    await world.put("a")
    await world.declare()
    async with world.agent() as agent:
        await ready(agent)
        started = agent.applier.started
        world.traefik.restart()
        await until(lambda: world.traefik.in_effect is not None)
        await until(lambda: agent.applier.started != started and agent.replica.applied)
        await ready(agent)
        assert world.traefik.routes() == {"http://a:80"}
        await live(world, await world.put("b"))


async def test_while_traefik_is_away_nobody_waits_for_the_replica(world: World) -> None:
    await world.declare()
    async with world.agent() as agent:
        await ready(agent)
        await live(world, 1)
        world.traefik.alive = False
        await unregistered(world)
        assert agent.not_ready == "Traefik does not answer"
        revision = await world.put("a")
        world.traefik.alive = True
        world.traefik.restart()
        await live(world, revision)
        await ready(agent)
        assert world.traefik.routes() == {"http://a:80"}


async def test_a_traefik_that_was_only_slow_is_not_loaded_again(world: World) -> None:
    await world.put("a")
    await world.declare()
    async with world.agent() as agent:
        await ready(agent)
        await live(world, 1)
        applies = agent.applier.applies
        world.traefik.alive = False
        await until(lambda: agent.not_ready == "Traefik does not answer")
        world.traefik.alive = True
        await ready(agent)
        await live(world, (await world.hub.read(TABLE)).revision)
        assert agent.applier.applies == applies


async def test_a_document_that_takes_the_place_of_the_confirmed_one_is_noticed(
    world: World,
) -> None:
    await world.put("a")
    await world.declare()
    async with world.agent() as agent:
        await ready(agent)
        before = world.traefik.documents[-1]
        await live(world, await world.put("b"))
        assert world.traefik.in_effect is not before
        given = len(world.traefik.documents)
        world.traefik.hold, world.traefik.in_effect = True, before
        await until(lambda: len(world.traefik.documents) > given)
        world.traefik.hold = False
        await until(lambda: world.traefik.routes() == {"http://a:80", "http://b:80"})


async def test_a_wrong_password_is_a_clear_line(world: World) -> None:
    api = TraefikAPI(world.url, "wrong")
    with pytest.raises(TraefikError, match="answers 401"):
        await api.version()
    with pytest.raises(TraefikError, match="refuses the routes with 401"):
        await api.put(b"{}")
    await api.close()
    await world.declare()
    async with world.agent(password="wrong") as agent:  # noqa: S106
        await until(lambda: agent.replica.wait is not None)
        assert agent.not_ready == "Traefik does not answer"
        assert world.traefik.documents == []


@pytest.mark.parametrize(
    ("status", "body", "serves"),
    [
        (200, '{"name":"root@rest"}', True),
        (404, '{"message":"router not found: root@rest"}', False),
        (404, "404 page not found\n", None),  # it has not read its control document yet
    ],
)
async def test_a_traefik_without_its_api_says_nothing_of_routers(
    status: int, body: str, serves: bool | None
) -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(status=status, text=body)

    application = web.Application()
    application.router.add_route("*", "/{path:.*}", answer)
    async with TestServer(application) as server:
        api = TraefikAPI(str(server.make_url("")).rstrip("/"), PASSWORD)
        assert await api.serves("root@rest") is serves
        await api.close()


async def test_a_marker_that_never_comes_is_an_error(world: World) -> None:
    api = TraefikAPI(world.url, PASSWORD)
    with pytest.raises(TraefikError, match="document 7 into effect"):
        await api.wait_for(7, timeout=0.01)
    await api.close()


# --- etcd ----------------------------------------------------------------------------------------


async def test_a_store_that_refuses_a_running_agent_does_not_end_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """etcd out of space, or a role taken away, in the very first session."""
    await world.put("a")
    await world.declare()
    async with world.agent() as agent:
        await ready(agent)
        await live(world, 1)

        async def refuse(*_: Any, **__: Any) -> Any:
            raise StoreRefused("database space exceeded")

        with monkeypatch.context() as broken:
            broken.setattr(world.store, "write", refuse)
            await world.put("b")
            await until(lambda: "space" in agent.trouble)
            await until(lambda: world.traefik.routes() == {"http://a:80", "http://b:80"})
            assert not agent.not_ready
        await live(world, await world.put("c"))


async def test_it_serves_on_and_stays_ready_while_the_store_is_away(world: World) -> None:
    await world.put("a")
    await world.declare()
    async with world.agent() as agent:
        await ready(agent)
        await live(world, 1)
        await world.store.set_available(False)
        await until(lambda: agent.trouble)
        assert not agent.not_ready
        assert not agent.status()["following"]
        revision = await world.put("b")
        assert await world.report() is not None  # its lease lives: the hub waits for it
        world.traefik.restart()  # even this needs no etcd
        await until(lambda: world.traefik.routes() == {"http://a:80"})
        await ready(agent)
        await world.store.set_available(True)
        await live(world, revision)
        assert world.traefik.routes() == {"http://a:80", "http://b:80"}


async def test_max_stale_makes_a_cut_off_replica_unready(world: World) -> None:
    await world.declare()
    async with world.agent(max_stale=1e-9) as agent:
        await ready(agent)
        await world.store.set_available(False)
        await until(lambda: "cut off from etcd" in agent.not_ready)
        await world.store.set_available(True)
        await ready(agent)


@pytest.mark.parametrize("holding", ["wiped", "older", "no table", "another format"])
async def test_a_worse_table_is_not_taken(world: World, holding: str) -> None:
    await world.put("a")
    await world.declare()
    async with world.agent() as agent:
        await live(world, await world.put("b"))
        served = {"http://a:80", "http://b:80"}
        documents = len(world.traefik.documents)
        if holding == "wiped":
            await world.hub.wipe(cluster_id="memory-2")
        elif holding == "older":
            old = [i for i in (await world.hub.read("")).items if i.key != ROUTES + "/user/b/"]
            await world.hub.wipe(cluster_id="memory-2", revision=3, items=old)
        elif holding == "no table":
            await world.hub.write([Delete(TABLE), Delete(ROUTES + "/user/a/")])
        else:
            await world.hub.write([Put(TABLE, b'{"format":2}'), Delete(ROUTES + "/user/a/")])
        await until(lambda: agent.replica.holding)
        await unregistered(world)
        assert not agent.not_ready
        assert agent.status()["trouble"]
        assert world.traefik.routes() == served
        assert len(world.traefik.documents) == documents
        await world.put("c")
        revision = await world.declare()
        await live(world, revision)
        assert "http://c:80" in world.traefik.routes()


async def test_a_compacted_history_is_read_again(world: World) -> None:
    await world.declare()
    async with world.agent() as agent:
        await ready(agent)
        await world.store.set_available(False)
        await until(lambda: agent.trouble)
        revision = await world.put("a", "b")
        await world.hub.compact()
        await world.store.set_available(True)
        await live(world, revision)


async def test_a_store_that_refuses_at_the_start_ends_the_agent(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(*prefixes: str) -> Any:
        raise StoreRefused("etcd refuses the password")

    monkeypatch.setattr(world.store, "read", refuse)
    api = TraefikAPI(world.url, PASSWORD)
    agent = Agent(world.store, api, AgentOptions("one"), RenderOptions(), LOG)
    async with asyncio.timeout(SOON):
        with pytest.raises(ExceptionGroup) as ended:
            await agent.run()
    assert ended.group_contains(StoreRefused, match="password")
    await api.close()


# --- the rest ------------------------------------------------------------------------------------


async def test_a_draining_replica_is_not_ready(world: World) -> None:
    await world.declare()
    async with world.agent() as agent:
        await ready(agent)
        agent.draining = True
        assert agent.not_ready == "draining"
        agent.draining = False
        assert not agent.not_ready


def test_a_name_that_no_key_can_hold() -> None:
    with pytest.raises(ValueError, match="replica name"):
        Agent(MemoryStore(), TraefikAPI("http://x", ""), AgentOptions("a/b"), RenderOptions(), LOG)


async def test_activity_is_written_for_routes_that_are_there(world: World) -> None:
    await world.put("a")
    await world.declare()
    async with world.agent(activity=0) as agent:
        await ready(agent)
        reports = ActivityReports(
            world.store,
            agent.replica.table,
            LOG,
            interval=60,
            pids=lambda: None,
            following=lambda: True,
        )
        await reports._report({"/user/a/": 1e9, "/user/gone/": 1e9})
        [item] = (await world.hub.read(ACTIVITY)).items
        assert item.key == ACTIVITY + "/user/a/"
        assert decode_activity(item.key, item.value).startswith("2001-09-09T")
