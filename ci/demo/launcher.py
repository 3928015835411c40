"""What the demo runs: etcd's members, the replicas, the hub; started in this order, ended in
the other.
"""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from jupyterhub_junction.ports import free_ports

from .programs import Program, answers, end_marked, wait
from .table import Etcd

__all__ = ["Demo", "Replica"]

CONFIG = Path(__file__).with_name("jupyterhub_config.py")
START_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Replica:
    """One replica: its program, its own address, and the one that tells about it."""

    program: Program
    address: str
    status: str

    @property
    def name(self) -> str:
        """As in its key in etcd."""
        return self.program.name


class Demo:
    """Everything that runs, in a folder of its own.

    Args:
        folder: for logs, databases and the users' files.
        mark: tells this run's processes from another's.
        config: the hub's configuration.
        environment: more of the hub's environment.
        address: the URL that users come to, where it is not one that the replicas share.
        arguments: more of each replica's command.

    Attributes:
        address: the URL that all replicas share.
        password: signs any user in.
    """

    def __init__(
        self,
        folder: Path,
        *,
        replicas: int = 2,
        members: int = 3,
        mark: str | None = None,
        config: Path = CONFIG,
        environment: Mapping[str, str] | None = None,
        address: str = "",
        arguments: Sequence[str] = (),
    ) -> None:
        self.folder = folder
        self.mark = mark or secrets.token_hex(8)
        self.password = secrets.token_hex(6)
        # Bound, never listening: keeps the port for the replicas and takes no connection.
        self._shared = socket.socket()
        self._shared.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        self._shared.bind(("127.0.0.1", 0))
        self.port = self._shared.getsockname()[1]
        self.address = address or f"http://127.0.0.1:{self.port}/"
        self.config = config
        self.environment = dict(environment or {})
        self.arguments = tuple(arguments)

        ports = free_ports(2 * members + 2 * replicas + 1)
        clients, peers = ports[:members], ports[members : 2 * members]
        self.etcd = Etcd([f"http://127.0.0.1:{port}" for port in clients])
        self.members = self._members(clients, peers)
        own = ports[2 * members : 2 * members + replicas]
        status = ports[2 * members + replicas : -1]
        self.replicas = {
            f"replica-{number}": self._replica(f"replica-{number}", *pair)
            for number, pair in enumerate(zip(own, status, strict=True), start=1)
        }
        self.hub = self._hub(ports[-1])

    def _program(self, name: str, *command: str, **environment: str) -> Program:
        return Program(name, command, self.folder, self.mark, environment)

    def _members(self, clients: list[int], peers: list[int]) -> list[Program]:
        given = os.environ.get("JUNCTION_ETCD_BIN")
        etcd = shutil.which("etcd", path=given) or "etcd"
        cluster = ",".join(f"etcd-{i}=http://127.0.0.1:{port}" for i, port in enumerate(peers, 1))
        return [
            self._program(
                f"etcd-{number}",
                *(etcd, "--name", f"etcd-{number}", "--data-dir", f"etcd-{number}.data"),
                *("--listen-client-urls", f"http://127.0.0.1:{client}"),
                *("--advertise-client-urls", f"http://127.0.0.1:{client}"),
                *("--listen-peer-urls", f"http://127.0.0.1:{peer}"),
                *("--initial-advertise-peer-urls", f"http://127.0.0.1:{peer}"),
                *("--initial-cluster", cluster, "--initial-cluster-token", self.mark),
                *("--log-level", "warn"),
            )
            for number, (client, peer) in enumerate(zip(clients, peers, strict=True), start=1)
        ]

    def _replica(self, name: str, own: int, port: int) -> Replica:
        program = self._program(
            name,
            *(str(Path(sys.executable).with_name("junction")), "replica", "--name", name),
            *("--etcd", ",".join(self.etcd.endpoints)),
            *("--listen", f"127.0.0.1:{self.port}", "--reuse-port"),
            *("--also-listen", f"127.0.0.1:{own}"),
            *("--status", f"127.0.0.1:{port}"),
            *self.arguments,
        )
        return Replica(program, f"http://127.0.0.1:{own}/", f"http://127.0.0.1:{port}")

    def _hub(self, port: int) -> Program:
        return self._program(
            "hub",
            *(sys.executable, "-m", "jupyterhub", "--config", str(self.config)),
            DEMO_ADDRESS=self.address,
            DEMO_HUB=f"http://127.0.0.1:{port}",
            DEMO_ETCD=",".join(self.etcd.endpoints),
            DEMO_PASSWORD=self.password,
            DEMO_FOLDER=str(self.folder),
            **self.environment,
        )

    def start(self) -> None:
        """Start all of it; return when each replica answers for the hub.

        Raises:
            DemoError: one part does not start; the message ends with its log's last lines.
        """
        for member in self.members:
            member.start()
        wait("etcd", self.etcd.healthy, START_SECONDS, *self.members)
        for replica in self.replicas.values():
            replica.program.start()
        self.hub.start()
        for name in self.replicas:
            self.wait_ready(name)

    def wait_ready(self, name: str) -> None:
        """Wait until a replica is live in etcd and ready, and the hub's pages are served.

        Raises:
            DemoError: it has ended, the hub has, or it takes too long.
        """
        replica = self.replicas[name]
        wait(
            f"{name} to serve the hub",
            lambda: (
                answers(f"{replica.status}/readyz")
                and name in self.etcd.reports()
                and answers(f"{self.address}hub/login")
            ),
            START_SECONDS,
            replica.program,
            self.hub,
        )

    def stop(self) -> None:
        """End all of it, the user servers included."""
        self.hub.end(20)  # it ends the user servers first
        programs = [replica.program for replica in self.replicas.values()] + self.members
        for program in programs:
            program.ask_to_end()
        for program in programs:
            program.end(5)
        end_marked(self.mark)
        self._shared.close()
