"""What an exchange asks of those around it: the client's connection, and what it shares."""

from __future__ import annotations

from typing import Protocol

from ..routes import Route
from .backends import Backends
from .connection import Connection
from .http11 import RequestHead
from .rewrite import ForwardedRules, Peer

__all__ = ["Client", "Service"]


class Service(Protocol):
    """What the exchanges of one forwarder share."""

    backends: Backends
    rules: ForwardedRules
    error_target: str | None
    stopping: bool

    def resolve(self, host: str, path: str, /) -> Route | None:
        """The route for a request, if there is one."""

    def active(self, route: Route) -> None:
        """A route's server has answered, or its WebSocket has moved."""

    def failed(self, status: int, head: RequestHead, route: Route | None, why: str) -> None:
        """Take note of a request that this proxy had to answer itself."""


class Client(Connection):
    """What an exchange asks of the client's connection."""

    remote: Peer

    def refuse(self, status: int, why: str) -> None:
        """Answer a request that cannot be served, and close."""
        raise NotImplementedError

    def finished(self, keep: bool) -> None:
        """The exchange is over: go on to the next request, or close."""
        raise NotImplementedError

    def release(self) -> bytes:
        """Let go of the exchange; returns what the client has sent beyond the request."""
        raise NotImplementedError
