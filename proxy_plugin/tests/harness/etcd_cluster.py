"""A real etcd cluster on loopback: members that can be killed, stopped, restarted and wiped.

async with EtcdCluster(directory, members=3) as cluster:
    store = cluster.store()
"""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import os
import shutil
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from jupyterhub_junction.etcd.roles import set_up_roles
from jupyterhub_junction.etcd.store import EtcdStore, MemberStatus
from jupyterhub_junction.ports import free_ports

from .certificates import Certificates, make_certificates

#: seconds until a cluster that was started answers; CI machines are slow
START_DEADLINE = 180.0
ROOT = Path(__file__).resolve().parents[3]
USERS = {"root": "root-password", "hub": "hub-password", "agent": "agent-password"}


@functools.cache
def etcd_program(name: str = "etcd") -> str:
    """The path of etcd, etcdctl or etcdutl: JUNCTION_ETCD_BIN, PATH, or the pinned build."""
    directory = os.environ.get("JUNCTION_ETCD_BIN")
    if not directory and (found := shutil.which(name)):
        return found
    if not directory:
        build = subprocess.run(
            [ROOT / "ci/tools/build"], capture_output=True, text=True, check=False
        )
        if build.returncode:
            raise FileNotFoundError(build.stderr.strip())
        directory = build.stdout.strip().splitlines()[-1]
    path = Path(directory) / name
    if not path.exists():
        raise FileNotFoundError(f"{path} is not there")
    return str(path)


@dataclasses.dataclass
class Member:
    """One etcd member."""

    name: str
    client_port: int
    peer_port: int
    directory: Path
    process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> Path:
        return self.directory / "log"

    @property
    def data(self) -> Path:
        return self.directory / "data"


