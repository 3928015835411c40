"""``junction fill-chp``: a new CHP is ready once it has every route, and not before."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from harness.waiting import SOON, until

from jupyterhub_junction.keys import ROUTES, TABLE, TableInfo, encode_route
from jupyterhub_junction.migrate.command import fill_chp
from jupyterhub_junction.migrate.fill import MARK, Chp, Fill, chp_path
from jupyterhub_junction.routes import Route
from jupyterhub_junction.store import Delete, MemoryStore, Put

LOG = logging.getLogger("test.fill")


class FakeChp:
    """CHP's API with a table that can be lost; the real one is in test_mirror."""

    def __init__(self) -> None:
        self.routes: dict[str, Any] = {}
        self.up = True
        self.refuse = 0

    async def answer(self, request: web.Request) -> web.Response:
        path = request.path.removeprefix("/api/routes")
        if request.headers["Authorization"] != "token a-token":
            return web.Response(status=403)
        if not self.up:
            return web.Response(status=502)
        if request.method == "POST":
            if self.refuse:
                self.refuse -= 1
                return web.Response(status=500)
            self.routes[path] = await request.json()
            return web.Response(status=201)
        found = self.routes.get(path)
        if request.method == "DELETE":
            self.routes.pop(path, None)
        return web.json_response(found, status=200 if found else 404)

    @property
    def table(self) -> dict[str, str]:
        return {path: one["target"] for path, one in self.routes.items() if path != MARK}


@contextlib.asynccontextmanager
async def serving(chp: FakeChp) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_route("*", "/{rest:.*}", chp.answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def put(spec: str, target: str = "http://127.0.0.1:1") -> Put:
    return Put(ROUTES + spec, encode_route(Route(spec, target, {"user": "x"})))


def table(number: int = 1) -> Put:
    return Put(TABLE, TableInfo(f"{number:016x}").encode())


class World:
    def __init__(self, memory: MemoryStore, chp: FakeChp, fill: Fill) -> None:
        self.memory, self.chp, self.fill = memory, chp, fill

    async def until(self, **wanted: str) -> None:
        names = {f"/user/{name}": target for name, target in wanted.items()}
        await until(
            lambda: self.fill.ready and self.chp.table == names,
            f"CHP has {names}",
            deadline=SOON,
        )


@pytest.fixture
async def world() -> AsyncIterator[World]:
    memory, chp = MemoryStore(), FakeChp()
    async with serving(chp) as url:
        api = Chp(url, "a-token")
        fill = Fill(memory.client(), api, LOG)
        task = asyncio.create_task(fill.run())
        try:
            yield World(memory, chp, fill)
            assert not task.done(), task
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await api.close()


A, B = "http://127.0.0.1:1", "http://127.0.0.1:2"


async def test_it_is_ready_once_chp_has_the_complete_table(world: World) -> None:
    world.chp.up = False
    await world.memory.write([put("/user/a/")])
    await world.memory.write([put("/user/b/")])
    assert not world.fill.ready
    world.chp.up = True
    await world.memory.write([put("/user/c/")])
    # the table is not complete until the hub says so
    assert world.chp.table == {}
    assert "complete" in world.fill.why
    await world.memory.write([table()])
    await world.until(a=A, b=A, c=A)
    assert world.chp.routes["/user/a"]["jupyterhub"] is True
    assert world.chp.routes["/user/a"]["user"] == "x"
    assert "jupyterhub" not in world.chp.routes[MARK], "the hub does not see it"


async def test_why_chp_is_not_full_is_said_once(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    def said(what: str) -> int:
        return sum("CHP is not full" in line and what in line for line in caplog.messages)

    world.chp.up = False
    await until(lambda: said("no complete table"), deadline=SOON)
    await world.memory.write([put("/user/a/"), table()])
    await until(lambda: said("answers POST"), deadline=SOON)
    world.chp.up = True
    await world.until(a=A)
    assert said("no complete table") == said("answers POST") == 1


async def test_what_changes_in_etcd_changes_in_chp(world: World) -> None:
    await world.memory.write([put("/user/a/"), put("/user/b/"), table()])
    await world.until(a=A, b=A)
    await world.memory.write([put("/user/c/"), put("/user/a/", B), Delete(ROUTES + "/user/b/")])
    await world.until(a=B, c=A)
    await world.memory.write([table(2)])
    await world.memory.write([put("/user/d/")])
    await world.until(a=B, c=A, d=A)


async def test_a_chp_that_lost_its_table_is_not_ready_until_it_is_filled_again(
    world: World,
) -> None:
    await world.memory.write([put("/user/a/"), table()])
    await world.until(a=A)
    world.chp.up = False
    await until(lambda: not world.fill.ready, deadline=SOON)
    world.chp.routes.clear()
    await world.memory.write([put("/user/b/")])
    world.chp.up = True
    await world.until(a=A, b=A)
    world.chp.routes.clear()  # restarted between two looks
    await world.until(a=A, b=A)


async def test_a_route_that_chp_does_not_take_is_tried_again(world: World) -> None:
    world.chp.refuse = 2
    await world.memory.write([put("/user/a/"), table()])
    await world.until(a=A)
    world.chp.refuse = 1
    await world.memory.write([put("/user/b/")])
    await world.until(a=A, b=A)


async def test_an_etcd_that_is_empty_or_made_anew_takes_nothing_from_chp(world: World) -> None:
    await world.memory.write([put("/user/a/"), table()])
    await world.until(a=A)
    world.chp.routes["/user/hub"] = {"target": B}  # what the hub wrote itself
    await world.memory.wipe(cluster_id="two")
    await world.memory.write([put("/user/b/")])
    world.chp.routes.clear()
    await world.until(a=A)
    await world.memory.write([table(2)])
    await world.until(b=A)


@pytest.mark.parametrize(
    ("routespec", "path"),
    [
        ("/", "/"),
        ("/user/a/", "/user/a"),
        ("host.tld/user/a/", "/host.tld/user/a"),
        ("/user/a%20b/", "/user/a%20b"),
        ("/user/has@/", "/user/has@"),
        ("/user/%E7%A7%80/", "/user/%E7%A7%80"),
    ],
)
def test_paths_are_those_of_jupyterhubs_class(routespec: str, path: str) -> None:
    assert chp_path(routespec) == path


@pytest.mark.parametrize("missing", ["JUNCTION_ETCD", "CONFIGPROXY_AUTH_TOKEN"])
def test_what_is_not_in_the_environment_is_named(
    missing: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("JUNCTION_ETCD", "CONFIGPROXY_AUTH_TOKEN"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.delenv(missing)
    assert fill_chp([]) == 2
    assert capsys.readouterr().err == (
        f"junction fill-chp: {missing} is not set in the environment\n"
    )
