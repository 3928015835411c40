"""The door: what waits before it, what gets through it, and to whom the sockets are handed."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
import struct
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from harness.unprivileged import unprivileged
from harness.waiting import CLUSTER, SOON, until

from jupyterhub_junction.ports import free_ports
from jupyterhub_junction.traefik import barring
from jupyterhub_junction.traefik.sockets import Door, listen
from jupyterhub_junction.traefik.supervisor import Child

LOG = logging.getLogger("test.sockets")


@pytest.fixture(params=["signature", "filter", "any"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """How the door is barred: in one of the ways, or the first that is allowed here."""
    chosen = str(request.param)
    if chosen != "any":
        monkeypatch.setattr(barring, "_WAYS", {chosen: barring._WAYS[chosen]})
        with socket.socket() as probe:
            try:
                barring.bar(probe)
            except OSError as error:
                pytest.skip(str(error))
    return chosen


PLACES = [("127.0.0.1", "127.0.0.1"), ("[::1]", "::1"), ("", "127.0.0.1"), ("", "::1")]


@pytest.fixture(params=PLACES, ids=lambda place: ":0 by ".join(place))
def place(request: pytest.FixtureRequest) -> tuple[str, str]:
    """Where the door is, and where clients see it."""
    listens, seen = request.param
    if seen == "::1" and not socket.has_dualstack_ipv6():
        pytest.skip("no IPv6 on this machine")
    return str(listens), str(seen)


@pytest.fixture
async def door(
    place: tuple[str, str], way: str, caplog: pytest.LogCaptureFixture
) -> AsyncIterator[Door]:
    made = await listen({"web": f"{place[0]}:0"}, LOG)
    yield made
    made.close()
    assert not caplog.records


async def _accepted(door: Door) -> socket.socket | None:
    try:
        return door.sockets["web"].accept()[0]
    except BlockingIOError:
        return None


async def _say(client: socket.socket, place: tuple[str, str], door: Door, words: bytes) -> None:
    loop = asyncio.get_running_loop()
    await loop.sock_connect(client, (place[1], door.sockets["web"].getsockname()[1]))
    await loop.sock_sendall(client, words)


def _abrupt(connection: socket.socket) -> socket.socket:
    """Have it end by a reset: else the kernel remembers how long it waited, and is slower next."""
    connection.setblocking(False)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    return connection


def _client(place: tuple[str, str]) -> socket.socket:
    return _abrupt(socket.socket(socket.AF_INET6 if ":" in place[1] else socket.AF_INET))


def _sends_again(client: socket.socket) -> bool:
    return client.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 3)[2] > 0  # tcpi_retransmits


async def test_who_connects_before_a_shut_door_waits_and_is_let_in(
    door: Door, place: tuple[str, str]
) -> None:
    loop = asyncio.get_running_loop()
    with _client(place) as client:
        saying = asyncio.create_task(_say(client, place, door, b"hello"))
        await until(lambda: _sends_again(client), "the client has to try again", deadline=SOON)
        assert await _accepted(door) is None
        door.open()
        accepted = await until(lambda: _accepted(door), "let in", deadline=SOON)
        with _abrupt(accepted):
            async with asyncio.timeout(SOON):
                await saying
                assert await loop.sock_recv(accepted, 100) == b"hello"
                # it does not bring the bar with it
                await loop.sock_sendall(client, b"more")
                assert await loop.sock_recv(accepted, 100) == b"more"


async def test_who_is_in_does_not_notice_that_the_door_is_shut(
    door: Door, place: tuple[str, str]
) -> None:
    loop = asyncio.get_running_loop()
    door.open()
    with _client(place) as client:
        async with asyncio.timeout(SOON):
            await _say(client, place, door, b"hello")
            accepted = await until(lambda: _accepted(door), "let in", deadline=SOON)
            with _abrupt(accepted):
                assert await loop.sock_recv(accepted, 100) == b"hello"
                door.shut()
                await loop.sock_sendall(client, b"more")
                assert await loop.sock_recv(accepted, 100) == b"more"
                await loop.sock_sendall(accepted, b"answer")
                assert await loop.sock_recv(client, 100) == b"answer"


async def test_who_stood_in_the_queue_when_the_door_was_shut_is_told_to_come_again(
    door: Door, place: tuple[str, str]
) -> None:
    door.open()
    with _client(place) as client:
        await _say(client, place, door, b"GET / HTTP/1.1\r\nHost: hub\r\n\r\n")
        door.shut()
        head = b""
        async with asyncio.timeout(SOON):
            while not head.endswith(b"\r\n\r\n"):
                head += await asyncio.get_running_loop().sock_recv(client, 4096)
    assert head.startswith(b"HTTP/1.1 503 ")
    assert b"Retry-After: 1\r\n" in head


def test_the_door_needs_no_privilege() -> None:
    """The tests of the door once more, by a user who may do nothing."""
    done = subprocess.run(
        [
            *unprivileged(), sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider",
            "-k", "door and any", __file__,
        ],
        cwd=Path(__file__).parent.parent, env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=CLUSTER, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-4000:]
    assert " passed" in done.stdout


async def test_a_kernel_that_cannot_bar_a_socket_is_reported(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(_: socket.socket) -> None:
        raise PermissionError(errno.EPERM, "none may")

    monkeypatch.setattr(barring, "_WAYS", dict.fromkeys(barring._WAYS, refuse))
    door = await listen({"web": "127.0.0.1:0"}, LOG)
    with socket.create_connection(door.sockets["web"].getsockname(), timeout=SOON):
        pass
    door.close()
    [said] = caplog.messages
    assert "may answer 404 at web at first" in said
    assert "signature: [Errno 1] none may; filter: [Errno 1] none may" in said


async def test_a_wildcard_stands_for_both_families() -> None:
    if not socket.has_dualstack_ipv6():
        pytest.skip("no IPv6 on this machine")
    for wildcard in ("0.0.0.0:0", ":0", "[::]:0"):
        door = await listen({"web": wildcard}, LOG)
        door.open()
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