class EtcdCluster:
    """Members on ports that the system chose; started by :meth:`start`, ended by :meth:`stop`.

    Args:
        directory: where data, logs and certificates go.
        members: how many.
        tls: clients need TLS and a certificate signed by the cluster's CA.
        auth: users root, hub and agent (see ``USERS``) with Junction's roles.
        options: more of etcd's command-line options, for every member.
    """

    def __init__(
        self,
        directory: Path,
        *,
        members: int = 3,
        tls: bool = False,
        auth: bool = False,
        options: Sequence[str] = (),
        prefix: str = "/junction/",
    ) -> None:
        self.directory = directory
        self.size = members
        self.auth = auth
        self.options = tuple(options)
        self.prefix = prefix
        self.members: list[Member] = []
        self.certificates: Certificates | None = None
        self._tls = tls
        self._generation = 0
        self._has_users = False

    async def __aenter__(self) -> Self:
        try:
            await self.start()
        except BaseException:
            self.stop()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def scheme(self) -> str:
        return "https" if self._tls else "http"

    @property
    def endpoints(self) -> list[str]:
        return [f"{self.scheme}://127.0.0.1:{member.client_port}" for member in self.members]

    def tls_options(self, client: bool = True) -> dict[str, Any]:
        """``ca``, ``cert`` and ``key`` for a client."""
        if self.certificates is None:
            return {}
        files = self.certificates
        certificate = {"cert": files.client_cert, "key": files.client_key} if client else {}
        return {"ca": files.ca, **certificate}

    def store(self, user: str | None = None, **options: Any) -> EtcdStore:
        """A new client, as ``user`` (hub by default if the cluster has users)."""
        if self.auth:
            user = user or "hub"
            options = {"username": user, "password": USERS.get(user), **options}
        endpoints = options.pop("endpoints", self.endpoints)
        # on a busy machine a member may need seconds
        options = {"timeout": 15.0, "prefix": self.prefix, **self.tls_options(), **options}
        return EtcdStore(endpoints, **options)

    async def start(self) -> None:
        """Start all members and wait until they have a leader."""
        if self._tls and self.certificates is None:
            self.certificates = make_certificates(self.directory / "tls")
        for attempt in range(5):  # a port may be taken before etcd has it
            ports = free_ports(2 * self.size)
            self.members = [
                Member(f"etcd-{n}", ports[2 * n], ports[2 * n + 1], self.directory / f"etcd-{n}")
                for n in range(self.size)
            ]
            for number in range(self.size):
                self.launch(number)
            try:
                await self.wait_ready()
                break
            except ChildProcessError as error:
                self.kill_all()
                for member in self.members:
                    shutil.rmtree(member.directory)
                if attempt == 4 or "address already in use" not in str(error):
                    raise
        if self.auth:
            await self._set_up_auth()

    def launch(self, number: int, *, state: str = "new") -> None:
        """Start one member's process; does not wait."""
        member = self.members[number]
        member.directory.mkdir(parents=True, exist_ok=True)
        client = f"{self.scheme}://127.0.0.1:{member.client_port}"
        peer = f"http://127.0.0.1:{member.peer_port}"
        command = [
            etcd_program(),
            f"--name={member.name}",
            f"--data-dir={member.data}",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            "--initial-cluster="
            + ",".join(f"{m.name}=http://127.0.0.1:{m.peer_port}" for m in self.members),
            f"--initial-cluster-token=junction-{self._generation}",
            f"--initial-cluster-state={state}",
            # bcrypt's cost is there for stolen databases; here it would only slow sign-ins.
            "--bcrypt-cost=4",
            *self.options,
        ]
        if self.certificates is not None:
            files = self.certificates
            command += [
                f"--cert-file={files.server_cert}",
                f"--key-file={files.server_key}",
                f"--trusted-ca-file={files.ca}",
                "--client-cert-auth=true",
            ]
        with member.log.open("ab") as log:
            member.process = subprocess.Popen(
                command,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                # None of the caller's ETCD_* settings may reach a test's members.
                env={k: v for k, v in os.environ.items() if not k.startswith("ETCD")},
            )

    async def wait_ready(self, *numbers: int) -> None:
        """Wait until the members (default: all) answer and have a leader."""
        wanted = numbers or tuple(range(self.size))
        names = [self.endpoints[number] for number in wanted]
        user = {"username": "root", "password": USERS["root"]} if self._has_users else {}
        client = EtcdStore(names, timeout=15.0, **self.tls_options(), **user)
        try:
            async with asyncio.timeout(START_DEADLINE):
                while True:
                    for number in wanted:
                        self._check_alive(number)
                    status = await client.status()
                    if all(one.error is None and one.has_leader for one in status):
                        return
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise TimeoutError(f"etcd is not ready: {status}") from None
        finally:
            await client.close()

    def kill(self, number: int) -> None:
        """SIGKILL one member: its data stays."""
        process = self.members[number].process
        if process is not None:
            process.kill()
            process.wait()
            self.members[number].process = None

    def kill_all(self) -> None:
        for number in range(len(self.members)):
            self.kill(number)

    def pause(self, number: int) -> None:
        """SIGSTOP one member: its sockets stay open, but nothing answers."""
        self._signal(number, signal.SIGSTOP)

    def resume(self, number: int) -> None:
        self._signal(number, signal.SIGCONT)

    async def restart(self, *numbers: int) -> None:
        """Kill members (default: all), start them on the same data, and wait until they answer."""
        wanted = numbers or tuple(range(self.size))
        for number in wanted:
            self.kill(number)
        for number in wanted:
            self.launch(number)
        await self.wait_ready(*wanted)

    async def wipe(self) -> None:
        """Lose all data and start anew, on the same addresses, as another cluster."""
        self.kill_all()
        for member in self.members:
            shutil.rmtree(member.data)
        self._generation += 1
        for number in range(self.size):
            self.launch(number)
        self._has_users = False
        await self.wait_ready()
        if self.auth:
            await self._set_up_auth()

    def stop(self) -> None:
        """End all members for good."""
        self.kill_all()

    async def status(self) -> tuple[MemberStatus, ...]:
        """What each member says of itself."""
        client = self.store(**({"user": "root"} if self.auth else {}), timeout=15.0)
        try:
            return await client.status()
        finally:
            await client.close()

    async def leader(self) -> int:
        """The number of the member that leads."""
        async with asyncio.timeout(START_DEADLINE):
            while True:  # an election may be on
                for number, one in enumerate(await self.status()):
                    if one.is_leader:
                        return number
                await asyncio.sleep(0.05)

    async def ctl(self, *arguments: str, member: int | None = None) -> str:
        """Run etcdctl against the cluster or one member (as root) and return its output."""
        endpoints = self.endpoints if member is None else [self.endpoints[member]]
        command = [etcd_program("etcdctl"), f"--endpoints={','.join(endpoints)}"]
        if self.certificates is not None:
            files = self.certificates
            command += [f"--cacert={files.ca}", f"--cert={files.client_cert}"]
            command += [f"--key={files.client_key}"]
        if self.auth:
            command += [f"--user=root:{USERS['root']}"]
        return await _run(*command, *arguments)

    async def snapshot(self, file: Path) -> None:
        """Save the data of member 0 into a file."""
        await self.ctl("snapshot", "save", str(file), member=0)

    async def restore(self, file: Path) -> None:
        """Lose all data and start again from a snapshot, on the same addresses."""
        self.kill_all()
        for member in self.members:
            shutil.rmtree(member.data)
        self._generation += 1
        for member in self.members:
            await _run(
                etcd_program("etcdutl"),
                "snapshot",
                "restore",
                str(file),
                f"--name={member.name}",
                f"--data-dir={member.data}",
                f"--initial-advertise-peer-urls=http://127.0.0.1:{member.peer_port}",
                "--initial-cluster="
                + ",".join(f"{m.name}=http://127.0.0.1:{m.peer_port}" for m in self.members),
                f"--initial-cluster-token=junction-{self._generation}",
            )
        for number in range(self.size):
            self.launch(number)
        await self.wait_ready()

    async def _set_up_auth(self) -> None:
        client = EtcdStore(self.endpoints, **self.tls_options())
        try:
            await set_up_roles(
                client.gateway,
                root_password=USERS["root"],
                hub=("hub", USERS["hub"]),
                agent=("agent", USERS["agent"]),
                prefix=self.prefix,
            )
        finally:
            await client.close()
        self._has_users = True

    def _signal(self, number: int, what: signal.Signals) -> None:
        process = self.members[number].process
        if process is not None:
            process.send_signal(what)

    def _check_alive(self, number: int) -> None:
        member = self.members[number]
        if member.process is not None and member.process.poll() is not None:
            last = member.log.read_text(errors="replace")[-3000:]
            raise ChildProcessError(f"{member.name} ended with {member.process.returncode}: {last}")


async def _run(*command: str) -> str:
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, error = await process.communicate()
    if process.returncode:
        raise ChildProcessError(f"{command[0]}: {error.decode(errors='replace')}")
    return out.decode()


def access(cluster: EtcdCluster, user: str) -> dict[str, str]:
    """The environment of a pod that can have no files: PEM text and all."""
    files = cluster.certificates
    assert files is not None
    return {
        "JUNCTION_ETCD": ",".join(cluster.endpoints),
        "JUNCTION_ETCD_USERNAME": user,
        "JUNCTION_ETCD_PASSWORD": USERS[user],
        "JUNCTION_ETCD_CA": files.ca.read_text(),
        "JUNCTION_ETCD_CERT": files.client_cert.read_text(),
        "JUNCTION_ETCD_KEY": files.client_key.read_text(),
    }
