"""Bars a listening socket: the kernel drops what would make a new connection, and says nothing.

Clients send it again, so they wait, and nobody but the kernel holds a connection meanwhile.
Invariants:

* A barred socket accepts nobody and refuses nobody, nor a handshake that had begun before.
* What it has accepted, or accepts later, is as if it had never been barred.
* It is the one socket that is barred: another that shares its port is not.

There are two ways, and the first that the kernel allows is taken:

* a signature (``TCP_MD5SIG``, RFC 2385) that all have to bear, by a key that nobody is told:
  handshakes are dropped from their first packet on, and clients send that again after 1 s.
  Anyone may set it, but not every kernel has it (``CONFIG_TCP_MD5SIG``, no FIPS mode).
* a filter (``SO_ATTACH_FILTER``): handshakes are answered, and the packet that would finish one
  is dropped.  Clients send that again after 0.2 s, 0.4 s ..., but keep the wait in mind as the
  round-trip time to this address, and the next time they try again the later.  Newer kernels
  want ``CAP_NET_ADMIN`` for a filter on a TCP socket; 6.18.44 does.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import struct
from collections.abc import Callable

__all__ = ["bar", "unbar"]

# linux/asm-generic/socket.h and linux/tcp.h; Python has no names for them
_SO_ATTACH_FILTER = 26
_SO_DETACH_FILTER = 27
_TCP_MD5SIG_EXT = 32
_TCP_MD5SIG_FLAG_PREFIX = 1
_KEY_LENGTH = 80  # TCP_MD5SIG_MAXKEYLEN

# Classic BPF over the TCP header: a packet passes if it is a SYN or a RST, and no ACK.
_ONLY_NEW = b"".join(
    struct.pack("=HBBI", *instruction)
    for instruction in (
        (0x30, 0, 0, 13),  # A = the flags
        (0x54, 0, 0, 0x16),  # A &= SYN | RST | ACK
        (0x15, 1, 0, 0x02),  # A == SYN: pass
        (0x45, 0, 1, 0x04),  # A & RST: pass, else drop
        (0x06, 0, 0, 0xFFFFFFFF),
        (0x06, 0, 0, 0),
    )
)

# struct sockaddr_in and sockaddr_in6 of everyone; to a socket for both families, one of IPv4
# is one whose IPv6 address is mapped
_ALL_IPV4 = struct.pack("=H14x", socket.AF_INET)
_ALL_MAPPED = struct.pack("=H6x16s4x", socket.AF_INET6, b"\0" * 10 + b"\xff\xff" + b"\0" * 4)
_ALL_IPV6 = struct.pack("=H26x", socket.AF_INET6)


def _set_filter(listener: socket.socket) -> None:
    code = ctypes.create_string_buffer(_ONLY_NEW, len(_ONLY_NEW))
    program = struct.pack("HP", len(_ONLY_NEW) // 8, ctypes.addressof(code))
    listener.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)


def _set_key(listener: socket.socket, key: bytes) -> None:
    everyone = [_ALL_IPV4] if listener.family == socket.AF_INET else [_ALL_MAPPED, _ALL_IPV6]
    for address in everyone:
        # struct tcp_md5sig; the length of the prefix is 0
        told = struct.pack("=128sBBHi80s", address, _TCP_MD5SIG_FLAG_PREFIX, 0, len(key), 0, key)
        listener.setsockopt(socket.IPPROTO_TCP, _TCP_MD5SIG_EXT, told)


def _want_signature(listener: socket.socket) -> None:
    try:
        _set_key(listener, os.urandom(_KEY_LENGTH))
    except OSError:
        unbar(listener)  # half of it may be there
        raise


_WAYS: dict[str, Callable[[socket.socket], None]] = {
    "signature": _want_signature,
    "filter": _set_filter,
}


def bar(listener: socket.socket) -> None:
    """Keep new connections from a socket of TCP, which may or may not listen yet.

    Raises:
        OSError: the kernel allows it in no way; the message names them all.
    """
    refusals = []
    for name, way in _WAYS.items():
        try:
            return way(listener)
        except OSError as error:
            refusals.append(f"{name}: {error}")
    raise OSError(f"new connections cannot be held back ({'; '.join(refusals)})")


def unbar(listener: socket.socket) -> None:
    """Let new connections through again, those who have waited first; no error if they were."""
    with contextlib.suppress(OSError):
        listener.setsockopt(socket.SOL_SOCKET, _SO_DETACH_FILTER, 0)
    with contextlib.suppress(OSError):
        _set_key(listener, b"")
