"""The sockets that users connect to: the supervisor owns them, and Traefik is handed them.

So they outlive a Traefik, and while one is started no connection is refused.  Invariants:

* A socket is named after its entry point, and handed over as systemd does it (``LISTEN_FDS``):
  in the file descriptors from 3 on.
* While the :class:`Door` is shut, they are barred (:mod:`.barring`): a new Traefik, which accepts
  before it has a route and would answer 404, gets nothing to accept, and clients wait.
* What stood in the queue of a Traefik that died is answered with 503, as is what it had accepted.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import logging
import os
import socket
from collections.abc import Callable, Mapping

from .barring import bar, unbar

__all__ = ["Door", "listen"]

_FIRST = 3  # SD_LISTEN_FDS_START

_BUSY = (
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\n"
    b"Connection: close\r\n\r\n"
)


def _bind(address: str, reuse_port: bool) -> socket.socket:
    host, colon, port = address.rpartition(":")
    host = host.strip("[]")
    if not colon or not port.isdigit():
        raise ValueError(f"address {address!r} is refused: write HOST:PORT")
    # as Go, and so Traefik, does it: a wildcard of either family stands for both
    wildcard = host in ("", "0.0.0.0", "::")  # noqa: S104
    if wildcard and socket.has_dualstack_ipv6():
        family, where = socket.AF_INET6, ("::", int(port))
    else:
        flags = socket.AI_PASSIVE | socket.AI_NUMERICSERV
        found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=flags)
        found.sort(key=lambda each: each[0] != socket.AF_INET)
        family, where = found[0][0], found[0][4]  # type: ignore[assignment]
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(not wildcard))
        if reuse_port:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.setblocking(False)
        listener.bind(where)
    except BaseException:
        listener.close()
        raise
    return listener


async def listen(
    addresses: Mapping[str, str],
    log: logging.Logger,
    *,
    shared: str = "",
    inside: Mapping[str, socket.socket] | None = None,
    timeout: float = 10.0,
) -> Door:
    """Bind all addresses, and listen behind a shut door.

    Args:
        addresses: ``host:port`` by name of the entry point.
        shared: the entry point whose port is shared with other replicas.
        inside: bound sockets of entry points that the door does not stand before.
        timeout: seconds that an address gets to become free: that of a replica which was
            killed is, once its Traefik has ended too.

    Raises:
        OSError: an address cannot be had; the message names it.
        ValueError: it is none.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout
    sockets: dict[str, socket.socket] = {}
    try:
        for name, address in addresses.items():
            said = False
            while name not in sockets:
                try:
                    sockets[name] = _bind(address, name == shared)
                except OSError as error:
                    if error.errno != errno.EADDRINUSE or loop.time() > deadline:
                        raise OSError(f"cannot listen on {address}: {error}") from None
                    if not said:
                        log.warning("waiting for %s, which is in use", address)
                        said = True
                    await asyncio.sleep(0.1)
        door = Door(sockets, log, inside=inside)
        door.shut()
        for listener in (*sockets.values(), *door.inside.values()):
            listener.listen(socket.SOMAXCONN)
    except BaseException:
        for listener in sockets.values():
            listener.close()
        raise
    return door


class Door:
    """Listening sockets by name of their entry point, with a door before them."""

    def __init__(
        self,
        sockets: Mapping[str, socket.socket],
        log: logging.Logger,
        *,
        inside: Mapping[str, socket.socket] | None = None,
    ) -> None:
        self.sockets = dict(sockets)
        self.inside = dict(inside or {})
        self.log = log
        self._shut = False
        self._refusing: set[asyncio.Task[None]] = set()

    def shut(self) -> None:
        """Let nobody in: what comes from now on waits, what stands in the queue gets 503."""
        if not self._shut:
            self._shut = True
            for name, each in self.sockets.items():
                try:
                    bar(each)
                except OSError as error:
                    message = "a Traefik that starts may answer 404 at %s at first: %s"
                    self.log.warning(message, name, error)
        for each in self.sockets.values():
            with contextlib.suppress(OSError):  # does not listen yet, or has no more
                while True:
                    self._refuse(each.accept()[0])

    def _refuse(self, connection: socket.socket) -> None:
        task = asyncio.ensure_future(_answer_busy(connection))
        self._refusing.add(task)
        task.add_done_callback(self._refusing.discard)

    def open(self) -> None:
        """Let everyone in, those who have waited first."""
        if not self._shut:
            return
        self._shut = False
        for each in self.sockets.values():
            unbar(each)

    def close(self) -> None:
        """Let go of the sockets: they stay open for as long as a Traefik holds them."""
        self.open()
        for each in (*self.sockets.values(), *self.inside.values()):
            each.close()

    def handing_over(self) -> tuple[list[int], Callable[[], None]]:
        """How to start a process that gets the sockets: as systemd would.

        Returns:
            The file descriptors that it keeps, and what it has to do between fork and exec.
        """
        handed = self.sockets | self.inside
        targets = range(_FIRST, _FIRST + len(handed))
        # a file descriptor that is free here could be what the child reports a failure through
        for number in targets:
            try:
                fcntl.fcntl(number, fcntl.F_GETFD)
            except OSError:
                null = os.open(os.devnull, os.O_RDWR)
                if null != number:
                    os.dup2(null, number, inheritable=False)
                    os.close(null)
        sources = [each.fileno() for each in handed.values()]
        names = ":".join(handed)

        def hand_over() -> None:
            # first out of the way: a source may stand where a target comes to stand
            moved = [fcntl.fcntl(each, fcntl.F_DUPFD, targets.stop) for each in sources]
            for source, target in zip(moved, targets, strict=True):
                os.dup2(source, target)
                os.close(source)
            os.environ["LISTEN_PID"] = str(os.getpid())
            os.environ["LISTEN_FDS"] = str(len(moved))
            os.environ["LISTEN_FDNAMES"] = names

        return list(targets), hand_over


async def _answer_busy(connection: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    connection.setblocking(False)
    with connection, contextlib.suppress(OSError, TimeoutError):
        async with asyncio.timeout(2):
            first = await loop.sock_recv(connection, 65536)
            if first[:1] != b"\x16":  # a TLS handshake, to which no such answer can be given
                await loop.sock_sendall(connection, _BUSY)
                connection.shutdown(socket.SHUT_WR)
                # to close with data unread would reset the connection, and the answer be lost
                while await loop.sock_recv(connection, 65536):
                    pass
