"""The door: what waits before it, what gets through it, and to whom the sockets are handed."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from harness.waiting import SOON, until

from jupyterhub_junction.sockets import Door, free_ports, listen
from jupyterhub_junction.supervisor import Child

LOG = logging.getLogger("test.sockets")


@pytest.fixture(params=["127.0.0.1", "[::1]"])
async def door(request: pytest.FixtureRequest) -> AsyncIterator[Door]:
    if request.param == "[::1]" and not socket.has_dualstack_ipv6():
        pytest.skip("no IPv6 on this machine")
    made = await listen({"web": f"{request.param}:0"}, LOG)
    yield made
    made.close()


async def _accepted(door: Door) -> socket.socket | None:
    try:
        return door.sockets["web"].accept()[0]
    except BlockingIOError:
        return None


async def _connect(door: Door) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host, port = door.sockets["web"].getsockname()[:2]
    async with asyncio.timeout(SOON):
        return await asyncio.open_connection(host, port)


async def test_who_connects_before_a_shut_door_waits_and_is_let_in(door: Door) -> None:
    _, writer = await _connect(door)
    writer.write(b"hello")
    await writer.drain()
    # a handshake on loopback is over when connect() returns, so there is nothing to wait for
    assert await _accepted(door) is None
    door.open()
    accepted = await until(lambda: _accepted(door), "let in", deadline=SOON)
    loop = asyncio.get_running_loop()
    accepted.setblocking(False)
    with accepted:
        async with asyncio.timeout(SOON):
            assert await loop.sock_recv(accepted, 100) == b"hello"
            # it does not bring the filter with it
            writer.write(b"more")
            assert await loop.sock_recv(accepted, 100) == b"more"
    writer.close()


async def test_who_stood_in_the_queue_when_the_door_was_shut_is_told_to_come_again(
    door: Door,
) -> None:
    door.open()
    reader, writer = await _connect(door)
    writer.write(b"GET / HTTP/1.1\r\nHost: hub\r\n\r\n")
    await writer.drain()
    door.shut()
    async with asyncio.timeout(SOON):
        head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 503 ")
    assert b"Retry-After: 1\r\n" in head
    writer.close()


async def test_a_wildcard_stands_for_both_families() -> None:
    if not socket.has_dualstack_ipv6():
        pytest.skip("no IPv6 on this machine")
    for wildcard in ("0.0.0.0:0", ":0", "[::]:0"):
        door = await listen({"web": wildcard}, LOG)
        port = door.sockets["web"].getsockname()[1]
        for host in ("127.0.0.1", "::1"):
            with socket.create_connection((host, port), timeout=SOON):
                pass
        door.close()


async def test_a_shared_port_is_shared_and_another_is_not(caplog: pytest.LogCaptureFixture) -> None:
    [port] = free_ports(1)
    address = f"127.0.0.1:{port}"
    one = await listen({"web": address}, LOG, shared="web")
    two = await listen({"web": address}, LOG, shared="web")
    for door in (one, two):
        door.close()
    one = await listen({"web": address}, LOG)
    with pytest.raises(OSError, match=f"cannot listen on {address}.*in use"):
        await listen({"web": address}, LOG, timeout=0)
    waiting = asyncio.create_task(listen({"web": address}, LOG))
    await until(lambda: f"waiting for {address}" in caplog.text, deadline=SOON)
    one.close()
    (await waiting).close()


def test_free_ports_are_different_ones() -> None:
    assert len(set(free_ports(20))) == 20


@pytest.mark.parametrize("address", ["8000", "127.0.0.1:", "127.0.0.1:http", ""])
async def test_what_is_no_address_is_named(address: str) -> None:
    with pytest.raises(ValueError, match="HOST:PORT"):
        await listen({"web": address}, LOG)


async def test_what_cannot_be_bound_is_named() -> None:
    with pytest.raises(OSError, match=r"cannot listen on 203\.0\.113\.1:0") as caught:
        await listen({"web": "203.0.113.1:0"}, LOG)
    assert os.strerror(errno.EADDRNOTAVAIL) in str(caught.value)


PROGRAM = """
import os, socket
ours = os.environ["LISTEN_PID"] == str(os.getpid())
names = os.environ["LISTEN_FDNAMES"].split(":")
ports = [socket.socket(fileno=3 + n).getsockname()[1] for n in range(int(os.environ["LISTEN_FDS"]))]
open(os.environ["SAID"], "w").write(repr((ours, dict(zip(names, ports, strict=True)))))
"""


async def test_a_child_gets_the_sockets_in_the_way_of_systemd(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = tmp_path / "said"
    monkeypatch.setenv("SAID", str(said))
    door = await listen({"web": "127.0.0.1:0", "web-1": "127.0.0.1:0", "web-2": "[::1]:0"}, LOG)
    ports = {name: each.getsockname()[1] for name, each in door.sockets.items()}
    for _ in range(2):  # the same ones again, at a second start
        child = Child("child", [sys.executable, "-c", PROGRAM], LOG, door=door)
        await child.start()
        assert child.process is not None
        assert await child.process.wait() == 0
        assert said.read_text() == repr((True, ports))
        said.unlink()
    assert "LISTEN_PID" not in os.environ
    missing = Child("missing", ["/no/such/program"], LOG, door=door)
    with pytest.raises(FileNotFoundError):
        await missing.start()
    door.close()
