"""``junction-inprocess``: the whole proxy inside the JupyterHub process.

For small hubs: nothing to install, start or watch beside JupyterHub.  It ends with the hub,
and so do its users' connections.  Invariants:

* The routes and all connections belong to one thread with a loop of its own: a busy hub does
  not stall users, nor users the hub.  The hub's side reaches them only through calls there.
* A change is in effect when its call returns.
"""

from __future__ import annotations

import functools
import ssl
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, TypeVar
from urllib.parse import SplitResult, unquote, urlsplit

from jupyterhub.proxy import Proxy
from jupyterhub.utils import url_path_join
from traitlets import Float, Integer, List, TraitError, Unicode, validate

from ..forwarder.server import ForwardedRules, Forwarder, Limits
from ..forwarder.thread import ForwarderThread
from ..routes import Route, RouteError, RouteTable
from .internal_ssl import internal_files

__all__ = ["InProcessProxy"]

T = TypeVar("T")

_DEFAULTS = Limits()


class _Entry:
    """What the proxy knows about a route beside the route."""

    __slots__ = ("last_activity", "route")

    def __init__(self, route: Route) -> None:
        self.route = route
        self.last_activity = datetime.now(UTC)

    def as_hub_reads_it(self) -> dict[str, Any]:
        stamp = self.last_activity.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        return {
            "routespec": self.route.routespec,
            "target": self.route.target,
            "data": {**self.route.data, "last_activity": stamp},
        }


