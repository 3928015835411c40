"""What TLS costs a replica: ``python -m scenarios.tls_cost --seconds 5``.

Two replicas of one table, the one with a certificate and the other without, and one stand-in for
all users' servers; wrk asks each over kept connections, and over a new one for each request.  CPU
is user and system time of the replica's Traefik.  wrk speaks HTTP/1.1, and takes its sessions up
again, as browsers do: a new connection is a handshake of TLS 1.3 without the signature of a first
one.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path

from bench.contestants import Subject, start_junction
from bench.processes import Usage
from bench.world import World, program
from bench.wrk import ask, script
from harness.certificates import make_certificates
from harness.replicas import Replica

from .local import LIMIT, stand_in

__all__ = ["main"]

USERS = 50
#: seconds of load before those that count
WARM = 1


async def _cost(replica: Replica, scheme: str, close: bool, seconds: int, folder: Path) -> float:
    """Microseconds of Traefik's CPU for one request.

    Raises:
        ValueError: some were not answered with 200.
    """
    url = f"{scheme}://127.0.0.1:{replica.port}"
    closing = 'wrk.headers["Connection"] = "close"\n' if close else ""
    lua = closing + script([f"/user/n{number}/small" for number in range(USERS)])
    roles = {"traefik": replica.child("traefik")}
    await ask(url, lua, WARM, folder)
    before = Usage.now(roles)
    found = await ask(url, lua, seconds, folder)
    after = Usage.now(roles)
    if found.failed:
        raise ValueError(f"{found.failed} of {found.requests} requests to {url} failed")
    return (after.cpu["traefik"][1] - before.cpu["traefik"][1]) * 1e6 / found.requests


async def _measure(subject: Subject, folder: Path, target: str, seconds: int) -> list[str]:
    assert subject.etcd is not None
    assert subject.hub is not None
    files = make_certificates(folder / "tls")
    arguments = [f"--ssl-cert={files.server_cert}", f"--ssl-key={files.server_key}"]
    secure = Replica("secure", subject.etcd, folder, arguments)
    secure.start()
    try:
        await secure.ready()
        await subject.hub.call("add", names=[f"n{one}" for one in range(USERS)], target=target)
        plain = subject.replicas[0]
        async with asyncio.timeout(LIMIT):
            while any([(await one.status()).get("pending", True) for one in (plain, secure)]):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        lines = []
        for close, what in ((False, "a kept connection"), (True, "a connection of its own")):
            http = await _cost(plain, "http", close, seconds, folder)
            https = await _cost(secure, "https", close, seconds, folder)
            lines.append(
                f"a request on {what}: {http:.0f} us of Traefik's CPU plain, {https:.0f} us by TLS"
            )
        return lines
    finally:
        secure.stop()


async def _run(seconds: int) -> list[str]:
    with tempfile.TemporaryDirectory(prefix="junction-loadtest-") as name:
        folder = Path(name)
        async with stand_in(folder) as behind:
            around = World(
                folder, behind.server, behind.hub, behind.server, folder / "unused", LIMIT
            )
            async with start_junction(1, around, around.folder("junction")) as subject:
                return await _measure(subject, folder, around.server_url, seconds)


def main(words: list[str] | None = None) -> int:
    """Measure, and print."""
    parser = argparse.ArgumentParser(prog="python -m scenarios.tls_cost", description=__doc__)
    parser.add_argument(
        "--seconds", type=int, default=5, choices=range(1, 61), metavar="1..60", help="of each (5)"
    )
    seconds = parser.parse_args(words).seconds
    if program("wrk", "JUNCTION_WRK") is None:
        print("tls_cost: wrk is not on PATH, and JUNCTION_WRK does not name it", file=sys.stderr)
        return 2
    print("\n".join(asyncio.run(_run(seconds))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
