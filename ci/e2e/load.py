"""A steady load of real requests and WebSockets that goes on while something happens to the proxy.

Everything is counted, and a failure keeps when its request began and what came of it.  A request is
failed unless it is answered with 200 by the server that it was for.  As a browser does, the client
repeats a GET once if a kept connection was closed before it said anything (RFC 9112 section 9.3.1).
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import socket
import ssl
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import aiohttp
from aiohttp.connector import AddrInfoType

__all__ = ["Closed", "Counted", "Failed", "Load", "Sockets"]


#: seconds: asyncio gives up the other side's part of a goodbye after 30
GOODBYE = 35.0


@dataclass(frozen=True, slots=True)
class Failed:
    """One request that failed; times are of the monotonic clock, in seconds."""

    began: float
    ended: float
    path: str
    said: str


@dataclass(frozen=True, slots=True)
class Closed:
    """One WebSocket that was closed by the other side."""

    at: float
    opened: float
    code: int | None


@dataclass(slots=True, repr=False)
class Counted:
    """What came of the load, so far."""

    requests: int = 0
    failed: list[Failed] = field(default_factory=list)
    closed: list[Closed] = field(default_factory=list)
    #: attempts to open a WebSocket that failed
    refused: list[Failed] = field(default_factory=list)
    open: int = 0
    #: what the test did, and when, for whoever reads of a failure
    events: list[tuple[float, str]] = field(default_factory=list)

    def when(self, at: float) -> str:
        """A moment, told from the last event before it."""
        before = [one for one in self.events if one[0] <= at]
        return f"{at - before[-1][0]:.2f} s after {before[-1][1]}" if before else f"at {at:.2f} s"

    def __repr__(self) -> str:
        return str(self)

    def __str__(self) -> str:
        kinds = Counter(one.said for one in self.failed)
        first = "; ".join(
            f"{one.path} {self.when(one.began)} to {self.when(one.ended)}"
            for one in self.failed[:5]
        )
        return (
            f"{self.requests} requests, {len(self.failed)} failed {dict(kinds) or ''};"
            f" {self.open} WebSockets open, {len(self.closed)} closed, {len(self.refused)} refused"
            f" {first}"
        )


class Sockets:
    """Makes the sockets of clients, and knows which of them are open.

    Args:
        anew: let them come each from another address, as users do.  On loopback a port is soon
            used again; a kernel that remembers it sends the new connection where the old one
            went, to a pod that is gone.
    """

    def __init__(self, *, anew: bool = False) -> None:
        self.anew = anew
        self._numbers = itertools.count(1)
        self._made: set[socket.socket] = set()

    def __call__(self, found: AddrInfoType) -> socket.socket:
        made = socket.socket(found[0], found[1], found[2])
        made.setblocking(False)
        if self.anew:
            number = next(self._numbers)
            made.bind((f"127.1.{number // 250 % 250}.{number % 250 + 1}", 0))
        self._made = {one for one in self._made if one.fileno() >= 0} | {made}
        return made

    async def closed(self) -> None:
        """Wait until all are closed: under TLS both sides say goodbye first, or time is up."""
        deadline = asyncio.get_running_loop().time() + GOODBYE
        while left := sum(one.fileno() >= 0 for one in self._made):
            if asyncio.get_running_loop().time() > deadline:
                raise TimeoutError(f"{left} sockets are open {GOODBYE:g} s after the end")
            await asyncio.sleep(0.01)


class Load:
    """Requests and WebSockets to user servers, from a thread of its own.

    Args:
        url: of the proxy, with the hub's base URL, without a slash at its end.
        servers: user names whose servers get the requests in turn.
        token: an API token that may open WebSockets to them.
        rate: requests a second.
        websockets: how many are kept open, spread over the servers.
        fresh: every how many-th request opens a connection of its own.
        context: what HTTPS is trusted by.
    """

    #: seconds that one request may take
    TIMEOUT = 30.0

    def __init__(
        self,
        url: str,
        servers: Sequence[str],
        token: str,
        *,
        rate: float = 60,
        websockets: int = 10,
        fresh: int = 3,
        context: ssl.SSLContext | None = None,
    ) -> None:
        self.url, self.servers, self.token = url, list(servers), token
        self.rate, self.websockets, self.fresh = rate, websockets, fresh
        self.ssl = context or True
        self.counted = Counted()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, name="load", daemon=True)
        self._error: BaseException | None = None

    def __enter__(self) -> Load:
        self._thread.start()
        self.wait(lambda seen: seen.requests >= 20 and seen.open >= self.websockets, 60)
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(self.TIMEOUT + GOODBYE + 15)
        if self._error is not None:
            raise self._error
        assert not self._thread.is_alive(), "the load did not end"

    def wait(self, condition: object, deadline: float) -> None:
        """Wait until ``condition(counted)``; raises TimeoutError with the counts.

        Args:
            condition: takes :class:`Counted`.
            deadline: seconds.
        """
        until = time.monotonic() + deadline
        while not condition(self.counted):  # type: ignore[operator]
            if self._error is not None:
                raise self._error
            if time.monotonic() > until:
                raise TimeoutError(f"not within {deadline:g} s: {self.counted}")
            self._stop.wait(0.05)

    def reopened(self) -> None:
        """Wait until all WebSockets are open again; one that came to an ending pod hangs first."""
        self.wait(lambda seen: seen.open >= self.websockets, self.TIMEOUT + 30)

    def event(self, what: str) -> float:
        """Note what is being done now; returns the moment, of the monotonic clock."""
        now = time.monotonic()
        self.counted.events.append((now, what))
        return now

    def more(self, requests: int, deadline: float = 300) -> None:
        """Wait for so many more requests."""
        goal = self.counted.requests + requests
        self.wait(lambda seen: seen.requests >= goal, deadline)

    # --- in the thread -----------------------------------------------------------------------

    def _work(self) -> None:
        try:
            asyncio.run(self._run())
        except BaseException as error:
            self._error = error

    async def _run(self) -> None:
        headers = {"Authorization": f"token {self.token}"}
        timeout = aiohttp.ClientTimeout(total=self.TIMEOUT)
        made = Sockets(anew="//127." in self.url)
        kept = aiohttp.TCPConnector(limit=0, socket_factory=made, ssl=self.ssl)
        fresh = aiohttp.TCPConnector(limit=0, force_close=True, socket_factory=made, ssl=self.ssl)
        lasting = aiohttp.TCPConnector(limit=0, socket_factory=made, ssl=self.ssl)
        # requests need no token, and have none: a server asks the hub about one now and then, and
        # waits for it while the hub is away
        async with (
            aiohttp.ClientSession(timeout=timeout, connector=kept) as session,
            aiohttp.ClientSession(timeout=timeout, connector=fresh) as once,
            aiohttp.ClientSession(headers=headers, timeout=timeout, connector=lasting) as talking,
        ):
            tasks: set[asyncio.Task[None]] = set()
            sockets = [
                asyncio.create_task(self._socket(talking, self.servers[number % len(self.servers)]))
                for number in range(self.websockets)
            ]
            loop = asyncio.get_running_loop()
            due, number = loop.time(), 0
            while not self._stop.is_set():
                number += 1
                user = self.servers[number % len(self.servers)]
                with_ = once if number % self.fresh == 0 else session
                # bounded: what hangs ends after TIMEOUT
                task = asyncio.create_task(self._request(with_, f"/user/{user}/api"))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
                due = max(due + 1 / self.rate, loop.time() - 1)
                await asyncio.sleep(max(0, due - loop.time()))
            await asyncio.gather(*tasks)
            for each in sockets:
                each.cancel()
            await asyncio.gather(*sockets, return_exceptions=True)
        await made.closed()

    async def _request(self, session: aiohttp.ClientSession, path: str) -> None:
        began, said = time.monotonic(), ""
        try:
            async with session.get(self.url + path, allow_redirects=False) as answer:
                body = await answer.read()
                if answer.status != 200:
                    said = f"status {answer.status}"
                elif "version" not in json.loads(body):
                    said = "another's body"
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            said = f"{type(error).__name__} {getattr(error, 'errno', None) or ''}".strip()
        self.counted.requests += 1
        if said:
            self.counted.failed.append(Failed(began, time.monotonic(), path, said))

    async def _socket(self, session: aiohttp.ClientSession, user: str) -> None:
        path, pause = f"/user/{user}/api/events/subscribe", 0.05
        while True:
            began = time.monotonic()
            try:
                async with session.ws_connect(
                    self.url + path, timeout=aiohttp.ClientWSTimeout(ws_close=5)
                ) as socket:
                    self.counted.open += 1
                    pause = 0.05
                    try:
                        await self._talk(socket)
                    finally:
                        self.counted.open -= 1
                    self.counted.closed.append(Closed(time.monotonic(), began, socket.close_code))
            except (aiohttp.ClientError, OSError, TimeoutError) as error:
                said = f"{type(error).__name__} {getattr(error, 'status', '')}".strip()
                self.counted.refused.append(Failed(began, time.monotonic(), path, said))
                await asyncio.sleep(pause)
                pause = min(pause * 2, 2.0)

    @staticmethod
    async def _talk(socket: aiohttp.ClientWebSocketResponse) -> None:
        """Until the other side closes: a ping now and then, so that a dead one is noticed."""

        async def pings() -> None:
            while True:
                await asyncio.sleep(1)
                await socket.ping()

        pinging = asyncio.create_task(pings())
        try:
            async for _ in socket:
                pass
        finally:
            pinging.cancel()
            with contextlib.suppress(asyncio.CancelledError, ConnectionError, aiohttp.ClientError):
                await pinging
