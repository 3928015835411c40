"""What Traefik is started with: its static configuration, and the routers of its control port.

Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .rules import EVERYTHING, path_rule

__all__ = [
    "CONTROL_ENTRYPOINT",
    "PUBLIC_ENTRYPOINT",
    "REDIRECT_ENTRYPOINT",
    "control_document",
    "static_document",
]

PUBLIC_ENTRYPOINT = "web"
CONTROL_ENTRYPOINT = "control"
#: Plain HTTP that only leads to HTTPS.
REDIRECT_ENTRYPOINT = "redirect"

Document = dict[str, Any]

_BEFORE_ALL = 10_000_000  # more than any priority in the table's own document


def static_document(
    *,
    listen: str,
    control: str,
    control_file: str,
    also_listen: Sequence[str] = (),
    redirect: str = "",
    dynamic_file: str = "",
    tls: bool = False,
    reuse_port: bool = False,
    trusted_ips: Sequence[str] = (),
    grace: int = 10,
    accept_grace: int = 0,
    idle_timeout: float = 180,
    answer_timeout: float = 0,
    log_level: str = "WARN",
    profiling: bool = False,
) -> Document:
    """Traefik's static configuration.

    Args:
        listen: ``host:port`` for users.
        also_listen: more addresses for users, never shared.
        redirect: ``host:port`` where plain HTTP is redirected; see :func:`control_document`.
        control: ``host:port`` on loopback for the API and the REST provider.
        control_file: path of the file that holds :func:`control_document`.
        dynamic_file: path of the routes' TOML file; empty where they come over REST.
        trusted_ips: addresses or CIDRs whose X-Forwarded headers are believed.
        grace: seconds that open requests get when Traefik is told to stop.
        accept_grace: seconds that it goes on accepting before that.
        idle_timeout: seconds that a client's connection may be without a request.
        answer_timeout: seconds that a server gets to begin its answer; 0 for any time.
        profiling: its API offers Go's profiles as well.
    """
    web: Document = {
        "asDefault": True,
        "transport": {
            # 60 s by default, which cuts long uploads (CHP #311, #339)
            "respondingTimeouts": {
                "readTimeout": "0s",
                "writeTimeout": "0s",
                "idleTimeout": f"{idle_timeout:g}s",
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
    if redirect:
        public[REDIRECT_ENTRYPOINT] = {"address": redirect, "transport": web["transport"]}
    transport: Document = {}
    if answer_timeout:
        waits = {"responseHeaderTimeout": f"{answer_timeout:g}s"}
        transport["serversTransport"] = {"forwardingTimeouts": waits}
    return {
        **transport,
        "entryPoints": {**public, CONTROL_ENTRYPOINT: {"address": control}},
        "providers": providers,
        "api": {"dashboard": False, **({"debug": True} if profiling else {})},
        "ping": {"manualRouting": True},
        "log": {"level": log_level},
        "global": {"checkNewVersion": False, "sendAnonymousUsage": False},
    }


def control_document(
    password_hash: str,
    *,
    rest: bool,
    forwarder: str = "",
    health: str = "",
    health_path: str = "",
    redirect_port: int = 0,
    profiling: bool = False,
) -> Document:
    """The routers that are there from the start: API and REST provider, behind a password.

    Loopback is shared by everyone on the machine, user servers included, so the API that
    rewrites all routes asks who calls.

    Args:
        password_hash: an htpasswd line, ``user:hash``.
        rest: also offer the REST provider.
        forwarder: URL of the agent's forwarder: it serves users between Traefik's start and its
            first table, so that a Traefik that is started again is of use at once.
        health: URL of the agent's answer to probes, which users' ports give at ``health_path``.
        redirect_port: the port of HTTPS, to which the redirect entry point leads; 0 for none.
        profiling: also offer Go's profiles, below ``/debug/pprof``.
    """
    routers: dict[str, Mapping[str, Any]] = {
        "junction-api": {
            "rule": 'PathPrefix("/api")',
            "entryPoints": [CONTROL_ENTRYPOINT],
            "middlewares": ["junction-auth"],
            "service": "api@internal",
        }
    }
    if profiling:
        routers["junction-profile"] = {
            "rule": 'PathPrefix("/debug/pprof")',
            "entryPoints": [CONTROL_ENTRYPOINT],
            "middlewares": ["junction-auth"],
            "service": "api@internal",
        }
    if rest:
        routers["junction-rest"] = {
            "rule": 'Path("/api/providers/rest")',
            "entryPoints": [CONTROL_ENTRYPOINT],
            "middlewares": ["junction-auth"],
            "service": "rest@internal",
        }
    services: Document = {}
    if forwarder:
        routers["junction-boot"] = {"rule": EVERYTHING, "priority": 1, "service": "junction-boot"}
        services = {"junction-boot": {"loadBalancer": {"servers": [{"url": forwarder}]}}}
    if health:
        routers["junction-health"] = {
            "rule": path_rule(health_path),
            "priority": _BEFORE_ALL,
            "service": "junction-health",
        }
        services["junction-health"] = {"loadBalancer": {"servers": [{"url": health}]}}
    auth = {"basicAuth": {"users": [password_hash], "removeHeader": True}}
    http: Document = {"routers": routers, "middlewares": {"junction-auth": auth}}
    if redirect_port:
        scheme = {"scheme": "https", "port": str(redirect_port), "permanent": True}
        http["middlewares"]["junction-redirect"] = {"redirectScheme": scheme}
        routers["junction-redirect"] = {
            "rule": EVERYTHING,
            "entryPoints": [REDIRECT_ENTRYPOINT],
            "middlewares": ["junction-redirect"],
            "service": "noop@internal",
        }
    if services:
        http["services"] = services
    return {"http": http}
