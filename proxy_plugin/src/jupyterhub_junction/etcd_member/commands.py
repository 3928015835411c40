"""What ``junction etcd prepare`` and ``junction etcd keep`` take, and run."""

from __future__ import annotations

import argparse
import asyncio
import logging
import re
import signal
from pathlib import Path

from .config import MemberOptions
from .keep import Keeper
from .membership import FOUND_WITHOUT_ALL, Node
from .passwords import Passwords
from .peers import Access
from .prepare import Preparation
from .status import serve_keeper

__all__ = ["add_etcd_command", "run_etcd_command"]

#: ordinals looked at to see whether all other members were taken away
_MOST_MEMBERS = 9


def add_etcd_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``etcd`` and its two commands."""
    etcd = commands.add_parser("etcd", help="one member of an etcd, in a StatefulSet's pod")
    steps = etcd.add_subparsers(dest="step", required=True)
    prepare = steps.add_parser(
        "prepare", help="before it starts: found, join or rejoin its cluster, and write its file"
    )
    prepare.add_argument(
        "--deadline",
        metavar="SECONDS",
        type=float,
        default=300.0,
        help="after which it gives up, with exit code 1 (%(default)g)",
    )
    prepare.add_argument(
        "--found-after",
        metavar="SECONDS",
        type=float,
        default=FOUND_WITHOUT_ALL,
        help="that missing members get before a majority without data founds a cluster without them"
        " (%(default)g)",
    )
    keep = steps.add_parser("keep", help="while it runs: users, space and membership")
    keep.add_argument("--hub-user", default="hub", help="the hub's user (%(default)s)")
    keep.add_argument("--hub-password-file", metavar="FILE", required=True, help="its password")
    keep.add_argument("--agent-user", default="agent", help="the agents' user (%(default)s)")
    keep.add_argument("--agent-password-file", metavar="FILE", required=True, help="its password")
    keep.add_argument("--prefix", default="/junction/", help="of all keys (%(default)s)")
    keep.add_argument(
        "--status",
        metavar="HOST:PORT",
        default="127.0.0.1:0",
        help="where /healthz, /readyz and /metrics answer (%(default)s: any free port)",
    )
    keep.add_argument(
        "--interval",
        metavar="SECONDS",
        type=float,
        default=5.0,
        help="between two looks (%(default)g)",
    )
    keep.add_argument(
        "--patience",
        metavar="SECONDS",
        type=float,
        default=15.0,
        help="until a member that does not start, or was left alone, is looked into; ten times that"
        " until one that was taken away is removed (%(default)g)",
    )
    for parser in (prepare, keep):
        _member_arguments(parser)


def _member_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--name", required=True, help="of this member: its pod's, which ends in its ordinal"
    )
    parser.add_argument("--members", type=int, default=3, help="how many there are (%(default)s)")
    parser.add_argument("--service", default="", help="the StatefulSet's headless Service")
    parser.add_argument(
        "--domain", default="", help="that the Service is in: NAMESPACE.svc.CLUSTER-DOMAIN"
    )
    parser.add_argument(
        "--peer",
        metavar="NAME=PEER-URL=CLIENT-URL",
        action="append",
        default=[],
        help="instead of --service and --domain: a member and its addresses; again for each",
    )
    parser.add_argument(
        "--listen-host",
        default="0.0.0.0",  # noqa: S104
        help="address to listen at (%(default)s; :: for IPv6; empty: the URLs' own)",
    )
    parser.add_argument(
        "--listen-metrics",
        metavar="HOST:PORT",
        default="0.0.0.0:2381",
        help="where etcd answers /health and /metrics, without TLS (%(default)s)",
    )
    parser.add_argument("--data-dir", metavar="DIR", required=True, help="for the member's data")
    parser.add_argument("--config", metavar="FILE", required=True, help="etcd's file, to write")
    parser.add_argument(
        "--tls-dir", metavar="DIR", required=True, help="folder with ca.crt, tls.crt and tls.key"
    )
    parser.add_argument(
        "--root-password-file", metavar="FILE", required=True, help="password of etcd's user root"
    )
    parser.add_argument(
        "--cluster-token",
        default="junction",
        help="which a new cluster's ids are made of, with a random part (%(default)s)",
    )
    parser.add_argument(
        "--quota-bytes",
        type=int,
        default=1024**3,
        help="size at which etcd takes no more writes (%(default)s)",
    )
    parser.add_argument(
        "--log-level", default="INFO", choices=["DEBUG", "INFO", "WARNING", "ERROR"]
    )


def _nodes(options: argparse.Namespace) -> tuple[list[Node], list[Node]]:
    """The members that are to be, and those that may have been."""
    if options.peer:
        nodes = []
        for ordinal, text in enumerate(options.peer):
            parts = text.split("=")
            if len(parts) != 3 or not all(re.match("https://", url) for url in parts[1:]):
                raise ValueError(
                    f"--peer {text} is refused: write NAME=https://HOST:PORT=https://HOST:PORT"
                )
            nodes.append(Node(ordinal, *parts))
        return nodes[: options.members], nodes[options.members :]
    match = re.fullmatch(r"(.+)-([0-9]+)", options.name)
    if match is None:
        raise ValueError(f"--name {options.name} is refused: it has to end in -0, -1 and so on")
    if not options.service or not options.domain:
        raise ValueError("--service and --domain are missing: give both, or --peer")
    nodes = []
    for ordinal in range(max(options.members, _MOST_MEMBERS)):
        name = f"{match[1]}-{ordinal}"
        host = f"{name}.{options.service}.{options.domain}"
        nodes.append(Node(ordinal, name, f"https://{host}:2380", f"https://{host}:2379"))
    return nodes[: options.members], nodes[options.members :]


def _preparation(options: argparse.Namespace, access: Access, log: logging.Logger) -> Preparation:
    if options.members < 1:
        raise ValueError(f"--members {options.members} is refused: at least 1")
    nodes, gone = _nodes(options)
    me = next((node for node in nodes if node.name == options.name), None)
    if me is None:
        raise ValueError(
            f"--name {options.name} is none of the {options.members} members:"
            f" {', '.join(node.name for node in nodes)}"
        )
    return Preparation(
        nodes,
        me,
        MemberOptions(
            Path(options.data_dir),
            Path(options.tls_dir),
            options.listen_host,
            options.listen_metrics,
            options.quota_bytes,
        ),
        access,
        Path(options.config),
        gone=gone,
        token=options.cluster_token,
        deadline=getattr(options, "deadline", 0.0),
        found_after=getattr(options, "found_after", FOUND_WITHOUT_ALL),
        log=log,
    )


async def run_etcd_command(options: argparse.Namespace, log: logging.Logger) -> int:
    """Prepare a member, or keep it until SIGTERM; returns the exit code."""
    if options.step == "prepare":
        access = Access(Path(options.tls_dir), Path(options.root_password_file))
        try:
            await _preparation(options, access, log).run()
        finally:
            await access.close()
        return 0
    passwords = Passwords(
        Path(options.root_password_file),
        (options.hub_user, Path(options.hub_password_file)),
        (options.agent_user, Path(options.agent_password_file)),
    )
    access = Access(Path(options.tls_dir), lambda: passwords.root)
    keeper = Keeper(
        _preparation(options, access, log),
        access,
        passwords,
        prefix=options.prefix.rstrip("/") + "/",
        quota=options.quota_bytes,
        interval=options.interval,
        patience=options.patience,
        log=log,
    )
    task = asyncio.ensure_future(keeper.run())
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, task.cancel)
    runner = await serve_keeper(keeper, options.status)
    try:
        await task
    except asyncio.CancelledError:
        pass
    finally:
        await runner.cleanup()
        await access.close()
    return 0
