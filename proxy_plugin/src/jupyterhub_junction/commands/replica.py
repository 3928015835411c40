"""What the ``junction`` command runs: a replica, or its agent alone."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

from ..agent.agent import Agent, AgentOptions
from ..agent.pacing import Pacing
from ..agent.status import serve_status
from ..etcd import environment
from ..etcd.gateway import Password
from ..etcd.store import EtcdStore
from ..store import StoreRefused
from ..traefik.api import TraefikAPI
from ..traefik.documents import RenderOptions
from ..traefik.go_runtime import go_environment
from ..traefik.runtime import Runtime, find_traefik, read_pid
from ..traefik.sockets import listen
from ..traefik.static import CONTROL_ENTRYPOINT, PUBLIC_ENTRYPOINT, REDIRECT_ENTRYPOINT
from ..traefik.supervisor import Child, run_replica
from ..traefik.user_certificate import UserCertificate
from .check import check

__all__ = [
    "REFUSED",
    "make_store",
    "run_agent_command",
    "run_check_command",
    "run_replica_command",
]

#: Exit code for what a restart does not mend.
REFUSED = 78  # EX_CONFIG of sysexits.h


def _password(options: argparse.Namespace) -> Password | None:
    if options.etcd_password_file:
        # read at each sign-in, since it may be renewed
        return Path(options.etcd_password_file)
    return os.environ.get("JUNCTION_ETCD_PASSWORD")


def _endpoints(options: argparse.Namespace) -> list[str]:
    given = options.etcd or [environment.value("etcd")]
    return [url for text in given for url in environment.endpoints(text)]


def _check_files(options: argparse.Namespace) -> None:
    """Raises ValueError for a file of the options that cannot be read."""
    for name in ("target_ca", "target_cert", "target_key"):
        path = getattr(options, name)
        if path and not os.access(path, os.R_OK):
            raise ValueError(f"--{name.replace('_', '-')} {path} cannot be read")


def _headers(options: argparse.Namespace) -> list[tuple[str, str]]:
    parts = (text.partition(":") for text in options.request_header)
    return [(name.strip(), value.strip()) for name, _, value in parts]


def make_store(options: argparse.Namespace, *, signed: bool = True) -> EtcdStore:
    """The store of a command's ``--etcd`` options; without a sign-in unless ``signed``."""
    return EtcdStore(
        _endpoints(options),
        prefix=options.etcd_prefix.rstrip("/") + "/",
        username=(signed and options.etcd_username) or None,
        password=_password(options) if signed else None,
        ca=options.etcd_ca or None,
        cert=options.etcd_cert or None,
        key=options.etcd_key or None,
    )


def _user_certificate(certificate: str, key: str, saved: Path | None) -> UserCertificate:
    """Raises ValueError if it cannot be used, and none was saved."""
    found = UserCertificate(certificate, key, saved)
    found.look()
    if found.pair is None:
        raise ValueError(found.trouble)
    return found


async def run_check_command(options: argparse.Namespace, log: logging.Logger) -> int:
    """Check a whole Junction; returns the exit code."""
    store = make_store(options)
    # an etcd without users is one by its owner's will
    nobody = make_store(options, signed=False) if options.etcd_username else None
    try:
        lines = await check(
            store,
            replicas=options.replicas,
            urls=options.url,
            serve=options.serve,
            anonymous=nobody,
            keepers=environment.endpoints(options.etcd_keepers),
            log=log,
        )
    finally:
        await store.close()
        if nobody is not None:
            await nobody.close()
    print("\n".join(lines))
    return 0


async def run_agent_command(options: argparse.Namespace, log: logging.Logger) -> int:
    """The agent of a Traefik that runs already, until SIGTERM; returns the exit code."""
    _check_files(options)
    folder = Path(options.runtime_dir)
    certificate = None
    if options.certificate:
        certificate = _user_certificate(
            options.certificate, options.key, folder / "certificate.json"
        )
    store = make_store(options)

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
            certificate=certificate,
            answer_timeout=options.answer_timeout,
        ),
        RenderOptions(
            forwarder="http://{}:{}".format(*forwarder.getsockname()) if forwarder else "",
            certificate=certificate.pair[0] if certificate and certificate.pair else "",
            key=certificate.pair[1] if certificate and certificate.pair else "",
            ca=options.target_ca,
            client_certificate=options.target_cert,
            client_key=options.target_key,
            error_target=options.error_target or "",
            request_headers=tuple(_headers(options)),
            answer_timeout=options.answer_timeout,
        ),
        log,
    )
    loop = asyncio.get_running_loop()
    task = asyncio.ensure_future(agent.run())
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, task.cancel)
    loop.add_signal_handler(signal.SIGUSR1, setattr, agent, "draining", True)
    health = None
    if options.health_fd is not None:
        health = socket.socket(fileno=options.health_fd)
    runner = await serve_status(agent, options.status, health)
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
    """Options of this command as arguments for the agent's.

    What the environment says the agent is told by it as well: other users see arguments, and a
    private key may be among those.
    """
    arguments = [f"--request-header={text}" for text in options.request_header]
    for name in names:
        value = getattr(options, name)
        if value not in (None, "", environment.value(name)):
            arguments += [f"--{name.replace('_', '-')}={value}"]
    return arguments


def _https_port(options: argparse.Namespace) -> int:
    return int(options.redirect_to or options.listen.rpartition(":")[2])


async def run_replica_command(options: argparse.Namespace, log: logging.Logger) -> int:
    """A replica, until SIGTERM; returns the exit code."""
    _check_files(options)
    if options.ssl_cert:
        _user_certificate(options.ssl_cert, options.ssl_key, None)
    program = find_traefik(options.traefik)
    runtime = Runtime(
        listen=options.listen,
        also_listen=options.also_listen,
        redirect=options.redirect or "",
        redirect_port=_https_port(options) if options.redirect else 0,
        health_path=options.health_path or "",
        folder=options.runtime_dir,
        certificate=options.ssl_cert,
        key=options.ssl_key,
        reuse_port=options.reuse_port,
        trusted_ips=options.trust,
        grace=options.grace,
        accept_grace=options.accept_grace,
        idle_timeout=options.idle_timeout,
        answer_timeout=options.answer_timeout,
        profiling=options.profiling,
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
            "error_target",
            "answer_timeout",
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
    assert runtime.control_socket is not None
    addresses = {PUBLIC_ENTRYPOINT: options.listen} | {
        f"{PUBLIC_ENTRYPOINT}-{number}": address
        for number, address in enumerate(options.also_listen, 1)
    }
    if options.redirect:
        addresses[REDIRECT_ENTRYPOINT] = options.redirect
    kept = [runtime.forwarder.fileno()]
    if runtime.health is not None:
        kept.append(runtime.health.fileno())
    api = TraefikAPI(runtime.control_url, runtime.password)
    try:
        door = await listen(
            addresses,
            log,
            shared=PUBLIC_ENTRYPOINT if options.reuse_port else "",
            inside={CONTROL_ENTRYPOINT: runtime.control_socket},
        )
    except BaseException:
        runtime.remove()
        raise
    traefik = Child(
        "traefik",
        [program, f"--configFile={runtime.static_file}"],
        log,
        pid_file=runtime.pid_file,
        door=door,
        environment=go_environment(os.environ),
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
            *(f"--health-fd={number}" for number in kept[1:]),
            *(f"--etcd={url}" for url in _endpoints(options)),
            *passed,
        ],
        log,
        fatal_codes=[REFUSED],
        pass_fds=kept,
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
