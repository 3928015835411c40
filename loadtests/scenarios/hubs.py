"""A JupyterHub that is started here: the demo's, behind configurable-http-proxy or Junction."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import secrets
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

import psutil
from bench import world
from demo import Demo, DemoError
from demo.launcher import CONFIG
from demo.programs import Program, answers, wait

from jupyterhub_junction.ports import free_ports

from .local import AWAY, stand_in
from .options import Options
from .stage import Fault, LoadtestError, Stage

__all__ = ["Hub", "hub_stage"]

HERE = Path(__file__).parent
START = 60.0


class Hub(Demo):
    """A hub with its proxy.

    Args:
        proxy: a contestant's name: ``chp`` or ``junction-<replicas>``.
        folder: for all of its files.
        server: URL of the stand-in.
        real: users with servers of their own.
        profiled: whether Traefik's profiles can be had.

    Attributes:
        token: of a service that may do all that a load test has to.
    """

    def __init__(
        self, proxy: str, folder: Path, server: str, real: list[str], profiled: bool = False
    ) -> None:
        found = re.fullmatch(r"chp|junction-([1-9])", proxy)
        if not found:
            raise LoadtestError(f"{proxy}: no hub is started with it; with chp or junction-2")
        replicas = int(found[1] or 0)
        self.chp = not replicas
        self.token = secrets.token_hex(16)
        self.times = folder / "times.jsonl"
        self._read = 0
        public, api = free_ports(2)
        environment = {
            "LOADTEST_PROXY": "chp" if self.chp else "junction",
            "LOADTEST_BASE": str(CONFIG),
            "LOADTEST_TIMES": str(self.times),
            "LOADTEST_STAND_IN": server.removeprefix("http://"),
            "LOADTEST_REAL": ",".join(real),
            "LOADTEST_TOKEN": self.token,
            "LOADTEST_CHP": world.program("configurable-http-proxy", "JUNCTION_CHP") or "",
            "LOADTEST_CHP_API": f"http://127.0.0.1:{api}",
        }
        address = f"http://127.0.0.1:{public}/" if self.chp else ""
        super().__init__(
            folder, replicas=replicas, members=0 if self.chp else 3,
            config=HERE / "hub_config.py", environment=environment, address=address,
            arguments=["--profiling"] if profiled else [],
        )  # fmt: skip

    def start(self) -> None:
        """Start all of it, and wait until the hub is served."""
        super().start()
        wait("the hub", lambda: answers(f"{self.address}hub/login"), START, self.hub)

    @property
    def addresses(self) -> list[str]:
        """Of every replica, without a slash at the end."""
        each = [one.address.rstrip("/") for one in self.replicas.values()]
        return each or [self.address.rstrip("/")]

    def pids(self) -> dict[str, int]:
        """The processes of each role, as they are now."""
        found: dict[str, int] = {}
        roots = [one.program for one in self.replicas.values()] + [self.hub, *self.members]
        for one in roots:
            if one.pid is None:
                continue
            found[one.name] = one.pid
            with contextlib.suppress(psutil.Error):
                for child in psutil.Process(one.pid).children(recursive=True):
                    with contextlib.suppress(psutil.Error):
                        # the hub's children: CHP is its proxy, all else is a user's server
                        name = child.name()[:15]
                        if one is self.hub and name not in ("node", "configurable-ht"):
                            name = "server"
                        key = f"{one.name} {name}" if one is not self.hub else name
                        found[_unlike(key, found)] = child.pid
        return found

    def faults(self) -> dict[str, Fault]:
        """What can be killed: each is started again by whoever looks after it, or by this."""
        found: dict[str, Fault] = {}

        def again(one: Program, what: str, away: float = 0.0) -> Fault:
            async def kill() -> str:
                await asyncio.to_thread(one.kill)
                if away:
                    await asyncio.sleep(away)
                await asyncio.to_thread(one.start)
                return f"{what} was killed" + (f", for {away:g} s" if away else "")

            return kill

        if self.chp:
            # JupyterHub looks every 5 s, and starts it again
            found["replica"] = self._child(self.hub, "node")
        if self.replicas:
            replica = next(iter(self.replicas.values())).program
            found["replica"] = again(replica, "a replica")
            found["agent"] = self._child(replica, "agent")
            found["traefik"] = self._child(replica, "traefik")
        if self.members:
            found["etcd"] = again(self.members[0], "an etcd member", AWAY)
        return found

    def _child(self, program: Program, name: str) -> Fault:
        async def kill() -> str:
            assert program.pid is not None
            found = [
                one
                for one in psutil.Process(program.pid).children()
                if (words := one.cmdline()) and name in (Path(words[0]).name, *words[1:4])
            ]
            if not found:
                raise LoadtestError(f"{program.name} has no {name} that could be killed")
            for one in found:
                one.kill()
            return f"{program.name}'s {name} was killed"

        return kill

    def told(self, began: float) -> list[dict[str, Any]]:
        """Changes of routes that the hub has told since this was last asked."""
        if not self.times.exists():
            return []
        lines = self.times.read_text().split("\n")[:-1]
        new, self._read = lines[self._read :], len(lines)
        changes = [json.loads(line) for line in new]
        # the hub's own route came before
        return [
            {"t": round(change.pop("at") - began, 3), **change}
            for change in changes
            if change["at"] >= began
        ]


def _unlike(name: str, names: Mapping[str, int]) -> str:
    number, found = 1, name
    while found in names:
        number += 1
        found = f"{name} {number}"
    return found


@contextlib.asynccontextmanager
async def hub_stage(name: str, folder: Path, options: Options) -> AsyncIterator[Stage]:
    """A hub with its proxy, and students who have not come yet."""
    students, real = options.settings["students"], options.settings["real"]
    names = [f"real{n}" for n in range(min(real, students))]
    people = [{"name": one, "path": f"/user/{one}/"} for one in names]
    people += [
        {"name": f"student{n}", "path": f"/user/student{n}/", "stand_in": "yes"}
        for n in range(students - len(names))
    ]
    async with stand_in(folder) as behind:
        hub = Hub(name, folder, behind.url, names, options.profile)
        try:
            try:
                await asyncio.to_thread(hub.start)
            except DemoError as error:
                raise LoadtestError(str(error).replace("\n", " / ")[:500]) from None
            told: Callable[[float], list[dict[str, Any]]] = hub.told
            yield Stage(
                hub.addresses, people, pids=lambda: {"stand-in": behind.pid, **hub.pids()},
                hub={"password": hub.password, "told": told},
                etcd=list(hub.etcd.endpoints), faults=hub.faults(),
            )  # fmt: skip
        finally:
            await asyncio.shield(asyncio.to_thread(hub.stop))
