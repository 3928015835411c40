"""``junction``: the proxy of many replicas, its routes in etcd."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from jupyterhub.proxy import Proxy
from jupyterhub.utils import url_path_join
from traitlets import Float, List, Unicode, default, validate

from ..etcd import environment
from ..etcd.store import EtcdStore
from ..keys import (
    ACTIVITY,
    ROUTES,
    TABLE,
    BadValue,
    TableInfo,
    decode_activity,
    decode_route,
    new_table_id,
)
from ..routes import Route, check_routespec
from ..store import Put, Store, StoreError, StoreRefused
from .writer import TableWriter

__all__ = ["TraefikEtcdProxy"]


class TraefikEtcdProxy(Proxy):
    """Routes go to etcd; every ``junction replica`` that follows it serves them.

    ``add_route`` returns when every live replica answers for the route, ``delete_route`` when
    none uses it any more.  The replicas are started by whoever runs them, not by the hub.
    """

    etcd_endpoints = List(
        Unicode(),
        config=True,
        help="URLs of etcd's members, as in ['https://etcd-0:2379']; any one that answers is used."
        " By default the environment's JUNCTION_ETCD; and so on for the settings below.",
    )
    etcd_prefix = Unicode(
        "/junction/",
        config=True,
        help="Prefix of all keys in etcd, the same as the hub's replicas have: one for each hub, as"
        " a hub deletes routes that it does not know.",
    )
    etcd_username = Unicode("", config=True, help="User to sign in to etcd as; empty for none.")
    etcd_password = Unicode(
        "",
        config=True,
        help="Password of that user; by default the environment's JUNCTION_ETCD_PASSWORD.",
    )
    etcd_password_file = Unicode(
        "",
        config=True,
        help="File with that password instead; read at each sign-in, so it may be renewed.",
    )
    etcd_ca = Unicode(
        "", config=True, help="Path of the PEM file with the CA of etcd's certificates."
    )
    etcd_cert = Unicode(
        "", config=True, help="Path of the PEM file with the hub's client certificate."
    )
    etcd_key = Unicode(
        "", config=True, help="Path of the PEM file with the key of that certificate."
    )
    etcd_timeout = Float(
        5.0, config=True, help="Seconds that one call to etcd may take, retries included."
    )
    start_timeout = Float(
        60.0, config=True, help="Seconds that etcd gets to answer when the hub starts."
    )
    live_timeout = Float(
        30.0,
        config=True,
        help="Seconds that live replicas get to put a change into effect before it is an error.",
    )

    #: the endpoints are the default, which nobody chose
    _guessed = False

    @default("should_start")
    def _default_should_start(self) -> bool:
        return False

    @default("etcd_endpoints")
    def _default_etcd_endpoints(self) -> list[str]:
        self._guessed = not environment.value("etcd")
        return environment.endpoints(environment.value("etcd", "http://127.0.0.1:2379"))

    @default("etcd_prefix")
    def _default_etcd_prefix(self) -> str:
        prefix = environment.value("etcd_prefix", "/junction/")
        return prefix if prefix.endswith("/") else prefix + "/"

    @default("etcd_username")
    def _default_etcd_username(self) -> str:
        return environment.value("etcd_username")

    @default("etcd_password")
    def _default_etcd_password(self) -> str:
        return environment.value("etcd_password")

    @default("etcd_ca")
    def _default_etcd_ca(self) -> str:
        return environment.value("etcd_ca")

    @default("etcd_cert")
    def _default_etcd_cert(self) -> str:
        return environment.value("etcd_cert")

    @default("etcd_key")
    def _default_etcd_key(self) -> str:
        return environment.value("etcd_key")

    @validate("etcd_prefix")
    def _validate_etcd_prefix(self, proposal: Any) -> str:
        prefix: str = proposal.value
        return prefix if prefix.endswith("/") else prefix + "/"

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._writer: TableWriter | None = None
        self._complete = False  # the table in etcd was declared complete, and still is
        #: whether the hub's start waits for etcd, and ends without it
        self.waits_at_start = True
        self._connected = False
        # the greatest that this hub has written or read: etcd may have lost it since, and
        # replicas that hold a table take a later one only
        self._table_id = ""
        self._activity: dict[str, str] = {}
        self._rechecks: set[asyncio.Task[None]] = set()

    def make_store(self) -> Store:
        """The store of the settings."""
        store = EtcdStore(
            self.etcd_endpoints,
            prefix=self.etcd_prefix,
            username=self.etcd_username or None,
            password=Path(self.etcd_password_file)
            if self.etcd_password_file
            else self.etcd_password or None,
            ca=self.etcd_ca or None,
            cert=self.etcd_cert or None,
            key=self.etcd_key or None,
            timeout=self.etcd_timeout,
        )
        if self._guessed:
            store.gateway.unanswered = (
                f"{environment.ETCD} is not set ({environment.mend('hub')}),"
                " and no etcd answers at the default"
            )
        return store

    @property
    def writer(self) -> TableWriter:
        """What writes to etcd; made at the first use."""
        if self._writer is None:
            self._writer = TableWriter(self.make_store(), self.log, timeout=self.live_timeout)
            self._writer.on_reset = self._on_reset
        return self._writer

    async def stop(self) -> None:
        """Let go of etcd; the replicas serve on."""
        for task in self._rechecks:
            task.cancel()
        if self._writer is not None:
            await self._writer.close()
            await self._writer.store.close()
            self._writer = None

    def validate_routespec(self, routespec: str) -> str:
        """JupyterHub's own checks, then ours.

        Raises:
            ValueError: a routespec that no proxy can serve; the message names it.
        """
        return check_routespec(super().validate_routespec(routespec))

    async def add_route(self, routespec: str, target: str, data: dict[str, Any] | None) -> None:
        """Add or change a route; returns when every live replica answers for it.

        Raises:
            RouteError: a routespec, target or data that is refused; nothing is stored.
            StoreError: etcd did not take it.
            NotLive: a live replica has not put it into effect within ``live_timeout``.
        """
        routespec = self.validate_routespec(routespec)
        await self.writer.put(Route(routespec, target, data or {}))

    async def delete_route(self, routespec: str) -> None:
        """Delete a route if it is there; returns when no live replica uses it."""
        await self.writer.delete(self.validate_routespec(routespec))

    async def get_all_routes(self) -> dict[str, dict[str, Any]]:
        """All routes in etcd, at one revision, with ``last_activity`` where data has flowed.

        Broken values are left out, and their keys logged.
        """
        known = self.writer.revision
        snapshot = await self._read()
        self.writer.note(snapshot.cluster_id, snapshot.revision, known)
        routes: dict[str, dict[str, Any]] = {}
        activity: dict[str, str] = {}
        has_table = False
        for item in snapshot.items:
            try:
                if item.key.startswith(ROUTES):
                    route = decode_route(item.key, item.value)
                    routes[route.routespec] = {
                        "routespec": route.routespec,
                        "target": route.target,
                        "data": dict(route.data),
                    }
                elif item.key.startswith(ACTIVITY):
                    last = decode_activity(item.key, item.value)
                    activity[item.key.removeprefix(ACTIVITY)] = last
                elif item.key == TABLE:
                    self._table_id = max(self._table_id, TableInfo.decode(item.value).id)
                    has_table = True
            except BadValue as error:
                self.log.error("skipping a broken value in etcd: %s", error)
        if not has_table:
            self._complete = False
        for routespec, row in routes.items():
            # replicas report each for itself, so a later write may hold an earlier time
            last = max(activity.get(routespec, ""), self._activity.get(routespec, ""))
            if last:
                row["data"]["last_activity"] = activity[routespec] = last
        self._activity = {spec: last for spec, last in activity.items() if spec in routes}
        return routes

    async def check_routes(
        self, user_dict: Any, service_dict: Any, routes: dict[str, Any] | None = None
    ) -> None:
        """JupyterHub's check; after it the table is declared complete, if it was not."""
        if routes is None:
            routes = await self.get_all_routes()
        if not self._complete:
            # what was read before etcd was made anew says nothing of what it holds now
            routes = await self.get_all_routes()
        await super().check_routes(user_dict, service_dict, routes)
        await self.checked(user_dict)

    async def checked(self, user_dict: Any) -> None:
        """All routes are in etcd: the table is declared complete, if it was not."""
        checking = any(
            spawner.pending == "check"
            for user in user_dict.values()
            for spawner in user.spawners.values()
        )
        if not self._complete and not checking:
            self._complete = True
            try:
                await self._declare_complete()
            except BaseException:
                self._complete = False
                raise

    async def _declare_complete(self) -> None:
        error_path = url_path_join(self.hub.base_url, "error") + "/"
        info = TableInfo(new_table_id(self._table_id), error_path)
        self._table_id = info.id  # also if it is not known whether etcd took it
        await self.writer.store.write([Put(TABLE, info.encode())])
        self.log.info("The routing table in etcd is complete")

    def _on_reset(self) -> None:
        self._complete = False
        users = getattr(self.app, "users", None)
        if users is None:
            return
        self.log.warning("Checking all routes, because etcd was made anew or restored")
        task = asyncio.ensure_future(self._recheck())
        self._rechecks.add(task)
        task.add_done_callback(self._rechecks.discard)

    async def _recheck(self) -> None:
        try:
            await self.check_routes(self.app.users, self.app._service_map)
        except Exception as error:
            self.log.error("Checking all routes failed, the next check tries again: %s", error)

    async def _read(self) -> Any:
        """Read etcd; at the hub's start, wait for it, or end the hub with one clear line."""
        loop = asyncio.get_running_loop()
        deadline, pause = loop.time() + self.start_timeout, 0.2
        while True:
            try:
                snapshot = await self.writer.store.read(ROUTES, ACTIVITY, TABLE)
            except StoreError as error:
                if self._connected or not self.waits_at_start:
                    raise
                if isinstance(error, StoreRefused) or loop.time() > deadline:
                    self.log.critical("The proxy cannot use etcd: %s", error)
                    raise SystemExit(1) from None
                self.log.warning("Waiting for etcd: %s", error)
                await asyncio.sleep(pause)
                pause = min(pause * 2, 5.0)
            else:
                self._connected = True
                return snapshot
