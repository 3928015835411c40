"""What open WebSockets cost a replica: ``python -m scenarios.open_sockets --count 2000``.

One replica, and one stand-in for all users' servers.  WebSockets are opened in two halves, so that
what the first of them cost once is in no figure; all stay open, silent for a while, then each is
echoed a few times.  Memory is resident, the kernel's socket buffers are not in it; CPU is user and
system time.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from pathlib import Path

import aiohttp
from bench import signals
from bench.idle import raise_file_limit
from bench.processes import Usage, memory

from .local import local_stage
from .stage import Stage

__all__ = ["main"]

#: users whose WebSockets they are, and WebSockets that are opened at once
USERS, AT_ONCE = 50, 50
#: seconds that Traefik gets to serve all routes itself, and that any one answer may take
SETTLES, PATIENCE = 5.0, 60.0
ECHOES = 5
#: seconds of silence: the agent looks at all connections once a minute
SILENT = 65.0
MOST = 20_000


def _roles(stage: Stage) -> dict[str, int]:
    """The replica's two programs."""
    found = {role.rpartition(" ")[2]: pid for role, pid in stage.pids().items()}
    return {role: found[role] for role in ("traefik", "agent")}


async def _open(
    session: aiohttp.ClientSession, address: str, count: int
) -> list[aiohttp.ClientWebSocketResponse]:
    room = asyncio.Semaphore(AT_ONCE)

    async def one(number: int) -> aiohttp.ClientWebSocketResponse:
        async with room:
            return await session.ws_connect(
                f"{address}/user/n{number % USERS}/terminals/websocket/1"
            )

    return await asyncio.gather(*(one(number) for number in range(count)))


async def _echo(socket: aiohttp.ClientWebSocketResponse) -> None:
    async with asyncio.timeout(PATIENCE):
        await socket.send_str(json.dumps(["stdin", "x"]))
        await socket.receive_str()


async def measure(stage: Stage, count: int) -> list[str]:
    """Lines of what was found."""
    address, roles = stage.addresses[0], _roles(stage)
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=PATIENCE)
    async with aiohttp.ClientSession(
        timeout=timeout, connector=aiohttp.TCPConnector(limit=0)
    ) as session:
        sockets = await _open(session, address, count // 2)
        half = memory(roles)
        sockets += await _open(session, address, count // 2)
        full = memory(roles)
        quiet = Usage.now(roles)
        await asyncio.sleep(SILENT)
        before, began = Usage.now(roles), time.monotonic()
        for _ in range(ECHOES):
            await asyncio.gather(*(_echo(one) for one in sockets))
        after, lasted = Usage.now(roles), time.monotonic() - began
        idle = {role: before.cpu[role][1] - quiet.cpu[role][1] for role in roles}
        used = {role: after.cpu[role][1] - before.cpu[role][1] for role in roles}
    return [
        f"{role}: {(full[role] - half[role]) * 1000 / (count // 2):.1f} kB each"
        f" ({half[role]:.0f} MB with {count // 2}, {full[role]:.0f} MB with {count});"
        f" {idle[role]:.2f} s CPU in {SILENT:g} s of silence;"
        f" {used[role]:.2f} s for {ECHOES * count} messages and their echoes in {lasted:.1f} s"
        for role in roles
    ]


async def _run(count: int) -> list[str]:
    with tempfile.TemporaryDirectory(prefix="junction-loadtest-") as folder:
        async with local_stage("junction-1", Path(folder), USERS) as stage:
            await asyncio.sleep(SETTLES)
            return await measure(stage, count)


def main(words: list[str] | None = None) -> int:
    """Measure, and print."""
    parser = argparse.ArgumentParser(prog="python -m scenarios.open_sockets", description=__doc__)
    parser.add_argument("--count", type=int, default=2000, help="WebSockets (2000)")
    count = parser.parse_args(words).count
    if not 100 <= count <= min(MOST, raise_file_limit() // 2):
        print(f"open_sockets: --count {count}: from 100 to {MOST}, and half of the files that may"
              " be open (ulimit -n)", file=sys.stderr)  # fmt: skip
        return 2
    print("\n".join(signals.run(_run(count))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
