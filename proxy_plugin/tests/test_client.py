"""A client's connection by itself; with real sockets it is tested in ``test_forwarder``."""

from __future__ import annotations

import asyncio
import ssl
from types import SimpleNamespace
from typing import Any, cast

import pytest
from harness.forwarding import deadline

from jupyterhub_junction.forwarder.client import ClientConnection
from jupyterhub_junction.forwarder.connection import Registry
from jupyterhub_junction.forwarder.limits import Limits
from jupyterhub_junction.forwarder.server import Forwarder

__all__ = ["deadline"]


class TLS:
    """A transport over TLS, of which the client has still to read so much."""

    def __init__(self, unread: int) -> None:
        self.unread = unread
        self.did: list[str] = []

    def get_extra_info(self, name: str) -> object:
        return object() if name == "ssl_object" else None

    def get_write_buffer_size(self) -> int:
        return self.unread

    def can_write_eof(self) -> bool:
        return False

    def is_closing(self) -> bool:
        return "close" in self.did

    def close(self) -> None:
        self.did.append("close")

    def abort(self) -> None:
        self.did.append("abort")

    def set_write_buffer_limits(self, high: int) -> None:
        pass

    def write(self, data: bytes) -> None:
        assert not self.is_closing()


async def test_over_tls_the_end_is_sent_and_what_is_left_to_read_waited_for() -> None:
    registry = Registry(Limits())
    forwarder = SimpleNamespace(clients=set(), stopping=False, health_path=None)
    client, transport = ClientConnection(cast(Any, forwarder), registry), TLS(1000)
    client.connection_made(cast(asyncio.Transport, transport))
    client.refuse(400, "no")
    assert transport.did == ["close"]
    assert client.deadline <= registry.now() + registry.limits.linger
    client.expired()
    assert transport.did == ["close"]
    assert client.deadline <= registry.now() + registry.limits.linger
    transport.unread = 0
    client.expired()
    assert transport.did == ["close", "abort"]
    client.connection_lost(None)
    if registry._timer is not None:
        registry._timer.cancel()


async def test_tls_itself_does_not_cut_a_slow_reader_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """By default it would, 30 s after the end has been asked for."""
    given: dict[str, Any] = {}

    async def create_server(*_: Any, **options: Any) -> None:
        given.update(options)

    monkeypatch.setattr(asyncio.get_running_loop(), "create_server", create_server)
    forwarder = Forwarder(resolve=lambda host, path: None, limits=Limits(stall_timeout=1234.0))
    await forwarder.start("127.0.0.1", 0, ssl.create_default_context(ssl.Purpose.CLIENT_AUTH))
    assert given["ssl_shutdown_timeout"] == 1234.0
