"""Memory of one forwarder with many idle clients and WebSockets.

    python loadtests/bench/idle.py --clients 10000 --websockets 2000

Three processes: the forwarder, alone in its own; a server behind it; and this one, which opens the
connections.  Each idle client has made one request and keeps its connection; each WebSocket has
been echoed once and is silent since.  Then all are used once more, so that they are known to live.
Memory is the forwarder's resident set; the kernel's socket buffers are not in it.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import multiprocessing
import os
import platform
import resource
import sys
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from pathlib import Path
from typing import cast

from jupyterhub_junction.forwarder import loops
from jupyterhub_junction.forwarder.server import Forwarder, Limits
from jupyterhub_junction.routes import Route, RouteTable

REQUEST = b"GET / HTTP/1.1\r\nHost: hub.example\r\nCookie: session=0123456789abcdef\r\n\r\n"
RESPONSE = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nserver"
KEY = base64.b64encode(bytes(16))
UPGRADE = (
    b"GET /ws HTTP/1.1\r\nHost: hub.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + KEY + b"\r\n\r\n"
)
SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
# a masked text frame of one byte; the server sends it back as it is
FRAME = b"\x81\x81\x00\x00\x00\x00x"
AT_ONCE = 200
PATIENCE = 60.0
#: clients that are there before memory is first looked at
FIRST = 10
#: connections at most, which is what the forwarder is given here
MOST = 100_000


class Server(asyncio.Protocol):
    """Answers requests, and echoes whatever a WebSocket says."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.echoes = False
        self.data = b""

    def data_received(self, data: bytes) -> None:
        if self.echoes:
            self.transport.write(data)
            return
        self.data += data
        if self.data.endswith(b"\r\n\r\n"):
            self.echoes = self.data.startswith(b"GET /ws ")
            self.transport.write(SWITCHED if self.echoes else RESPONSE)
            self.data = b""


def raise_file_limit() -> int:
    """Open as many files as the system lets us; returns how many that is."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def serve(pipe: Connection) -> None:
    """The server's process."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(Server, "127.0.0.1", 0, backlog=4096)
        pipe.send(server.sockets[0].getsockname()[1])
        await loop.run_in_executor(None, pipe.recv)

    raise_file_limit()
    loops.run(main())


def forward(pipe: Connection, port: int) -> None:
    """The forwarder's process."""

    async def main() -> None:
        table = RouteTable([Route("/", f"http://127.0.0.1:{port}")])
        limits = Limits(keepalive_timeout=3600.0, connections=MOST)
        forwarder = Forwarder(resolve=table.match, limits=limits)
        await forwarder.start("127.0.0.1", 0)
        pipe.send(forwarder.addresses[0][1])
        await asyncio.get_running_loop().run_in_executor(None, pipe.recv)
        await forwarder.stop()

    raise_file_limit()
    loops.run(main())


def resident(pid: int) -> float:
    """A process's memory, in MB."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


Peer = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def ask(peer: Peer, data: bytes, answer: bytes) -> None:
    """Send, and wait for the answer."""
    reader, writer = peer
    writer.write(data)
    got = await reader.readexactly(len(answer))
    if got != answer:
        raise RuntimeError(f"asked {data[:20]!r}, and got {got[:60]!r}")


async def all_of(count: int, work: Callable[[int], Awaitable[None]]) -> None:
    """Do the work for each number, a few at a time."""
    room = asyncio.Semaphore(AT_ONCE)

    async def one(number: int) -> None:
        async with room, asyncio.timeout(PATIENCE):
            await work(number)

    async with asyncio.TaskGroup() as group:
        for number in range(count):
            group.create_task(one(number))


async def measure(port: int, pid: int, clients: int, websockets: int) -> dict[str, float]:
    """Open all, look, use all once more, close all; MB by what was there."""
    idle: list[Peer] = []
    open_sockets: list[Peer] = []

    # many addresses of our own: one has fewer ports than these connections need
    async def connect(number: int) -> Peer:
        local = (f"127.0.1.{number % 8 + 1}", 0)
        return await asyncio.open_connection("127.0.0.1", port, local_addr=local, limit=1024)

    async def client(number: int) -> None:
        peer = await connect(number)
        await ask(peer, REQUEST, RESPONSE)
        idle.append(peer)

    async def websocket(number: int) -> None:
        peer = await connect(number)
        await ask(peer, UPGRADE, SWITCHED)
        await ask(peer, FRAME, FRAME)
        open_sockets.append(peer)

    await all_of(FIRST, client)
    found = {"MB at first": resident(pid)}
    await all_of(clients - FIRST, client)
    found[f"MB with {clients} idle clients"] = resident(pid)
    await all_of(websockets, websocket)
    found[f"MB with {websockets} idle WebSockets too"] = resident(pid)
    await all_of(clients, lambda n: ask(idle[n], REQUEST, RESPONSE))
    await all_of(websockets, lambda n: ask(open_sockets[n], FRAME, FRAME))
    found["MB after each was used again"] = resident(pid)
    for _, writer in (*idle, *open_sockets):
        writer.transport.abort()
    names = list(found)
    found["kB per idle client"] = (found[names[1]] - found[names[0]]) * 1000 / (clients - FIRST)
    found["kB per idle WebSocket"] = (found[names[2]] - found[names[1]]) * 1000 / max(websockets, 1)
    return {name: round(value, 1) for name, value in found.items()}


def refusal(clients: int, websockets: int) -> str:
    """Why these numbers make no sense; empty if they do."""
    if not FIRST < clients <= MOST:
        return f"--clients {clients}: more than {FIRST} (they come first) and at most {MOST:,}"
    if not 0 <= websockets <= MOST - clients:
        return f"--websockets {websockets}: from 0 to {MOST - clients:,}, with {clients:,} clients"
    return ""


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--clients", type=int, default=10_000)
    parser.add_argument("--websockets", type=int, default=2_000)
    options = parser.parse_args(words)
    if why := refusal(options.clients, options.websockets):
        parser.exit(2, f"idle: {why}\n")
    needed = options.clients + 2 * options.websockets + 200
    if (limit := raise_file_limit()) < needed:
        print(f"the limit of open files is {limit}: `ulimit -Hn {needed}` first", file=sys.stderr)
        return 1
    spawn = multiprocessing.get_context("spawn")
    processes: list[multiprocessing.process.BaseProcess] = []
    pipes: list[Connection] = []

    def start(target: Callable[..., None], *arguments: int) -> int:
        ours, theirs = spawn.Pipe()
        process = spawn.Process(target=target, args=(theirs, *arguments), daemon=True)
        process.start()
        processes.append(process)
        pipes.append(ours)
        if not ours.poll(PATIENCE):
            raise TimeoutError(f"{target.__name__} did not start within {PATIENCE:g} s")
        return int(ours.recv())

    try:
        port = start(forward, start(serve))
        pid = processes[1].pid
        assert pid is not None
        found = loops.run(measure(port, pid, options.clients, options.websockets))
    finally:
        for pipe in pipes:
            pipe.send(None)
        for process in processes:
            process.join(PATIENCE)
            process.terminate()
    about = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "loop": loops.name(),
    }
    print(json.dumps({**about, **found}, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
