"""How long until a route is live: the same work on every proxy, one after another.

    make bench            (or: python loadtests/bench/live.py --routes 1000 --adds 20)

For each proxy: routes are added until there are ``--routes``, all at once; then single routes are
added and deleted, each probed at every replica by real requests until the answer comes from (or
no longer comes from) the user's server.  So a proxy that returns too early gains nothing.

Times depend on the machine: compare rows of one run only.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "proxy_plugin/tests"), str(ROOT / "proxy_plugin/tests/conformance")]

from implementations import IMPLEMENTATIONS  # noqa: E402
from jupyterhub_junction.conformance.backend import Backend, Exchange  # noqa: E402
from jupyterhub_junction.conformance.implementation import (  # noqa: E402
    Implementation,
    Options,
    Running,
)
from jupyterhub_junction.conformance.surroundings import surroundings  # noqa: E402


async def _answer(exchange: Exchange) -> None:
    await exchange.body()
    await exchange.reply(200, [], b"server")


async def _until(session: aiohttp.ClientSession, url: str, served: bool) -> None:
    while True:
        async with session.get(url) as response:
            if ((await response.read()) == b"server") == served:
                return


def _parent(pid: int) -> int:
    with contextlib.suppress(OSError):
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return 0


def _rss(name: bytes) -> list[float]:
    """Megabytes of each process that this run started whose command line holds ``name``."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if name not in (folder / "cmdline").read_bytes():
                continue
            pid = int(folder.name)
            while pid > 1 and pid != os.getpid():
                pid = _parent(pid)
            if pid == os.getpid():
                pages = int((folder / "statm").read_text().split()[1])
                found.append(pages * os.sysconf("SC_PAGE_SIZE") / 1e6)
    return found


async def _measure(running: Running, server: str, routes: int, adds: int) -> dict[str, Any]:
    proxy = running.proxy
    found: dict[str, Any] = {"replicas": len(running.urls)}
    async with aiohttp.ClientSession() as session:
        begun = time.perf_counter()
        await asyncio.gather(*(proxy.add_route(f"/user/n{i}/", server, {}) for i in range(routes)))
        for url in running.urls:
            await _until(session, f"{url}/user/n{routes - 1}/x", True)
        found["batch_s"] = round(time.perf_counter() - begun, 3)
        live, gone = [], []
        for i in range(adds):
            urls = [f"{url}/user/one{i}/x" for url in running.urls]
            begun = time.perf_counter()
            await proxy.add_route(f"/user/one{i}/", server, {})
            await asyncio.gather(*(_until(session, url, True) for url in urls))
            live.append(1000 * (time.perf_counter() - begun))
            begun = time.perf_counter()
            await proxy.delete_route(f"/user/one{i}/")
            await asyncio.gather(*(_until(session, url, False) for url in urls))
            gone.append(1000 * (time.perf_counter() - begun))
    for name, times in (("live_ms", live), ("gone_ms", gone)):
        found[name] = {
            "median": round(statistics.median(times), 1),
            "max": round(max(times), 1),
        }
    agents = _rss(b"jupyterhub_junction.cli\0agent")
    if agents:
        found["agent_mb"] = round(max(agents), 1)
    return found


async def _run(
    implementation: Implementation, routes: int, adds: int, seconds: float
) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        async with surroundings(Options(), Path(folder)) as around:
            server = await Backend("server", _answer).start()
            try:
                async with implementation.start(around) as running:
                    await running.proxy.add_route("/", around.hub.host, {"hub": True})
                    async with asyncio.timeout(seconds):
                        return await _measure(running, server.url, routes, adds)
            except TimeoutError:
                return {"not_within_s": seconds}
            finally:
                await server.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--routes", type=int, default=1000)
    parser.add_argument("--adds", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=120, help="limit for each proxy")
    parser.add_argument("--only", help="names of implementations, with commas")
    options = parser.parse_args()
    only = options.only.split(",") if options.only else None
    results: dict[str, Any] = {}
    for implementation in IMPLEMENTATIONS:
        if only and implementation.name not in only:
            continue
        missing = implementation.missing()
        results[implementation.name] = (
            {"not_run": missing}
            if missing
            else asyncio.run(_run(implementation, options.routes, options.adds, options.seconds))
            | {"version": implementation.version().partition("\n")[0]}
        )
        print(implementation.name, json.dumps(results[implementation.name]), flush=True)
    print(
        json.dumps(
            {
                "date": datetime.now(UTC).isoformat(timespec="seconds"),
                "host": platform.platform(),
                "processors": os.cpu_count(),
                "routes": options.routes,
                "adds": options.adds,
                "results": results,
            },
            indent=1,
        )
    )


if __name__ == "__main__":
    main()
