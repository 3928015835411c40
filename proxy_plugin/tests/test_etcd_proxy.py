"""The hub's side of ``junction``, on the store's small implementation."""

from __future__ import annotations

import logging
import time
from types import SimpleNamespace
from typing import Any

import pytest

from jupyterhub_junction.keys import TABLE, TableInfo
from jupyterhub_junction.proxies.etcd import TraefikEtcdProxy
from jupyterhub_junction.store import MemoryStore, Store

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


@pytest.mark.parametrize("given", ["", "https://one:2379, https://two:2379"], ids=["unset", "set"])
def test_a_hub_without_access_to_etcd_says_so(
    given: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("JUNCTION_ETCD", given)
    endpoints = hub(MemoryStore()).etcd_endpoints
    said = [one.getMessage() for one in caplog.records]
    if given:
        assert endpoints == ["https://one:2379", "https://two:2379"]
        assert not said
    else:
        assert endpoints == ["http://127.0.0.1:2379"]
        assert len(said) == 1
        assert said[0].startswith("JUNCTION_ETCD is not set, so etcd is looked for at http://127.")
