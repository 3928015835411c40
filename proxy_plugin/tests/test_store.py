"""MemoryStore keeps to the seam's contract, and fails in the ways that etcd does."""

from __future__ import annotations

import asyncio

import pytest
from harness.store_contract import CONTRACT, Check, batches
from harness.waiting import SOON

from jupyterhub_junction import store as module
from jupyterhub_junction.store import (
    Batch,
    Compacted,
    Item,
    MemoryStore,
    Put,
    Store,
    StoreError,
    StoreUnavailable,
)


@pytest.mark.parametrize("check", CONTRACT, ids=lambda check: check.__name__)
async def test_contract(check: Check) -> None:
    await check(MemoryStore())


def test_all_names_are_there() -> None:
    public = {
        name
        for name, value in vars(module).items()
        if isinstance(value, type)
        and value.__module__ == module.__name__
        and not name.startswith("_")
    }
    assert set(module.__all__) == public


async def test_clients_share_keys() -> None:
    hub = MemoryStore()
    agent = hub.client()
    await hub.write([Put("routes/a", b"1")])
    assert (await agent.read("")).items == (await hub.read("")).items != ()


async def test_unavailable_for_one_client_only() -> None:
    hub = MemoryStore()
    agent = hub.client()
    await agent.set_available(False)
    await hub.write([Put("routes/a", b"1")])
    for call in (
        agent.read(""),
        agent.write([]),
        agent.lease(1),
        agent.keep_alive(1),
        agent.revoke(1),
    ):
        with pytest.raises(StoreUnavailable):
            await call
    await agent.set_available(True)
    assert len((await agent.read("")).items) == 1


def watching(store: Store, revision: int) -> asyncio.Task[list[Batch]]:
    return asyncio.create_task(
        batches(store, "routes/", revision=revision, until_revision=revision + 100)
    )


async def blocked(store: MemoryStore, task: asyncio.Task[list[Batch]]) -> None:
    """Let a watch run until it waits for a change."""
    async with asyncio.timeout(SOON):
        while not store._memory.changed._waiters:
            assert not task.done()
            await asyncio.sleep(0)


async def test_a_running_watch_sees_the_store_go_away() -> None:
    store = MemoryStore()
    watch = watching(store, 2)
    await blocked(store, watch)
    await store.set_available(False)
    with pytest.raises(StoreUnavailable):
        await watch


async def test_a_running_watch_sees_the_store_made_anew() -> None:
    store = MemoryStore()
    watch = watching(store, 2)
    await blocked(store, watch)
    await store.wipe(cluster_id="memory-2")
    with pytest.raises(StoreUnavailable, match="anew"):
        await watch
    assert (await store.read("")).cluster_id == "memory-2"


async def test_made_anew_from_old_items() -> None:
    store = MemoryStore()
    await store.write([Put("routes/b", b"1")])
    await store.wipe(cluster_id="memory-2", revision=9, items=[Item("routes/a", b"0", 7)])
    snapshot = await store.read("routes/")
    assert (snapshot.cluster_id, snapshot.revision) == ("memory-2", 9)
    assert [item.key for item in snapshot.items] == ["routes/a"]
    with pytest.raises(Compacted):
        await batches(store, "routes/", revision=8, until_revision=9)


async def test_a_compacted_revision_cannot_be_watched() -> None:
    store = MemoryStore()
    for value in (b"1", b"2", b"3"):
        written = await store.write([Put("routes/a", value)])
    await store.compact()
    with pytest.raises(Compacted):
        await batches(store, "routes/", revision=2, until_revision=4)
    after = await store.write([Put("routes/a", b"4")])
    [batch] = await batches(
        store, "routes/", revision=written.revision + 1, until_revision=after.revision
    )
    assert batch.events[0].value == b"4"


def test_all_errors_are_store_errors() -> None:
    assert issubclass(Compacted, StoreError)
    assert issubclass(StoreUnavailable, StoreError)
