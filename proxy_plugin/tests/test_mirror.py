"""``junction-mirror`` on a real CHP and a real etcd, each of which is killed or emptied."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest
from harness.etcd_cluster import EtcdCluster
from harness.hub_http import hub_http_client
from harness.waiting import SOON, until
from jupyterhub.proxy import ConfigurableHTTPProxy

from jupyterhub_junction.keys import TABLE
from jupyterhub_junction.migrate.fill import MARK, Fill
from jupyterhub_junction.migrate.fill import Chp as ChpApi
from jupyterhub_junction.ports import free_ports
from jupyterhub_junction.proxies.etcd import TraefikEtcdProxy
from jupyterhub_junction.proxies.mirror import IN_STEP, MirroredProxy

pytestmark = pytest.mark.needs_programs

HUB = SimpleNamespace(base_url="/hub/", host="http://127.0.0.1:8081", routespec="/")
TOKEN = "a-token"  # noqa: S105
#: what the hub may wait for the side that does not serve; above what either needs when idle
FOLLOW = 3.0


class Chp:
    """A real configurable-http-proxy that nobody but the test starts and kills."""

    def __init__(self, directory: Path) -> None:
        self.port, self.api_port = free_ports(2)
        self.log = directory / "chp.log"
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def api_url(self) -> str:
        return f"http://127.0.0.1:{self.api_port}"

    def launch(self) -> None:
        program = os.environ.get("JUNCTION_CHP") or shutil.which("configurable-http-proxy")
        assert program, "configurable-http-proxy is not on PATH, and JUNCTION_CHP does not name it"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [
                    program, "--ip=127.0.0.1", f"--port={self.port}", "--api-ip=127.0.0.1",
                    f"--api-port={self.api_port}", f"--default-target={HUB.host}",
                ],
                stdout=log, stderr=log, env=os.environ | {"CONFIGPROXY_AUTH_TOKEN": TOKEN},
            )  # fmt: skip

    async def start(self) -> None:
        self.launch()

        async def answers() -> bool:
            assert self.process is not None
            assert self.process.poll() is None, self.log.read_text()
            with contextlib.suppress(OSError, aiohttp.ClientError):
                await self.routes()
                return True
            return False

        await until(answers, "CHP answers")

    async def routes(self) -> dict[str, Any]:
        """Its table, in its own words."""
        async with (
            aiohttp.ClientSession(headers={"Authorization": f"token {TOKEN}"}) as session,
            session.get(f"{self.api_url}/api/routes") as response,
        ):
            return dict(await response.json())

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()


class World:
    """A hub's proxy object, CHP, and an etcd of one member."""

    def __init__(self, chp: Chp, cluster: EtcdCluster) -> None:
        self.chp, self.cluster = chp, cluster
        self.users: dict[str, Any] = {}
        self.proxies: list[Any] = []
        self.proxy: MirroredProxy

    def hub(self, kind: type[Any] = MirroredProxy, **settings: Any) -> Any:
        """A new proxy object, configured as z2jh configures its hub."""
        from traitlets.config import Config

        config = Config(
            {
                "ConfigurableHTTPProxy": {
                    "api_url": self.chp.api_url, "auth_token": TOKEN, "should_start": False,
                },
                "TraefikEtcdProxy": {"etcd_endpoints": self.cluster.endpoints},
                "MirroredProxy": {"follow_timeout": FOLLOW},
            }
        )  # fmt: skip
        app = SimpleNamespace(
            hub=HUB, users=self.users, _service_map={}, subdomain_host="", internal_ssl=False
        )
        log = logging.getLogger("test.hub")
        made = kind(config=config, app=app, hub=HUB, log=log, **settings)
        self.proxies.append(made)
        return made

    async def start(self, serving: str) -> None:
        self.proxy = self.hub(serving=serving)
        await self.proxy.check_routes(self.users, {})

    async def add(self, name: str, host: str = "http://127.0.0.1:9999") -> None:
        """As the hub does when a server starts."""
        spec = f"/user/{name}/"
        spawner = SimpleNamespace(
            ready=True, pending=None, active=True, proxy_spec=spec, _log_name=name,
            server=SimpleNamespace(host=host),
        )  # fmt: skip
        self.users[name] = SimpleNamespace(name=name, proxy_spec=spec, spawners={"": spawner})
        await self.proxy.add_route(spec, host, {"user": name, "server_name": ""})

    async def delete(self, name: str) -> None:
        self.users.pop(name)
        await self.proxy.delete_route(f"/user/{name}/")

    async def in_chp(self) -> dict[str, str]:
        return {spec: one["target"] for spec, one in (await self.chp.routes()).items()}

    async def in_etcd(self) -> dict[str, str]:
        other = self.hub(TraefikEtcdProxy)
        routes = await other.get_all_routes()
        await other.stop()
        self.proxies.remove(other)
        return {spec.rstrip("/") or "/": one["target"] for spec, one in routes.items()}

    async def alike(self, *names: str) -> bool:
        """Both sides have the hub and these users, and nothing else."""
        wanted = {"/", *(f"/user/{name}" for name in names)}
        chp, etcd = await self.in_chp(), await self.in_etcd()
        return chp == etcd and set(chp) == wanted

    async def empty_chp(self) -> None:
        self.chp.kill()
        await self.chp.start()

    async def empty_etcd(self) -> None:
        await self.cluster.wipe()


