"""Load tests that run, each as small as can be: on proxies started here, and on a deployment."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from harness.fake_hub import TOKEN, FakeHub
from harness.waiting import CLUSTER, until
from scenarios.options import chosen, parse
from scenarios.remote import Deployment
from scenarios.stage import LoadtestError

from jupyterhub_junction.ports import free_ports

ROOT = Path(__file__).resolve().parents[2]
PATHS = ("loadtests", "proxy_plugin/tests", "ci")
#: seconds that a whole run may take
RUN = 180.0
#: the generator alone is measured in one of them
ALONE = "--alone=1"
TINY = (
    "--alone=0",
    "--seconds=2",
    "--users=5",
    "--rate=30",
    "--routes=3",
    "--changes=4",
    "--rounds=1",
)


class Run:
    """``junction-loadtest run``, as a process."""

    def __init__(self, process: asyncio.subprocess.Process, out: Path) -> None:
        self.process = process
        self.out = out

    async def ended(self) -> tuple[int, str]:
        """Its exit code, and all that it said."""
        async with asyncio.timeout(RUN):
            said, _ = await self.process.communicate()
        assert self.process.returncode is not None
        return self.process.returncode, said.decode()

    def result(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.out / "results.json").read_text())
        return found


@contextlib.asynccontextmanager
async def started(out: Path, *words: str) -> AsyncIterator[Run]:
    """A run; whatever it has started is gone afterwards."""
    environment = {**os.environ, "PYTHONPATH": ":".join(str(ROOT / path) for path in PATHS)}
    environment.pop("JUNCTION_LOADTEST_TOKEN", None)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "scenarios", "run", *words, f"--out={out}", env=environment,
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    family: list[psutil.Process] = []
    try:
        yield Run(process, out)
        family = psutil.Process().children(recursive=True)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert [one for one in family if "scenarios" in " ".join(one.cmdline())] == []


@pytest.fixture
async def hub() -> AsyncIterator[FakeHub]:
    hub = FakeHub()
    try:
        yield hub
    finally:
        await hub.stop()


def requests(result: dict[str, Any]) -> dict[str, int]:
    found: dict[str, int] = {}
    for one in result["rounds"]:
        for line in one["seconds"]:
            for kind, counts in line["kinds"].items():
                found[kind] = found.get(kind, 0) + sum(counts["times"].values())
    return found


# --- proxies started here


@pytest.mark.needs_programs
async def test_a_fault_during_churn_and_requests_here(tmp_path: Path) -> None:
    words = ("faults", "--only=junction-1", "--fault=agent", *TINY, ALONE)
    async with started(tmp_path, *words) as run:
        code, said = await run.ended()
    assert code == 0, said
    result = run.result()
    (one,) = result["rounds"]
    assert one["failed"] == "", said
    assert requests(result).keys() >= {"small", "WebSocket echo", "stream event"}
    done = [change["do"] for change in one["changes"] if "live_ms" in change]
    assert {"start", "stop"} <= set(done), said
    assert "agent was killed" in one["events"][0]["what"]
    assert any("replica-1 traefik" in look["cpu"] for look in one["system"])
    assert result["null"]["per_second"] > 0
    assert result["versions"]["locust"]
    assert (tmp_path / "report.html").stat().st_size > 50_000


@pytest.mark.needs_programs
async def test_a_class_begins_here(tmp_path: Path) -> None:
    words = ("class", "--only=chp", "--students=2", "--real=0", *TINY)
    async with started(tmp_path, *words) as run:
        code, said = await run.ended()
    assert code == 0, said
    (one,) = run.result()["rounds"]
    assert one["failed"] == "", said
    made = requests(run.result())
    for kind in ("sign in", "server starts", "lab's page", "kernel starts", "server stops"):
        assert made[kind] == 2, said
    assert made["lab's files"] > 50
    assert [change["do"] for change in one["changes"]].count("start") == 2


# --- a deployment


async def test_a_deployment_is_loaded_and_cleared(tmp_path: Path, hub: FakeHub) -> None:
    url = await hub.start()
    async with started(
        tmp_path, "latency", "churn", f"--hub={url}", f"--token={TOKEN}", *TINY
    ) as run:
        code, said = await run.ended()
    assert code == 0, said
    assert len(hub.made) > 3
    assert hub.users == {}
    made = requests(run.result())
    assert made.keys() >= {"small", "WebSocket echo"}
    assert TOKEN not in (tmp_path / "results.json").read_text()
    assert run.result()["target"].startswith(url)


@pytest.mark.parametrize(
    ("number", "away"),
    # while the hub is away, all it is asked for fails
    [(signal.SIGINT, 0), (signal.SIGTERM, 0), (signal.SIGINT, 5)],
    ids=["ctrl-c", "sigterm", "hub-away"],
)
async def test_an_interrupted_run_leaves_nothing_behind(
    tmp_path: Path, hub: FakeHub, number: signal.Signals, away: int
) -> None:
    url = await hub.start()
    words = ("latency", f"--hub={url}", f"--token={TOKEN}", *TINY, "--seconds=120")
    async with started(tmp_path, *words) as run:
        # it has users, servers and load
        await until(lambda: hub.asked > 30, "the load has begun", deadline=CLUSTER)
        hub.away = away
        run.process.send_signal(number)
        code, said = await run.ended()
    assert code == 130, said
    assert "interrupted" in said
    assert hub.made
    assert hub.users == {}


async def test_a_deployment_that_starts_failing_gets_no_more_and_what_it_keeps_is_said(
    tmp_path: Path, hub: FakeHub
) -> None:
    url = await hub.start()
    words = ("latency", f"--hub={url}", f"--token={TOKEN}", *TINY, "--seconds=120")
    async with started(tmp_path, *words) as run:
        await until(lambda: hub.asked > 30, "the load has begun", deadline=CLUSTER)
        hub.failing = hub.keeps = True
        code, said = await run.ended()
    assert code == 1, said
    assert re.search(r"requests failed within 5 s \(.*answered 503\): the load was ended", said)
    assert len(hub.users) == 3
    for name in hub.users:
        assert f"could not be removed: user {name} of {url}" in said


async def test_a_run_that_is_refused_says_one_line(tmp_path: Path, hub: FakeHub) -> None:
    url = await hub.start()
    await hub.stop()
    async with started(tmp_path, f"--hub={url}", "--token=x") as run:
        code, said = await run.ended()
    assert code == 1, said
    assert re.fullmatch(rf"junction-loadtest: {url}: nobody answers .*\n", said)
    assert not (tmp_path / "results.json").exists()


async def refused(*words: str) -> str:
    """Why a deployment is not loaded."""
    given = chosen(parse(["run", *words]), lambda name: "")
    with pytest.raises(LoadtestError) as found:
        async with Deployment(given):
            raise AssertionError("it is loaded")
    assert "\n" not in str(found.value)
    return str(found.value)


async def test_a_server_that_is_no_hub(hub: FakeHub) -> None:
    url = await hub.start()
    said = await refused(f"--hub={url}/elsewhere", "--token=x")
    assert f"{url}/elsewhere is no JupyterHub" in said


async def test_a_wrong_token(hub: FakeHub) -> None:
    url = await hub.start()
    assert "the token is wrong" in await refused(f"--hub={url}", "--token=wrong")
    assert hub.made == set()


async def test_a_token_that_lacks_scopes(hub: FakeHub) -> None:
    url = await hub.start()
    hub.scopes = ["tokens", "admin:servers!server=x/"]
    said = await refused(f"--hub={url}", f"--token={TOKEN}")
    assert "admin lacks the scopes admin:users, admin:servers" in said
    assert hub.made == set()


async def test_a_far_deployment_is_not_loaded_unasked(tmp_path: Path) -> None:
    # refused before any name is looked up
    async with started(tmp_path, "--hub=https://hub.invalid", "--token=x") as run:
        code, said = await run.ended()
    assert code == 1, said
    assert re.fullmatch(r"junction-loadtest: https://hub\.invalid: .*--yes has to be given\n", said)


async def test_where_nothing_can_be_written_nothing_is_loaded(tmp_path: Path, hub: FakeHub) -> None:
    url = await hub.start()
    out = tmp_path / "file"
    out.touch()
    async with started(out / "report", f"--hub={url}", f"--token={TOKEN}") as run:
        code, said = await run.ended()
    assert code == 2, said
    assert re.fullmatch(r"junction-loadtest: --out .*/file/report: Not a directory\n", said)
    assert not hub.made


async def test_workers_send_what_one_machine_cannot(tmp_path: Path, hub: FakeHub) -> None:
    url = await hub.start()
    (port,) = free_ports(1)
    words = ("latency", f"--hub={url}", f"--token={TOKEN}", *TINY, "--workers=2")
    environment = {**os.environ, "PYTHONPATH": ":".join(str(ROOT / path) for path in PATHS)}
    workers = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-m", "scenarios.load", "--worker", f"127.0.0.1:{port}",
            env=environment, stdin=asyncio.subprocess.DEVNULL,
        )
        for _ in range(2)
    ]  # fmt: skip
    try:
        async with started(tmp_path, *words, f"--listen=127.0.0.1:{port}") as run:
            code, said = await run.ended()
        assert code == 0, said
        assert requests(run.result())["small"] > 0
        async with asyncio.timeout(CLUSTER):
            # they end with their master
            assert [await one.wait() for one in workers] == [0, 0]
    finally:
        for one in workers:
            if one.returncode is None:
                one.kill()
                await one.wait()
