"""Profiles of the proxy's processes while a load goes on: where their CPU time goes.

Traefik's come from its own API (``junction replica --profiling``), Python's from py-spy where there
is one, etcd's figures from its metrics.  What cannot be had is said, and disturbs nothing else.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import tempfile
from pathlib import Path

import aiohttp
import psutil
from bench.world import program

from .pprof import folded
from .stage import Play

__all__ = ["METRICS", "parse_metrics", "profile"]

#: seconds at the load's begin that are not looked at, at its end that are kept, and at most
BEFORE, AFTER, MOST = 1.0, 2.0, 30.0
#: samples a second
RATE = 100
#: seconds beyond its own time that a profile may take
GRACE = 15.0
#: roles that are no part of what is looked at
OTHERS = ("stand-in", "server", "generator")
#: of etcd: what it counts, and what the report calls it
METRICS = {
    "etcd_disk_wal_fsync_duration_seconds_sum": "fsync of the log, seconds",
    "etcd_disk_wal_fsync_duration_seconds_count": "fsyncs of the log",
    "etcd_disk_backend_commit_duration_seconds_sum": "commits to the database, seconds",
    "etcd_disk_backend_commit_duration_seconds_count": "commits to the database",
    "etcd_mvcc_put_total": "puts",
    "etcd_mvcc_delete_total": "deletes",
    "etcd_mvcc_range_total": "reads",
    "etcd_mvcc_txn_total": "transactions of several operations",
    "etcd_server_proposals_applied_total": "proposals",
    "process_cpu_seconds_total": "CPU seconds",
}
_SIZE = "etcd_mvcc_db_total_size_in_bytes"


async def profile(play: Play, seconds: float) -> None:
    """Collect what there is into the round, while its load goes on for so many seconds."""
    await asyncio.sleep(min(BEFORE, seconds / 4))
    lasts = max(1, int(min(MOST, seconds - BEFORE - AFTER)))
    before = await _metrics(play)
    tasks = [
        _one(play, role, pid, lasts)
        for role, pid in play.stage.pids().items()
        if not role.startswith(OTHERS)
    ]
    await asyncio.gather(*tasks)
    after = await _metrics(play)
    play.round.etcd = {
        f"{name}, in {lasts} s": round(after[key] - before[key], 6)
        for key, name in METRICS.items()
        if key in after and key in before
    }
    if _SIZE in after:
        play.round.etcd["database, bytes"] = after[_SIZE]


async def _one(play: Play, role: str, pid: int, lasts: int) -> None:
    try:
        words = psutil.Process(pid).cmdline()
        name = Path(words[0]).name if words else ""
        if name.startswith("traefik"):
            stacks = await _traefik(play, pid, lasts)
        elif name.startswith("python"):
            if "supervisor" in role:
                return  # it waits
            stacks = await _python(pid, lasts)
        elif name.startswith("etcd"):
            return  # its metrics are asked for
        else:
            raise ValueError(f"there is no profiler for {name}")
    except (ValueError, OSError, psutil.Error, aiohttp.ClientError, TimeoutError) as error:
        play.round.no_profiles[role] = str(error) or type(error).__name__
        return
    if stacks:
        play.round.profiles[role] = stacks
    else:
        play.round.no_profiles[role] = "it was idle"


async def _python(pid: int, lasts: int) -> dict[str, int]:
    spy = program("py-spy", "JUNCTION_PY_SPY")
    if spy is None:
        raise ValueError("py-spy is not on PATH, and JUNCTION_PY_SPY does not name it")
    with tempfile.TemporaryDirectory(prefix="junction-profile-") as folder:
        out = Path(folder) / "stacks"
        process = await asyncio.create_subprocess_exec(
            spy, "record", "--nonblocking", f"--pid={pid}", f"--duration={lasts}",
            f"--rate={RATE}", "--format=raw", f"--output={out}",
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        try:
            async with asyncio.timeout(lasts + GRACE):
                said, _ = await process.communicate()
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
        if process.returncode or not out.exists():
            last = said.decode(errors="replace").strip().splitlines()[-1:]
            raise ValueError(f"py-spy: {last[0] if last else 'no reason given'}"[:200])
        stacks: dict[str, int] = {}
        for line in out.read_text().splitlines():
            stack, _, count = line.rpartition(" ")
            stacks[stack] = stacks.get(stack, 0) + int(count)
        return stacks


def _control(traefik: int) -> tuple[str, str]:
    """URL and password of a Traefik's control port: its agent, beside it, was told both."""
    for one in psutil.Process(traefik).parent().children():  # type: ignore[union-attr]
        words = dict(word.partition("=")[::2] for word in one.cmdline())
        if "--control" in words and "--runtime-dir" in words:
            password = Path(words["--runtime-dir"]) / "control.password"
            return words["--control"], password.read_text()
    raise ValueError("there is no agent beside it that knows its control port")


async def _traefik(play: Play, pid: int, lasts: int) -> dict[str, int]:
    url, password = _control(pid)
    async with (
        aiohttp.ClientSession(auth=aiohttp.BasicAuth("junction", password)) as session,
        session.get(
            f"{url}/debug/pprof/profile?seconds={lasts}",
            timeout=aiohttp.ClientTimeout(total=lasts + GRACE),
        ) as answer,
    ):
        if answer.status != 200:
            raise ValueError("not offered: `junction replica --profiling` would")
        return folded(await answer.read())


def parse_metrics(text: str) -> dict[str, float]:
    """Of a metrics page, the values that are not split by labels."""
    return {
        name: float(value)
        for name, value in re.findall(r"^(\w+) ([0-9.eE+-]+)$", text, re.MULTILINE)
    }


async def _metrics(play: Play) -> dict[str, float]:
    """The members' metrics: sums, of the size the greatest."""
    found: dict[str, float] = {}
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as session:
        for url in play.stage.etcd:
            try:
                async with session.get(f"{url}/metrics") as answer:
                    values = parse_metrics(await answer.text())
            except (aiohttp.ClientError, OSError, TimeoutError) as error:
                play.round.no_profiles[url] = str(error) or type(error).__name__
                continue
            for name in (*METRICS, _SIZE):
                if name in values:
                    more = values[name]
                    before = found.get(name, 0.0)
                    found[name] = max(before, more) if name == _SIZE else before + more
    return found
