"""A replica that is started as Zero to JupyterHub starts configurable-http-proxy."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from harness.certificates import make_certificates
from harness.etcd_cluster import EtcdCluster, access
from harness.forwarding import app
from harness.replicas import Replica
from harness.waiting import until

from jupyterhub_junction.ports import free_port
from jupyterhub_junction.proxies.etcd import TraefikEtcdProxy

pytestmark = pytest.mark.needs_programs


class ChpReplica(Replica):
    """A replica by the other command."""

    environment: dict[str, str]

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [
                    sys.executable, "-m", "jupyterhub_junction.chp_command", f"--port={self.port}",
                    f"--metrics-port={self.status_port}", "--metrics-ip=127.0.0.1",
                    *self.arguments,
                ],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                env={**os.environ, **access(self.cluster, "agent"), **self.environment},
            )  # fmt: skip


class Pod:
    """The proxy pod of a hub: its etcd, its hub's proxy object, and the replica in it."""

    def __init__(self, cluster: EtcdCluster, directory: Path, hub: str, client: Any) -> None:
        self.cluster, self.directory, self.hub, self.client = cluster, directory, hub, client
        self.stack = contextlib.AsyncExitStack()

    def start(self, *arguments: str, environment: dict[str, str] | None = None) -> ChpReplica:
        """Start it with the arguments of the chart, and more."""
        given = [
            "--ip=", "--api-ip=", "--api-port=8001", f"--default-target={self.hub}",
            f"--error-target={self.hub}/hub/error", *arguments,
        ]  # fmt: skip
        replica = ChpReplica("chp", self.cluster, self.directory, given)
        replica.environment = environment or {}
        replica.start()
        self.stack.callback(replica.kill)
        return replica

    def proxy(self) -> TraefikEtcdProxy:
        """The hub's proxy object, whose settings come from the environment."""
        made = TraefikEtcdProxy(
            app=SimpleNamespace(hub=SimpleNamespace(routespec="/"), _service_map={}, users={}),
            hub=SimpleNamespace(base_url="/hub/", host=self.hub, routespec="/"),
            log=logging.getLogger("test.hub"),
        )
        self.stack.push_async_callback(made.stop)
        return made

    async def get(self, url: str, **options: Any) -> tuple[int, str]:
        """Status and body; 0 if there is no answer."""
        try:
            async with self.client.get(url, allow_redirects=False, **options) as response:
                return response.status, await response.text()
        except (aiohttp.ClientError, TimeoutError):
            return 0, ""


@pytest.fixture
async def pod(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Pod]:
    async def page(request: web.Request) -> web.Response:
        said = f"hub {request.path} {request.headers.get('X-Cluster', '-')}"
        return web.Response(text=said)

    async with contextlib.AsyncExitStack() as stack:
        hub = await stack.enter_async_context(app(web.get("/{path:.*}", page)))
        client = await stack.enter_async_context(
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=20))
        )
        cluster = EtcdCluster(tmp_path / "etcd", members=1, tls=True, auth=True)
        stack.callback(cluster.kill_all)
        await cluster.start()
        for name, value in access(cluster, "hub").items():
            monkeypatch.setenv(name, value)
        made = Pod(cluster, tmp_path, hub, client)
        async with made.stack:
            yield made


async def write_table(proxy: TraefikEtcdProxy) -> None:
    """What the hub does at its start."""
    await proxy.get_all_routes()
    await proxy.check_routes({}, {})


@contextlib.asynccontextmanager
async def server() -> AsyncIterator[str]:
    """A user's server: it answers, or, below /slow, does not."""

    async def answer(request: web.Request) -> web.Response:
        if request.path.endswith("/slow"):
            await asyncio.Event().wait()
        return web.Response(text=f"server {request.headers.get('X-Cluster', '-')}")

    async with app(web.get("/{path:.*}", answer)) as url:
        yield url


def command_line(replica: Replica) -> bytes:
    return Path(f"/proc/{replica.child('agent')}/cmdline").read_bytes()


