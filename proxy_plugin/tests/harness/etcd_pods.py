"""Pods of an etcd StatefulSet as processes: prepare, then etcd and keep, as a kubelet runs them.

What is emulated: ``junction etcd prepare`` is run again until it succeeds, once in a pod's life;
etcd and ``junction etcd keep`` are started again when they end; the disk outlives the pod.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from jupyterhub_junction.etcd.store import EtcdStore
from jupyterhub_junction.etcd_member.membership import Member, Node, Peer, Running
from jupyterhub_junction.etcd_member.peers import Access
from jupyterhub_junction.ports import free_ports

from .certificates import Certificates, make_certificates
from .etcd_cluster import USERS, etcd_program
from .waiting import until

JUNCTION = [sys.executable, "-m", "jupyterhub_junction.cli", "etcd"]


class Pods:
    """The pods of one StatefulSet; all are stopped at the end of the context.

    Args:
        members: how many; :meth:`scale` changes it.
        most: how many there may ever be.
        keep: more of ``junction etcd keep``'s arguments.
    """

    def __init__(
        self,
        directory: Path,
        members: int = 3,
        *,
        most: int = 3,
        keep: Sequence[str] = (),
        options: Sequence[str] = (),
    ) -> None:
        self.directory = directory
        self.size = members
        self.keep = list(keep)
        self.options = list(options)
        directory.mkdir(parents=True, exist_ok=True)
        self.certificates: Certificates = make_certificates(directory / "made")
        self.tls = directory / "tls"
        self.tls.mkdir()
        for name, file in (
            ("ca.crt", self.certificates.ca),
            ("tls.crt", self.certificates.server_cert),
            ("tls.key", self.certificates.server_key),
        ):
            shutil.copy(file, self.tls / name)
        for user, password in USERS.items():
            (directory / f"{user}-password").write_text(password)
        ports = free_ports(4 * most)
        self.nodes = [
            Node(
                n,
                f"etcd-{n}",
                f"https://127.0.0.1:{ports[4 * n]}",
                f"https://127.0.0.1:{ports[4 * n + 1]}",
            )
            for n in range(most)
        ]
        self.metrics = [ports[4 * n + 2] for n in range(most)]
        self.status = [ports[4 * n + 3] for n in range(most)]
        self.pods: dict[int, Pod] = {}
        self._forgotten: dict[int, int] = {}

    #: the same words as EtcdCluster's, for replicas
    auth = True

    def tls_options(self) -> dict[str, Path]:
        files = self.certificates
        return {"ca": files.ca, "cert": files.client_cert, "key": files.client_key}

    @property
    def endpoints(self) -> list[str]:
        return [node.client_url for node in self.nodes[: self.size]]

    async def __aenter__(self) -> Pods:
        # signing in costs etcd some 100 ms: once for all looks
        self._access = Access(self.tls, self.directory / "root-password")
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._access.close()
        await asyncio.gather(*(self.delete(n) for n in list(self.pods)))

    def create(self, *numbers: int) -> None:
        """Create pods (default: all); does not wait."""
        for number in numbers or range(self.size):
            assert number not in self.pods
            self.pods[number] = Pod(self, number)

    async def delete(self, number: int, *, disk: bool = False, term: bool = False) -> None:
        """End a pod, with SIGKILL unless ``term``; ``disk``: its volume is deleted too."""
        await self.pods.pop(number).end(term)
        if disk:
            shutil.rmtree(self.disk(number), ignore_errors=True)

    def disk(self, number: int) -> Path:
        return self.directory / f"disk-{number}"

    def arguments(self, number: int) -> list[str]:
        return [
            f"--name={self.nodes[number].name}",
            f"--members={self.size}",
            *(f"--peer={node.name}={node.peer_url}={node.client_url}" for node in self.nodes),
            "--listen-host=",
            f"--listen-metrics=127.0.0.1:{self.metrics[number]}",
            f"--data-dir={self.disk(number)}/data",
            f"--config={self.directory}/config-{number}/etcd.yaml",
            f"--tls-dir={self.tls}",
            f"--root-password-file={self.directory}/root-password",
            *self.options,
        ]

    def log(self, number: int) -> str:
        """What all the programs of a member's pods said."""
        file = self.directory / f"etcd-{number}.log"
        said = file.read_text(errors="replace") if file.exists() else ""
        return said[self._forgotten.get(number, 0) :]

    def forget_logs(self) -> None:
        """Let :meth:`log` begin anew."""
        self._forgotten = {n: self._forgotten.get(n, 0) + len(self.log(n)) for n in self.pods}

    def store(self, user: str = "hub", **options: Any) -> EtcdStore:
        files = self.certificates
        # on a busy machine a member may need seconds
        options = {"timeout": 15.0, "username": user, "password": USERS.get(user), **options}
        return EtcdStore(
            options.pop("endpoints", self.endpoints),
            ca=files.ca,
            cert=files.client_cert,
            key=files.client_key,
            **options,
        )

    @asynccontextmanager
    async def access(self) -> AsyncIterator[Access]:
        access = Access(self.tls, self.directory / "root-password")
        try:
            yield access
        finally:
            await access.close()

    async def look(self) -> list[Peer]:
        await asyncio.sleep(0.1)  # each look is work for all members
        return await self._access.look(self.nodes[: self.size])

    async def members(self) -> tuple[Member, ...]:
        """The members that the cluster's leader knows; none without one."""
        for peer in await self.look():
            if isinstance(peer, Running) and peer.has_leader:
                return peer.members
        return ()

    async def whole(self) -> bool:
        """Whether all members vote, in one cluster, with users."""
        peers = await self.look()
        if not all(isinstance(peer, Running) and peer.has_leader for peer in peers):
            return False
        clusters = {peer.cluster_id for peer in peers if isinstance(peer, Running)}
        members = peers[0].members if isinstance(peers[0], Running) else ()
        return (
            len(clusters) == 1
            and len(members) == self.size
            and all(member.client_urls and not member.is_learner for member in members)
        )

    async def until_whole(self) -> None:
        try:
            await until(self.whole, "all members vote in one cluster")
        except AssertionError as error:
            logs = "\n".join(
                f"--- {node.name}\n{self.log(node.ordinal)[-2500:]}" for node in self.nodes
            )
            raise AssertionError(f"{error}\n{logs}") from None

    async def until_whole_of(self, members: int) -> None:
        """Wait until a cluster of so many has a leader, whatever the pods' plan is."""

        async def led() -> bool:
            return len(await self.members()) == members

        await until(led, f"{members} members have a leader")

    async def until_users(self) -> None:
        """Wait until the hub's and the agents' users can sign in."""
        for user in ("hub", "agent"):
            store = self.store(user, timeout=15.0)
            try:
                await until(lambda: _signed_in(store), f"{user} signs in")  # noqa: B023
            finally:
                await store.close()

    async def cluster_id(self) -> int:
        for peer in await self.look():
            if isinstance(peer, Running) and peer.has_leader:
                return peer.cluster_id
        return 0