@contextlib.asynccontextmanager
async def make_world(directory: Path) -> AsyncIterator[World]:
    chp = Chp(directory)
    async with EtcdCluster(directory / "etcd", members=1) as cluster, hub_http_client():
        world = World(chp, cluster)
        try:
            await chp.start()
            yield world
        finally:
            for proxy in world.proxies:
                if not isinstance(proxy, ConfigurableHTTPProxy):
                    await proxy.stop()
            chp.kill()


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with make_world(tmp_path) as made:
        yield made


@contextlib.contextmanager
def swift(seconds: float) -> Iterator[None]:
    """What a call that is held up by nobody does not take; against hangs, not a measurement."""
    begun = time.monotonic()
    yield
    assert time.monotonic() - begun < seconds


SIDES = pytest.mark.parametrize("serving", ["chp", "etcd"])


@SIDES
async def test_a_write_is_on_both_sides_when_it_returns(world: World, serving: str) -> None:
    await world.start(serving)
    assert await world.alike()
    await world.add("zoe")
    await world.add("has@")
    assert await world.alike("zoe", "has@")
    # names as JupyterHub escapes them, which CHP keeps decoded
    for spec in ("/user/%E7%A7%80%E6%A8%B9/", "/user/~a%20b%2Bc%25d/", "/user/it%27s/"):
        await world.proxy.add_route(spec, "http://127.0.0.1:1", {"user": "x"})
        assert spec in await world.proxy.get_all_routes()
        await world.proxy.delete_route(spec)
    await world.add("zoe", "http://127.0.0.1:9998")
    await world.delete("has@")
    assert (await world.in_chp())["/user/zoe"] == "http://127.0.0.1:9998"
    assert await world.alike("zoe")
    routes = await world.proxy.get_all_routes()
    assert routes["/user/zoe/"]["data"]["user"] == "zoe"
    assert "jupyterhub" not in routes["/user/zoe/"]["data"]
    assert world.proxy.status.in_step
    assert world.proxy.status.unlike == 0


@SIDES
@pytest.mark.parametrize("emptied", ["chp", "etcd"])
async def test_a_side_that_was_emptied_is_filled_by_the_next_check(
    world: World, serving: str, emptied: str
) -> None:
    await world.start(serving)
    for name in ("zoe", "50fia"):
        await world.add(name)
    await (world.empty_chp() if emptied == "chp" else world.empty_etcd())
    before = (await world.chp.routes()).get("/user/zoe")
    await world.proxy.check_routes(world.users, {})
    if emptied == "etcd":
        assert (await world.chp.routes())["/user/zoe"] == before, "a write would count as activity"
    await until(lambda: world.alike("zoe", "50fia"), deadline=SOON)
    await until(lambda: world.proxy.status.in_step, deadline=SOON)
    store = world.cluster.store()
    assert (await store.read(TABLE)).items, "the new table is declared complete"
    await store.close()


