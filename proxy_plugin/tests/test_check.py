"""What `junction check` finds wrong before it adds a route, each in one line."""

from __future__ import annotations

import argparse
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest
from aiohttp import web
from harness.ports import has_ipv6

from jupyterhub_junction.cli import _served_at
from jupyterhub_junction.commands import check as module
from jupyterhub_junction.commands.check import CheckFailed, _Target, check
from jupyterhub_junction.store import MemoryStore, Put, Snapshot, Store, StoreRefused

log = logging.getLogger("junction")


class Locked(MemoryStore):
    async def read(self, *prefixes: str) -> Snapshot:
        raise StoreRefused("a user and a password are wanted")


async def filled() -> MemoryStore:
    """As a hub and a replica leave it."""
    store = MemoryStore()
    await store.write([Put("table", b"{}"), Put("replicas/one", b"{}")])
    return store


@asynccontextmanager
async def keeper(status: int, says: str) -> AsyncIterator[str]:
    async def readyz(_: web.Request) -> web.Response:
        return web.Response(status=status, text=says)

    app = web.Application()
    app.router.add_get("/readyz", readyz)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield "{}:{}".format(*runner.addresses[0])
    finally:
        await runner.cleanup()


async def said(store: Store, *, anonymous: Store | None = None, keepers: list[str]) -> str:
    with pytest.raises(CheckFailed) as failed:
        # nobody serves at the replicas' address: what is wrong has to be found before
        await check(
            store, replicas="127.0.0.1:1", serve="127.0.0.1:0", anonymous=anonymous,
            keepers=keepers, log=log,
        )  # fmt: skip
    assert "\n" not in str(failed.value)
    return str(failed.value)


async def test_an_etcd_that_asks_for_no_password() -> None:
    line = await said(await filled(), anonymous=MemoryStore(), keepers=[])
    assert line.startswith("etcd asks for no password: its authentication is off")


async def test_a_member_that_is_not_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PATIENCE", 0.0)
    async with keeper(200, "ok\n") as well, keeper(503, "etcd is full: raise its quota\n") as full:
        line = await said(await filled(), anonymous=Locked(), keepers=[well, full, "127.0.0.1:1"])
    assert f"etcd's member at {full}: etcd is full: raise its quota" in line
    assert "etcd's member at 127.0.0.1:1: does not answer" in line
    assert well not in line


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        ("fd00::1:8099", "[fd00::1]:8099"),
        ("[fd00::1]:8099", "[fd00::1]:8099"),
        ("10.0.0.1:8099", "10.0.0.1:8099"),
        ("localhost:0", "localhost:0"),
    ],
)
def test_an_address_of_a_pod_may_be_ipv6(given: str, taken: str) -> None:
    assert _served_at(given) == taken


@pytest.mark.parametrize("given", ["fd00::1", "a:b:1", "8099"])
def test_what_is_no_address(given: str) -> None:
    # fd00::1 without a port cannot be told from fd00: and port 1
    with pytest.raises(argparse.ArgumentTypeError):
        _served_at(given)


async def test_the_target_is_reached_by_ipv6() -> None:
    if not has_ipv6():
        pytest.skip("this machine has no IPv6")
    async with _Target(_served_at("::1:0"), "token") as url, aiohttp.ClientSession() as session:
        assert url.startswith("http://[::1]:")
        async with session.get(url) as answer:
            assert await answer.text() == "token"
