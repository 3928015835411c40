"""Real replicas (``junction replica``) as processes that tests can look into and kill."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import aiohttp

from jupyterhub_junction.ports import free_ports

from .etcd_cluster import EtcdCluster
from .unprivileged import own, unprivileged
from .waiting import until


class Replica:
    """One ``junction replica`` in a process group of its own.

    Args:
        directory: its runtime folder and log go below.
        arguments: more of the command's arguments.
        privileged: whether it may do all that the tests may.
    """

    def __init__(
        self,
        name: str,
        cluster: EtcdCluster,
        directory: Path,
        arguments: Sequence[str] = (),
        *,
        privileged: bool = True,
    ) -> None:
        self.name = name
        self.folder = directory / name
        self.log = directory / f"{name}.log"
        self.port, self.status_port = free_ports(2)
        self.arguments = list(arguments)
        self.prefix: list[str] = []
        if not privileged:
            self.prefix = unprivileged()
            own(self.folder)
        self.cluster = cluster
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where it serves users, without TLS."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it; does not wait."""
        environment = dict(os.environ)
        arguments = [f"--etcd={','.join(self.cluster.endpoints)}"]
        for name, path in self.cluster.tls_options().items():
            arguments.append(f"--etcd-{name}={path}")
        if self.cluster.auth:
            from .etcd_cluster import USERS

            arguments.append("--etcd-username=agent")
            environment["JUNCTION_ETCD_PASSWORD"] = USERS["agent"]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [
                    *self.prefix, sys.executable, "-m", "jupyterhub_junction.cli", "replica",
                    f"--name={self.name}", f"--listen=127.0.0.1:{self.port}",
                    f"--status=127.0.0.1:{self.status_port}", f"--runtime-dir={self.folder}",
                    "--activity-interval=0.2", "--grace=2", *arguments, *self.arguments,
                ],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment,
            )  # fmt: skip

    async def status(self) -> dict[str, Any]:
        """The agent's own word; empty while it does not answer."""
        url = f"http://127.0.0.1:{self.status_port}/status"
        with contextlib.suppress(aiohttp.ClientError, OSError, TimeoutError):
            async with (
                aiohttp.ClientSession() as session,
                session.get(url, timeout=aiohttp.ClientTimeout(total=5)) as response,
            ):
                return dict(await response.json())
        return {}

    async def until(self, what: str, check: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
        """Wait until its status passes a check."""
        last: dict[str, Any] = {}

        async def ask() -> bool:
            nonlocal last
            last = await self.status()
            if self.process is not None and self.process.poll() is not None:
                raise AssertionError(f"{self.name} ended:\n{self.log.read_text()[-2000:]}")
            return bool(last and check(last))

        try:
            await until(ask, f"{self.name}: {what}")
        except AssertionError as error:
            raise AssertionError(f"{error}: {last}\n{self.log.read_text()[-2000:]}") from None
        return last

    async def ready(self) -> dict[str, Any]:
        """Wait until it is ready and follows etcd."""
        return await self.until("ready", lambda s: s["ready"] and s["following"])

    def child(self, name: str) -> int:
        """The process id of its ``traefik`` or ``agent``."""
        assert self.process is not None
        path = f"/proc/{self.process.pid}/task/{self.process.pid}/children"
        for pid in Path(path).read_text().split():
            try:
                command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            except (FileNotFoundError, ProcessLookupError):
                continue  # it has ended meanwhile
            if (b"traefik" in command[0]) == (name == "traefik"):
                return int(pid)
        raise ProcessLookupError(f"{self.name} has no {name} now")

    def kill(self) -> None:
        """SIGKILL the whole replica."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def stop(self) -> int:
        """SIGTERM, and wait; returns the exit code."""
        if self.process is None:
            return 0
        self.process.terminate()
        try:
            return self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.kill()
            raise

    def signal_child(self, name: str, number: int = signal.SIGKILL) -> None:
        """Send a signal to its Traefik or agent."""
        os.kill(self.child(name), number)

    def runtime(self, name: str) -> str:
        """One of the files of its runtime folder."""
        return (self.folder / name).read_text()
