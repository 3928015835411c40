"""The routing table as Traefik's documents.

Pure: the same table gives byte for byte the same document, and nothing here does I/O.

Traefik tries the routers of one level one after another, so a flat table costs O(N) per request.
Here routers hang under parents by prefix (Traefik's multi-layer routing, ``parentRefs``), and
no level holds more than :data:`FANOUT` and a few.  Invariants:

* A parent that matches without a child that matches would answer 404.  So a group of paths has
  a catch-all child, which serves the longest route that holds the whole group; and a group of
  hosts matches these hosts and no other.
* Within a level, a longer match has the higher priority.
* No name of a route stands in the name of a router or service; :mod:`.rules` quotes those in rules.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import urlsplit

from ..routes import Route, RouteTable
from .dispatch import hub_path, hub_route, is_catch_all
from .rules import (
    EVERYTHING,
    dot_segments_rule,
    group_rule,
    host_group_rule,
    host_rule,
    leaf_rule,
    path_rule,
    tokens_of,
)
from .static import CONTROL_ENTRYPOINT, Document

__all__ = [
    "FANOUT",
    "FORWARDER",
    "FORWARDER_HEALTH",
    "RenderOptions",
    "encode",
    "marker_name",
    "render",
    "with_marker",
]

#: Routers that one level of the tree may hold before it is split: those of a level are tried one
#: by one, and each level costs too; a level per letter of [a-z0-9-_.~] is where that is least.
FANOUT = 40

#: The forwarder's service, that which falls back from it to the hub, and its health's path.
FORWARDER = "forwarder"
FALLBACK = "fallback"
FORWARDER_HEALTH = "/junction-forwarder-health"

# What an error page is asked for with: not Upgrade, Connection or the headers of a body.
_ERROR_HEADERS = ("Accept", "Accept-Language", "Cookie", "User-Agent")

# entries that are encoded in one call: some 0.1 ms
_AT_ONCE = 50

_dump = json.JSONEncoder(separators=(",", ":")).encode

# Headers that tornado or others believe as they do X-Forwarded-*, and that Traefik lets through
# from anybody; an empty value takes them out.
_CLAIMS = ("Forwarded", "X-Scheme", "X-Proxyscheme")

Items = list[tuple[tuple[str, ...], Route]]


@dataclass(frozen=True, slots=True)
class RenderOptions:
    """What the document holds besides the routes.

    Attributes:
        certificate, key: paths of the PEM files that TLS clients are shown; with both empty,
            Traefik would make an RSA key at each apply, so give it one even where TLS is off.
        ca, client_certificate, client_key: paths of the PEM files for ``https`` targets
            (JupyterHub's internal SSL); without a CA the system's are trusted.
        error_path: path on the hub below which its error pages stand, by status.
        error_target: URL below which error pages stand, instead of the hub's.
        request_headers: names and values that servers get besides what clients send.
        answer_timeout: seconds that an ``https`` server gets to begin its answer; 0: any time.
        forwarder: URL of the agent's forwarder, to which goes what matches no route; with none,
            it goes to the hub.
    """

    certificate: str = ""
    key: str = ""
    ca: str = ""
    client_certificate: str = ""
    client_key: str = ""
    error_path: str = "/hub/error/"
    error_target: str = ""
    request_headers: tuple[tuple[str, str], ...] = ()
    answer_timeout: float = 0
    forwarder: str = ""


# --- the tree ------------------------------------------------------------------------------------


def _split(items: Items, depth: int) -> tuple[int, list[tuple[list[str], Items]]]:
    """Split items that agree up to ``depth`` into at most FANOUT groups by their next tokens.

    Returns the depth up to which they agree, and the groups: the heads (next tokens) that each
    stands for, and its items.  The item that ends at that depth, if any, is in no group.
    """
    first, last = items[0][0], items[-1][0]  # sorted, so what these share, all share
    while depth < min(len(first), len(last)) and first[depth] == last[depth]:
        depth += 1
    by_head: dict[str, Items] = {}
    for item in items:
        if len(item[0]) > depth:
            by_head.setdefault(item[0][depth], []).append(item)
    # what lies below a route falls back to that route, so '/' shares its group with nothing
    groups = [(["/"], by_head.pop("/"))] if "/" in by_head else []
    per_group = -(-len(by_head) // FANOUT)
    heads = sorted(by_head)
    for start in range(0, len(heads), per_group or 1):
        chunk = heads[start : start + per_group]
        groups.append((chunk, [item for head in chunk for item in by_head[head]]))
    return depth, groups


class _Renderer:
    """Collects routers, services and middlewares; numbers them in order of appearance."""

    def __init__(self, options: RenderOptions, hub: Route | None) -> None:
        self.options = options
        self.hub = hub
        self.routers: dict[str, Document] = {}
        self.services: dict[str, Document] = {}
        self.middlewares: dict[str, Document] = {}
        self._targets: dict[str, tuple[str, list[str]]] = {}
        self.fallback = FORWARDER  # the service for what Traefik itself has no route for

    def service(self, target: str) -> tuple[str, list[str]]:
        """The service for a target, and the middlewares that its routers need."""
        known = self._targets.get(target)
        if known is None:
            server, prefix = _server(target)
            name = f"s{len(self._targets)}"
            balancer: Document = {"servers": [{"url": server}]}
            if server.startswith("https:") and self.options.ca:
                balancer["serversTransport"] = "internal"
            self.services[name] = {"loadBalancer": balancer}
            needed = []
            if prefix:  # Traefik ignores a path in a server's URL
                # not addPrefix, which encodes what is encoded once more (3.7.15)
                replacement = prefix.replace("$", "$$") + "/"
                rewrite = {"regex": "^/", "replacement": replacement}
                self.middlewares[f"p{name}"] = {"replacePathRegex": rewrite}
                needed = [f"p{name}"]
            known = self._targets[target] = (name, needed)
        return known

    def forward(self) -> None:
        """The services for what matches no route, and for paths that lead out of their route."""
        server = {"url": self.options.forwarder}
        # patient, so that a flood of unknown paths does not look like a loss
        check = {"path": FORWARDER_HEALTH, "interval": "1s", "timeout": "5s"}
        self.services[FORWARDER] = {"loadBalancer": {"servers": [server], "healthCheck": check}}
        if self.hub is not None and _is_reached(self.hub):
            failover = {"service": FORWARDER, "fallback": self.service(self.hub.target)[0]}
            self.services[FALLBACK] = {"failover": failover}
            self.fallback = FALLBACK
        # Traefik routes by the path as sent, the forwarder by where it leads (RFC 3986 §5.2.4)
        self.router(dot_segments_rule(), 2_000_000, "root", to=self.fallback)

    def router(
        self,
        rule: str,
        priority: int,
        parent: str,
        route: Route | None = None,
        *,
        to: str = "",
    ) -> str:
        """Add a router under a parent; with a route or a service it is a leaf, else a group."""
        name = f"r{len(self.routers)}"
        body: Document = {"rule": rule, "priority": priority, "parentRefs": [parent]}
        if route is not None and not to and _is_reached(route):
            body["service"], needed = self.service(route.target)
            if needed:
                body["middlewares"] = needed
        elif route is not None or to:
            body["service"] = to or self.fallback
        if to == "noop@internal":
            body["middlewares"] = ["missing"]
        self.routers[name] = body
        return name

    def catch_all(self, parent: str, fallback: Route | None) -> None:
        if self.options.forwarder and is_catch_all(fallback, self.hub):
            self.router(EVERYTHING, 1, parent, to=self.fallback)
        elif fallback is not None:
            self.router(EVERYTHING, 1, parent, fallback)
        elif self.hub is not None:
            self.router(EVERYTHING, 1, parent, to="noop@internal")

    def paths(
        self,
        items: Items,
        parent: str,
        depth: int,
        fallback: Route | None,
    ) -> None:
        """Routers for routes that agree in their first ``depth`` tokens, which parent matches."""
        self.catch_all(parent, fallback)
        if len(items) <= FANOUT:
            for tokens, route in items:
                self.router(leaf_rule(tokens), 10 + 2 * len(tokens), parent, route)
            return
        shared, groups = _split(items, depth)
        own = next((route for tokens, route in items if len(tokens) == shared), None)
        if own is not None:
            self.router(leaf_rule(items[0][0][:shared]), 10 + 2 * shared, parent, own)
        prefix = items[0][0][:shared]
        for heads, members in groups:
            below = own if heads == ["/"] and own is not None else fallback
            if len(members) == 1 and len(heads) == 1:
                tokens, route = members[0]
                self.router(leaf_rule(tokens), 10 + 2 * len(tokens), parent, route)
                continue
            name = self.router(group_rule(prefix, heads), 11 + 2 * shared, parent)
            self.paths(members, name, shared, below)

    def hosts(
        self,
        hosts: Sequence[tuple[str, Items]],
        parent: str,
        default: Route | None,
    ) -> None:
        """Routers for the hosts that have routes of their own.

        A group names its hosts in full, not by prefix: a host without routes of its own must
        get past it, to the routes without a host.
        """
        if len(hosts) <= FANOUT:
            for host, items in hosts:
                name = self.router(host_rule(host), 1_000_000, parent)
                root = next((route for tokens, route in items if not tokens), default)
                self.paths([item for item in items if item[0]], name, 0, root)
            return
        per_group = -(-len(hosts) // FANOUT)
        for start in range(0, len(hosts), per_group):
            members = hosts[start : start + per_group]
            rule = host_group_rule(host for host, _ in members)
            self.hosts(members, self.router(rule, 1_000_000, parent), default)


def _is_reached(route: Route) -> bool:
    """Whether Traefik itself can connect to the target; it knows no unix sockets."""
    return route.target.startswith(("http://", "https://"))


@lru_cache(maxsize=65536)
def _server(target: str) -> tuple[str, str]:
    """A target's URL without its path, and the path without its last slash."""
    url = urlsplit(target)
    return f"{url.scheme}://{url.netloc}", url.path.rstrip("/")


def _items(table: RouteTable, options: RenderOptions, hub: Route | None) -> dict[str, Items]:
    """What there is to route to, by host; sorted by path."""
    by_host: dict[str, Items] = {}
    for route in table.served():
        if options.forwarder or _is_reached(route):
            by_host.setdefault(route.host, []).append((tokens_of(route.path), route))
    own = hub_path(options.error_path)
    if options.forwarder and hub is not None and own and table.match(hub.host, own) is hub:
        # what is most asked for on the hub need not go through the forwarder
        items = by_host[hub.host]
        if all(route.path != own for _, route in items):
            items.append((tokens_of(own), hub))
    for items in by_host.values():
        items.sort(key=lambda item: item[0])
    return by_host


def render(table: RouteTable, options: RenderOptions = RenderOptions()) -> Document:
    """Traefik's dynamic configuration for a table, without a marker.

    Returns:
        A document for Traefik's REST provider (as JSON) or file provider (as TOML); routers
        stand under one root on the entry point ``web``.  Routes whose target Traefik cannot
        reach (unix sockets) go to the forwarder; without one they are left out.
    """
    hub = hub_route(table)
    out = _Renderer(options, hub)
    by_host = _items(table, options, hub)
    # without entryPoints it serves those that are marked asDefault: all public ones
    root: Document = {"rule": EVERYTHING, "middlewares": ["claims"]}
    added = {**dict.fromkeys(_CLAIMS, ""), **dict(options.request_headers)}
    out.middlewares["claims"] = {"headers": {"customRequestHeaders": added}}
    if options.forwarder:
        out.forward()
    pages, error_path = "", options.error_path
    if options.error_target:
        pages, error_path = _server(options.error_target)
        error_path += "/"
    elif hub is not None and _is_reached(hub):
        pages = hub.target
    if pages:
        service = out.service(pages)[0]
        out.middlewares["missing"] = {
            "errors": {
                # noop@internal answers 418
                "status": ["418"],
                "statusRewrites": {"418": 404},
                "service": service,
                "query": error_path + "404?url={url}",
                "errorRequestHeaders": list(_ERROR_HEADERS),
            }
        }
        out.middlewares["errors"] = {
            "errors": {
                # what Traefik itself answers for a dead or silent backend; CHP answers 503
                "status": ["502", "504"],
                "statusRewrites": {"502": 503, "504": 503},
                "service": service,
                "query": error_path + "{status}?url={url}",
                "errorRequestHeaders": list(_ERROR_HEADERS),
            }
        }
        root["middlewares"].append("errors")
    out.routers["root"] = root
    paths = by_host.pop("", [])
    default = next((route for tokens, route in paths if not tokens), None)
    out.paths([item for item in paths if item[0]], "root", 0, default)
    if by_host:
        out.hosts(sorted(by_host.items()), "root", default)
    if len(out.routers) == 1:  # a root without children is no router
        root["service"] = "noop@internal"
    return _document(out, options)


def _document(out: _Renderer, options: RenderOptions) -> Document:
    http: Document = {"routers": out.routers}
    if out.services:
        http["services"] = out.services
    if out.middlewares:
        http["middlewares"] = out.middlewares
    if options.ca:
        transport: Document = {"rootCAs": [options.ca]}
        if options.answer_timeout:
            waits = {"responseHeaderTimeout": f"{options.answer_timeout:g}s"}
            transport["forwardingTimeouts"] = waits
        if options.client_certificate:
            transport["certificates"] = [
                {"certFile": options.client_certificate, "keyFile": options.client_key}
            ]
        http["serversTransports"] = {"internal": transport}
    document: Document = {"http": http}
    if options.certificate:
        pair = {"certFile": options.certificate, "keyFile": options.key}
        document["tls"] = {"stores": {"default": {"defaultCertificate": pair}}}
    return document


def marker_name(serial: int) -> str:
    """The name of the router that says which apply is in effect."""
    return f"applied-{serial}"


def with_marker(document: Document, serial: int) -> Document:
    """The document with its marker: a router that only Traefik's API ever shows."""
    marker = {
        "rule": path_rule(f"/{marker_name(serial)}"),
        "entryPoints": [CONTROL_ENTRYPOINT],
        "service": "noop@internal",
    }
    http = document["http"]
    return {
        **document,
        "http": {**http, "routers": {**http["routers"], marker_name(serial): marker}},
    }


def encode(document: Document) -> bytes:
    """The document as JSON, some entries at a time: all at once would hold up other threads."""
    parts = []
    for section, body in document["http"].items():
        entries = list(body.items())
        chunks = [
            _dump(dict(entries[start : start + _AT_ONCE]))[1:-1]
            for start in range(0, len(entries), _AT_ONCE)
        ]
        parts.append(f"{_dump(section)}:{{{','.join(chunks)}}}")
    rest = "".join(
        f",{_dump(name)}:{_dump(body)}" for name, body in document.items() if name != "http"
    )
    return f'{{"http":{{{",".join(parts)}}}{rest}}}'.encode()
