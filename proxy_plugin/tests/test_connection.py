"""What all of the forwarder's connections do."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterable
from typing import Any, cast

import pytest

from jupyterhub_junction.forwarder import connection
from jupyterhub_junction.forwarder.connection import Connection, Registry
from jupyterhub_junction.forwarder.limits import Limits

EVERY_LOOP = True


async def connected(registry: Registry, sock: socket.socket) -> Connection:
    loop = asyncio.get_running_loop()
    return (await loop.create_connection(lambda: Connection(registry), sock=sock))[1]


@pytest.mark.parametrize("pauses", [True, False])
async def test_pieces_that_are_not_taken_pause_their_source(
    pauses: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where ``writelines`` never says so, which some Pythons' does not."""
    monkeypatch.setattr(connection, "writelines_pauses", lambda loop: pauses)
    registry = Registry(Limits())
    near, far = socket.socketpair()
    with far:
        one = await connected(registry, near)
        if not pauses:
            one.transport = cast(asyncio.Transport, Mute(one.transport))
        one.write_all([bytes(2_000_000), bytes(2_000_000)])
        assert one.write_paused
        assert one.transport.get_write_buffer_size() > 0
        one.transport.abort()
        await registry.wait_empty()


class Mute:
    """A transport as the faulty ones are."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def writelines(self, pieces: Iterable[bytes]) -> None:
        """Take them, and never pause the protocol."""
