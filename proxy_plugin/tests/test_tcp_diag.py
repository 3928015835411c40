"""The kernel's established connections, as it has them, and what may come instead of them."""

from __future__ import annotations

import errno
import os
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import NamedTuple

import pytest
from harness.ports import has_ipv6

from jupyterhub_junction.agent import tcp_diag
from jupyterhub_junction.agent.tcp_diag import Established, established

pytestmark = pytest.mark.skipif(not hasattr(socket, "AF_NETLINK"), reason="netlink is Linux's")


class Pair(NamedTuple):
    client: socket.socket
    server: socket.socket

    @property
    def server_address(self) -> tuple[str, int]:
        return self.client.getpeername()[:2]  # type: ignore[no-any-return]


def connected(stack: ExitStack, family: int, listen: str, connect: str) -> Pair:
    listener = stack.enter_context(socket.socket(family))
    listener.bind((listen, 0))
    listener.listen()
    port = listener.getsockname()[1]
    client = stack.enter_context(socket.create_connection((connect, port), timeout=10))
    server, _ = listener.accept()
    return Pair(client, stack.enter_context(server))


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def found(of: socket.socket) -> Established:
    inode = os.fstat(of.fileno()).st_ino
    (one,) = [one for one in established() if one.inode == inode]
    return one


@pytest.mark.parametrize(
    ("family", "listen", "connect"),
    [
        (socket.AF_INET, "127.0.0.1", "127.0.0.1"),
        (socket.AF_INET6, "::1", "::1"),
        (socket.AF_INET6, "::", "127.0.0.1"),
    ],
    ids=["ipv4", "ipv6", "mapped"],
)
def test_a_connection_has_the_other_sides_address(
    stack: ExitStack, family: int, listen: str, connect: str
) -> None:
    if family == socket.AF_INET6 and not has_ipv6():
        pytest.skip("no IPv6 here")
    pair = connected(stack, family, listen, connect)
    port = pair.client.getsockname()[1]
    assert found(pair.client).peer == (connect, pair.server_address[1])
    assert found(pair.server).peer == (connect, port)


def silent(of: socket.socket, least: float) -> None:
    """Wait until the kernel says that it has been silent for so long."""
    deadline = time.monotonic() + 30
    while found(of).silent < least:
        assert time.monotonic() < deadline


#: the kernel counts in ticks, of 10 ms at most, and late where it gets no CPU
SLACK = 0.1


@pytest.mark.parametrize("sender", ["client", "server"])
def test_data_either_way_ends_the_silence_of_both(stack: ExitStack, sender: str) -> None:
    pair = connected(stack, socket.AF_INET, "127.0.0.1", "127.0.0.1")
    ends = pair if sender == "client" else (pair.server, pair.client)
    silent(pair.client, 2 * SLACK)
    begun = time.monotonic()
    ends[0].send(b"x")
    ends[1].recv(1)
    for end in pair:
        assert found(end).silent <= time.monotonic() - begun + SLACK


def test_silence_is_told_in_seconds(stack: ExitStack) -> None:
    begun = time.monotonic()
    pair = connected(stack, socket.AF_INET, "127.0.0.1", "127.0.0.1")
    silent(pair.server, 2 * SLACK)
    assert 2 * SLACK <= found(pair.server).silent <= time.monotonic() - begun + SLACK


def test_many_connections_come_in_several_parts(
    stack: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    listener = stack.enter_context(socket.socket())
    listener.bind(("127.0.0.1", 0))
    listener.listen(1000)
    clients = [
        stack.enter_context(socket.create_connection(listener.getsockname(), 10))
        for _ in range(400)
    ]
    monkeypatch.setattr(tcp_diag, "_PART", 8192)
    inodes = {one.inode for one in established()}
    assert {os.fstat(one.fileno()).st_ino for one in clients} <= inodes


def test_a_closed_connection_is_none(stack: ExitStack) -> None:
    pair = connected(stack, socket.AF_INET, "127.0.0.1", "127.0.0.1")
    inode = os.fstat(pair.client.fileno()).st_ino
    assert any(one.inode == inode for one in established())
    pair.client.close()
    assert not any(one.inode == inode for one in established())


def _message(kind: int, body: bytes) -> bytes:
    return struct.pack("=IHHII", 16 + len(body), kind, 0, 0, 0) + body


@pytest.mark.parametrize("kind", [2, 3], ids=["error", "done"])
def test_an_error_of_the_kernel_is_raised(stack: ExitStack, kind: int) -> None:
    ours, kernels = map(stack.enter_context, socket.socketpair(type=socket.SOCK_DGRAM))
    kernels.send(_message(kind, struct.pack("=i", -errno.EPERM)))
    with pytest.raises(OSError, match="sock_diag: Operation not permitted") as info:
        list(tcp_diag._answer(ours, socket.AF_INET))
    assert info.value.errno == errno.EPERM


@pytest.mark.parametrize(
    ("part", "words"),
    [
        (struct.pack("=IHHII", 0, 20, 0, 0, 0), "a message of 0 bytes"),
        (struct.pack("=IHHII", 99, 20, 0, 0, 0), "a message of 99 bytes"),
        (_message(20, bytes(71)), "a connection of 71 bytes"),
        (bytes(1 << 17), "too long"),
    ],
    ids=["empty", "cut", "short", "long"],
)
def test_what_cannot_be_read_is_an_error_of_its_own(
    stack: ExitStack, part: bytes, words: str
) -> None:
    ours, kernels = map(stack.enter_context, socket.socketpair(type=socket.SOCK_DGRAM))
    kernels.send(part)
    with pytest.raises(OSError, match=words):
        list(tcp_diag._answer(ours, socket.AF_INET))


def test_a_connection_of_which_no_data_is_known_is_passed_over(stack: ExitStack) -> None:
    ours, kernels = map(stack.enter_context, socket.socketpair(type=socket.SOCK_DGRAM))
    kernels.send(_message(20, bytes(72)) + _message(3, struct.pack("=i", 0)))
    assert list(tcp_diag._answer(ours, socket.AF_INET)) == []


def test_a_kernel_that_says_nothing_is_not_waited_for(stack: ExitStack) -> None:
    ours, _ = map(stack.enter_context, socket.socketpair(type=socket.SOCK_DGRAM))
    ours.settimeout(0.01)
    with pytest.raises(TimeoutError):
        list(tcp_diag._answer(ours, socket.AF_INET))


def test_without_netlink_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(socket, "AF_NETLINK")
    with pytest.raises(OSError, match="netlink is Linux's"):
        list(established())
