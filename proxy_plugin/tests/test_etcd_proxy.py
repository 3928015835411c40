"""The hub's side of ``junction``, on the store's small implementation."""

from __future__ import annotations

import logging
import time
from types import SimpleNamespace
from typing import Any

import pytest

from jupyterhub_junction.keys import TABLE, TableInfo
from jupyterhub_junction.ports import free_ports
from jupyterhub_junction.proxies.etcd import TraefikEtcdProxy
from jupyterhub_junction.store import MemoryStore, Store, StoreUnavailable

HUB = SimpleNamespace(base_url="/hub/", host="http://127.0.0.1:8081", routespec="/")


class Proxy(TraefikEtcdProxy):
    memory: MemoryStore

    def make_store(self) -> Store:
        return self.memory.client()


def hub(memory: MemoryStore) -> Proxy:
    app = SimpleNamespace(hub=HUB, users={}, _service_map={})
    proxy: Any = Proxy(app=app, hub=HUB, log=logging.getLogger("test.hub"))
    proxy.memory = memory
    return proxy  # type: ignore[no-any-return]


async def declared(memory: MemoryStore, proxy: Proxy) -> str:
    """The id of the table once the hub has checked its routes."""
    await proxy.check_routes({}, {})
    [item] = (await memory.read(TABLE)).items
    return TableInfo.decode(item.value).id


@pytest.mark.parametrize("restarted", [False, True], ids=["wrote-it", "read-it"])
async def test_a_table_declared_anew_is_the_later_one_although_the_clock_went_back(
    monkeypatch: pytest.MonkeyPatch, restarted: bool
) -> None:
    memory = MemoryStore()
    proxy = hub(memory)
    before = await declared(memory, proxy)
    if restarted:
        await proxy.stop()
        proxy = hub(memory)
        await proxy.get_all_routes()
    now = time.time_ns()
    monkeypatch.setattr(time, "time_ns", lambda: now - 3600 * 10**9)
    await memory.wipe(cluster_id="two")
    first = await declared(memory, proxy)
    assert first > before
    await memory.wipe(cluster_id="three")
    assert await declared(memory, proxy) > first
    await proxy.stop()


@pytest.mark.parametrize(
    ("place", "mend"),
    [
        ({}, "set it to the URLs"),
        (
            {"KUBERNETES_SERVICE_HOST": "10.0.0.1"},
            "the Secret <release>-etcd-hub-access, or junction-etcd-hub-access, of the chart",
        ),
    ],
)
async def test_an_etcd_that_nobody_named_is_told_by_its_variable(
    monkeypatch: pytest.MonkeyPatch, place: dict[str, str], mend: str
) -> None:
    for name in ("JUNCTION_ETCD", "KUBERNETES_SERVICE_HOST"):
        monkeypatch.delenv(name, raising=False)
    for name, text in place.items():
        monkeypatch.setenv(name, text)
    [port] = free_ports(1)
    default, nobody = "http://127.0.0.1:2379", f"http://127.0.0.1:{port}"
    proxy = TraefikEtcdProxy(etcd_timeout=0.3)
    assert proxy.etcd_endpoints == [default]
    proxy.etcd_endpoints = [nobody]  # where surely nothing listens
    with pytest.raises(StoreUnavailable) as unset:
        await proxy.writer.store.read("table")
    await proxy.stop()
    said = str(unset.value)
    assert said.startswith("JUNCTION_ETCD is not set (")
    assert mend in said
    assert f"{nobody}: connection refused" in said
    assert "\n" not in said


async def test_an_etcd_that_was_named_is_told_by_its_address(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    [port] = free_ports(1)
    monkeypatch.setenv("JUNCTION_ETCD", f"http://127.0.0.1:{port}")
    proxy = TraefikEtcdProxy(etcd_timeout=0.3)
    with pytest.raises(StoreUnavailable, match=r"^no etcd endpoint answers: http://127\.0\.0\.1"):
        await proxy.writer.store.read("table")
    await proxy.stop()
