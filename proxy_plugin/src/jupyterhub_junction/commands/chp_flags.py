"""What becomes of each flag of configurable-http-proxy 5.3 in a Junction replica.

Pure.  Invariants:

* Every flag is in :data:`FLAGS`, with one of three fates: it has a counterpart in
  ``junction replica``, or it can have no effect here, or it is refused by its name.
* Nothing that was asked for is left out silently: :class:`Translation` says what has no effect.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NoReturn

from .flag_types import is_header_name, is_http_url

__all__ = ["FLAGS", "HEALTH_PATH", "Flag", "FlagRefused", "Translation", "translate"]

#: Where configurable-http-proxy answers probes, on the port of users.
HEALTH_PATH = "/_chp_healthz"

# Zero to JupyterHub gives a pod 60 s.  A Service may send it new connections for some of them.
_ACCEPT_GRACE = 15
_GRACE = 30


class FlagRefused(ValueError):
    """A flag that a replica cannot honour, or none at all; the message names it."""


@dataclass(frozen=True, slots=True)
class Flag:
    """One flag of configurable-http-proxy.

    Attributes:
        name: as it is written.
        fate: what becomes of it.
        says: its counterpart, or why it has no effect, or why it is refused and what to do.
        takes: whether a value follows it.
    """

    name: str
    fate: Literal["counterpart", "no effect", "refused"]
    says: str
    takes: bool = True

    @property
    def field(self) -> str:
        """Its name among parsed arguments."""
        return self.name.lstrip("-").replace("-", "_")


_API = "there is no REST API: routes come from etcd"
_CLIENTS = "clients are not asked for certificates"
_VERIFIED = "servers' certificates are always verified"
_LOCATION = "a server's Location header goes to the client as it is"
_PATHS = "a server gets the path that the client sent, after its target's own"

#: All of them, in the order of its help.
FLAGS: tuple[Flag, ...] = (
    Flag("--ip", "counterpart", "--listen"),
    Flag("--port", "counterpart", "--listen"),
    Flag("--socket", "refused", "users are served on a port: give --ip and --port"),
    Flag("--ssl-key", "counterpart", "--ssl-key"),
    Flag("--ssl-cert", "counterpart", "--ssl-cert"),
    Flag("--ssl-ca", "no effect", _CLIENTS),
    Flag("--ssl-request-cert", "refused", f"{_CLIENTS}: leave it out", False),
    Flag("--ssl-reject-unauthorized", "no effect", _CLIENTS, False),
    Flag("--ssl-protocol", "refused", "TLS 1.2 and 1.3 are offered, always: leave it out"),
    Flag("--ssl-ciphers", "refused", "only ciphers without known flaws are offered: leave it out"),
    Flag("--ssl-allow-rc4", "no effect", "RC4 is never offered", False),
    Flag("--ssl-dhparam", "no effect", "only elliptic curves are offered for key exchange"),
    Flag("--api-ip", "no effect", _API),
    Flag("--api-port", "no effect", _API),
    Flag("--api-socket", "no effect", _API),
    Flag("--api-ssl-key", "no effect", _API),
    Flag("--api-ssl-cert", "no effect", _API),
    Flag("--api-ssl-ca", "no effect", _API),
    Flag("--api-ssl-request-cert", "no effect", _API, False),
    Flag("--api-ssl-reject-unauthorized", "no effect", _API, False),
    Flag("--client-ssl-key", "counterpart", "--target-key"),
    Flag("--client-ssl-cert", "counterpart", "--target-cert"),
    Flag("--client-ssl-ca", "counterpart", "--target-ca"),
    Flag("--client-ssl-request-cert", "no effect", _VERIFIED, False),
    Flag("--client-ssl-reject-unauthorized", "no effect", _VERIFIED, False),
    Flag("--default-target", "no effect", "the hub's own route comes from etcd, as all routes do"),
    Flag("--error-target", "counterpart", "--error-target"),
    Flag(
        "--error-path", "refused", "error pages come from the hub, or --error-target: leave it out"
    ),
    Flag("--redirect-port", "counterpart", "--redirect"),
    Flag("--redirect-to", "counterpart", "--redirect-to"),
    Flag("--pid-file", "counterpart", "written by this command itself"),
    Flag("--no-x-forward", "refused", "servers are always told who asks: leave it out", False),
    Flag("--no-prepend-path", "refused", f"{_PATHS}: leave it out", False),
    Flag("--no-include-prefix", "refused", f"{_PATHS}: leave it out", False),
    Flag("--auto-rewrite", "refused", f"{_LOCATION}: leave it out", False),
    Flag("--change-origin", "refused", "servers get the client's Host header: leave it out", False),
    Flag("--protocol-rewrite", "refused", f"{_LOCATION}: leave it out"),
    Flag("--custom-header", "counterpart", "--request-header"),
    Flag("--insecure", "refused", f"{_VERIFIED}: name their CA with --client-ssl-ca", False),
    Flag("--host-routing", "no effect", "each route says itself whether it is a host's", False),
    Flag("--metrics-ip", "counterpart", "--status"),
    Flag("--metrics-port", "counterpart", "--status"),
    Flag("--metrics-socket", "refused", "metrics are on a port: give --metrics-port"),
    Flag("--log-level", "counterpart", "--log-level"),
    Flag("--timeout", "counterpart", "--answer-timeout, the shorter of the two"),
    Flag("--proxy-timeout", "counterpart", "--answer-timeout, the shorter of the two"),
    Flag("--storage-backend", "no effect", "routes are in etcd"),
    Flag("--keep-alive-timeout", "counterpart", "--idle-timeout"),
)


@dataclass(frozen=True, slots=True)
class Translation:
    """A command line of configurable-http-proxy as one of ``junction replica``.

    Attributes:
        arguments: those of ``junction replica``.
        without_effect: flags that were given and can have no effect, by the reason.
        pid_file: where the process id goes; empty for nowhere.
    """

    arguments: list[str]
    without_effect: Mapping[str, list[str]] = field(default_factory=dict)
    pid_file: str = ""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise FlagRefused(message)


def _parser() -> _Parser:
    parser = _Parser(
        prog="configurable-http-proxy",
        description="A Junction replica by configurable-http-proxy's command line. Where etcd is"
        " comes from the environment: JUNCTION_ETCD and others, see `junction replica --help`.",
        allow_abbrev=False,
    )
    for flag in FLAGS:
        shown = f"{flag.fate}: {flag.says}".replace("%", "%%")
        if not flag.takes:
            parser.add_argument(flag.name, action="store_true", default=None, help=shown)
        elif flag.name == "--custom-header":
            parser.add_argument(flag.name, action="append", metavar="NAME:VALUE", help=shown)
        else:
            parser.add_argument(flag.name, metavar="VALUE", help=shown)
    return parser


def _number(name: str, text: str, most: float = float("inf")) -> int:
    if not re.fullmatch(r"[0-9]{1,12}", text) or int(text) > most:
        raise FlagRefused(f"{name} {text!r} is no number that fits: mend it, or leave it out")
    return int(text)


def _port(name: str, text: str) -> int:
    return _number(name, text, 65535)


def _address(ip: str | None, port: int) -> str:
    host = ip or ""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _level(text: str) -> str:
    level = {"WARN": "WARNING", "SILLY": "DEBUG", "VERBOSE": "DEBUG"}.get(
        text.upper(), text.upper()
    )
    if level not in ("DEBUG", "INFO", "WARNING", "ERROR"):
        raise FlagRefused(f"--log-level {text!r} is none: it is debug, info, warn or error")
    return level


def _header(text: str) -> str:
    name, colon, value = text.partition(":")
    if not colon or not is_header_name(name.strip()):
        raise FlagRefused(f"--custom-header {text!r} is no header: write NAME:VALUE")
    return f"{name.strip()}:{value.strip()}"


def _serving(given: argparse.Namespace) -> list[str]:
    """Where users are served, and how."""
    if bool(given.ssl_key) != bool(given.ssl_cert):
        raise FlagRefused("--ssl-key and --ssl-cert go together: one is missing")
    port = _port("--port", given.port or "8000")
    arguments = [f"--listen={_address(given.ip, port)}"]
    if given.ssl_cert:
        arguments += [f"--ssl-cert={given.ssl_cert}", f"--ssl-key={given.ssl_key}"]
    if given.redirect_port:
        if not given.ssl_cert:
            raise FlagRefused("--redirect-port leads to HTTPS: give --ssl-cert and --ssl-key too")
        here = _port("--redirect-port", given.redirect_port)
        there = _port("--redirect-to", given.redirect_to or str(port))
        # any address, whatever --ip says: configurable-http-proxy does so
        arguments += [f"--redirect=:{here}", f"--redirect-to={there}"]
    return arguments


def _times(given: argparse.Namespace) -> list[str]:
    arguments = []
    waits = [
        _number(f"--{name.replace('_', '-')}", value)
        for name in ("timeout", "proxy_timeout")
        if (value := getattr(given, name))
    ]
    if any(waits):
        arguments.append(f"--answer-timeout={min(filter(None, waits)) / 1000:g}")
    if given.keep_alive_timeout:
        idle = _number("--keep-alive-timeout", given.keep_alive_timeout)
        arguments.append(f"--idle-timeout={max(idle, 1) / 1000:g}")
    return arguments


def translate(
    words: Sequence[str], *, is_set: Callable[[str], bool] = lambda _: False
) -> Translation:
    """The command line of ``junction replica`` that does what this one of CHP asks for.

    Args:
        words: the arguments, without the program's name.
        is_set: whether an environment variable says what is a default here.

    Raises:
        FlagRefused: one that cannot be honoured, or is none; the message is one line.
    """
    given, unknown = _parser().parse_known_args(list(words))
    if unknown:
        raise FlagRefused(f"{unknown[0]} is no flag of configurable-http-proxy 5.3: leave it out")
    used = [flag for flag in FLAGS if getattr(given, flag.field) is not None]
    for flag in used:
        if flag.fate == "refused":
            raise FlagRefused(f"{flag.name} has no counterpart here: {flag.says}")
    without_effect: dict[str, list[str]] = {}
    for flag in used:
        if flag.fate == "no effect":
            without_effect.setdefault(flag.says, []).append(flag.name)
    arguments = _serving(given)
    for name, value in (
        ("target-key", given.client_ssl_key),
        ("target-cert", given.client_ssl_cert),
        ("target-ca", given.client_ssl_ca),
        ("error-target", given.error_target),
    ):
        if value:
            arguments.append(f"--{name}={value}")
    if given.error_target and not is_http_url(given.error_target):
        raise FlagRefused(f"--error-target {given.error_target!r} is no URL that begins with http")
    arguments += _times(given)
    arguments += [f"--request-header={_header(text)}" for text in given.custom_header or []]
    if given.metrics_port:
        port = _port("--metrics-port", given.metrics_port)
        arguments.append(f"--status={_address(given.metrics_ip, port)}")
    if given.log_level:
        arguments.append(f"--log-level={_level(given.log_level)}")
    arguments.append(f"--health-path={HEALTH_PATH}")
    for name, variable, seconds in (
        ("accept-grace", "JUNCTION_ACCEPT_GRACE", _ACCEPT_GRACE),
        ("grace", "JUNCTION_GRACE", _GRACE),
    ):
        if not is_set(variable):
            arguments.append(f"--{name}={seconds}")
    return Translation(arguments, without_effect, given.pid_file or "")
