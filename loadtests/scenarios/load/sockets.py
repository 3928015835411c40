"""WebSockets of Locust's users: opened, asked and answered, each counted as a request."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from typing import Any

import websocket
from locust import FastHttpUser

__all__ = ["Socket"]

#: seconds that a WebSocket may take to open, or to answer
PATIENCE = 15.0


class Socket:
    """One WebSocket of one user.

    Args:
        user: whose it is; its Locust events are told.
        path: below the user's host.
        headers: of the request that opens it.
    """

    def __init__(self, user: FastHttpUser, path: str, headers: Mapping[str, str]) -> None:
        self.user = user
        self.url = str(user.host).replace("http", "ws", 1).rstrip("/") + path
        self.headers = dict(headers)
        self._open: Any = None

    @contextlib.contextmanager
    def counted(self, name: str) -> Iterator[None]:
        """Count what the block does as a request; what it raises is a failure, and goes no further.

        The WebSocket is closed by a failure.
        """
        begun, error = time.perf_counter(), None
        try:
            yield
        except (OSError, ValueError, websocket.WebSocketException) as failed:
            error = failed
            self.close()
        self.user.environment.events.request.fire(
            request_type="WS", name=name, response_time=(time.perf_counter() - begun) * 1000,
            response_length=0, exception=error, context={},
        )  # fmt: skip

    @property
    def is_open(self) -> bool:
        """Whether it was opened, and has not failed since."""
        return self._open is not None

    def open(self, name: str) -> bool:
        """Open it, if it is not; returns whether it is open."""
        if self._open is None:
            with self.counted(name):
                self._open = websocket.create_connection(
                    self.url, timeout=PATIENCE, header=self.headers, enable_multithread=False
                )
        return self.is_open

    def send(self, text: str) -> None:
        """Send; only within :meth:`counted`."""
        self._open.send(text)

    def receive(self) -> str:
        """The next message; only within :meth:`counted`."""
        found = self._open.recv()
        if found == "":
            raise ConnectionError("WebSocket closed")
        return found if isinstance(found, str) else found.decode(errors="replace")

    def close(self) -> None:
        """Let go of it."""
        if self._open is not None:
            with contextlib.suppress(Exception):
                self._open.close(timeout=1)
            self._open = None
