"""What the forwarder's connections to clients and to servers have in common.

Invariants:

* A connection whose writes are not taken stops the reading of the one they come from, so
  nothing is held beyond the limits.
* Every wait has a deadline, looked after by one timer for all connections; an established
  WebSocket and a transfer that moves have none.
* A peer that vanished without a word is found by TCP keepalive, not by a timer on idleness.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable
from typing import cast

try:
    import fcntl
    import termios
except ImportError:  # not on every system
    fcntl = None  # type: ignore[assignment]

from .limits import Limits
from .loops import writelines_pauses

__all__ = ["Connection", "Registry"]

_NEVER = float("inf")
# below this, a copy costs less than one more buffer to send
_COPIED = 16 * 1024


class Registry:
    """All connections of a forwarder, and the timer for their deadlines.

    Attributes:
        joins: pieces are sent as one, since the loop would not say that they are too much.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.loop = asyncio.get_running_loop()
        self.joins = not writelines_pauses(self.loop)
        self.connections: set[Connection] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._empty = asyncio.Event()
        self._empty.set()

    def now(self) -> float:
        """The loop's clock, in seconds."""
        return self.loop.time()

    def add(self, connection: Connection) -> None:
        """Count a connection in; its deadlines are looked after from now on."""
        self.connections.add(connection)
        self._empty.clear()
        if self._timer is None:
            self._timer = self.loop.call_later(self.limits.tick, self._sweep)

    def discard(self, connection: Connection) -> None:
        """Count a connection out, if it is in."""
        self.connections.discard(connection)
        if not self.connections:
            self._empty.set()

    async def wait_empty(self) -> None:
        """Return once there is no connection."""
        await self._empty.wait()

    def _sweep(self) -> None:
        self._timer = None
        now = self.now()
        for connection in tuple(self.connections):
            if connection.stalled < now:
                connection.transport.abort()
            elif connection.deadline < now:
                connection.deadline = _NEVER
                connection.expired()
        if self.connections:
            self._timer = self.loop.call_later(self.limits.tick, self._sweep)


class Connection(asyncio.Protocol):
    """One TCP, TLS or unix connection.

    Attributes:
        peer: the connection that this one's data goes to and comes from, while there is one.
        deadline: when :meth:`expired` is called, on the loop's clock.
        stalled: when the connection is dropped unless what it holds has been taken.
        write_paused: it holds as much as it may.
    """

    transport: asyncio.Transport

    def __init__(self, registry: Registry) -> None:
        self.registry = registry
        self.peer: Connection | None = None
        self.deadline = _NEVER
        self.stalled = _NEVER
        self.write_paused = False
        self.is_open = False
        self._tunnel: Callable[[], None] | None = None
        self._ended = False
        self._read_paused = False

    @property
    def tunnelling(self) -> bool:
        """Whether bytes go through as they are."""
        return self._tunnel is not None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.is_open = True
        self.transport.set_write_buffer_limits(self.registry.limits.buffer_bytes)
        sock = transport.get_extra_info("socket")
        if sock is not None and sock.family != getattr(socket, "AF_UNIX", None):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            with contextlib.suppress(AttributeError, OSError):  # not on every system
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 60)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 15)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 4)
        self.registry.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_open = False
        self.registry.discard(self)
        peer, self.peer = self.peer, None
        if peer is not None:
            peer.peer = None
            if self.tunnelling:
                peer.close(self.registry.limits.half_closed_timeout)

    def write(self, data: bytes) -> None:
        """Send, unless the connection is on its way out."""
        if not self.transport.is_closing():
            self.transport.write(data)

    def write_all(self, pieces: list[bytes]) -> None:
        """Send several pieces, as :meth:`write`; large ones are not copied if that is safe."""
        if len(pieces) == 1:
            self.write(pieces[0])
        elif self.registry.joins or sum(map(len, pieces)) < _COPIED:
            self.write(b"".join(pieces))
        elif not self.transport.is_closing():
            self.transport.writelines(pieces)

    @property
    def unread(self) -> bool:
        """Whether the other end has yet to take some of what was sent."""
        if self.transport.get_write_buffer_size():
            return True
        # TLS does not count what it has handed on to the socket's own transport, but while that
        # holds any of it the kernel does too
        sock = self.transport.get_extra_info("socket")
        if sock is None or fcntl is None or not self.transport.get_extra_info("ssl_object"):
            return False
        try:
            queued = fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, bytes(4))
        except OSError:  # it is closed, or the system cannot say
            return False
        return any(queued)

    def wait(self, seconds: float | None) -> None:
        """Set the deadline; None for none."""
        self.deadline = _NEVER if seconds is None else self.registry.now() + seconds

    def pause_reading(self) -> None:
        """Take nothing more from the other end for now."""
        if not self._read_paused:
            self._read_paused = True
            self.transport.pause_reading()

    def resume_reading(self) -> None:
        """Undo :meth:`pause_reading`, if it was called."""
        if self._read_paused:
            self._read_paused = False
            self.transport.resume_reading()

    def expired(self) -> None:
        """The deadline has passed."""
        self.transport.abort()

    def close(self, patience: float) -> None:
        """Close once what is held has been sent, or dropped ``patience`` seconds later."""
        self.wait(patience)
        self.transport.close()

    def reset(self) -> None:
        """Drop the connection such that its other end takes it for an error, not for an end."""
        sock = self.transport.get_extra_info("socket")
        if sock is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()

    def couple(self, peer: Connection) -> None:
        """Let each side's reading wait for the other's writing."""
        self.peer, peer.peer = peer, self
        for source, sink in ((self, peer), (peer, self)):
            if sink.write_paused:
                source.pause_reading()
            else:
                source.resume_reading()

    def uncouple(self) -> None:
        """Undo :meth:`couple`; both sides read again."""
        peer, self.peer = self.peer, None
        self.resume_reading()
        if peer is not None:
            peer.peer = None
            peer.resume_reading()

    def pause_writing(self) -> None:
        self.write_paused = True
        self.stalled = self.registry.now() + self.registry.limits.stall_timeout
        if self.peer is not None:
            self.peer.pause_reading()

    def resume_writing(self) -> None:
        self.write_paused = False
        self.stalled = _NEVER
        if self.peer is not None:
            self.peer.resume_reading()

    def tunnel(self, peer: Connection, on_data: Callable[[], None]) -> None:
        """From now on pass bytes both ways as they are; ``on_data`` is called for each lot."""
        for side in (self, peer):
            side.wait(None)
            side._tunnel = on_data
        self.couple(peer)

    def relay(self, data: bytes) -> None:
        """Pass bytes through the tunnel."""
        peer = self.peer
        if peer is None or self._tunnel is None:
            return
        peer.write(data)
        self._tunnel()
        if peer._ended:
            peer.wait(self.registry.limits.half_closed_timeout)

    def eof_received(self) -> bool:
        peer = self.peer
        if not self.tunnelling or peer is None:
            return False
        self._ended = True
        # TLS has no half-closed state: asyncio closes such a transport whatever is said here
        over_tls = self.transport.get_extra_info("ssl_object") is not None
        if over_tls or peer._ended or not peer.transport.can_write_eof():
            return False
        if not peer.transport.is_closing():
            peer.transport.write_eof()
        self.wait(self.registry.limits.half_closed_timeout)
        return True