async def _signed_in(store: EtcdStore) -> bool:
    from jupyterhub_junction.store import StoreError

    try:
        await store.read("table")
        return bool(store.gateway._token)
    except StoreError:
        return False


class Pod:
    """One pod: its programs run until :meth:`end`."""

    def __init__(self, pods: Pods, number: int) -> None:
        self.pods = pods
        self.number = number
        self.etcd: asyncio.subprocess.Process | None = None
        self._processes: set[asyncio.subprocess.Process] = set()
        self._log = (pods.directory / f"etcd-{number}.log").open("ab")
        pods.disk(number).mkdir(exist_ok=True)
        shutil.rmtree(pods.directory / f"config-{number}", ignore_errors=True)
        self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        pods, number = self.pods, self.number
        arguments = pods.arguments(number)
        prepare = [*JUNCTION, "prepare", "--found-after=4", *arguments]
        while await self._program(*prepare):  # noqa: ASYNC110
            await asyncio.sleep(0.5)
        config = f"{pods.directory}/config-{number}/etcd.yaml"
        keep = [
            f"--hub-password-file={pods.directory}/hub-password",
            f"--agent-password-file={pods.directory}/agent-password",
            f"--status=127.0.0.1:{pods.status[number]}",
            "--interval=0.5",
            "--patience=3",
            *pods.keep,
        ]
        await asyncio.gather(
            self._forever(etcd_program(), f"--config-file={config}"),
            self._forever(*JUNCTION, "keep", *arguments, *keep),
        )

    async def _forever(self, *command: str) -> None:
        while True:
            await self._program(*command)
            await asyncio.sleep(1)

    async def _program(self, *command: str) -> int:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            env={k: v for k, v in os.environ.items() if not k.startswith("ETCD")},
        )
        self._processes.add(process)
        if command[0] == etcd_program():
            self.etcd = process
        try:
            return await process.wait()
        finally:
            self._processes.discard(process)

    async def end(self, term: bool) -> None:
        processes = list(self._processes)
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        for process in processes:
            with contextlib.suppress(ProcessLookupError):
                process.terminate() if term else process.kill()
        for process in processes:
            try:
                async with asyncio.timeout(20):
                    await process.wait()
            except TimeoutError:
                process.kill()
                await process.wait()
        self._log.close()
