"""A WebSocket that is kept open, and says something now and then or nothing at all."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import threading

import aiohttp

from .load import Sockets

__all__ = ["Socket"]


class Socket:
    """One WebSocket, from a thread of its own.

    Args:
        url: of the WebSocket, beginning with http.
        token: an API token that may open it.
        context: what HTTPS is trusted by.
        pause: seconds between two pings; None: it says nothing.
    """

    #: seconds that opening may take
    DEADLINE = 30.0

    def __init__(
        self, url: str, token: str, context: ssl.SSLContext | None, pause: float | None
    ) -> None:
        self.url, self.token, self.context, self.pause = url, token, context, pause
        self.opened, self.closed = threading.Event(), threading.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._work, name="socket", daemon=True)
        self._error: BaseException | None = None

    @property
    def is_open(self) -> bool:
        """Whether it was opened and neither side has closed it."""
        return self.opened.is_set() and not self.closed.is_set()

    def __enter__(self) -> Socket:
        self._thread.start()
        if not self.opened.wait(self.DEADLINE):
            raise TimeoutError(f"not open within {self.DEADLINE:g} s: {self.url}: {self._error}")
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(RuntimeError):  # it has ended
            self._loop.call_soon_threadsafe(self._task.cancel)
        self._thread.join(self.DEADLINE)

    def _work(self) -> None:
        try:
            self._task = self._loop.create_task(self._run())
            self._loop.run_until_complete(self._task)
        except BaseException as error:
            self._error = error
        finally:
            self.closed.set()
            self._loop.close()

    async def _run(self) -> None:
        headers = {"Authorization": f"token {self.token}"}
        sockets = Sockets()
        connector = aiohttp.TCPConnector(socket_factory=sockets, ssl=self.context or True)
        try:
            async with (
                aiohttp.ClientSession(headers=headers, connector=connector) as session,
                session.ws_connect(self.url) as socket,
            ):
                self.opened.set()
                while not socket.closed:
                    with contextlib.suppress(TimeoutError):
                        await socket.receive(self.pause)
                    if self.pause is not None and not socket.closed:
                        await socket.ping()
        finally:
            with contextlib.suppress(TimeoutError):  # what failed before says more
                await sockets.closed()