@SIDES
async def test_a_route_that_they_have_not_alike_does_not_exist_and_is_mended(
    world: World, serving: str
) -> None:
    await world.start(serving)
    await world.add("zoe")
    data = {"user": "zoe", "server_name": ""}
    for side in (world.proxy.chp, world.proxy.etcd):
        for wrong in ("missing", "stale", "target", "data"):
            if wrong == "missing":
                await side.delete_route("/user/zoe/")
            elif wrong == "target":
                await side.add_route("/user/zoe/", "http://127.0.0.1:1", dict(data))
            elif wrong == "data":
                await side.add_route("/user/zoe/", "http://127.0.0.1:9999", data | {"more": 1})
            else:
                await side.add_route("/user/old/", "http://127.0.0.1:1", data | {"user": "old"})
            spec = "/user/old/" if wrong == "stale" else "/user/zoe/"
            assert spec not in await world.proxy.get_all_routes(), wrong
            assert world.proxy.status.unlike == 1
            await world.proxy.check_routes(world.users, {})
            mended = (await world.proxy.get_all_routes())["/user/zoe/"]["data"]
            assert mended.pop("last_activity")
            assert mended == data, wrong
            assert await world.alike("zoe"), wrong


async def test_etcd_away_fails_no_call_holds_none_up_and_heals(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    await world.start("chp")
    await world.add("before")
    world.cluster.kill(0)
    await world.add("first")  # this one waits for etcd, those to come do not
    with swift(FOLLOW):
        for number in range(20):
            await world.add(f"u{number}")
            await world.proxy.get_all_routes()
        await world.delete("before")
    await until(lambda: not world.proxy.status.in_step, deadline=SOON)
    assert IN_STEP.labels("etcd")._value.get() == 0
    assert "/user/first/" in await world.proxy.get_all_routes(), "what serves counts"
    world.cluster.launch(0, state="existing")
    await until(lambda: world.proxy.status.in_step, "the mirror has found etcd again")
    assert await world.alike("first", *(f"u{number}" for number in range(20)))
    assert IN_STEP.labels("etcd")._value.get() == 1
    told = [one.message for one in caplog.records if "does not serve" in one.message]
    assert len(told) in (1, 2), told  # late, and then why


async def test_chp_away_fails_no_call_holds_none_up_and_heals(world: World) -> None:
    await world.start("etcd")
    await world.add("before")
    world.chp.kill()
    await world.add("first")
    with swift(FOLLOW):
        for number in range(20):
            await world.add(f"u{number}")
            await world.proxy.get_all_routes()
    assert not world.proxy.status.in_step
    await world.chp.start()
    await until(lambda: world.proxy.status.in_step, "the mirror has found CHP again")
    assert await world.alike("before", "first", *(f"u{number}" for number in range(20)))


async def test_a_hub_starts_and_goes_on_without_the_side_that_does_not_serve(world: World) -> None:
    world.cluster.kill(0)
    proxy = world.proxy = world.hub(serving="chp")
    assert await proxy.get_all_routes() == {}
    await proxy.check_routes(world.users, {})
    await world.add("zoe")
    assert set(await world.in_chp()) == {"/", "/user/zoe"}
    world.cluster.launch(0, state="existing")
    await until(lambda: proxy.status.in_step)
    assert await world.alike("zoe")


async def test_the_serving_side_fails_as_its_own_class_does(world: World) -> None:
    proxy = world.proxy = world.hub(serving="etcd")
    proxy.etcd.etcd_timeout = 0.5
    await proxy.check_routes(world.users, {})
    world.cluster.kill(0)
    with pytest.raises(Exception, match="connection refused"):
        await world.add("zoe")
    with pytest.raises(Exception, match="connection refused"):
        await proxy.get_all_routes()
    with pytest.raises(Exception, match="connection refused"):
        await proxy.check_routes(world.users, {})


async def test_a_route_that_only_etcd_refuses_is_served_by_chp(world: World) -> None:
    await world.start("chp")
    with swift(FOLLOW):
        await world.proxy.add_route("/user/a//b/", "http://127.0.0.1:1", {"user": "a"})
    assert "/user/a//b/" in await world.proxy.get_all_routes()
    assert world.proxy.status.in_step
    assert world.proxy.status.refused == 1
    assert world.proxy.status.unlike == 0
    await world.proxy.delete_route("/user/a//b/")
    assert world.proxy.status.refused == 0


@SIDES
async def test_last_activity_is_the_newest_of_both(world: World, serving: str) -> None:
    await world.start(serving)
    await world.add("zoe")
    old, new = "2020-01-01T00:00:00.000Z", "2099-01-01T00:00:00.000Z"
    for newest in ("chp", "etcd"):
        for name, side in (("chp", world.proxy.chp), ("etcd", world.proxy.etcd)):
            read = type(side).get_all_routes

            async def tell(
                read: Any = read, side: Any = side, last: str = new if name == newest else old
            ) -> Any:
                routes = await read(side)
                for route in routes.values():
                    route["data"]["last_activity"] = last
                return routes

            side.get_all_routes = tell
        routes = await world.proxy.get_all_routes()
        assert routes["/user/zoe/"]["data"]["last_activity"] == new
        world.proxy._activity.clear()


async def test_many_routes_at_once_and_a_new_hub(world: World) -> None:
    await world.start("chp")
    names = [f"u{number}" for number in range(300)]
    await asyncio.gather(*(world.add(name) for name in names))
    await until(lambda: world.proxy.status.in_step, deadline=SOON)
    await world.proxy.stop()
    world.proxy = world.hub(serving="etcd")
    assert len(await world.proxy.get_all_routes()) == 301
    await world.proxy.check_routes(world.users, {})
    assert await world.alike(*names)


async def test_the_way_back_a_new_chp_is_filled_from_etcd_and_again_when_it_dies(
    world: World,
) -> None:
    await world.start("etcd")
    names = [f"u{number}" for number in range(50)]
    await asyncio.gather(*(world.add(name) for name in names))
    await world.proxy.stop()  # the hub is on its way, too
    await world.empty_chp()
    store, chp = world.cluster.store(), ChpApi(world.chp.api_url, TOKEN)
    fill = Fill(store, chp, logging.getLogger("test.fill"))
    task = asyncio.create_task(fill.run())
    try:
        await until(lambda: fill.ready, deadline=SOON)
        assert set(await world.in_chp()) == {MARK, "/", *(f"/user/{name}" for name in names)}
        world.proxy = world.hub(serving="etcd")
        routes = await world.proxy.get_all_routes()
        assert len(routes) == 51, "the hub sees its own only"
        await world.proxy.check_routes(world.users, {})
        await world.add("zoe")
        await world.delete("u0")
        world.chp.kill()
        await until(lambda: not fill.ready, deadline=SOON)
        await world.chp.start()
        await until(lambda: fill.ready, deadline=SOON)
        wanted = {MARK, "/", "/user/zoe", *(f"/user/{name}" for name in names[1:])}
        assert set(await world.in_chp()) == wanted
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await chp.close()
        await store.close()


def test_the_hub_finds_it_by_the_name_that_the_presets_give() -> None:
    from jupyterhub.app import JupyterHub
    from traitlets.config import Config

    from jupyterhub_junction.migrate.presets import preset

    for name, serving in (("prepare", "chp"), ("rollback", "etcd")):
        # as z2jh passes hub.config on
        hub = JupyterHub(config=Config(preset(name)["hub"]["config"]))
        assert hub.proxy_class is MirroredProxy
        assert hub.config.MirroredProxy.serving == serving
    assert JupyterHub(config=Config(preset("takeover")["hub"]["config"])).proxy_class is (
        TraefikEtcdProxy
    )


async def test_chp_without_its_token_is_refused_with_a_clear_line(world: World) -> None:
    from traitlets.config import Config

    with pytest.raises(ValueError, match="CONFIGPROXY_AUTH_TOKEN"):
        MirroredProxy(config=Config(), app=SimpleNamespace(internal_ssl=False), hub=HUB)
