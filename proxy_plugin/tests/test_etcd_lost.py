"""All of etcd is lost, volumes too, under a real hub and real replicas; and `junction check`."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

import pytest
from harness.etcd_pods import Pods
from harness.replicas import Replica
from harness.waiting import until
from harness.world import Load, World, make_world

from jupyterhub_junction.store import StoreError

pytestmark = pytest.mark.needs_programs


async def junction_check(world: World, pods: Pods, replica: Replica) -> tuple[int, str]:
    """The command's exit code, and what it said."""
    options = [f"--etcd-{name}={path}" for name, path in pods.tls_options().items()]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "jupyterhub_junction.cli", "check",
        f"--etcd={','.join(pods.endpoints)}", *options,
        "--etcd-username=hub", f"--etcd-password-file={pods.directory}/hub-password",
        f"--replicas=localhost:{replica.port}", f"--url={world.replicas[1].url}",
        "--serve=127.0.0.1:0",
        "--etcd-keepers=" + ",".join(f"127.0.0.1:{port}" for port in pods.status[: pods.size]),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    said, _ = await process.communicate()
    return process.returncode or 0, said.decode()


async def test_hub_and_replicas_recover_when_all_of_etcd_was_lost(tmp_path: Path) -> None:
    async with Pods(tmp_path / "pods") as pods:
        pods.create()
        await pods.until_whole()
        await pods.until_users()
        async with make_world(tmp_path, pods=pods) as world:
            code, said = await junction_check(world, pods, world.replicas[0])
            assert code == 0, said
            assert said.count("added, served, deleted, gone") == 2, said
            assert said.count(": well") == 3, said

            async with Load(world, *world.replicas):
                for number in range(3):
                    await pods.delete(number, disk=True)
                pods.create()
                await pods.until_users()
                # the hub has not checked yet
                code, said = await junction_check(world, pods, world.replicas[0])
                assert code == 1
                assert said.startswith("junction check: etcd holds no table yet"), said
                assert len(said.splitlines()) == 1, said

                async def checked() -> bool:
                    try:
                        await world.check()
                    except (StoreError, TimeoutError):
                        return False
                    return "/user/zoe/" in await world.proxy.get_all_routes()

                await until(checked, "the hub fills the table again")
                for replica in world.replicas:
                    await replica.until("follows", lambda s: s["following"])
                await world.add("ann")
            for replica in world.replicas:
                assert await world.ask(replica, "/user/ann/") == "200 server"

            world.replicas[1].stop()
            code, said = await junction_check(world, pods, world.replicas[0])
            assert code == 1
            assert f"{world.replicas[1].url}: does not answer" in said
            assert len(said.splitlines()) == 1, said


async def test_a_replica_that_stands_still_is_named(tmp_path: Path) -> None:
    async with Pods(tmp_path / "pods", 1) as pods:
        pods.create()
        await pods.until_whole()
        await pods.until_users()
        async with make_world(tmp_path, pods=pods) as world:
            for name in ("agent", "traefik"):
                world.replicas[0].signal_child(name, signal.SIGSTOP)
            code, said = await junction_check(world, pods, world.replicas[0])
            assert code == 1
            assert len(said.splitlines()) == 1, said
