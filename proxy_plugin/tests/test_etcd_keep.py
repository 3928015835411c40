"""What a keeper says of its member: a line for each change of state, probes, and metrics."""

from __future__ import annotations

import asyncio
import logging
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest
from harness.waiting import until

from jupyterhub_junction.etcd_member.config import MemberOptions
from jupyterhub_junction.etcd_member.keep import Keeper
from jupyterhub_junction.etcd_member.membership import Node
from jupyterhub_junction.etcd_member.passwords import Passwords
from jupyterhub_junction.etcd_member.peers import Access
from jupyterhub_junction.etcd_member.prepare import Preparation
from jupyterhub_junction.etcd_member.process import end_etcd, is_etcd_of
from jupyterhub_junction.etcd_member.status import serve_keeper

ME = Node(0, "etcd-0", "https://127.0.0.1:1", "https://127.0.0.1:2")
log = logging.getLogger("junction")


class Scripted(Keeper):
    """A keeper whose rounds end as they are told to, and then stand still."""

    script: Iterator[str]

    async def round(self) -> str:
        for what in self.script:
            return what
        await asyncio.Event().wait()
        raise AssertionError


def keeper(tmp_path: Path, *script: str) -> Scripted:
    for user in ("root", "hub", "agent"):
        (tmp_path / user).write_text("secret")
    access = Access(tmp_path, "secret")
    made = Scripted(
        Preparation(
            [ME], ME, MemberOptions(tmp_path / "data", tmp_path), access, tmp_path / "etcd.yaml",
            log=log,
        ),
        access,
        Passwords(tmp_path / "root", ("hub", tmp_path / "hub"), ("agent", tmp_path / "agent")),
        prefix="/junction/",
        quota=1000,
        interval=0.0,
        log=log,
    )  # fmt: skip
    made.script = iter(script)
    return made


async def test_each_change_of_state_is_one_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    script = ["", "", "it is full: 7 bytes", "it is full: 8 bytes", "no leader", "", ""]
    made = keeper(tmp_path, *script)
    with caplog.at_level(logging.INFO, "junction"):
        task = asyncio.create_task(made.run())
        await until(lambda: made.numbers()["rounds_total"] == len(script), "all rounds")
        task.cancel()
    assert caplog.messages == [
        "the member and its cluster are well",
        "it is full: 7 bytes",
        "no leader",
        "the member and its cluster are well",
    ]


async def test_what_is_wrong_is_to_be_read_and_to_be_counted(tmp_path: Path) -> None:
    made = keeper(tmp_path, "", "it is full: 7 bytes")
    runner = await serve_keeper(made, "127.0.0.1:0")
    url = "http://{}:{}".format(*runner.addresses[0])
    try:
        async with aiohttp.ClientSession() as session:

            async def ask(path: str) -> tuple[int, str]:
                async with session.get(url + path) as answer:
                    return answer.status, await answer.text()

            assert await ask("/readyz") == (503, "not looked yet\n")
            assert await ask("/healthz") == (200, "ok\n")
            task = asyncio.create_task(made.run())
            await until(lambda: made.trouble.startswith("it is full"), "the second round")
            assert await ask("/readyz") == (503, "it is full: 7 bytes\n")
            assert await ask("/healthz") == (200, "ok\n"), "no reason to kill the keeper"
            status, text = await ask("/metrics")
            assert status == 200
            numbers = dict(line.split() for line in text.splitlines())
            assert numbers["junction_etcd_well"] == "0"
            assert numbers["junction_etcd_rounds_total"] == "2"
            assert numbers["junction_etcd_quota_bytes"] == "1000"
            assert all(name.startswith("junction_etcd_") for name in numbers)
            task.cancel()
    finally:
        await runner.cleanup()


def test_only_an_etcd_of_the_file_is_meant() -> None:
    # told by words alone: others' etcd runs on this machine too
    ours = Path("/etc/etcd-config/etcd.yaml")
    assert is_etcd_of(ours, ["/usr/local/bin/etcd", f"--config-file={ours}"])
    for words in (
        ["/usr/local/bin/etcd", "--config-file=/etc/etcd-config/other.yaml"],
        ["/usr/local/bin/etcd", f"--config-file={ours}.new"],
        ["/usr/local/bin/etcd"],
        [f"--config-file={ours}"],
        ["etcdctl", f"--config-file={ours}"],
        [""],
    ):
        assert not is_etcd_of(ours, words), words


def test_the_etcd_of_the_file_is_ended_and_started_by_others(tmp_path: Path) -> None:
    ours = tmp_path / "etcd.yaml"
    waits = "import sys; print(flush=True); sys.stdin.read()"
    with subprocess.Popen(
        ["/usr/local/bin/etcd", "-c", waits, f"--config-file={ours}"],
        executable=sys.executable, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        try:
            assert process.stdout is not None
            process.stdout.readline()
            assert not end_etcd(tmp_path / "nobody.yaml")
            assert process.poll() is None
            assert end_etcd(ours)
            assert process.wait(30) == -signal.SIGTERM
        finally:
            process.kill()
