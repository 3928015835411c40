"""Who is measured, and how each is started: the same etcd, the same user servers, one at a time."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import psutil
from harness.etcd_cluster import EtcdCluster, etcd_program
from harness.replicas import Replica

from jupyterhub_junction.conformance.surroundings import free_port

from .client import Address
from .hub import Hub
from .static_proxies import start_nginx_proxy, start_traefik
from .world import World, program

__all__ = ["CONTESTANTS", "Contestant", "Subject", "start_junction"]

#: seconds that a contestant gets to start
START = 60.0


@dataclass
class Subject:
    """A contestant that runs.

    Attributes:
        addresses: of every replica.
        hub: the hub's side; None where routes never change.
        pids: the process of each role, as they are now.
        kill: SIGKILL one replica and see to it that it comes back; None where nothing does.
        wipe: lose all of etcd; None where there is none, or no way back.
        following: how many routes each replica has from etcd, -1 while it does not follow it.
        settled: whether nothing is left to be done for changes that were; None where it is never.
        etcd: where its routes are, and may be lost in part; None where there is none.
        replicas: those that have more than one program.
    """

    addresses: list[Address]
    hub: Hub | None = None
    pids: Callable[[], dict[str, int]] = dict
    kill: Callable[[], Awaitable[None]] | None = None
    wipe: Callable[[], Awaitable[None]] | None = None
    following: Callable[[], Awaitable[list[int]]] | None = None
    settled: Callable[[], Awaitable[bool]] | None = None
    etcd: EtcdCluster | None = None
    replicas: list[Replica] = field(default_factory=list)


Starter = Callable[[World, Path], AbstractAsyncContextManager[Subject]]


@dataclass(frozen=True)
class Contestant:
    """One column of the tables.

    Attributes:
        name: as it stands in ``--only``.
        start: starts it with its folder, and ends it.
        what: one line about it.
        missing: why it cannot run here; empty if it can.
        static: its routes never change: a limit, no proxy for JupyterHub.
        absent: measures that do not apply, and why.
    """

    name: str
    start: Starter
    what: str
    missing: Callable[[], str] = lambda: ""
    static: bool = False
    absent: dict[str, str] = field(default_factory=dict)


def _with_children(pids: dict[str, int]) -> dict[str, int]:
    """The processes of these roles, and those that they started."""
    found = dict(pids)
    for role, pid in pids.items():
        for number, child in enumerate(psutil.Process(pid).children(recursive=True), 1):
            found[f"{role} {number}"] = child.pid
    return found


def _family(hub: Hub) -> dict[str, int]:
    """The hub's side and what it has started, by their names; of one name, they are numbered."""
    found = {"hub": hub.pid}
    for child in psutil.Process(hub.pid).children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            name = child.name()[:15]
            same = sum(role == name or role.endswith(f" {name}") for role in found)
            found[f"{same + 1} {name}" if same else name] = child.pid
    return found


async def _kill_program(hub: Hub) -> None:
    """SIGKILL the program that the hub's side says is its proxy's."""
    psutil.Process((await hub.call("program")).result).kill()


def _etcd_pids(cluster: EtcdCluster) -> dict[str, int]:
    return {one.name: one.process.pid for one in cluster.members if one.process is not None}


def _setup(kind: str, around: World, directory: Path, port: int) -> dict[str, object]:
    return {
        "kind": kind, "directory": str(directory), "hub": around.hub_url,
        "public": f"http://127.0.0.1:{port}/", "limit": around.limit,
        "chp": program("configurable-http-proxy", "JUNCTION_CHP"),
    }  # fmt: skip


@contextlib.asynccontextmanager
async def _alone(
    kind: str, has_program: bool, around: World, directory: Path
) -> AsyncIterator[Subject]:
    """A proxy that the hub starts, in a program of its own or in its process."""
    port = free_port()
    hub = Hub(_setup(kind, around, directory, port), directory / "hub.log")

    async def kill() -> None:
        # JupyterHub itself starts it again when it next looks (every 5 s)
        await _kill_program(hub)

    try:
        await hub.start(START)
        yield Subject(
            [("127.0.0.1", port)], hub, partial(_family, hub), kill if has_program else None
        )
    finally:
        await hub.stop()


@contextlib.asynccontextmanager
async def _peer(around: World, directory: Path) -> AsyncIterator[Subject]:
    async with EtcdCluster(directory / "etcd", members=3) as cluster:
        port = free_port()
        setup = _setup("peer", around, directory, port) | {"endpoints": cluster.endpoints}
        # etcd3's generated code is older than protobuf 4
        settings = {"PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION": "python"}
        hub = Hub(setup, directory / "hub.log", **settings)

        async def kill() -> None:
            await _kill_program(hub)
            await hub.call("respawn")

        try:
            await hub.start(START)
            yield Subject(
                [("127.0.0.1", port)],
                hub,
                lambda: {**_family(hub), **_etcd_pids(cluster)},
                kill,
            )
        finally:
            await hub.stop()


