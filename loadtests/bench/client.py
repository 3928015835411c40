"""Clients that cost little: a kept connection, a probe of a route, and a steady load.

Invariant: a request that a proxy left unanswered is not hidden by asking again.  Only a probe asks
again, and only when its kept connection was closed before any byte of the answer came, as any proxy
may close one; that is counted apart.  A steady load never does.

The probe's own floor is its pause between two requests (:data:`PAUSE`, growing to
:data:`SLOWER` of the time waited) and one round trip; the contestant ``direct`` shows the latter.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field

__all__ = ["Address", "Answer", "Connection", "Load", "steady", "until_served"]

Address = tuple[str, int]

#: seconds between two requests of a probe at first: more often, the probes of three replicas would
#: take a core of their own, which the proxies lack then
PAUSE = 0.004
#: and as a share of the time waited so far: what is slow to come is asked for less often
SLOWER = 0.02
#: seconds that one request may take
TIMEOUT = 10.0
#: requests of a steady load that may be under way at once
CONNECTIONS = 200
#: seconds after which an unused connection is no longer kept: proxies close theirs after 5 and more
KEPT = 2.0


@dataclass(frozen=True, slots=True)
class Answer:
    """A status (0 without an answer) and a body (without an answer, why)."""

    status: int
    body: bytes

    @property
    def by_server(self) -> bool:
        """Whether a user's server answered, and nobody else."""
        return self.status == 200 and self.body == b"server"


class _Unanswered(ConnectionError):
    """A connection that ended before any byte of the answer."""


class Connection:
    """One connection to a proxy, opened anew when it was closed or not used for :data:`KEPT`.

    Args:
        renews: whether a request is sent once more, on a new connection, when a kept one was
            closed before any byte of the answer.

    Attributes:
        renewed: how many requests were.
    """

    def __init__(self, address: Address, *, renews: bool = True) -> None:
        self.address = address
        self.renews = renews
        self.renewed = 0
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._used = 0.0

    async def get(self, path: str) -> Answer:
        """One request; without an answer its status is 0."""
        try:
            async with asyncio.timeout(TIMEOUT):
                kept = self._usable()
                try:
                    return await self._get(path)
                except _Unanswered:
                    self.close()
                    if not (kept and self.renews):
                        raise
                    self.renewed += 1
                    return await self._get(path)
        except (OSError, EOFError, ValueError, asyncio.LimitOverrunError) as error:
            self.close()
            return Answer(0, repr(error).encode())

    def _usable(self) -> bool:
        """Whether a kept connection is there that, as far as is known, is open."""
        if self._streams is None:
            return False
        reader, writer = self._streams
        unused = time.monotonic() - self._used > KEPT
        if unused or reader.at_eof() or writer.transport.is_closing():
            self.close()
            return False
        return True

    async def _get(self, path: str) -> Answer:
        if self._streams is None:
            self._streams = await asyncio.open_connection(*self.address)
        reader, writer = self._streams
        host, port = self.address
        writer.write(f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode())
        try:
            first = await reader.read(1)
        except ConnectionError as error:
            raise _Unanswered(str(error)) from error
        if not first:
            raise _Unanswered("closed without an answer")
        head = (first + await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        status = int(head.split(" ", 2)[1])
        if "transfer-encoding: chunked" in head:
            body = await self._chunks(reader)
        else:
            length = head.partition("\r\ncontent-length:")[2].partition("\r\n")[0]
            body = await reader.readexactly(int(length or 0))
        if "\r\nconnection: close" in head:
            self.close()
        self._used = time.monotonic()
        return Answer(status, body)

    async def _chunks(self, reader: asyncio.StreamReader) -> bytes:
        body = b""
        while size := int(await reader.readuntil(b"\r\n"), 16):
            body += (await reader.readexactly(size + 2))[:-2]
        await reader.readuntil(b"\r\n")
        return body

    def close(self) -> None:
        """Let go of it."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


@dataclass(frozen=True, slots=True)
class Served:
    """When (CLOCK_MONOTONIC) the first right answer came, and how many others before it.

    ``asked`` is when the last request with another answer was sent; 0 if there was none.
    """

    at: float
    asked: float


async def until_served(
    connection: Connection, path: str, served: bool = True, now: asyncio.Event | None = None
) -> Served:
    """Ask until the user's server answers, or (``served=False``) no longer does.

    Has no limit of its own: whoever calls it has.

    Args:
        now: once it is set, the next request waits no longer.
    """
    begun, asked = time.monotonic(), 0.0
    while True:
        sent = time.monotonic()
        answer = await connection.get(path)
        at = time.monotonic()
        # no answer at all is not "gone"
        if answer.by_server if served else (answer.status and not answer.by_server):
            return Served(at, asked)
        asked = sent
        pause = max(PAUSE, SLOWER * (at - begun))
        if now is None or now.is_set():
            await asyncio.sleep(pause)
            continue
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(pause):
                await now.wait()


@dataclass
class Load:
    """What a steady load saw: times of good answers (seconds), and what was no good answer."""

    times: list[float] = field(default_factory=list)
    wrong: int = 0
    first_wrong: str = ""
    #: of the wrong ones, those that were not sent, as too many waited for an answer
    held: int = 0

    @property
    def sent(self) -> int:
        """All requests."""
        return len(self.times) + self.wrong

    def refuse(self, why: str) -> None:
        """Count one that failed."""
        self.wrong += 1
        self.first_wrong = self.first_wrong or why[:200]


async def steady(
    addresses: list[Address],
    path: Callable[[int], str],
    per_second: float,
    seconds: float | None = None,
    *,
    load: Load | None = None,
) -> Load:
    """Requests at a steady rate, in turn to each address, whatever the earlier ones take.

    Open-loop: a slow answer delays no later request, so that slow moments count in full.  Runs
    for ``seconds``, or until cancelled; a load that is handed in is filled.
    """
    load = load if load is not None else Load()
    idle: dict[Address, list[Connection]] = {address: [] for address in addresses}
    running: set[asyncio.Task[None]] = set()

    async def one(number: int) -> None:
        spare = idle[addresses[number % len(addresses)]]
        address = addresses[number % len(addresses)]
        connection = spare.pop() if spare else Connection(address, renews=False)
        begun = time.perf_counter()
        answer = await connection.get(path(number))
        if answer.by_server:
            load.times.append(time.perf_counter() - begun)
        else:
            load.refuse(f"{path(number)}: {answer.status} {answer.body[:80]!r}")
        spare.append(connection)

    number, start = 0, time.monotonic()
    try:
        while seconds is None or number < per_second * seconds:
            await asyncio.sleep(max(0.0, start + number / per_second - time.monotonic()))
            if len(running) < CONNECTIONS:
                task = asyncio.create_task(one(number))
                running.add(task)
                task.add_done_callback(running.discard)
            else:
                load.held += 1
                load.refuse(f"over {CONNECTIONS} requests wait for an answer")
            number += 1
    finally:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(*running, return_exceptions=True)
        for connections in idle.values():
            for connection in connections:
                connection.close()
    return load
