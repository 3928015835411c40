"""A hub's proxy object, real replicas and a real etcd: what the fault tests break.

While parts fail, :class:`Load` asks for a user's server over and over at the replicas that are
to go on, and counts what does not come from that server.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiohttp
from aiohttp import web

from jupyterhub_junction.proxies.etcd import TraefikEtcdProxy

from .etcd_cluster import EtcdCluster
from .replicas import Replica
from .waiting import until

#: requests that a load sends at least
ENOUGH = 20


@dataclass
class World:
    """A hub's proxy object, two replicas and an etcd."""

    cluster: EtcdCluster
    replicas: list[Replica]
    proxy: TraefikEtcdProxy
    hub: str
    server: str
    session: aiohttp.ClientSession
    users: dict[str, Any] = field(default_factory=dict)

    async def ask(self, replica: Replica, path: str) -> str:
        """The body of an answer, or what went wrong."""
        try:
            async with self.session.get(replica.url + path) as response:
                return f"{response.status} {await response.text()}"
        except (aiohttp.ClientError, TimeoutError) as error:
            return f"no answer: {error!r}"

    async def add(self, name: str) -> str:
        """Add a user's route, as the hub does when a server starts; returns its path."""
        spec = f"/user/{name}/"
        spawner = SimpleNamespace(
            ready=True, pending=None, proxy_spec=spec, server=SimpleNamespace(host=self.server),
            _log_name=name,
        )  # fmt: skip
        self.users[name] = SimpleNamespace(name=name, proxy_spec=spec, spawners={"": spawner})
        await self.proxy.add_route(spec, self.server, {"user": name, "server_name": ""})
        return spec

    async def check(self) -> None:
        """The hub's periodic check."""
        await self.proxy.check_routes(self.users, {})


async def _backend(name: str) -> tuple[web.AppRunner, str]:
    async def answer(request: web.Request) -> web.Response:
        return web.Response(text=name)

    app = web.Application()
    app.router.add_route("*", "/{rest:.*}", answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    return runner, f"http://127.0.0.1:{runner.addresses[0][1]}"


@contextlib.asynccontextmanager
async def make_world(
    directory: Path,
    *,
    shared_port: bool = False,
    privileged: bool = True,
    arguments: Sequence[str] = (),
    pods: Any = None,
    **cluster_options: Any,
) -> AsyncIterator[World]:
    async with contextlib.AsyncExitStack() as stack:
        hub_runner, hub = await _backend("hub")
        stack.push_async_callback(hub_runner.cleanup)
        server_runner, server = await _backend("server")
        stack.push_async_callback(server_runner.cleanup)
        session = await stack.enter_async_context(
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=20))
        )
        if pods is None:
            cluster = EtcdCluster(directory / "etcd", **cluster_options)
            stack.callback(cluster.kill_all)
            await cluster.start()
        else:  # an etcd that runs, of harness.etcd_pods
            cluster = pods
        app = SimpleNamespace(hub=SimpleNamespace(routespec="/"), _service_map={})
        tls = {f"etcd_{name}": str(path) for name, path in cluster.tls_options().items()}
        user = {"etcd_username": "hub", "etcd_password": "hub-password"} if cluster.auth else {}
        proxy = TraefikEtcdProxy(
            app=app,
            hub=SimpleNamespace(base_url="/hub/", host=hub, routespec="/"),
            etcd_endpoints=cluster.endpoints,
            log=logging.getLogger("test.hub"),
            etcd_timeout=3,
            **tls,
            **user,
        )
        stack.push_async_callback(proxy.stop)
        given = [*arguments, *(["--reuse-port"] if shared_port else [])]
        replicas = [
            Replica(name, cluster, directory, given, privileged=privileged)
            for name in ("one", "two")
        ]
        if shared_port:
            replicas[0].port = replicas[1].port
        world = World(cluster, replicas, proxy, hub, server, session)
        app.users = world.users
        for replica in replicas:
            stack.callback(replica.kill)
            replica.start()
        await proxy.get_all_routes()
        await world.check()
        await world.add("zoe")
        for replica in replicas:
            await replica.ready()
        yield world


class Load:
    """Requests for a user's server at some replicas, one after another, until the block ends."""

    def __init__(
        self,
        world: World,
        *replicas: Replica,
        path: str = "/user/zoe/x",
        allowed: Collection[str] = ("200 server",),
    ) -> None:
        self.allowed = allowed
        self.world = world
        self.path = path
        self.replicas = replicas
        self.sent = 0
        self.wrong: list[str] = []

    async def __aenter__(self) -> Load:
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, kind: object, *_: object) -> None:
        if kind is None:  # what was done meanwhile may take less time than they do
            await until(
                lambda: self.sent > ENOUGH or self._task.done(), "enough requests to mean anything"
            )
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        if kind is not None:
            return
        assert self.sent > ENOUGH, "too few requests to mean anything"
        assert not self.wrong, f"{len(self.wrong)} of {self.sent} failed: {self.wrong[:3]}"

    async def _run(self) -> None:
        while True:
            for replica in self.replicas:
                answer = await self.world.ask(replica, self.path)
                self.sent += 1
                if answer not in self.allowed:
                    self.wrong.append(f"{replica.name}: {answer}")
            await asyncio.sleep(0.005)
