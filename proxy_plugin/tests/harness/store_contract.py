"""What any :class:`Store` keeps to, as checks that run against an empty one.

Both stores go through the same list, so that what is tested on MemoryStore holds on etcd.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing

import pytest

from jupyterhub_junction.store import Batch, Delete, Exists, Put, Store, StoreError

from .waiting import CLUSTER

Check = Callable[[Store], Awaitable[None]]
CONTRACT: list[Check] = []


def contract(check: Check) -> Check:
    CONTRACT.append(check)
    return check


async def batches(store: Store, *prefixes: str, revision: int, until_revision: int) -> list[Batch]:
    """The watch's batches that hold events, from a revision up to another, both included."""
    found: list[Batch] = []
    async with asyncio.timeout(CLUSTER):
        stream: AsyncIterator[Batch] = store.watch(*prefixes, revision=revision)
        async with aclosing(stream):
            async for batch in stream:
                if batch.events:
                    found.append(batch)
                if batch.revision >= until_revision:
                    break
    return found


@contract
async def reads_are_sorted_and_by_prefix(store: Store) -> None:
    written = await store.write(
        [Put("routes//user/b/", b"2"), Put("routes//user/a/", b"1"), Put("table", b"{}")]
    )
    snapshot = await store.read("routes//user/")
    assert [(i.key, i.value) for i in snapshot.items] == [
        ("routes//user/a/", b"1"),
        ("routes//user/b/", b"2"),
    ]
    assert {i.mod_revision for i in snapshot.items} == {written.revision}
    assert snapshot.revision == written.revision
    assert snapshot.cluster_id == written.cluster_id
    assert {i.key for i in (await store.read("routes/", "table")).items} == {
        "routes//user/a/",
        "routes//user/b/",
        "table",
    }
    assert (await store.read("nothing/")).items == ()


@contract
async def any_name_and_value_comes_back(store: Store) -> None:
    values = {
        "routes//user/秀樹/": b"\x00\xff",
        "routes//user/has@~.+%2F x/": b"",
        "routes/host.example/`\"'()\\/": "{}é".encode(),
        "routes/\U0010ffff/": b"last",
    }
    written = await store.write([Put(key, value) for key, value in values.items()])
    assert {i.key: i.value for i in (await store.read("routes/")).items} == values
    [batch] = await batches(
        store, "routes/", revision=written.revision, until_revision=written.revision
    )
    assert {e.key: e.value for e in batch.events} == values


@contract
async def a_write_is_one_revision_and_reads_after_itself(store: Store) -> None:
    first = await store.write([Put("a/1", b"1"), Put("a/2", b"2"), Put("b/1", b"3")])
    second = await store.write([Delete("a/1"), Put("a/3", b"4")], read=["a/", "b/"])
    assert second.revision == first.revision + 1
    assert {i.key: i.value for i in second.items} == {"a/2": b"2", "a/3": b"4", "b/1": b"3"}


@contract
async def a_write_that_changes_nothing_keeps_the_revision(store: Store) -> None:
    first = await store.write([Put("a", b"1")])
    again = await store.write([Delete("b")])
    assert again.done
    assert again.revision == first.revision


@contract
async def a_guard_keeps_a_write_back(store: Store) -> None:
    first = await store.write([Put("routes/a", b"1")])
    kept = await store.write(
        [Put("activity/b", b"1"), Delete("routes/a")],
        guards=[Exists("routes/a"), Exists("routes/b")],
        read=["routes/"],
    )
    assert (kept.done, kept.revision, kept.items) == (False, first.revision, ())
    assert [i.key for i in (await store.read("")).items] == ["routes/a"]
    done = await store.write([Put("activity/a", b"1")], guards=[Exists("routes/a")])
    assert done.done
    assert done.revision == first.revision + 1


@contract
async def a_key_twice_in_a_write_is_refused(store: Store) -> None:
    with pytest.raises(StoreError, match="twice"):
        await store.write([Put("a", b"1"), Delete("a")])
    assert (await store.read("")).items == ()


@contract
async def a_watch_gives_each_revision_once_whole_and_in_order(store: Store) -> None:
    first = await store.write([Put("routes/a", b"0"), Put("replicas/x", b"0")])
    watching = asyncio.create_task(
        batches(
            store,
            "routes/",
            "table",
            revision=first.revision,
            until_revision=first.revision + 5,
        )
    )
    await store.write([Put("replicas/x", b"1")])
    await store.write([Put("routes/a", b"1"), Put("routes/b", b"1"), Put("activity/a", b"1")])
    await store.write([Delete("routes/a"), Delete("routes/none"), Put("table", b"t")])
    await store.write([Put("activity/b", b"1")])
    await store.write([Put("routes/c", b"1")])
    found = await watching
    assert [(b.revision - first.revision, {(e.key, e.value) for e in b.events}) for b in found] == [
        (0, {("routes/a", b"0")}),
        (2, {("routes/a", b"1"), ("routes/b", b"1")}),
        (3, {("routes/a", None), ("table", b"t")}),
        (5, {("routes/c", b"1")}),
    ]
    assert all(e.mod_revision == b.revision for b in found for e in b.events)
    assert {b.cluster_id for b in found} == {first.cluster_id}


@contract
async def a_watch_goes_on_where_another_stopped(store: Store) -> None:
    start = (await store.read("")).revision + 1
    for number in range(20):
        await store.write([Put(f"routes/{number}", b"")])
    last = start + 19
    for cut in (start, start + 7, last - 1):
        head = await batches(store, "routes/", revision=start, until_revision=cut)
        tail = await batches(store, "routes/", revision=cut + 1, until_revision=last)
        assert [b.revision for b in head + tail] == list(range(start, last + 1))


@contract
async def a_watch_waits_for_a_revision_to_come(store: Store) -> None:
    first = await store.write([Put("routes/a", b"0")])
    wanted = first.revision + 1
    watching = asyncio.create_task(
        batches(store, "routes/", revision=wanted, until_revision=wanted)
    )
    second = await store.write([Put("routes/a", b"1")])
    [batch] = await watching
    assert batch.revision == second.revision == wanted


@contract
async def keys_go_with_their_lease(store: Store) -> None:
    lease, other = await store.lease(60), await store.lease(60)
    assert lease != 0
    assert lease != other
    written = await store.write(
        [Put("replicas/x", b"1", lease=lease), Put("replicas/y", b"1", lease=other)]
    )
    assert {i.key: i.lease for i in (await store.read("replicas/")).items} == {
        "replicas/x": lease,
        "replicas/y": other,
    }
    assert await store.keep_alive(lease)
    await store.revoke(lease)
    assert not await store.keep_alive(lease)
    assert await store.keep_alive(other)
    [batch] = await batches(
        store,
        "replicas/",
        revision=written.revision + 1,
        until_revision=written.revision + 1,
    )
    assert [(e.key, e.value) for e in batch.events] == [("replicas/x", None)]
    await store.revoke(lease)
    await store.revoke(other)


@contract
async def a_key_under_an_ended_lease_is_refused(store: Store) -> None:
    lease = await store.lease(60)
    await store.revoke(lease)
    with pytest.raises(StoreError, match="lease"):
        await store.write([Put("replicas/x", b"", lease=lease)])
    assert (await store.read("")).items == ()
