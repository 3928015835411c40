"""The proxies that the suite is run on here, and how to start them."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import importlib.metadata
import importlib.util
import os
import re
import shutil
import ssl
import subprocess
import warnings
from collections.abc import AsyncIterator
from typing import Any

from harness.etcd_cluster import EtcdCluster, etcd_program
from jupyterhub.proxy import ConfigurableHTTPProxy
from ours import OURS

from jupyterhub_junction.conformance.implementation import FEATURES, Implementation, Running
from jupyterhub_junction.conformance.surroundings import Surroundings
from jupyterhub_junction.sockets import free_port


def _program(name: str, variable: str) -> str | None:
    return os.environ.get(variable) or shutil.which(name)


def _needs(name: str, variable: str):
    """A check that a program is there: in the environment variable, or on PATH."""

    def missing() -> str | None:
        if _program(name, variable) is None:
            return f"{name} is not on PATH, and {variable} does not name it"
        return None

    return missing


# -- configurable-http-proxy, the reference


def _chp_command() -> str:
    return _program("configurable-http-proxy", "JUNCTION_CHP") or ""


def _chp_version() -> str:
    shown = subprocess.run([_chp_command(), "--version"], capture_output=True, text=True)
    return f"configurable-http-proxy {shown.stdout.strip()}"


@contextlib.asynccontextmanager
async def _hub_http_client(around: Surroundings) -> AsyncIterator[None]:
    """JupyterHub 6 has one HTTP client for the whole process; it must not outlive its loop."""
    try:
        from jupyterhub.httpclient import JupyterHubHTTPClient
    except ImportError:
        yield
        return
    options = {}
    if around.options.internal_ssl:
        context = ssl.create_default_context(cafile=around.internal["cafile"])
        context.load_cert_chain(around.internal["certfile"], around.internal["keyfile"])
        options["ssl"] = context
    JupyterHubHTTPClient.clear_instance()
    JupyterHubHTTPClient.instance(_internal_connector_options=options)
    try:
        yield
    finally:
        await JupyterHubHTTPClient.loop_instance().close()
        JupyterHubHTTPClient.clear_instance()


@contextlib.asynccontextmanager
async def start_chp(around: Surroundings) -> AsyncIterator[Running]:
    scheme = "https" if around.options.internal_ssl else "http"
    settings = {
        "command": [_chp_command()],
        "auth_token": "a-token",
        "api_url": f"{scheme}://127.0.0.1:{free_port()}",
        "pid_file": str(around.directory / "chp.pid"),
        "log_level": "error",
        # Its own watch would start it a second time after restart_proxy.
        "check_running_interval": 3600,
        **around.proxy_arguments(),
    }
    async with _hub_http_client(around):
        owner = ConfigurableHTTPProxy(**settings)
        await owner.start()

        async def restart_hub() -> ConfigurableHTTPProxy:
            return ConfigurableHTTPProxy(should_start=False, **settings)

        async def restart_proxy() -> None:
            await asyncio.to_thread(_stop_chp, owner)
            await owner.start()

        try:
            yield Running(owner, (around.public_url,), restart_hub, restart_proxy)
        finally:
            await asyncio.to_thread(_stop_chp, owner)


def _stop_chp(owner: ConfigurableHTTPProxy) -> None:
    owner._check_running_callback.stop()
    owner.proxy_process.kill()
    owner.proxy_process.wait()
    owner._remove_process_files()


_CHP_DIES = "the client is left waiting: the cut is not passed on"

CHP = Implementation(
    "chp",
    start_chp,
    features=frozenset(FEATURES) - {"refuses-bad-routes"},
    known={
        "activity-websocket-server": "only what clients send over a WebSocket counts",
        "dies-chunked": _CHP_DIES,
        "dies-counted": _CHP_DIES,
        "dies-reset": _CHP_DIES,
        "forwarded-not-trusted": "X-Forwarded-* fields of any client are added to",
        "head-before-body": "the head is held until the body begins",
        "hop-by-hop-request": "fields that Connection names are handed on",
        "hop-by-hop-response": "fields that Connection names are handed on",
        "host-case": "host names are compared as they are written",
        "path-dot-segments": "dot segments are resolved",
        "path-dot-segments-encoded": "dot segments are resolved",
        "path-not-utf8": "answered with 500: paths have to be UTF-8",
        "query-quote": "' arrives as %27",
        "trailers-request": "trailers are dropped",
        "trailers-response": "trailers are dropped",
    },
    missing=_needs("configurable-http-proxy", "JUNCTION_CHP"),
    version=_chp_version,
    reference=True,
)


# -- jupyterhub-traefik-proxy, the peer


def _peer_missing() -> str | None:
    if importlib.util.find_spec("jupyterhub_traefik_proxy") is None:
        return "jupyterhub-traefik-proxy is not installed"
    if importlib.util.find_spec("toml") is None:
        return "toml is not installed"
    return _needs("traefik", "JUNCTION_TRAEFIK")()


def _peer_etcd_missing() -> str | None:
    try:
        etcd_program()
    except FileNotFoundError as error:
        return str(error)
    return _peer_missing()


def _peer_version(provider: str) -> str:
    shown = subprocess.run(
        [_program("traefik", "JUNCTION_TRAEFIK") or "", "version"],
        capture_output=True,
        text=True,
    )
    peer = importlib.metadata.version("jupyterhub-traefik-proxy")
    version = re.search(r"Version:\s*(\S+)", shown.stdout)
    return f"jupyterhub-traefik-proxy {peer} ({provider}), Traefik {version[1] if version else '?'}"


def _start_traefik(proxy: Any) -> None:
    """In place of its own, which finds its program on PATH only."""
    proxy.traefik_process = subprocess.Popen(
        [_program("traefik", "JUNCTION_TRAEFIK"), "--configfile", proxy.static_config_file],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


@contextlib.asynccontextmanager
async def _peer(kind: type[Any], around: Surroundings, **settings: Any) -> AsyncIterator[Running]:
    hashed = base64.b64encode(hashlib.sha1(b"a-password").digest())  # noqa: S324
    proxy = type("Peer", (kind,), {"_start_traefik": _start_traefik})(
        static_config_file=str(around.directory / "traefik.toml"),
        traefik_api_url=f"http://127.0.0.1:{free_port()}",
        traefik_api_password="a-password",  # noqa: S106
        # its own hash is bcrypt's, which costs Traefik 0.3 s of CPU time at each of its requests
        traefik_api_hashed_password="{SHA}" + hashed.decode(),
        traefik_api_username="a-name",
        **settings,
        **around.proxy_arguments(),
    )
    await proxy.start()
    try:
        yield Running(proxy, (around.public_url,))
    finally:
        await proxy.stop()


@contextlib.asynccontextmanager
async def start_peer(around: Surroundings) -> AsyncIterator[Running]:
    from jupyterhub_traefik_proxy.fileprovider import TraefikFileProviderProxy

    rules = str(around.directory / "rules.toml")
    async with _peer(TraefikFileProviderProxy, around, dynamic_config_file=rules) as running:
        yield running


@contextlib.asynccontextmanager
async def start_peer_etcd(around: Surroundings) -> AsyncIterator[Running]:
    # etcd3's generated code is older than protobuf 4; this counts once, when it is imported
    os.environ.setdefault("PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION", "python")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        importlib.import_module("etcd3")
    from jupyterhub_traefik_proxy.etcd import TraefikEtcdProxy as PeerEtcdProxy

    async with (
        EtcdCluster(around.directory / "etcd", members=1) as cluster,
        _peer(PeerEtcdProxy, around, etcd_url=cluster.endpoints[0]) as running,
    ):
        yield running


_URL_FORM = "Traefik writes URLs in their normal form"
_CLEANED = "Traefik merges // and resolves dot segments before it routes"
_DECODED = "the rule holds the decoded name, which Traefik compares with an encoded path"
_GO_HTTP = "Go's HTTP library: see junction"
_BAD_GATEWAY = "the answer is Traefik's own 502"
_EITHER = "routespecs with and without a host are accepted in either mode"

PEER = Implementation(
    "traefik-proxy",
    start_peer,
    features=frozenset({"host-routing", "tls"}),
    known={
        "both-ways": _GO_HTTP,
        "check-routes-percent": _DECODED,
        "check-routes-quotes": _DECODED,
        "compressed-untouched": _GO_HTTP,
        "data-kept": "TOML holds no lists of mixed types and no null",
        "data-replaced": "new data is merged into the old",
        "dead-garbage": "the answer is Traefik's own 500",
        "dead-hub": _BAD_GATEWAY,
        "dead-keeps-connection": _BAD_GATEWAY,
        "dead-no-answer": _BAD_GATEWAY,
        "dead-not-replayed": _BAD_GATEWAY,
        "dead-reset": _BAD_GATEWAY,
        "dead-status": _BAD_GATEWAY,
        "dead-unresolved": _BAD_GATEWAY,
        "gone-on-return": "delete_route does not wait for Traefik",
        "host-spec-refused": _EITHER,
        "name-at": _DECODED,
        "name-at-encoded": _DECODED,
        "name-backtick": _DECODED,
        "name-brackets": _DECODED,
        "name-captures-nothing": _DECODED,
        "name-parentheses": _DECODED,
        "name-percent": _DECODED,
        "name-plus": _DECODED,
        "name-quotes": _DECODED,
        "name-rule": _DECODED,
        "no-header-made-up": _GO_HTTP,
        "path-dot-segments": _CLEANED,
        "path-dot-segments-encoded": _CLEANED,
        "path-double-slash": _CLEANED,
        "path-letter-encoded": _URL_FORM,
        "path-slash-lower": _URL_FORM,
        "path-spec-refused": _EITHER,
        "path-tilde-encoded": _URL_FORM,
        "path-unicode-lower": _URL_FORM,
        "query-semicolon": "; becomes &",
        "retarget-on-return": "add_route waits until the route is there, not for its new target",
        "smuggling-both-lengths": _GO_HTTP,
        "target-path": "the path of a target is dropped",
        "trailers-request": _GO_HTTP,
        "ws-dead-server": _BAD_GATEWAY,
    },
    missing=_peer_missing,
    version=lambda: _peer_version("file"),
    judged=False,
)
_NO_DATA = "a route without data comes back without the field"
_SPECS = (
    "slash",
    *(
        f"kept-{name}"
        for name in (["space", "at", "tilde", "unicode", "quotes", "percent", "plus"])
    ),
)

PEER_ETCD = Implementation(
    "traefik-proxy-etcd",
    start_peer_etcd,
    features=PEER.features,
    known={
        **PEER.known,
        **{f"spec-{name}": _NO_DATA for name in _SPECS},
        "data-kept": "null cannot be stored",
    },
    missing=_peer_etcd_missing,
    version=lambda: _peer_version("etcd"),
    judged=False,
)

IMPLEMENTATIONS = [CHP, *OURS, PEER, PEER_ETCD]
