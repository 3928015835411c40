"""How much the forwarder holds, and how long it waits.

Invariants:

* No buffer without a limit, and no wait without an end.
* No more connections are taken than there are open files for.
"""

from __future__ import annotations

import contextlib
from dataclasses import asdict, dataclass, replace

try:
    import resource
except ImportError:  # not on every system
    resource = None  # type: ignore[assignment]

__all__ = ["Limits", "raise_file_limit"]

# of the process: for its libraries, logs and whatever else it does
_OTHER_FILES = 256


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
    def files(self) -> int:
        """Open files that so many connections need: one to the client, one to the server."""
        return 2 * self.connections + _OTHER_FILES

    def within(self, files: float) -> Limits:
        """The same with no more connections than so many open files allow, and at least one."""
        if self.files <= files:
            return self
        room = int(files) - min(_OTHER_FILES, int(files) // 4)
        return replace(self, connections=max(1, min(self.connections, room // 2)))

    @property
    def tick(self) -> float:
        """How often deadlines are looked at."""
        times = [value for value in asdict(self).values() if isinstance(value, float)]
        return float(max(0.01, min(1.0, min(times) / 4)))


def raise_file_limit(wanted: int) -> float:
    """Let the process have so many open files, or as many as it may; never fewer than before.

    No more than that, because the programs that it starts inherit it.

    Returns:
        How many it may have; infinite if nothing limits them.
    """
    if resource is None:
        return float("inf")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        more = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        with contextlib.suppress(OSError, ValueError):  # some systems have a limit beyond these
            resource.setrlimit(resource.RLIMIT_NOFILE, (more, hard))
            soft = more
    return float("inf") if soft == resource.RLIM_INFINITY else soft
