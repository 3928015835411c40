"""The kernel's established TCP connections, and how long each has been silent.

By netlink: sock_diag(7), and the structures of ``linux/inet_diag.h`` and ``linux/tcp.h``, which
kernels only ever extend at their end.  pyroute2 reads the same, but takes 20 times as long for
each connection: with the thousands that a class has open, half of an agent's time.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator
from typing import NamedTuple

__all__ = ["Established", "established"]

# linux/netlink.h
_SOCK_DIAG = 4  # NETLINK_SOCK_DIAG
_HEADER = struct.Struct("=IHHII")  # nlmsghdr: length, type, flags, sequence, port
_REQUEST_DUMP = 0x1 | 0x300  # NLM_F_REQUEST | NLM_F_DUMP
_ERROR, _DONE = 2, 3
_CODE = struct.Struct("=i")
# linux/sock_diag.h, linux/inet_diag.h
_BY_FAMILY = 20  # SOCK_DIAG_BY_FAMILY
_ASK = struct.Struct("=BBBxI48x")  # inet_diag_req_v2: family, protocol, extensions, states
_INFO = 2  # INET_DIAG_INFO
# inet_diag_msg: the peer's port, its address, the inode
_ROW = struct.Struct("=4x2xH16x16s4x8x4x4x4x4xI")
_ATTRIBUTE = struct.Struct("=HH")  # rtattr: length, type
# tcp_info: milliseconds since data was last sent, and since it was last received
_SILENT = struct.Struct("=44xI4xI")
_STATE_ESTABLISHED = 1 << 1  # TCP_ESTABLISHED, as a set of states
_PART = 1 << 16  # bytes read at once
#: seconds that the kernel gets for each part of its answer, which it has at hand
_PATIENCE = 10.0


class Established(NamedTuple):
    """One connection.

    Attributes:
        peer: IP address and port of the other side; an IPv4 address that is mapped to IPv6 is one
            of IPv4.
        inode: of the socket, as in ``/proc/PID/fd``.
        silent: seconds since data went either way.
    """

    peer: tuple[str, int]
    inode: int
    silent: float


def established() -> Iterator[Established]:
    """All connections of this network namespace; blocks for some milliseconds.

    Raises:
        OSError: the kernel has no sock_diag for TCP, refuses it now, says nothing for 10 s, or
            says what cannot be read.
    """
    if not hasattr(socket, "AF_NETLINK"):
        raise OSError(errno.ENOSYS, "netlink is Linux's")
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _SOCK_DIAG) as kernel:
        kernel.settimeout(_PATIENCE)
        for family in (socket.AF_INET, socket.AF_INET6):
            ask = _ASK.pack(family, socket.IPPROTO_TCP, 1 << (_INFO - 1), _STATE_ESTABLISHED)
            kernel.send(
                _HEADER.pack(_HEADER.size + len(ask), _BY_FAMILY, _REQUEST_DUMP, 0, 0) + ask
            )
            yield from _answer(kernel, family)


def _answer(kernel: socket.socket, family: int) -> Iterator[Established]:
    texts: dict[bytes, str] = {}
    while True:
        part, _, flags, _ = kernel.recvmsg(_PART)
        if flags & socket.MSG_TRUNC or not part:
            raise OSError(errno.EMSGSIZE, "sock_diag: a part of the answer is too long")
        at = 0
        while at < len(part):
            length, kind, _, _, _ = _HEADER.unpack_from(part, at)
            if length < _HEADER.size or at + length > len(part):
                raise OSError(errno.EBADMSG, f"sock_diag: a message of {length} bytes")
            begin, end = at + _HEADER.size, at + length
            at += (length + 3) & ~3
            if kind in (_ERROR, _DONE):
                (code,) = _CODE.unpack_from(part, begin) if end - begin >= _CODE.size else (0,)
                if code < 0:
                    raise OSError(-code, f"sock_diag: {os.strerror(-code)}")
                return
            if end - begin < _ROW.size:
                raise OSError(errno.EBADMSG, f"sock_diag: a connection of {end - begin} bytes")
            port, address, inode = _ROW.unpack_from(part, begin)
            silent = _silent(part, begin + _ROW.size, end)
            if silent is not None:
                text = texts.get(address) or texts.setdefault(address, _text(address, family))
                yield Established((text, socket.ntohs(port)), inode, silent / 1000)


def _silent(part: bytes, at: int, end: int) -> int | None:
    while at + _ATTRIBUTE.size <= end:
        length, kind = _ATTRIBUTE.unpack_from(part, at)
        if kind == _INFO and length >= _ATTRIBUTE.size + _SILENT.size:
            sent, received = _SILENT.unpack_from(part, at + _ATTRIBUTE.size)
            return min(int(sent), int(received))
        at += max((length + 3) & ~3, _ATTRIBUTE.size)
    return None


def _text(address: bytes, family: int) -> str:
    used = address[:4] if family == socket.AF_INET else address
    return socket.inet_ntop(family, used).removeprefix("::ffff:")