class InProcessProxy(Proxy):
    """JupyterHub's proxy as a thread of JupyterHub."""

    trusted_proxies = List(
        Unicode(),
        default_value=[],
        config=True,
        help="""
        Addresses and networks of proxies in front of this one, whose X-Forwarded-* headers
        are believed and added to; "unix" for clients of a unix socket, "*" for everybody.
        What other clients say in such headers is dropped; by default that is everybody.
        """,
    )
    call_timeout = Float(
        30.0,
        min=0.1,
        config=True,
        help="How long (in seconds) starting, or a change of the routes, may take.",
    )
    stop_grace = Float(
        2.0,
        min=0,
        config=True,
        help="How long (in seconds) requests may go on when the proxy stops.",
    )
    socket_mode = Integer(
        0o660,
        config=True,
        help="The permissions of the socket, if the proxy listens on a unix socket.",
    )
    header_bytes = Integer(
        _DEFAULTS.header_bytes,
        min=1024,
        config=True,
        help="The greatest header (in bytes) of a request or response that is let through.",
    )
    buffer_bytes = Integer(
        _DEFAULTS.buffer_bytes,
        min=4096,
        config=True,
        help="How much (in bytes) a connection holds each way before its source must wait.",
    )
    max_connections = Integer(
        _DEFAULTS.connections,
        min=1,
        config=True,
        help="How many connections of clients are served at once; one more is answered 503.",
    )
    connect_timeout = Float(
        _DEFAULTS.connect_timeout,
        min=0.1,
        config=True,
        help="How long (in seconds) a connection to a server may take before users get a 503.",
    )
    header_timeout = Float(
        _DEFAULTS.header_timeout,
        min=0.1,
        config=True,
        help="How long (in seconds) a client may take to send a request's header.",
    )
    keepalive_timeout = Float(
        _DEFAULTS.keepalive_timeout,
        min=0.1,
        config=True,
        help="How long (in seconds) a client's connection is kept open between two requests.",
    )
    response_timeout = Float(
        _DEFAULTS.response_timeout,
        min=0.1,
        config=True,
        help="""
        How long (in seconds) a server may take to begin its answer, and between two parts of
        it, before users get a 503 or their connection is closed.  WebSockets may be silent for
        ever.
        """,
    )
    body_timeout = Float(
        _DEFAULTS.body_timeout,
        min=0.1,
        config=True,
        help="""
        How long (in seconds) a client may pause in the middle of a request's body before it is
        answered 408.  However slow an upload is, each part of it begins the time anew.
        """,
    )
    stall_timeout = Float(
        _DEFAULTS.stall_timeout,
        min=1,
        config=True,
        help="How long (in seconds) one may take nothing of what is being sent to it.",
    )

    @validate("trusted_proxies")
    def _valid_trusted_proxies(self, proposal: Any) -> Any:
        try:
            ForwardedRules(proposal.value)
        except ValueError as error:
            raise TraitError(f"InProcessProxy.trusted_proxies: {error}") from None
        return proposal.value

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._running: ForwarderThread | None = None
        self._table = RouteTable()
        self._entries: dict[str, _Entry] = {}
        #: where the proxy listens, as :attr:`Forwarder.addresses`
        self.addresses: list[Any] = []

    # -- the thread

    async def start(self) -> None:
        """Begin to listen on ``public_url``.

        Raises:
            RuntimeError: it cannot, and why, in one line.
        """
        if self._running is not None:
            raise RuntimeError("the proxy is running already")
        self._table, self._entries = RouteTable(), {}
        forwarder = self._forwarder()
        url, server_ssl = urlsplit(self.public_url), self._server_ssl()
        thread = ForwarderThread(
            forwarder,
            lambda: self._listen(forwarder, url, server_ssl),
            name="junction-proxy",
            timeout=self.call_timeout,
        )
        try:
            await thread.start()
        except (OSError, ValueError, OverflowError) as error:
            why = getattr(error, "strerror", None) or str(error) or "timed out"
            raise RuntimeError(f"the proxy cannot listen on {self.public_url}: {why}") from None
        self.addresses = forwarder.addresses
        self._running = thread
        self.log.info("The proxy listens on %s, in this process", self.public_url)

    async def _listen(
        self, forwarder: Forwarder, url: SplitResult, server_ssl: ssl.SSLContext | None
    ) -> None:
        if url.scheme == "http+unix":
            await forwarder.start_unix(unquote(url.netloc), self.socket_mode)
            return
        host = url.hostname if url.hostname not in ("", "*") else None
        port = url.port
        if port is None:
            port = 443 if url.scheme == "https" else 80
        await forwarder.start(host, port, ssl=server_ssl)

    async def stop(self) -> None:
        """Stop listening, let requests end for ``stop_grace`` seconds, and cut the rest."""
        thread, self._running = self._running, None
        if thread is not None:
            await thread.stop(self.stop_grace)

    def _server_ssl(self) -> ssl.SSLContext | None:
        if not self.ssl_key and not self.ssl_cert:
            if urlsplit(self.public_url).scheme == "https":
                raise RuntimeError(f"{self.public_url} needs JupyterHub.ssl_key and ssl_cert")
            return None
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        try:
            context.load_cert_chain(self.ssl_cert, self.ssl_key or None)
        except (OSError, ValueError) as error:
            raise RuntimeError(
                f"ssl_cert {self.ssl_cert!r} and ssl_key {self.ssl_key!r} cannot be used: {error}"
            ) from None
        return context

    def _client_ssl(self) -> ssl.SSLContext | None:
        """With ``JupyterHub.internal_ssl``, the proxy's own certificate for servers and hub."""
        files = internal_files(self.app)
        if files is None:
            return None
        # only the hub's authority counts, and names are checked, as with its own clients
        context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=files.ca)
        context.load_cert_chain(files.certificate, files.key)
        return context

    def _forwarder(self) -> Forwarder:
        return Forwarder(
            resolve=self._table.resolve,
            error_target=url_path_join(self.hub.url, "error"),
            limits=Limits(
                header_bytes=self.header_bytes,
                buffer_bytes=self.buffer_bytes,
                connections=self.max_connections,
                connect_timeout=self.connect_timeout,
                header_timeout=self.header_timeout,
                keepalive_timeout=self.keepalive_timeout,
                response_timeout=self.response_timeout,
                body_timeout=self.body_timeout,
                stall_timeout=self.stall_timeout,
            ),
            on_activity=self._active,
            client_ssl=self._client_ssl(),
            trust_forwarded=ForwardedRules(self.trusted_proxies),
            health_path="/_chp_healthz",
            log=self.log,
        )

    # -- in the proxy's loop

    def _active(self, route: Route) -> None:
        entry = self._entries.get(route.routespec)
        if entry is not None:
            entry.last_activity = datetime.now(UTC)

    def _add(self, route: Route) -> None:
        old = self._table.add(route)
        entry = self._entries.get(route.routespec)
        if entry is None or old != route:
            self._entries[route.routespec] = _Entry(route)
        else:
            entry.route = route  # the same again, perhaps with other data: no activity

    def _delete(self, routespec: str) -> None:
        self._table.remove(routespec)
        self._entries.pop(routespec, None)

    def _get(self, routespec: str) -> dict[str, Any] | None:
        entry = self._entries.get(routespec)
        return entry.as_hub_reads_it() if entry else None

    def _get_all(self) -> dict[str, dict[str, Any]]:
        return {spec: entry.as_hub_reads_it() for spec, entry in self._entries.items()}

    # -- from the hub's loop

    async def _call(self, function: Callable[[], T]) -> T:
        if self._running is None:
            raise RuntimeError(
                "the proxy is not running: InProcessProxy needs Proxy.should_start = True"
            )
        return await self._running.call(function)

    async def add_route(self, routespec: str, target: str, data: dict[str, Any]) -> None:
        """Add or replace a route; it is in effect on return.

        Raises:
            RouteError: a routespec, target or data that cannot be served; nothing is changed.
            ValueError: a host where there is no host routing, or the other way round.
            RuntimeError: the proxy is not running.
        """
        if not isinstance(routespec, str):
            raise RouteError(f"routespec {routespec!r} is no string")
        route = Route(self.validate_routespec(routespec), target, data)
        await self._call(functools.partial(self._add, route))

    async def delete_route(self, routespec: str) -> None:
        """Delete a route if it is there; no new request goes to it on return.

        Raises:
            RuntimeError: the proxy is not running.
        """
        await self._call(functools.partial(self._delete, self.validate_routespec(routespec)))

    async def get_route(self, routespec: str) -> dict[str, Any] | None:
        """One route as in :meth:`get_all_routes`, or None."""
        return await self._call(functools.partial(self._get, self.validate_routespec(routespec)))

    async def get_all_routes(self) -> dict[str, dict[str, Any]]:
        """All routes by routespec: ``routespec``, ``target`` and ``data``.

        ``data`` holds what was given with the route, and ``last_activity``: when its server
        last answered with a status below 300 or its WebSockets moved, ISO 8601 in UTC; at first
        when the route was added.
        """
        return await self._call(self._get_all)