async def test_as_z2jh_starts_it_it_is_a_replica(pod: Pod) -> None:
    """Not ready without a table; then it serves, and goes on while etcd is away."""
    replica = pod.start()
    probe = f"{replica.url}/_chp_healthz"

    async def says_no() -> bool:
        return (await pod.get(probe))[0] == 503

    await until(says_no, "a replica without a table answers its probe with 503")
    proxy = pod.proxy()
    await write_table(proxy)

    async def says_ok() -> bool:
        return await pod.get(probe) == (200, '{"status": "OK"}')

    await until(says_ok, "a loaded replica answers its probe with 200")
    async with server() as target:
        await proxy.add_route("/user/zoe/", target, {"user": "zoe"})
        assert await pod.get(f"{replica.url}/user/zoe/x") == (200, "server -")
        assert await pod.get(f"{replica.url}/x") == (200, "hub /x -")
        pod.cluster.kill(0)
        await replica.until("cut off", lambda s: not s["following"])
        assert await says_ok()
        assert await pod.get(f"{replica.url}/user/zoe/x") == (200, "server -")
    assert "no effect here: --api-ip, --api-port (there is no REST API" in replica.log.read_text()
    assert b"PRIVATE KEY" not in command_line(replica), "everybody may read arguments"


async def test_with_tls_it_redirects_what_comes_without(pod: Pod) -> None:
    files = make_certificates(pod.directory / "users")
    plain = free_port()
    replica = pod.start(
        f"--redirect-port={plain}", "--redirect-to=443",
        f"--ssl-cert={files.server_cert}", f"--ssl-key={files.server_key}",
    )  # fmt: skip
    context = ssl.create_default_context(cafile=str(files.ca))
    await write_table(pod.proxy())
    url = f"https://127.0.0.1:{replica.port}"

    async def says_ok() -> bool:
        return (await pod.get(f"{url}/_chp_healthz", ssl=context))[0] == 200

    await until(says_ok, "the probe gets 200 over TLS")
    assert await pod.get(f"{url}/x", ssl=context) == (200, "hub /x -")
    for path in ("/user/zoe/?a=b", "/_chp_healthz"):
        there = f"http://127.0.0.1:{plain}{path}"
        async with pod.client.get(there, allow_redirects=False) as response:
            assert response.status in (301, 308)
            assert response.headers["Location"] == f"https://127.0.0.1{path}"


async def test_a_header_and_a_time_limit_and_other_error_pages(pod: Pod) -> None:
    async def page(request: web.Request) -> web.Response:
        return web.Response(text=f"page {request.path}")

    pages = await pod.stack.enter_async_context(app(web.get("/{path:.*}", page)))
    replica = pod.start(
        "--custom-header=X-Cluster: west", "--proxy-timeout=500", f"--error-target={pages}/errors"
    )
    proxy = pod.proxy()
    await write_table(proxy)
    await replica.ready()
    async with server() as target:
        await proxy.add_route("/user/zoe/", target, {"user": "zoe"})
        for way in ("by the forwarder", "by Traefik"):
            assert await pod.get(f"{replica.url}/user/zoe/x") == (200, "server west"), way
            assert await pod.get(f"{replica.url}/user/zoe/slow") == (503, "page /errors/503"), way
            await replica.until("applied", lambda s: s["applied"] == s["known"])


async def test_told_to_end_it_goes_on_accepting_for_a_while(pod: Pod) -> None:
    replica = pod.start(environment={"JUNCTION_ACCEPT_GRACE": "3", "JUNCTION_GRACE": "1"})
    await write_table(pod.proxy())
    await replica.ready()
    assert replica.process is not None
    replica.process.terminate()
    await until(lambda: "draining" in replica.log.read_text())
    assert await pod.get(f"{replica.url}/x") == (200, "hub /x -")
    assert (await pod.get(f"{replica.url}/_chp_healthz"))[0] == 503
    assert await asyncio.to_thread(replica.process.wait, 30) == 0


def refused(words: Sequence[str], environment: dict[str, str]) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "jupyterhub_junction.chp_command", *words],
        env={**os.environ, **environment}, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 78
    return done.stderr.strip().splitlines()[-1]


def test_pem_text_that_is_none_is_refused_without_showing_it() -> None:
    text = "-----BEGIN CERTIFICATE-----\nsecret\n-----END CERTIFICATE-----\n"
    environment = {"JUNCTION_ETCD": "https://127.0.0.1:1", "JUNCTION_ETCD_CA": text}
    said = refused([f"--port={free_port()}", "--ip=127.0.0.1"], environment)
    assert "PEM text" in said
    assert "secret" not in said
