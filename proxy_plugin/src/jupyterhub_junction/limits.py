"""How much the forwarder holds, and how long it waits.

Invariant: no buffer without a limit, and no wait without an end.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

__all__ = ["Limits"]


@dataclass(frozen=True, slots=True)
class Limits:
    """How much the forwarder holds, and how long it waits; bytes and seconds.

    Attributes:
        header_bytes: the greatest head of a request or response.
        buffer_bytes: what a connection may hold in each direction before its source is paused
            (one read of up to 256 KiB may come on top).
        connections: clients served at once; one more is answered 503.
        idle_per_target: connections kept open to one server while unused.
        header_timeout: from the first byte of a request's head to its end; for the TLS
            handshake too.
        keepalive_timeout: for the next request on a connection.
        connect_timeout: for a connection to a server, TLS included.
        response_timeout: for a server's head once it has the whole request, and between two
            pieces of its body.  Long, because people run requests for hours and wait for events
            all night.
        body_timeout: for the next piece of a request's body, of any size, while the server has
            not begun to answer and has room for it.
        backend_idle: how long an unused connection to a server is kept.
        error_page_timeout: for the hub's error page, all of it.
        stall_timeout: a receiver that takes nothing of what is held for it.
        half_closed_timeout: a WebSocket's connection of which one side has ended and the
            other says nothing.
        linger: for a client to read an answer before its connection is closed on it.
    """

    header_bytes: int = 64 * 1024
    buffer_bytes: int = 128 * 1024
    connections: int = 20_000
    idle_per_target: int = 32
    header_timeout: float = 60.0
    keepalive_timeout: float = 120.0
    connect_timeout: float = 10.0
    response_timeout: float = 86_400.0
    body_timeout: float = 300.0
    backend_idle: float = 60.0
    error_page_timeout: float = 10.0
    stall_timeout: float = 3600.0
    half_closed_timeout: float = 60.0
    linger: float = 5.0

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if value < 0 or (value == 0 and name != "idle_per_target"):
                raise ValueError(f"{name} is {value}: it must be more than 0")

    @property
    def tick(self) -> float:
        """How often deadlines are looked at."""
        times = [value for value in asdict(self).values() if isinstance(value, float)]
        return float(max(0.01, min(1.0, min(times) / 4)))
