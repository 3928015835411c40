"""``junction fill-chp``: fills the table of a CHP that has none from etcd, on the way back to it.

It runs beside CHP, in its pod.  Invariants:

* It is ready only while CHP has the complete table: a CHP that was started anew, and lost it, is
  found by the route that is missing, :data:`MARK`, and filled again.
* Only a complete table counts, of which it keeps the last one: with etcd away, empty or made
  anew, CHP keeps what it has.
* What the hub changes in etcd goes to CHP in etcd's order; routes that etcd never had stay.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Mapping
from urllib.parse import quote, unquote

import aiohttp

from ..keys import ROUTES, TABLE, BadValue, decode_route
from ..routes import Route
from ..store import Store, StoreError, StoreRefused

__all__ = ["MARK", "Chp", "ChpUnavailable", "Fill"]

#: a route that no hub lists, since it is not JupyterHub's, and that leads nowhere
MARK = "/_junction/filled"
#: seconds between two looks at CHP; a restart of it takes longer
LOOK = 0.5
LEAST_PAUSE, MOST_PAUSE = 0.2, 5.0
#: requests to CHP at a time
CONCURRENCY = 10


class ChpUnavailable(Exception):
    """CHP's API does not do what was asked; one line."""


class Chp:
    """CHP's REST API, as far as it is needed here.

    Args:
        url: of the API.
        token: CHP's ``CONFIGPROXY_AUTH_TOKEN``.
        timeout: seconds for one request.
    """

    def __init__(self, url: str, token: str, *, timeout: float = 5.0) -> None:
        self.url = url.rstrip("/")
        self._session = aiohttp.ClientSession(
            headers={"Authorization": f"token {token}"},
            timeout=aiohttp.ClientTimeout(total=timeout),
        )

    async def close(self) -> None:
        """Close its connections."""
        await self._session.close()

    async def has(self, path: str) -> bool:
        """Whether there is a route of just this path."""
        return await self._ask("GET", path) != 404

    async def put(self, path: str, route: Mapping[str, object]) -> None:
        """Add or change a route."""
        await self._ask("POST", path, route)

    async def delete(self, path: str) -> None:
        """Delete a route if it is there."""
        await self._ask("DELETE", path)

    async def _ask(self, method: str, path: str, body: Mapping[str, object] | None = None) -> int:
        url = f"{self.url}/api/routes{path}"
        try:
            async with self._session.request(method, url, json=body) as response:
                await response.read()
                if response.status >= 300 and response.status != 404:
                    raise ChpUnavailable(f"CHP answers {method} {url} with {response.status}")
                return response.status
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise ChpUnavailable(f"CHP at {self.url} does not answer: {error!r}") from None


def chp_path(routespec: str) -> str:
    """The path of a route in CHP's API; a host is its first part."""
    path = routespec if routespec.startswith("/") else f"/{routespec}"
    return quote(unquote(path), safe="@/~").rstrip("/") or "/"


def _body(route: Route) -> dict[str, object]:
    return {**route.data, "target": route.target, "jupyterhub": True}


class Fill:
    """Keeps one CHP filled.

    Attributes:
        ready: whether CHP has the complete table.
        why: why not, for the status.
    """

    def __init__(self, store: Store, chp: Chp, log: logging.Logger) -> None:
        self.store, self.chp, self.log = store, chp, log
        self.ready = False
        self.why = "no complete table was read from etcd yet"
        self._said = ""
        self._table: dict[str, Route] | None = None
        self._lock = asyncio.Lock()  # CHP gets one change after the other

    async def run(self) -> None:
        """Go on until cancelled.

        Raises:
            StoreRefused: etcd says no, for a reason that has to be mended.
        """
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._follow())
            tasks.create_task(self._keep())

    async def _follow(self) -> None:
        pause = LEAST_PAUSE
        while True:
            try:
                snapshot = await self.store.read(ROUTES, TABLE)
                if any(item.key == TABLE for item in snapshot.items):
                    table = {}
                    for item in snapshot.items:
                        if item.key.startswith(ROUTES) and (
                            route := self._route(item.key, item.value)
                        ):
                            table[route.routespec] = route
                    await self._take(table)
                elif self._table is None:
                    self._lost("etcd holds no complete table yet: the hub has not written it")
                pause = LEAST_PAUSE
                async for batch in self.store.watch(ROUTES, TABLE, revision=snapshot.revision + 1):
                    if self._table is None or any(event.key == TABLE for event in batch.events):
                        break  # a table is complete, or no more so: read it all
                    table = dict(self._table)
                    for event in batch.events:
                        if event.value is None:
                            table.pop(event.key.removeprefix(ROUTES), None)
                        elif route := self._route(event.key, event.value):
                            table[route.routespec] = route
                    await self._take(table)
            except StoreRefused as error:
                if self._table is None:
                    raise
                self.log.warning("etcd: %s", error)
                await asyncio.sleep(MOST_PAUSE)
            except StoreError as error:
                if self._table is None:
                    self.why = str(error)
                self.log.warning("etcd: %s", error)
                await asyncio.sleep(pause)
                pause = min(pause * 2, MOST_PAUSE)

    def _route(self, key: str, value: bytes) -> Route | None:
        try:
            return decode_route(key, value)
        except BadValue as error:
            self.log.error("skipping a broken value in etcd: %s", error)
            return None

    async def _take(self, table: dict[str, Route]) -> None:
        """A newer table: CHP gets what changed, or all of it from :meth:`_keep`."""
        async with self._lock:
            before, self._table = self._table or {}, table
            if not self.ready:
                return
            gone = before.keys() - table.keys()
            changed = {spec: route for spec, route in table.items() if before.get(spec) != route}
            try:
                for spec in gone:
                    await self.chp.delete(chp_path(spec))
                await self._put(changed)
            except ChpUnavailable as error:
                self._lost(str(error))

    async def _keep(self) -> None:
        while True:
            async with self._lock:
                try:
                    if self._table is not None and not (
                        await self.chp.has(MARK) if self.ready else False
                    ):
                        self._lost("CHP has no routes yet", news=self.ready)
                        await self._put(self._table)
                        await self.chp.put(MARK, {"target": "http://127.0.0.1:9"})
                        self.ready, self.why, self._said = True, "", ""
                        self.log.info("CHP has all %d routes", len(self._table))
                except ChpUnavailable as error:
                    self._lost(str(error))
            await asyncio.sleep(LOOK)

    def _lost(self, why: str, *, news: bool = True) -> None:
        """CHP is not full; said once for each reason."""
        if news and why != self._said:
            self.log.warning("CHP is not full: %s", why)
            self._said = why
        self.ready, self.why = False, why

    async def _put(self, routes: Mapping[str, Route]) -> None:
        waiting = list(routes.values())

        async def some() -> None:
            while waiting:
                route = waiting.pop()
                await self.chp.put(chp_path(route.routespec), _body(route))

        tasks = [asyncio.create_task(some()) for _ in range(min(CONCURRENCY, len(waiting)))]
        try:
            await asyncio.gather(*tasks)
        finally:
            waiting.clear()
            for task in tasks:
                task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.gather(*tasks, return_exceptions=True)
