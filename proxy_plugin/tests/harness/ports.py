"""Ports that no other process of the tests is given: each process has a lane of its own.

``free_ports`` of the package asks the system, which may give a port away again, to a listener or
as the near end of a connection, before a program that was told of it listens there.  Tests run side
by side, so that happens.  Here a port is not the system's to give (it lies below those that it
gives to connections), belongs to one process, and comes back only after all others of its lane.
"""

from __future__ import annotations

import contextlib
import fcntl
import socket
import tempfile
from pathlib import Path
from typing import IO

#: below net.ipv4.ip_local_port_range, and below Kubernetes' NodePorts
FIRST, LAST = 11000, 29999
LANE = 500


def has_ipv6() -> bool:
    """Whether programs here can be reached by IPv6."""
    try:
        with socket.socket(socket.AF_INET6) as one:
            one.bind(("::1", 0))
    except OSError:
        return False
    return True


class Lane:
    """Ports of this process, which holds them as long as it lives."""

    def __init__(self) -> None:
        self.ports, self._lock = self._take()
        self._next = 0

    def close(self) -> None:
        """Leave the lane to another one."""
        self._lock.close()

    @staticmethod
    def _take() -> tuple[range, IO[str]]:
        for first in range(FIRST, LAST + 2 - LANE, LANE):
            name = Path(tempfile.gettempdir(), f"junction-test-ports-{first}")
            with contextlib.ExitStack() as held:
                try:
                    lock = held.enter_context(name.open("w"))  # another user's may not be opened
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except OSError:
                    continue
                held.pop_all()
                return range(first, first + LANE), lock
        raise RuntimeError(
            f"all ports from {FIRST} to {LAST} are taken: end other runs of the tests"
        )

    def free_ports(self, count: int, host: str = "127.0.0.1") -> list[int]:
        """Ports that nothing listens on now, all different.

        Raises:
            RuntimeError: there are not so many.
        """
        found: list[int] = []
        for _ in self.ports:
            if len(found) == count:
                break
            port = self.ports[self._next % len(self.ports)]
            self._next += 1
            with socket.socket() as probe:
                try:
                    probe.bind((host, port))
                except OSError:
                    continue
            found.append(port)
        if len(found) < count:
            raise RuntimeError(f"not {count} free ports in {self.ports}")
        return found
