"""When a server last had data: read from the kernel's connection table, not from requests.

The kernel keeps, for each established TCP connection, how long ago data went each way
(``tcp_info.tcpi_last_data_sent/recv``, over netlink's INET_DIAG).  So WebSockets count as
requests do, no request is logged or counted, and a server that refuses connections never looks
active.  Reading blocks for some milliseconds: call it in a thread.

Two routes with one target share their activity.
"""

from __future__ import annotations

import os
import re
import socket
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from urllib.parse import urlsplit

from .tcp_diag import established

__all__ = ["JITTER", "Address", "Resolver", "last_data", "newest_by_route"]

#: Seconds by which two readings of one event may differ: the kernel counts in ticks.
JITTER = 0.02

#: IP address and port
Address = tuple[str, int]


def _sockets_of(pid: int) -> frozenset[int]:
    """The socket inodes that a process holds."""
    folder = f"/proc/{pid}/fd"
    inodes = set()
    try:
        names = os.listdir(folder)
    except OSError:
        return frozenset()
    for name in names:
        try:
            link = os.readlink(f"{folder}/{name}")
        except OSError:
            continue
        found = re.fullmatch(r"socket:\[(\d+)\]", link)
        if found:
            inodes.add(int(found[1]))
    return frozenset(inodes)


def last_data(
    pids: Collection[int] | None = None, *, clock: Callable[[], float] = time.time
) -> dict[Address, float]:
    """When data last went to or came from each peer, in seconds since the epoch.

    Args:
        pids: count only these processes' connections (on a machine of one's own, others connect
            to the same servers); None counts all of this network namespace.

    Raises:
        OSError: the kernel has no INET_DIAG, or refuses it now.
    """
    wanted = None if pids is None else frozenset().union(*map(_sockets_of, pids))
    newest: dict[Address, float] = {}
    now = clock()
    for one in established():
        if wanted is None or one.inode in wanted:
            newest[one.peer] = max(newest.get(one.peer, 0.0), now - one.silent)
    return newest


class Resolver:
    """The addresses behind targets, looked up once a minute at most; blocks on a lookup."""

    LIMIT = 100_000
    TTL = 60.0

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._known: dict[str, tuple[float, tuple[Address, ...]]] = {}

    def addresses(self, target: str) -> Iterable[Address]:
        """The addresses that connections to a target may have; none if it has no name now."""
        known = self._known.get(target)
        now = self._clock()
        if known is not None and known[0] > now:
            return known[1]
        url = urlsplit(target)
        found: tuple[Address, ...] = ()
        if url.scheme in ("http", "https") and url.hostname:
            port = url.port or (443 if url.scheme == "https" else 80)
            try:
                rows = socket.getaddrinfo(url.hostname, port, type=socket.SOCK_STREAM)
                found = tuple({(str(row[4][0]), port) for row in rows})
            except OSError:
                found = ()
        if len(self._known) >= self.LIMIT:
            self._known.clear()
        self._known[target] = (now + self.TTL, found)
        return found


def newest_by_route(
    targets: Mapping[str, str], resolver: Resolver, pids: Collection[int] | None
) -> dict[str, float]:
    """When each route last had data, in seconds since the epoch; blocks.

    Args:
        targets: target by routespec.
        pids: see :func:`last_data`.
    """
    data = last_data(pids)
    newest = {}
    for routespec, target in targets.items():
        times = [data[address] for address in resolver.addresses(target) if address in data]
        if times:
            newest[routespec] = max(times)
    return newest
