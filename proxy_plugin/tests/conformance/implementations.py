"""The proxies that the suite is run on here, and how to start them."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import importlib.metadata
import importlib.util
import os
import re
import subprocess
import warnings
from collections.abc import AsyncIterator
from typing import Any

from harness.etcd_cluster import EtcdCluster, etcd_program
from ours import OURS
from reference import CHP, needs, program

from jupyterhub_junction.conformance.implementation import Implementation, Running
from jupyterhub_junction.conformance.surroundings import Surroundings
from jupyterhub_junction.ports import free_port

# -- jupyterhub-traefik-proxy, the peer


def _peer_missing() -> str | None:
    if importlib.util.find_spec("jupyterhub_traefik_proxy") is None:
        return "jupyterhub-traefik-proxy is not installed"
    if importlib.util.find_spec("toml") is None:
        return "toml is not installed"
    return needs("traefik", "JUNCTION_TRAEFIK")()


def _peer_etcd_missing() -> str | None:
    try:
        etcd_program()
    except FileNotFoundError as error:
        return str(error)
    return _peer_missing()


def _peer_version(provider: str) -> str:
    shown = subprocess.run(
        [program("traefik", "JUNCTION_TRAEFIK") or "", "version"],
        capture_output=True,
        text=True,
    )
    peer = importlib.metadata.version("jupyterhub-traefik-proxy")
    version = re.search(r"Version:\s*(\S+)", shown.stdout)
    return f"jupyterhub-traefik-proxy {peer} ({provider}), Traefik {version[1] if version else '?'}"


def _start_traefik(proxy: Any) -> None:
    """In place of its own, which finds its program on PATH only."""
    proxy.traefik_process = subprocess.Popen(
        [program("traefik", "JUNCTION_TRAEFIK"), "--configfile", proxy.static_config_file],
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