@contextlib.asynccontextmanager
async def start_junction(
    replicas: int, around: World, directory: Path, arguments: Sequence[str] = ()
) -> AsyncIterator[Subject]:
    """So many replicas; ``arguments`` are more of their command's."""
    async with EtcdCluster(directory / "etcd", members=3) as cluster:
        # the harness reports activity far more often than anybody would
        ours = ["--activity-interval=60", *arguments]
        running = [
            Replica(f"replica-{number}", cluster, directory, ours)
            for number in range(1, replicas + 1)
        ]
        setup = _setup("junction", around, directory, 0) | {"endpoints": cluster.endpoints}
        hub = Hub(setup, directory / "hub.log")

        def pids() -> dict[str, int]:
            found = {"hub": hub.pid, **_etcd_pids(cluster)}
            for one in running:
                assert one.process is not None
                found[f"{one.name} supervisor"] = one.process.pid
                for child in ("traefik", "agent"):
                    with contextlib.suppress(OSError):
                        found[f"{one.name} {child}"] = one.child(child)
            return found

        async def kill() -> None:
            running[0].kill()
            running[0].start()

        async def following() -> list[int]:
            said = [await one.status() for one in running]
            return [one["routes"] if one.get("following") else -1 for one in said]

        async def settled() -> bool:
            return not any([(await one.status()).get("pending", True) for one in running])

        async with contextlib.AsyncExitStack() as stack:
            # each of its own: one that cannot be ended keeps none of the others
            for one in running:
                stack.callback(one.stop)
            stack.push_async_callback(hub.stop)
            await hub.start(START)
            for one in running:
                one.start()
            for one in running:
                await one.ready()
            addresses = [("127.0.0.1", one.port) for one in running]
            yield Subject(
                addresses, hub, pids, kill, cluster.wipe, following, settled, cluster, running
            )


@contextlib.asynccontextmanager
async def _static(
    start: Callable[[World, Path], Awaitable[tuple[Address, dict[str, int], Callable[[], None]]]],
    around: World,
    directory: Path,
) -> AsyncIterator[Subject]:
    address, pids, stop = await start(around, directory)
    try:
        yield Subject([address], pids=lambda: _with_children(pids))
    finally:
        stop()


@contextlib.asynccontextmanager
async def _direct(around: World, directory: Path) -> AsyncIterator[Subject]:
    yield Subject([around.server])


def _missing(*needed: tuple[str, str]) -> Callable[[], str]:
    def ask() -> str:
        for name, variable in needed:
            if name == "etcd":
                try:
                    etcd_program()
                except FileNotFoundError as error:
                    return str(error)
            elif program(name, variable) is None:
                return f"{name} is not on PATH, and {variable} does not name it"
        return ""

    return ask


_CHP = ("configurable-http-proxy", "JUNCTION_CHP")
_TRAEFIK, _ETCD, _NGINX = ("traefik", "JUNCTION_TRAEFIK"), ("etcd", ""), ("nginx", "JUNCTION_NGINX")
_NO_ETCD = "it keeps no routes in etcd"
_NO_UNIX = "Traefik reaches no Unix sockets"
_NO_WAY = "its routes come back one by one, and it promises nothing meanwhile"

CONTESTANTS = [
    Contestant("direct", _direct, "no proxy at all: the floor of every client", static=True),
    Contestant(
        "nginx", partial(_static, start_nginx_proxy), "nginx with one static route",
        _missing(_NGINX), static=True,
    ),
    Contestant(
        "traefik-bare", partial(_static, start_traefik), "Traefik with one static route",
        _missing(_TRAEFIK), static=True,
    ),
    Contestant(
        "chp", partial(_alone, "chp", True), "configurable-http-proxy, JupyterHub's default",
        _missing(_CHP), absent={"restore": _NO_ETCD},
    ),
    Contestant(
        "traefik-proxy", _peer,
        "jupyterhub-traefik-proxy with its etcd backend, one Traefik; it asks Traefik's API with a"
        " password that is hashed with bcrypt, as is its default: that costs Traefik about 0.3 s of"
        " CPU time in each of its requests",
        _missing(_TRAEFIK, _ETCD), absent={"restore": _NO_WAY, "forwarder": _NO_UNIX},
    ),
    Contestant(
        "junction-1", partial(start_junction, 1), "junction with 1 replica and 3 etcd members",
        _missing(_TRAEFIK, _ETCD),
    ),
    Contestant(
        "junction-3", partial(start_junction, 3), "junction with 3 replicas and 3 etcd members",
        _missing(_TRAEFIK, _ETCD),
    ),
    Contestant(
        "junction-inprocess", partial(_alone, "inprocess", False), "the proxy in the hub's process",
        absent={
            "restore": _NO_ETCD,
            "recovery": "it ends with JupyterHub, and is back when that has started",
        },
    ),
]  # fmt: skip
