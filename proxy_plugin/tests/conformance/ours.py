"""Junction's own proxies, as columns of the table."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from typing import Any

from harness.etcd_cluster import EtcdCluster, etcd_program
from harness.replicas import Replica
from reference import CHP, run_chp
from traitlets.config import Config

from jupyterhub_junction import __version__
from jupyterhub_junction.conformance.implementation import FEATURES, Implementation, Running
from jupyterhub_junction.conformance.surroundings import Surroundings
from jupyterhub_junction.proxies.etcd import TraefikEtcdProxy
from jupyterhub_junction.proxies.file import TraefikFileProxy
from jupyterhub_junction.proxies.inprocess import InProcessProxy
from jupyterhub_junction.proxies.internal_ssl import internal_files
from jupyterhub_junction.proxies.mirror import MirroredProxy
from jupyterhub_junction.traefik.runtime import TraefikMissing, find_traefik

#: The kernel's connection table, which activity is read from, knows no statuses.
JUNCTION_FEATURES = frozenset(FEATURES) - {"activity-statuses"}
#: Traefik alone, without the agent's forwarder, reaches no Unix sockets.
FILE_FEATURES = JUNCTION_FEATURES - {"unix-target", "hub-restart", "proxy-restart"}

_URL_FORM = (
    "Traefik writes URLs in their normal form (RFC 3986 §6.2.2: upper-case hex, unreserved"
    " characters plain; ; in a query encoded)"
)
_DOT_SEGMENTS = (
    "Traefik resolves dot segments only where it may also merge //, which is switched off; in"
    " junction, the agent's forwarder routes such paths"
)
_OWN_FAILURES = (
    "Traefik tells its own failures from a server's only by status: 502 and 504 become the hub's"
    " page with 503 whoever sent them, and an answer that is no HTTP is its 500"
)
_GO_HTTP = (
    "Go's HTTP library, which Traefik stands on, asks for gzip where the client asks for nothing,"
    " drops Content-Length beside Transfer-Encoding (RFC 9112 §6.3 allows it), drops request"
    " trailers, and ends an upload once its answer has begun"
)

#: What Traefik itself does otherwise than CHP: three reasons, and the rows that each explains.
DIFFERENCES = {
    behaviour: reason
    for reason, behaviours in {
        _URL_FORM: (
            "path-slash-lower",
            "path-tilde-encoded",
            "path-letter-encoded",
            "path-unicode-lower",
            "path-dot-segments-encoded",
            "query-semicolon",
        ),
        _OWN_FAILURES: ("status-502-504", "dead-garbage"),
        _GO_HTTP: (
            "no-header-made-up",
            "compressed-untouched",
            "smuggling-both-lengths",
            "both-ways",
            "trailers-request",
        ),
    }.items()
    for behaviour in behaviours
}


def _no_traefik() -> str | None:
    try:
        find_traefik()
    except TraefikMissing as error:
        return str(error)
    return None


def _no_etcd() -> str | None:
    try:
        etcd_program()
    except FileNotFoundError as error:
        return str(error)
    return _no_traefik()


def _version() -> str:
    return f"jupyterhub-junction {__version__}"


@contextlib.asynccontextmanager
async def _replicas(
    around: Surroundings, make: Callable[[EtcdCluster], Any], *, members: int, names: Sequence[str]
) -> AsyncIterator[Running]:
    """etcd and replicas, and proxy objects for them."""
    arguments = ["--pace-covered=1"]  # each behaviour waits for it
    if around.ssl_cert:
        arguments += [f"--ssl-cert={around.ssl_cert}", f"--ssl-key={around.ssl_key}"]
    if files := internal_files(around.app):
        arguments += [
            f"--target-ca={files.ca}",
            f"--target-cert={files.certificate}",
            f"--target-key={files.key}",
        ]
    async with EtcdCluster(around.directory / "etcd", members=members) as cluster:
        replicas = [Replica(name, cluster, around.directory, arguments) for name in names]

        async def restart_proxy() -> None:
            for replica in replicas:
                replica.kill()
                replica.start()
            for replica in replicas:
                await replica.ready()

        async def settled() -> None:
            """What the forwarder served at first, Traefik serves now."""
            for replica in replicas:
                await replica.until("nothing pending", lambda status: not status["pending"])

        made: list[Any] = []

        async def restart_hub() -> Any:
            made.append(make(cluster))
            return made[-1]

        try:
            proxy = await restart_hub()
            for replica in replicas:
                replica.start()
            await proxy.get_all_routes()
            await proxy.check_routes({}, {}, {})
            for replica in replicas:
                await replica.ready()
            urls = tuple(around.url(replica.port) for replica in replicas)
            yield Running(proxy, urls, restart_hub, restart_proxy, settled)
        finally:
            for replica in replicas:
                replica.stop()
            for each in made:
                await each.stop()


@contextlib.asynccontextmanager
async def start_junction(around: Surroundings) -> AsyncIterator[Running]:
    def make(cluster: EtcdCluster) -> TraefikEtcdProxy:
        return TraefikEtcdProxy(etcd_endpoints=cluster.endpoints, **around.proxy_arguments())

    async with _replicas(around, make, members=3, names=("one", "two")) as running:
        yield running


@contextlib.asynccontextmanager
async def start_mirror(around: Surroundings) -> AsyncIterator[Running]:
    """CHP and a replica, as while a hub is moved: users may come to either."""
    async with run_chp(around) as (_, settings, restart_chp):

        def make(cluster: EtcdCluster) -> MirroredProxy:
            config = Config(
                {
                    "ConfigurableHTTPProxy": settings,
                    "TraefikEtcdProxy": {"etcd_endpoints": cluster.endpoints},
                    "MirroredProxy": {"follow_timeout": 10},  # the machine may be busy
                }
            )
            return MirroredProxy(config=config, **around.proxy_arguments())

        async with _replicas(around, make, members=1, names=("one",)) as running:

            async def restart_proxy() -> None:
                assert running.restart_proxy is not None
                await running.restart_proxy()
                await restart_chp()

            urls = (around.public_url, *running.urls)
            yield replace(running, urls=urls, restart_proxy=restart_proxy)


@contextlib.asynccontextmanager
async def start_file(around: Surroundings) -> AsyncIterator[Running]:
    proxy = TraefikFileProxy(activity_interval=0.1, grace=1, **around.proxy_arguments())
    await proxy.start()
    try:
        yield Running(proxy, (around.public_url,))
    finally:
        await proxy.stop()


@contextlib.asynccontextmanager
async def start_inprocess(around: Surroundings) -> AsyncIterator[Running]:
    proxy = InProcessProxy(**around.proxy_arguments())
    await proxy.start()
    try:
        yield Running(proxy, (around.public_url,))
    finally:
        await proxy.stop()


#: Go's server may end the connection before or after it has read on.
UNSTEADY = frozenset({"both-ways"})

JUNCTION = Implementation(
    "junction",
    start_junction,
    features=JUNCTION_FEATURES,
    known=DIFFERENCES,
    unsteady=UNSTEADY,
    missing=_no_etcd,
    version=_version,
)
FILE = Implementation(
    "junction-file",
    start_file,
    features=FILE_FEATURES,
    known=DIFFERENCES | {"climbing-out": _DOT_SEGMENTS},
    unsteady=UNSTEADY,
    missing=_no_traefik,
    version=_version,
)
INPROCESS = Implementation(
    "junction-inprocess",
    start_inprocess,
    features=frozenset(FEATURES) - {"hub-restart", "proxy-restart"},
    version=_version,
)
#: users come to CHP and to a replica, so it is as good as the worse of the two; what these do with
#: requests stands in their own columns
MIRROR = Implementation(
    "junction-mirror",
    start_mirror,
    features=JUNCTION_FEATURES & CHP.features,
    known={**DIFFERENCES, **CHP.known},
    themes=frozenset({"hub"}),
    missing=lambda: CHP.missing() or _no_etcd(),
    version=_version,
)

OURS = [JUNCTION, FILE, INPROCESS, MIRROR]
