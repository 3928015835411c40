"""Proxies that are started here, with the stand-in as every user's server.

The contestants are the benchmark's: the proxy class runs in a process of its own, as in
JupyterHub's, and its Proxy API is called there (:mod:`bench.hubside`).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

from bench.client import Address, Connection, until_served
from bench.contestants import CONTESTANTS, Contestant, Subject, start_junction
from bench.measures.bench import live_everywhere
from bench.world import World

from .child import Child
from .results import NULL
from .stage import Change, Fault, LoadtestError, Stage

__all__ = ["AWAY", "LIMIT", "StandIn", "contestants", "local_stage", "stand_in"]

#: seconds that one change may take
LIMIT = 30.0
#: seconds that an etcd member is away
AWAY = 3.0
#: seconds that a program gets to start
START = 30.0


def contestants(profiled: bool = False) -> dict[str, Contestant]:
    """Those there are, by name; Traefik's profiles can be had only where it is told to."""
    known = {one.name: one for one in CONTESTANTS}
    found = {name: known[name] for name in ("chp", "junction-inprocess")}
    arguments = ["--profiling"] if profiled else []
    for replicas in (1, 2, 3):
        found[f"junction-{replicas}"] = Contestant(
            f"junction-{replicas}",
            partial(start_junction, replicas, arguments=arguments),
            f"junction with {replicas} replicas and 3 etcd members",
            known["junction-1"].missing,
        )
    return found


class StandIn(NamedTuple):
    """Where users' servers are, where they are not, and its process."""

    server: Address
    hub: Address
    pid: int

    @property
    def url(self) -> str:
        """Of the servers."""
        return f"http://{self.server[0]}:{self.server[1]}"


@contextlib.asynccontextmanager
async def stand_in(folder: Path) -> AsyncIterator[StandIn]:
    """The stand-in server, running."""
    async with Child("standin", folder / "stand-in.log") as child:
        ports = await child.first(START)
        yield StandIn(("127.0.0.1", ports["port"]), ("127.0.0.1", ports["hub"]), child.pid)


@contextlib.asynccontextmanager
async def local_stage(
    name: str, folder: Path, users: int, profiled: bool = False
) -> AsyncIterator[Stage]:
    """A contestant with so many users' routes; :data:`.results.NULL` is the stand-in alone."""
    people = [{"path": f"/user/n{number}/"} for number in range(users)]
    async with stand_in(folder) as behind:
        if name == NULL:
            yield Stage([behind.url], people, pids=lambda: {"stand-in": behind.pid})
            return
        server = behind.server
        around = World(folder, server, behind.hub, server, folder / "unused", LIMIT)
        contestant = contestants(profiled)[name]
        async with contestant.start(around, around.folder(name)) as subject:
            assert subject.hub is not None
            names = [f"n{number}" for number in range(users)]
            await subject.hub.call("add", names=names, target=around.server_url)
            await live_everywhere(subject.addresses, names, LIMIT, f"{users} routes at once")
            yield Stage(
                [f"http://{host}:{port}" for host, port in subject.addresses],
                people,
                pids=lambda: {"stand-in": behind.pid, **subject.pids()},
                start=partial(_change, subject, around.server_url, True),
                stop=partial(_change, subject, around.server_url, False),
                faults=faults(subject),
                etcd=subject.etcd.endpoints if subject.etcd else [],
            )


async def _change(subject: Subject, target: str, starts: bool, name: str) -> Change:
    """Add or delete a route; every replica is asked all the while."""
    assert subject.hub is not None
    hub, path = subject.hub, f"/user/{name}/"
    connections = [Connection(address) for address in subject.addresses]
    now = asyncio.Event()

    async def told() -> tuple[float, float]:
        if starts:
            answer = await hub.call("add", names=[name], target=target)
        else:
            answer = await hub.call("delete", names=[name])
        now.set()
        return answer.called, answer.returned

    try:
        async with asyncio.timeout(LIMIT):
            asking = asyncio.gather(*(until_served(one, path, starts, now) for one in connections))
            (called, returned), found = await asyncio.gather(told(), asking)
    except TimeoutError:
        raise LoadtestError(f"{path}: not in effect everywhere within {LIMIT:g} s") from None
    finally:
        for one in connections:
            one.close()
    live = max(one.at for one in found)
    return Change(round(1000 * (live - called), 3), round(1000 * (returned - called), 3))


def faults(subject: Subject) -> dict[str, Fault]:
    """What can be killed of a contestant, by name."""
    found: dict[str, Fault] = {}
    kill, cluster = subject.kill, subject.etcd
    if kill is not None:

        async def replica() -> str:
            await kill()
            return "a replica was killed"

        found["replica"] = replica
    if subject.replicas:
        first = subject.replicas[0]
        for part in ("agent", "traefik"):

            async def program(part: str = part) -> str:
                first.signal_child(part)
                return f"{first.name}'s {part} was killed"

            found[part] = program
    if cluster is not None:

        async def member() -> str:
            cluster.kill(0)
            asyncio.get_running_loop().call_later(AWAY, back)
            return f"an etcd member was killed, for {AWAY:g} s"

        def back() -> None:
            # not when all has ended meanwhile
            if any(one.process is not None for one in cluster.members[1:]):
                cluster.launch(0)

        found["etcd"] = member
    return found
