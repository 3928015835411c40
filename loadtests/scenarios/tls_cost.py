"""What TLS costs a replica: ``python -m scenarios.tls_cost --seconds 5``.

Two replicas of one table, the one with a certificate and the other without, and one stand-in for
all users' servers; wrk asks each over kept connections, and over a new one for each request.  CPU
is user and system time of the replica's Traefik.  wrk speaks HTTP/1.1, and takes its sessions up
again, as browsers do: a new connection is a handshake of TLS 1.3 without the signature of a first
one.  h2load, where there is one, asks by HTTP/2: over as many kept connections, each with one
request at a time, so that only the protocol is another.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import sys
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bench import signals
from bench.contestants import Subject, start_junction
from bench.processes import Usage
from bench.world import World, program
from bench.wrk import CONNECTIONS, ask, load_by, script
from harness.certificates import make_certificates
from harness.replicas import Replica

from .local import LIMIT, stand_in

__all__ = ["Asked", "main", "parse_h2load"]

USERS = 50
#: seconds of load before those that count
WARM = 1


@dataclass(frozen=True)
class Asked:
    """Requests that were answered or lost, and those of them that were no success."""

    requests: int
    failed: int


Ask = Callable[[str, float], Awaitable[Asked]]


def _paths() -> list[str]:
    return [f"/user/n{number}/small" for number in range(USERS)]


async def _wrk(folder: Path, close: bool, url: str, seconds: float) -> Asked:
    closing = 'wrk.headers["Connection"] = "close"\n' if close else ""
    found = await ask(url, closing + script(_paths()), seconds, folder)
    return Asked(found.requests, found.failed)


async def _h2load(command: str, folder: Path, url: str, seconds: float) -> Asked:
    """Raises ValueError: it has not ended, printed no result, or spoke no HTTP/2."""
    urls = folder / "h2load.txt"
    urls.write_text("".join(f"{url}{path}\n" for path in _paths()))
    said = await load_by(
        "h2load", seconds,
        [command, f"-c{CONNECTIONS}", "-m1", "-t1", f"-D{max(1, round(seconds))}", f"-i{urls}"],
    )  # fmt: skip
    return parse_h2load(said)


def parse_h2load(said: str) -> Asked:
    """What h2load printed.

    Raises:
        ValueError: it holds no result, or is of another protocol.
    """
    counted = re.search(
        r"^requests: .* (\d+) done, \d+ succeeded, (\d+) failed", said, re.MULTILINE
    )
    moved = re.search(r"^status codes: \d+ 2xx, (\d+) 3xx", said, re.MULTILINE)
    if counted is None or moved is None or "Application protocol: h2" not in said:
        raise ValueError(f"h2load printed no result of HTTP/2: {said.strip()[-300:]!r}")
    # to h2load a redirect is a success
    return Asked(int(counted[1]), int(counted[2]) + int(moved[1]))


async def _cost(replica: Replica, scheme: str, asking: Ask, seconds: int) -> float:
    """Microseconds of Traefik's CPU for one request.

    Raises:
        ValueError: some were no success.
    """
    url = f"{scheme}://127.0.0.1:{replica.port}"
    roles = {"traefik": replica.child("traefik")}
    await asking(url, WARM)
    before = Usage.now(roles)
    found = await asking(url, seconds)
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
            asking = partial(_wrk, folder, close)
            http = await _cost(plain, "http", asking, seconds)
            https = await _cost(secure, "https", asking, seconds)
            lines.append(
                f"a request on {what}: {http:.0f} us of Traefik's CPU plain, {https:.0f} us by TLS"
            )
        if h2load := program("h2load", "JUNCTION_H2LOAD"):
            cost = await _cost(secure, "https", partial(_h2load, h2load, folder), seconds)
            lines.append(f"a request on a kept connection by TLS and HTTP/2: {cost:.0f} us")
        else:
            lines.append("HTTP/2: h2load is not on PATH, and JUNCTION_H2LOAD does not name it")
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
    print("\n".join(signals.run(_run(seconds))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
