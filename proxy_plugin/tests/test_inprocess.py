"""The proxy in the hub's process, through JupyterHub's own Proxy interface."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import threading
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

import aiohttp
import pytest
import uvloop
from aiohttp import web
from certipy import Certipy
from traitlets import TraitError
from traitlets.config import Config

from jupyterhub_junction.forwarder import loops
from jupyterhub_junction.forwarder.limits import Limits
from jupyterhub_junction.proxies.inprocess import InProcessProxy
from jupyterhub_junction.routes import RouteError

DEADLINE = 20.0


@contextlib.asynccontextmanager
async def server(name: str, tls: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    """A server that tells its name; yields its URL."""

    async def say(request: web.Request) -> web.Response:
        status = int(request.query.get("status", "200"))
        return web.Response(status=status, text=f"{name} {request.raw_path}")

    application = web.Application()
    application.router.add_route("*", "/{path:.*}", say)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
        yield f"{'https' if tls else 'http'}://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def make(hub: str = "http://127.0.0.1:9", **options: Any) -> InProcessProxy:
    app = options.pop("app", None) or SimpleNamespace(internal_ssl=False)
    options = {"public_url": "http://127.0.0.1:0/hub-base/", **options}
    return InProcessProxy(app=app, hub=SimpleNamespace(url=hub + "/hub/", host=hub), **options)


@contextlib.asynccontextmanager
async def running(proxy: InProcessProxy) -> AsyncIterator[str]:
    """Start and stop; yields the URL, without base URL."""
    await proxy.start()
    try:
        address = proxy.addresses[0]
        yield address if isinstance(address, str) else f"http://127.0.0.1:{address[1]}"
    finally:
        await proxy.stop()


async def get(url: str, **options: Any) -> tuple[int, str]:
    timeout = aiohttp.ClientTimeout(DEADLINE)
    async with (
        aiohttp.ClientSession(timeout=timeout) as session,
        session.get(url, **options) as response,
    ):
        return response.status, await response.text()


async def test_routes_are_in_effect_when_the_call_returns() -> None:
    async with server("one") as one, server("two") as two, running(proxy := make()) as url:
        for _ in range(20):
            await proxy.add_route("/user/x/", one, {"user": "x"})
            assert await get(url + "/user/x/a") == (200, "one /user/x/a")
            await proxy.add_route("/user/x/", two, {"user": "x"})
            assert await get(url + "/user/x/a") == (200, "two /user/x/a")
            await proxy.delete_route("/user/x/")
            assert (await get(url + "/user/x/a"))[0] == 404


async def test_the_table_reads_as_written() -> None:
    async with running(proxy := make()):
        assert await proxy.get_all_routes() == {}
        before = datetime.now(UTC)
        await proxy.add_route("/user/has%40/", "http://127.0.0.1:1", {"user": "has@"})
        await proxy.add_route("/b", "http://127.0.0.1:2", {})
        routes = await proxy.get_all_routes()
        assert set(routes) == {"/user/has%40/", "/b/"}
        route = routes["/user/has%40/"]
        assert (route["routespec"], route["target"]) == ("/user/has%40/", "http://127.0.0.1:1")
        stamp = route["data"].pop("last_activity")
        assert stamp.endswith("Z")
        assert (datetime.fromisoformat(stamp) - before).total_seconds() > -0.001
        assert route["data"] == {"user": "has@"}
        assert (await proxy.get_route("/b"))["routespec"] == "/b/"
        assert await proxy.get_route("/c") is None


async def test_adding_and_deleting_again_changes_nothing() -> None:
    async with running(proxy := make()):
        await proxy.add_route("/a/", "http://127.0.0.1:1", {"user": "a"})
        first = await proxy.get_all_routes()
        await proxy.add_route("/a/", "http://127.0.0.1:1", {"user": "a"})
        assert await proxy.get_all_routes() == first
        await proxy.delete_route("/a/")
        await proxy.delete_route("/a/")
        await proxy.delete_route("/never/")
        assert await proxy.get_all_routes() == {}


@pytest.mark.parametrize(
    ("routespec", "target", "data"),
    [
        ("/a//b/", "http://127.0.0.1:1", {}),
        ("/a/../b/", "http://127.0.0.1:1", {}),
        ("/a?b/", "http://127.0.0.1:1", {}),
        (None, "http://127.0.0.1:1", {}),
        ("/a/", "ftp://127.0.0.1:1", {}),
        ("/a/", "127.0.0.1:1", {}),
        ("/a/", None, {}),
        ("/a/", "http://127.0.0.1:1", {"a": object()}),
    ],
)
async def test_what_cannot_be_served_is_refused(routespec: Any, target: Any, data: Any) -> None:
    async with running(proxy := make()):
        with pytest.raises(RouteError):
            await proxy.add_route(routespec, target, data)
        assert await proxy.get_all_routes() == {}


async def test_host_routing_is_all_or_nothing() -> None:
    async with running(proxy := make()):
        with pytest.raises(ValueError, match="host"):
            await proxy.add_route("x.hub/", "http://127.0.0.1:1", {})
    async with server("x") as target, running(proxy := make(host_routing=True)) as url:
        with pytest.raises(ValueError, match="host"):
            await proxy.add_route("/x/", "http://127.0.0.1:1", {})
        await proxy.add_route("x.hub/", target, {})
        assert await get(url + "/a", headers={"Host": "x.hub:8000"}) == (200, "x /a")


async def test_activity_moves_on_success_alone() -> None:
    async with server("x") as target, running(proxy := make()) as url:
        await proxy.add_route("/x/", target, {})
        await proxy.add_route("/dead/", "http://127.0.0.1:9", {})
        old = datetime(2020, 1, 1, tzinfo=UTC)
        for entry in proxy._entries.values():
            entry.last_activity = old
        await get(url + "/x/?status=403")
        await get(url + "/dead/")
        routes = await proxy.get_all_routes()
        assert {r["data"]["last_activity"] for r in routes.values()} == {"2020-01-01T00:00:00.000Z"}
        await get(url + "/x/")
        routes = await proxy.get_all_routes()
        assert routes["/x/"]["data"]["last_activity"] > "2021"
        assert routes["/dead/"]["data"]["last_activity"] < "2021"


async def test_the_hubs_error_page_is_shown() -> None:
    async with server("hub") as hub, running(proxy := make(hub)) as url:
        await proxy.add_route("/dead/", "http://127.0.0.1:9", {})
        assert await get(url + "/dead/?a") == (503, "hub /hub/error/503?url=%2Fdead%2F%3Fa")
        assert await get(url + "/none") == (404, "hub /hub/error/404?url=%2Fnone")


async def test_users_are_served_while_the_hub_is_busy() -> None:
    async with server("x"):
        pass
    async with running(proxy := make()):
        answered = threading.Event()

        def ask() -> None:
            with socket.create_connection(proxy.addresses[0][:2], timeout=DEADLINE) as sock:
                sock.sendall(b"GET /_chp_healthz HTTP/1.1\r\nHost: h\r\n\r\n")
                if sock.recv(100).startswith(b"HTTP/1.1 200"):
                    answered.set()

        thread = threading.Thread(target=ask)
        thread.start()
        assert answered.wait(DEADLINE)  # the hub's loop stands still meanwhile
        thread.join()


@pytest.mark.parametrize("with_uvloop", [True, False])
async def test_its_loop_is_the_fastest_there_is(
    with_uvloop: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not with_uvloop:
        monkeypatch.setattr(loops, "uvloop", None)
    async with server("x") as target, running(proxy := make()) as url:
        assert isinstance(proxy._running._loop, uvloop.Loop) == with_uvloop
        await proxy.add_route("/x/", target, {})
        assert await get(url + "/x/a") == (200, "x /x/a")


async def test_a_port_in_use_is_one_clear_line() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/"
        proxy = make(public_url=url)
        with pytest.raises(RuntimeError, match=r"cannot listen on http.*in use") as caught:
            await proxy.start()
        assert "\n" not in str(caught.value)
    async with running(proxy):  # and it can be tried again
        assert await proxy.get_all_routes() == {}


async def test_https_needs_its_files() -> None:
    with pytest.raises(RuntimeError, match="ssl_key"):
        await make(public_url="https://127.0.0.1:0/").start()
    with pytest.raises(RuntimeError, match="nowhere"):
        await make(ssl_key="/nowhere", ssl_cert="/nowhere").start()


async def test_calls_without_start_say_what_to_do() -> None:
    with pytest.raises(RuntimeError, match="should_start"):
        await make().get_all_routes()


async def test_it_can_be_stopped_twice_and_started_again() -> None:
    proxy = make()
    async with running(proxy):
        with pytest.raises(RuntimeError, match="already"):
            await proxy.start()
        await proxy.add_route("/a/", "http://127.0.0.1:1", {})
    await proxy.stop()
    async with running(proxy):
        assert await proxy.get_all_routes() == {}


async def test_a_unix_socket(tmp_path: Path) -> None:
    path = tmp_path / "proxy.sock"
    public = "http+unix://" + quote(str(path), safe="") + "/"
    async with server("x") as target, running(proxy := make(public_url=public)):
        await proxy.add_route("/", target, {})
        assert path.stat().st_mode & 0o777 == 0o660
        async with (
            aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(path))) as session,
            session.get("http://hub/a") as response,
        ):
            assert await response.text() == "x /a"
    assert not path.exists()


async def test_internal_ssl_and_https(tmp_path: Path) -> None:
    """Certificates made by certipy, as JupyterHub makes them."""
    certipy = Certipy(store_dir=str(tmp_path))
    certipy.create_ca("notebooks-ca")
    certipy.create_ca("proxy-client-ca")
    names = ["IP:127.0.0.1", "DNS:localhost"]
    certipy.create_signed_pair("notebook", "notebooks-ca", alt_names=names)
    certipy.create_signed_pair("proxy-client", "proxy-client-ca", alt_names=names)

    def files(name: str) -> dict[str, str]:
        return {k: str(v) for k, v in certipy.store.get_record(name)["files"].items()}

    tls = ssl.create_default_context(
        ssl.Purpose.CLIENT_AUTH, cafile=files("proxy-client-ca")["cert"]
    )
    tls.verify_mode = ssl.CERT_REQUIRED
    tls.load_cert_chain(files("notebook")["cert"], files("notebook")["key"])
    app = SimpleNamespace(
        internal_ssl=True,
        internal_proxy_certs={
            "proxy-client": {
                "keyfile": files("proxy-client")["key"],
                "certfile": files("proxy-client")["cert"],
            }
        },
        internal_trust_bundles={"proxy-client-ca": files("notebooks-ca")["cert"]},
    )
    proxy = make(
        app=app,
        public_url="https://127.0.0.1:0/",
        ssl_key=files("notebook")["key"],
        ssl_cert=files("notebook")["cert"],
    )
    trust = ssl.create_default_context(cafile=files("notebooks-ca")["cert"])
    async with server("mine", tls) as target, running(proxy) as url:
        https = url.replace("http:", "https:")
        await proxy.add_route("/x/", target, {})
        assert await get(https + "/x/", ssl=trust) == (200, "mine /x/")
        await proxy.add_route("/y/", target.replace("127.0.0.1", "127.0.0.2"), {})
        assert (await get(https + "/y/", ssl=trust))[0] == 503  # the name is checked


async def test_it_is_configured_as_other_proxies_are() -> None:
    config = Config({"InProcessProxy": {"header_bytes": 2048, "trusted_proxies": ["10.0.0.0/8"]}})
    proxy = make(config=config)
    forwarder = proxy._forwarder()
    assert forwarder.limits.header_bytes == 2048
    assert list(forwarder.rules.trusted) == ["10.0.0.0/8"]
    with pytest.raises(TraitError, match="trusted_proxies"):
        make(trusted_proxies=["proxy.example"])
    for name, trait in proxy.traits(config=True).items():
        assert trait.help, name


async def test_many_changes_at_once() -> None:
    async with running(proxy := make()):
        async with asyncio.timeout(DEADLINE):
            await asyncio.gather(
                *(proxy.add_route(f"/user/{n}/", "http://127.0.0.1:1", {}) for n in range(1000))
            )
            assert len(await proxy.get_all_routes()) == 1000
            await asyncio.gather(*(proxy.delete_route(f"/user/{n}/") for n in range(1000)))
            assert await proxy.get_all_routes() == {}


def test_its_limits_are_the_forwarders() -> None:
    limits = make(body_timeout=7, response_timeout=8)._forwarder().limits
    assert (limits.body_timeout, limits.response_timeout) == (7, 8)
    assert make()._forwarder().limits == Limits()
