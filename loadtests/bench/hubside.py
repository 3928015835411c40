"""The hub's side of one proxy, as a program: a Proxy object in a process of its own.

Stands in for the JupyterHub process, so that what a proxy class costs the hub can be told from
what it costs elsewhere, and no proxy shares an interpreter with what measures it.  The first
line of stdin (JSON) is the setup, each later one a command with an ``id``; each is answered by
one line on stdout.  Commands run side by side.  Times are of CLOCK_MONOTONIC, which is the same
in every process.  When stdin ends, or SIGTERM comes, so does the proxy.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import logging
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from jupyterhub_junction.conformance.implementation import Options
from jupyterhub_junction.conformance.surroundings import fake_spawner, fake_user, free_port

from .signals import run

__all__ = ["own_target"]

#: the file descriptor of what was stdout; one that nobody else has yet
ANSWERS = 100
#: routes that are deleted at once when many go
DELETES = 100


def own_target(number: int) -> str:
    """A target that no other route has, on loopback, where nothing listens."""
    return f"http://127.{64 + (number >> 16)}.{number >> 8 & 255}.{number & 255}:9"


def _chp(setup: dict[str, Any], settings: dict[str, Any]) -> Any:
    from jupyterhub.proxy import ConfigurableHTTPProxy

    return ConfigurableHTTPProxy(
        command=[setup["chp"], "--log-level=error"],
        auth_token="a-token",  # noqa: S106
        api_url=f"http://127.0.0.1:{free_port()}",
        pid_file=str(Path(setup["directory"]) / "chp.pid"),
        **settings,
    )


def _peer(setup: dict[str, Any], settings: dict[str, Any]) -> Any:
    from jupyterhub_traefik_proxy.etcd import TraefikEtcdProxy

    return TraefikEtcdProxy(
        etcd_url=setup["endpoints"][0],
        static_config_file=str(Path(setup["directory"]) / "traefik.toml"),
        traefik_api_url=f"http://127.0.0.1:{free_port()}",
        traefik_api_username="a-name",
        traefik_api_password="a-password",  # noqa: S106
        traefik_log_level="ERROR",
        check_route_timeout=int(setup["limit"]),
        **settings,
    )


def _junction(setup: dict[str, Any], settings: dict[str, Any]) -> Any:
    from jupyterhub_junction.proxies.etcd import TraefikEtcdProxy

    return TraefikEtcdProxy(
        etcd_endpoints=setup["endpoints"], live_timeout=float(setup["limit"]), **settings
    )


def _inprocess(setup: dict[str, Any], settings: dict[str, Any]) -> Any:
    from jupyterhub_junction.proxies.inprocess import InProcessProxy

    return InProcessProxy(call_timeout=float(setup["limit"]), **settings)


#: where those that start a program keep it
PROGRAMS = {"chp": "proxy_process", "peer": "traefik_process"}
KINDS = {"chp": _chp, "peer": _peer, "junction": _junction, "inprocess": _inprocess}


class HubSide:
    """What a hub has: a proxy, and users whose servers run."""

    def __init__(self, setup: dict[str, Any]) -> None:
        hub = setup["hub"]
        self.users: dict[str, Any] = {}
        self._servers = itertools.count()
        self.kind: str = setup["kind"]
        app = SimpleNamespace(
            subdomain_host="", base_url="/", internal_ssl=False, internal_proxy_certs={},
            internal_trust_bundles={}, users=self.users, _service_map={}, config={},
            log=logging.getLogger("app"),
        )  # fmt: skip
        app.hub = SimpleNamespace(
            url=f"{hub}/hub/", api_url=f"{hub}/hub/api", host=hub, base_url="/hub/", routespec="/"
        )
        settings = {
            "app": app, "hub": app.hub, "public_url": setup["public"], "ssl_key": "",
            "ssl_cert": "", "host_routing": False, "log": logging.getLogger("proxy"),
        }  # fmt: skip
        self.proxy = KINDS[self.kind](setup, settings)

    async def start(self) -> None:
        """Start the proxy if that is the hub's to do, and give it the hub's own route."""
        if self.proxy.should_start:
            await self.proxy.start()
        await self.proxy.check_routes({}, {}, {})

    async def stop(self) -> None:
        """End what was started, also if the start was not finished."""
        if self.kind == "chp" and self.proxy._check_running_callback is not None:
            self.proxy._check_running_callback.stop()
        if self._process is None and self.kind in PROGRAMS:
            return
        if self.kind == "chp":
            if self._process.poll() is None:
                self._process.kill()
            self._process.wait()
            self.proxy._remove_process_files()
            return
        done = self.proxy.stop()
        if done is not None:
            await done

    @property
    def _process(self) -> Any:
        """The program that the proxy has started; None if there is none."""
        return getattr(self.proxy, PROGRAMS[self.kind]) if self.kind in PROGRAMS else None

    # --- commands: each returns what goes into its answer

    async def add(self, names: list[str], target: str, unasked: Sequence[str] = ()) -> float:
        """Servers of these users have started, all at once; returns when add_route was called.

        Args:
            unasked: those of them that no request will be for: as real ones, each has a target of
                its own.  Those that requests are for share ``target``, where a server answers.
        """
        targets = dict.fromkeys(names, target)
        targets |= {name: own_target(next(self._servers)) for name in unasked}
        for name in names:
            self._runs(name, targets[name])
        called = time.monotonic()
        await asyncio.gather(
            *(
                self.proxy.add_route(
                    f"/user/{name}/", targets[name], {"user": name, "server_name": ""}
                )
                for name in names
            )
        )
        return called

    async def delete(self, names: list[str]) -> None:
        """They have stopped."""
        for start in range(0, len(names), DELETES):
            part = names[start : start + DELETES]
            for name in part:
                self.users.pop(name, None)
            await asyncio.gather(*(self.proxy.delete_route(f"/user/{name}/") for name in part))

    def _runs(self, name: str, target: str) -> None:
        user = fake_user(name, Options())
        user.spawners[""] = fake_spawner(user.proxy_spec, target)
        self.users[name] = user

    async def note(self, name: str, target: str) -> None:
        """A server runs, but its route is not told to the proxy: check_routes will see to it."""
        self._runs(name, target)

    async def check(self) -> None:
        """The hub's periodic check, with every server that runs."""
        await self.proxy.check_routes(self.users, {})

    async def churn(
        self, per_second: float, seconds: float, target: str, restarted: list[str]
    ) -> dict[str, Any]:
        """Adds and deletes at a steady rate, half of each, whatever the earlier ones take.

        Of those ``asked`` for, so many were ``done``; of a first half that failed there is no
        second.  Servers start and stop again; or those of the users ``restarted``, which have
        run for long, stop and start again, one after the other.
        """
        begun, running = time.monotonic(), set[asyncio.Task[None]]()
        count = int(per_second * seconds / 2)
        pace = 2 / per_second
        errors: list[str] = []
        done = 0

        async def one(number: int) -> None:
            nonlocal done
            try:
                if restarted:
                    name = restarted[number % len(restarted)]
                    await self.delete([name])
                    done += 1
                    await self.add([name], target, unasked=[name])
                else:
                    await self.add([name := f"churn{number}"], target)
                    done += 1
                    await self.delete([name])
                done += 1
            except Exception as error:
                errors.append(repr(error)[:200])

        for number in range(count):
            await asyncio.sleep(max(0.0, begun + number * pace - time.monotonic()))
            task = asyncio.create_task(one(number))
            running.add(task)
            task.add_done_callback(running.discard)
        ended = time.monotonic()
        left = len(running)
        if running:
            await asyncio.wait(running)
        return {
            "asked": 2 * count, "done": done, "left": left, "for_s": ended - begun,
            "errors": errors[:3],
        }  # fmt: skip

    async def program(self) -> int:
        """The process id of the proxy's program."""
        return int(self._process.pid)

    async def respawn(self) -> None:
        """Start the proxy's program again, as a service manager does at once."""
        self._process.wait()
        self.proxy._start_traefik()


