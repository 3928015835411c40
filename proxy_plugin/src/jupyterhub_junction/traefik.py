"""The routing table as Traefik's documents.

Pure: the same table gives byte for byte the same document, and nothing here does I/O.

Traefik tries the routers of one level one after another, so a flat table costs O(N) per request.
Here routers hang under parents by prefix (Traefik's multi-layer routing, ``parentRefs``), and
no level holds more than :data:`FANOUT` and a few.  Invariants:

* A parent that matches without a child that matches would answer 404.  So a group of paths has
  a catch-all child, which serves the longest route that holds the whole group; and a group of
  hosts matches these hosts and no other.
* Within a level, a longer match has the higher priority.
* No name of a route stands in a rule unquoted, or in the name of a router or service.

How Traefik sees a path (its muxer's ``withRoutingPath``): unreserved and all other characters
are decoded; those that RFC 3986 §2.2 reserves, and ``%``, stay as the client sent them.
So a reserved character in a routespec matches in both of its forms.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from .routes import Route, RouteTable

__all__ = [
    "CONTROL_ENTRYPOINT",
    "FANOUT",
    "PUBLIC_ENTRYPOINT",
    "RenderOptions",
    "control_document",
    "marker_name",
    "render",
    "static_document",
    "with_marker",
]

#: Routers that one level of the tree may hold before it is split.
FANOUT = 100

PUBLIC_ENTRYPOINT = "web"
CONTROL_ENTRYPOINT = "control"

# Traefik leaves these encoded if they came encoded, and plain if they came plain.  '/' and '%'
# are not here: their plain and encoded forms mean different paths.
_BOTH_FORMS = frozenset(":[]@!$&'()*+,;=")
# These cannot stand plain in a path, so only their encoded form reaches the muxer.
_ALWAYS_ENCODED = {"?": "%3F", "#": "%23"}

# What an error page is asked for with: not Upgrade, Connection or the headers of a body.
_ERROR_HEADERS = ("Accept", "Accept-Language", "Cookie", "User-Agent")

Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class RenderOptions:
    """What the document holds besides the routes.

    Attributes:
        certificate, key: paths of the PEM files that TLS clients are shown; with both empty,
            Traefik would make an RSA key at each apply, so give it one even where TLS is off.
        ca, client_certificate, client_key: paths of the PEM files for ``https`` targets
            (JupyterHub's internal SSL); without a CA the system's are trusted.
        error_path: path on the hub below which its error pages stand, by status.
    """

    certificate: str = ""
    key: str = ""
    ca: str = ""
    client_certificate: str = ""
    client_key: str = ""
    error_path: str = "/hub/error/"


# --- rules ---------------------------------------------------------------------------------------


def _quoted(text: str) -> str:
    """``text`` as a Go string literal, which is what Traefik's rule parser reads."""
    plain = json.dumps(text, ensure_ascii=True)
    # JSON writes what is beyond U+FFFF as two surrogates; Go wants \UXXXXXXXX
    plain = re.sub(
        r"\\u(d[89ab][0-9a-f]{2})\\u(d[c-f][0-9a-f]{2})",
        lambda m: f"\\U{0x10000 + ((int(m[1], 16) - 0xD800) << 10) + int(m[2], 16) - 0xDC00:08x}",
        plain,
    )
    return plain.replace("`", "\\u0060")


def _tokens(path: str) -> tuple[str, ...]:
    """A canonical path as characters of the path that it means; ``%2F`` and ``%25`` are one."""
    return tuple(re.findall(r"%2F|%25|.", path, re.DOTALL))


def _pattern(token: str) -> str:
    """The regular expression for one token, in all forms in which it reaches the muxer."""
    if token in _BOTH_FORMS:
        return f"(?:{re.escape(token)}|%{ord(token):02X})"
    token = _ALWAYS_ENCODED.get(token, token)
    return re.sub(r"[^0-9A-Za-z/%_~-]", lambda m: f"\\x{{{ord(m[0]):x}}}", token)


def _is_plain(tokens: Iterable[str]) -> bool:
    return _BOTH_FORMS.isdisjoint(tokens)


def _literal(tokens: Iterable[str]) -> str:
    return "".join(_ALWAYS_ENCODED.get(token, token) for token in tokens)


def _leaf_rule(tokens: Sequence[str]) -> str:
    """Matches the path itself and everything below it."""
    if _is_plain(tokens):
        path = _literal(tokens)
        return f"Path({_quoted(path)}) || PathPrefix({_quoted(path + '/')})"
    return f"PathRegexp({_quoted('^' + ''.join(map(_pattern, tokens)) + '(?:/|$)')})"


def _group_rule(tokens: Sequence[str], heads: Sequence[str] = ()) -> str:
    """Matches every path that begins with the tokens, then (if given) with one of the heads."""
    if len(heads) == 1:
        tokens, heads = [*tokens, heads[0]], ()
    if not heads and _is_plain(tokens):
        return f"PathPrefix({_quoted(_literal(tokens))})"
    pattern = "".join(map(_pattern, tokens))
    if heads:
        pattern += "(?:" + "|".join(map(_pattern, heads)) + ")"
    return f"PathRegexp({_quoted('^' + pattern)})"


def _host_group_rule(hosts: Iterable[str]) -> str:
    """Matches these hosts and no other; the dot is that of a fully qualified name."""
    pattern = "^(?:" + "|".join(map(re.escape, hosts)) + r")\.?$"
    return f"HostRegexp({_quoted(pattern)})"


# --- the tree ------------------------------------------------------------------------------------


def _split(
    items: Sequence[tuple[tuple[str, ...], Route]], depth: int
) -> tuple[int, list[tuple[list[str], list[tuple[tuple[str, ...], Route]]]]]:
    """Split items that agree up to ``depth`` into at most FANOUT groups by their next tokens.

    Returns the depth up to which they agree, and the groups: the heads (next tokens) that each
    stands for, and its items.  The item that ends at that depth, if any, is in no group.
    """
    first, last = items[0][0], items[-1][0]  # sorted, so what these share, all share
    while depth < min(len(first), len(last)) and first[depth] == last[depth]:
        depth += 1
    by_head: dict[str, list[tuple[tuple[str, ...], Route]]] = {}
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

    def __init__(self, options: RenderOptions) -> None:
        self.options = options
        self.routers: dict[str, Document] = {}
        self.services: dict[str, Document] = {}
        self.middlewares: dict[str, Document] = {}
        self._targets: dict[str, tuple[str, list[str]]] = {}

    def service(self, target: str) -> tuple[str, list[str]]:
        """The service for a target, and the middlewares that its routers need."""
        known = self._targets.get(target)
        if known is None:
            url = urlsplit(target)
            name = f"s{len(self._targets)}"
            balancer: Document = {"servers": [{"url": f"{url.scheme}://{url.netloc}"}]}
            if url.scheme == "https" and self.options.ca:
                balancer["serversTransport"] = "internal"
            self.services[name] = {"loadBalancer": balancer}
            needed = []
            prefix = url.path.rstrip("/")
            if prefix:  # Traefik ignores a path in a server's URL
                # not addPrefix, which encodes what is encoded once more (3.7.15)
                replacement = prefix.replace("$", "$$") + "/"
                rewrite = {"regex": "^/", "replacement": replacement}
                self.middlewares[f"p{name}"] = {"replacePathRegex": rewrite}
                needed = [f"p{name}"]
            known = self._targets[target] = (name, needed)
        return known

    def router(
        self,
        rule: str,
        priority: int,
        parent: str,
        route: Route | None = None,
        *,
        missing: bool = False,
    ) -> str:
        """Add a router under a parent; with a route it is a leaf, else a group."""
        name = f"r{len(self.routers)}"
        body: Document = {"rule": rule, "priority": priority, "parentRefs": [parent]}
        if route is not None:
            if missing:
                body["service"], needed = "noop@internal", ["missing"]
            else:
                body["service"], needed = self.service(route.target)
            if needed:
                body["middlewares"] = needed
        self.routers[name] = body
        return name

    def catch_all(self, parent: str, fallback: Route | None, hub: Route | None) -> None:
        if fallback is not None:
            self.router('PathPrefix("/")', 1, parent, fallback)
        elif hub is not None:
            self.router('PathPrefix("/")', 1, parent, hub, missing=True)

    def paths(
        self,
        items: Sequence[tuple[tuple[str, ...], Route]],
        parent: str,
        depth: int,
        fallback: Route | None,
        hub: Route | None,
    ) -> None:
        """Routers for routes that agree in their first ``depth`` tokens, which parent matches."""
        self.catch_all(parent, fallback, hub)
        if len(items) <= FANOUT:
            for tokens, route in items:
                self.router(_leaf_rule(tokens), 10 + 2 * len(tokens), parent, route)
            return
        shared, groups = _split(items, depth)
        own = next((route for tokens, route in items if len(tokens) == shared), None)
        if own is not None:
            self.router(_leaf_rule(items[0][0][:shared]), 10 + 2 * shared, parent, own)
        prefix = items[0][0][:shared]
        for heads, members in groups:
            below = own if heads == ["/"] and own is not None else fallback
            if len(members) == 1 and len(heads) == 1:
                tokens, route = members[0]
                self.router(_leaf_rule(tokens), 10 + 2 * len(tokens), parent, route)
                continue
            name = self.router(_group_rule(prefix, heads), 11 + 2 * shared, parent)
            self.paths(members, name, shared, below, hub)

    def hosts(
        self,
        hosts: Sequence[tuple[str, Sequence[tuple[tuple[str, ...], Route]]]],
        parent: str,
        default: Route | None,
        hub: Route | None,
    ) -> None:
        """Routers for the hosts that have routes of their own.

        A group names its hosts in full, not by prefix: a host without routes of its own must
        get past it, to the routes without a host.
        """
        if len(hosts) <= FANOUT:
            for host, items in hosts:
                name = self.router(f"Host({_quoted(host)})", 1_000_000, parent)
                root = next((route for tokens, route in items if not tokens), default)
                self.paths([item for item in items if item[0]], name, 0, root, hub)
            return
        per_group = -(-len(hosts) // FANOUT)
        for start in range(0, len(hosts), per_group):
            members = hosts[start : start + per_group]
            rule = _host_group_rule(host for host, _ in members)
            self.hosts(members, self.router(rule, 1_000_000, parent), default, hub)


def _hub_route(table: RouteTable) -> Route | None:
    """The route that the hub marks as its own (``data: {"hub": true}``), else the default one."""
    hubs = sorted((r for r in table.values() if r.data.get("hub")), key=lambda r: r.routespec)
    return hubs[0] if hubs else table.get("/")


def render(table: RouteTable, options: RenderOptions = RenderOptions()) -> Document:
    """Traefik's dynamic configuration for a table, without a marker.

    Returns:
        A document for Traefik's REST provider (as JSON) or file provider (as TOML); routers
        stand under one root on the entry point ``web``.  Routes whose target Traefik cannot
        reach (unix sockets) are left out.
    """
    out = _Renderer(options)
    hub = _hub_route(table)
    by_host: dict[str, list[tuple[tuple[str, ...], Route]]] = {}
    for route in table.served():
        if urlsplit(route.target).scheme in ("http", "https"):
            by_host.setdefault(route.host, []).append((_tokens(route.path), route))
    for items in by_host.values():
        items.sort(key=lambda item: item[0])
    # without entryPoints it serves those that are marked asDefault: all public ones
    root: Document = {"rule": 'PathPrefix("/")'}
    if hub is not None:
        error_path = options.error_path
        out.middlewares["missing"] = {
            "errors": {
                # noop@internal answers 418
                "status": ["418"],
                "statusRewrites": {"418": 404},
                "service": out.service(hub.target)[0],
                "query": error_path + "404?url={url}",
                "errorRequestHeaders": list(_ERROR_HEADERS),
            }
        }
        out.middlewares["errors"] = {
            "errors": {
                # what Traefik itself answers for a dead or silent backend; CHP answers 503
                "status": ["502", "504"],
                "statusRewrites": {"502": 503, "504": 503},
                "service": out.service(hub.target)[0],
                "query": error_path + "{status}?url={url}",
                "errorRequestHeaders": list(_ERROR_HEADERS),
            }
        }
        root["middlewares"] = ["errors"]
    out.routers["root"] = root
    paths = by_host.pop("", [])
    default = next((route for tokens, route in paths if not tokens), None)
    out.paths([item for item in paths if item[0]], "root", 0, default, hub)
    if by_host:
        out.hosts(sorted(by_host.items()), "root", default, hub)
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
        "rule": f'Path("/{marker_name(serial)}")',
        "entryPoints": [CONTROL_ENTRYPOINT],
        "service": "noop@internal",
    }
    http = document["http"]
    return {
        **document,
        "http": {**http, "routers": {**http["routers"], marker_name(serial): marker}},
    }


# --- what Traefik is started with ----------------------------------------------------------------


def static_document(
    *,
    listen: str,
    control: str,
    control_file: str,
    also_listen: Sequence[str] = (),
    dynamic_file: str = "",
    tls: bool = False,
    reuse_port: bool = False,
    trusted_ips: Sequence[str] = (),
    grace: int = 10,
    accept_grace: int = 0,
    log_level: str = "WARN",
) -> Document:
    """Traefik's static configuration.

    Args:
        listen: ``host:port`` for users.
        also_listen: more addresses for users, never shared.
        control: ``host:port`` on loopback for the API and the REST provider.
        control_file: path of the file that holds :func:`control_document`.
        dynamic_file: path of the routes' TOML file; empty where they come over REST.
        trusted_ips: addresses or CIDRs whose X-Forwarded headers are believed.
        grace: seconds that open requests get when Traefik is told to stop.
        accept_grace: seconds that it goes on accepting before that.
    """
    web: Document = {
        "asDefault": True,
        "transport": {
            # 60 s by default, which cuts long uploads (CHP #311, #339)
            "respondingTimeouts": {
                "readTimeout": "0s",
                "writeTimeout": "0s",
                "idleTimeout": "180s",
            },
            "lifeCycle": {
                "requestAcceptGraceTimeout": f"{accept_grace}s",
                "graceTimeOut": f"{grace}s",
            },
        },
        "forwardedHeaders": {"trustedIPs": list(trusted_ips)},
        "http": {
            # the backend sees the path that the client sent
            "sanitizePath": False,
            # else Traefik turns a plain ; in the query into &, which means something else
            "encodeQuerySemicolons": True,
            "encodedCharacters": {
                f"allowEncoded{name}": True
                for name in (
                    "Slash",
                    "BackSlash",
                    "NullCharacter",
                    "Semicolon",
                    "Percent",
                    "QuestionMark",
                    "Hash",
                )
            },
        },
    }
    if tls:
        web["http"]["tls"] = {}
    # a folder, not a file: Traefik's file provider takes one source for all file configuration
    providers: Document = {"providersThrottleDuration": "0s"}
    providers["file"] = {"directory": str(control_file), "watch": bool(dynamic_file)}
    if not dynamic_file:
        providers["rest"] = {}
    public = {PUBLIC_ENTRYPOINT: {**web, "address": listen, "reusePort": reuse_port}}
    for number, address in enumerate(also_listen, 1):
        public[f"{PUBLIC_ENTRYPOINT}-{number}"] = {**web, "address": address}
    return {
        "entryPoints": {**public, CONTROL_ENTRYPOINT: {"address": control}},
        "providers": providers,
        "api": {"dashboard": False},
        "ping": {"manualRouting": True},
        "log": {"level": log_level},
        "global": {"checkNewVersion": False, "sendAnonymousUsage": False},
    }


def control_document(password_hash: str, *, rest: bool) -> Document:
    """The routers of the control entry point: API and REST provider, behind a password.

    Loopback is shared by everyone on the machine, user servers included, so the API that
    rewrites all routes asks who calls.

    Args:
        password_hash: an htpasswd line, ``user:hash``.
        rest: also offer the REST provider.
    """
    routers: dict[str, Mapping[str, Any]] = {
        "junction-api": {
            "rule": 'PathPrefix("/api")',
            "entryPoints": [CONTROL_ENTRYPOINT],
            "middlewares": ["junction-auth"],
            "service": "api@internal",
        }
    }
    if rest:
        routers["junction-rest"] = {
            "rule": 'Path("/api/providers/rest")',
            "entryPoints": [CONTROL_ENTRYPOINT],
            "middlewares": ["junction-auth"],
            "service": "rest@internal",
        }
    auth = {"basicAuth": {"users": [password_hash], "removeHeader": True}}
    return {"http": {"routers": routers, "middlewares": {"junction-auth": auth}}}