async def _answer(side: HubSide, request: dict[str, Any]) -> None:
    ident, do = request.pop("id"), request.pop("do")
    answer: dict[str, Any] = {"id": ident, "called": time.monotonic()}
    try:
        answer["result"] = await getattr(side, do)(**request)
        if do == "add":  # what the bench has to note beside is no time of the proxy's
            answer["called"] = answer["result"]
    except Exception as error:
        answer["error"] = f"{type(error).__name__}: {error}"[:500]
    answer["returned"] = time.monotonic()
    _say(answer)


def _say(answer: dict[str, Any]) -> None:
    os.write(ANSWERS, json.dumps(answer).encode() + b"\n")


async def main() -> None:
    """Serve stdin until it ends."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=1 << 24)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    side = HubSide(json.loads(await reader.readline()))
    running: set[asyncio.Task[None]] = set()
    try:
        await side.start()
        _say({"id": 0, "called": 0.0, "returned": time.monotonic()})
        while line := await reader.readline():
            task = asyncio.create_task(_answer(side, json.loads(line)))
            running.add(task)
            task.add_done_callback(running.discard)
    finally:
        for task in running:
            task.cancel()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(10):
                await side.stop()


if __name__ == "__main__":
    # what the proxy's programs print must not be taken for an answer
    os.dup2(1, ANSWERS, inheritable=False)
    os.dup2(2, 1)
    logging.basicConfig(level=logging.ERROR)
    # who ends all of a run's processes at once ends this one so
    with contextlib.suppress(KeyboardInterrupt):
        run(main())
