"""The hub's side: batches, order, waiting for live replicas, and noticing another etcd."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Iterable, Sequence

import pytest
from harness.waiting import SOON, until

from jupyterhub_junction.keys import ACTIVITY, REPLICAS, ROUTES, ReplicaReport
from jupyterhub_junction.proxies import writer as module
from jupyterhub_junction.proxies.writer import NotLive, TableWriter
from jupyterhub_junction.routes import Route
from jupyterhub_junction.store import (
    Delete,
    Exists,
    MemoryStore,
    Put,
    Snapshot,
    StoreError,
    StoreRefused,
    StoreUnavailable,
    Written,
)

LOG = logging.getLogger("test.writer")


class Seen(MemoryStore):
    """Notes each transaction; and can hold one back, or fail it."""

    def __init__(self, memory: object = None) -> None:
        super().__init__(memory)  # type: ignore[arg-type]
        self.transactions: list[list[str]] = []
        self.errors: list[StoreError] = []
        self.go = asyncio.Event()
        self.go.set()

    async def write(
        self,
        operations: Sequence[Put | Delete],
        *,
        guards: Iterable[Exists] = (),
        read: Iterable[str] = (),
    ) -> Written:
        self.transactions.append([operation.key for operation in operations])
        await self.go.wait()
        if self.errors:
            raise self.errors.pop(0)
        return await super().write(operations, guards=guards, read=read)


@pytest.fixture
async def store() -> Seen:
    return Seen()


@pytest.fixture
async def writer(store: Seen) -> AsyncIterator[TableWriter]:
    writer = TableWriter(store, LOG, timeout=SOON)
    yield writer
    await writer.close()


def route(name: str, target: str = "http://127.0.0.1:80") -> Route:
    return Route(f"/user/{name}/", target)


async def report(store: MemoryStore, name: str, revision: int, cluster_id: str = "") -> None:
    cluster_id = cluster_id or (await store.read()).cluster_id
    value = ReplicaReport(cluster_id, revision, revision, 1, "1").encode()
    await store.write([Put(REPLICAS + name, value)])


def start(call: Awaitable[None]) -> asyncio.Task[None]:
    return asyncio.ensure_future(call)  # type: ignore[return-value]


async def finish(*tasks: asyncio.Task[None]) -> None:
    async with asyncio.timeout(SOON):
        await asyncio.gather(*tasks)


async def sleeping(writer: TableWriter, count: int = 1) -> int:
    """Wait until this many callers wait for replicas; returns the newest revision waited for."""
    await until(lambda: len(writer._sleepers) == count)
    return max(sleeper.revision for sleeper in writer._sleepers)


# --- waiting -------------------------------------------------------------------------------------


async def test_without_replicas_etcds_word_is_enough(writer: TableWriter, store: Seen) -> None:
    await finish(start(writer.put(route("x"))))
    assert [item.key for item in (await store.read(ROUTES)).items] == ["routes//user/x/"]


async def test_a_put_waits_for_every_live_replica(writer: TableWriter, store: Seen) -> None:
    other = store.client()
    await report(other, "a", 1)
    await report(other, "b", 1)
    put = start(writer.put(route("x")))
    revision = await sleeping(writer)
    await report(other, "a", revision + 10)
    await until(lambda: writer.replicas["a"].revision == revision + 10)
    assert not put.done()
    await report(other, "b", revision - 1)
    await until(lambda: writer.replicas["b"].revision == revision - 1)
    assert not put.done()
    await report(other, "b", revision)
    await finish(put)


async def test_a_delete_waits_too_and_takes_the_activity_along(
    writer: TableWriter, store: Seen
) -> None:
    other = store.client()
    await other.write([Put(ROUTES + "/user/x/", b"{}"), Put(ACTIVITY + "/user/x/", b"{}")])
    await report(other, "a", 1)
    delete = start(writer.delete("/user/x/"))
    revision = await sleeping(writer)
    assert (await store.read(ROUTES, ACTIVITY)).items == ()
    await report(other, "a", revision)
    await finish(delete)


async def test_deleting_what_is_not_there_succeeds(writer: TableWriter, store: Seen) -> None:
    before = (await store.read()).revision
    await finish(start(writer.delete("/user/x/")))
    assert (await store.read()).revision == before


async def test_a_replica_that_vanishes_stops_counting(writer: TableWriter, store: Seen) -> None:
    other = store.client()
    lease = await other.lease(10)
    value = ReplicaReport("memory-1", 1, 1, 1, "1").encode()
    await other.write([Put(REPLICAS + "a", value, lease)])
    put = start(writer.put(route("x")))
    await sleeping(writer)
    await until(lambda: bool(store._memory.changed._waiters))  # the watch is at work
    await other.revoke(lease)
    await finish(put)


async def test_a_replica_that_registers_later_need_not_be_waited_for(
    writer: TableWriter, store: Seen
) -> None:
    """It reads the table in the transaction that registers it, this change included."""
    other = store.client()
    await report(other, "a", 1)
    put = start(writer.put(route("x")))
    revision = await sleeping(writer)
    await report(other, "b", revision + 1)
    await report(other, "a", revision)
    await finish(put)


async def test_a_report_on_another_cluster_is_a_left_over(writer: TableWriter, store: Seen) -> None:
    await report(store.client(), "a", 1, cluster_id="another")
    await finish(start(writer.put(route("x"))))


async def test_a_broken_report_is_skipped_and_named(
    writer: TableWriter, store: Seen, caplog: pytest.LogCaptureFixture
) -> None:
    await store.client().write([Put(REPLICAS + "a", b"nonsense")])
    await finish(start(writer.put(route("x"))))
    assert "replicas/a" in caplog.text


async def test_who_is_late_is_named(store: Seen) -> None:
    other = store.client()
    await report(other, "quick", 1000)
    await report(other, "slow", 1)
    writer = TableWriter(store, LOG, timeout=0.001)
    with pytest.raises(NotLive, match=r"not: slow$"):
        await writer.put(route("x"))
    assert (await store.read(ROUTES)).items  # etcd has it
    assert not writer._sleepers
    await writer.close()


async def test_the_wait_goes_on_when_the_watch_breaks(
    writer: TableWriter, store: Seen, caplog: pytest.LogCaptureFixture
) -> None:
    other = store.client()
    await report(other, "a", 1)
    put = start(writer.put(route("x")))
    revision = await sleeping(writer)
    await until(lambda: bool(store._memory.changed._waiters))
    await store.set_available(False)
    await until(lambda: "waiting for replicas" in caplog.text)
    await report(other, "a", revision)
    await store.set_available(True)
    await finish(put)


async def test_history_that_is_compacted_meanwhile_is_read_again(
    writer: TableWriter, store: Seen
) -> None:
    other = store.client()
    await report(other, "a", 1)
    put = start(writer.put(route("x")))
    revision = await sleeping(writer)
    await report(other, "a", revision)
    await other.compact()
    await finish(put)


async def test_a_caller_that_gives_up_leaves_nothing_behind(
    writer: TableWriter, store: Seen
) -> None:
    await report(store.client(), "a", 1)
    put = start(writer.put(route("x")))
    await sleeping(writer)
    put.cancel()
    with pytest.raises(asyncio.CancelledError):
        await put
    assert not writer._sleepers


# --- batches -------------------------------------------------------------------------------------


async def test_changes_asked_for_together_share_transactions(
    writer: TableWriter, store: Seen
) -> None:
    names = [f"u{number}" for number in range(1000)]
    await finish(*(start(writer.put(route(name))) for name in names))
    assert len(store.transactions) == -(-1000 // (store.max_operations - 1))
    assert all(len(keys) < store.max_operations for keys in store.transactions)
    written = [key for keys in store.transactions for key in keys]
    assert written == [f"routes//user/{name}/" for name in names]  # in the order asked for
    assert len((await store.read(ROUTES)).items) == 1000


async def test_what_comes_during_a_write_goes_into_the_next(
    writer: TableWriter, store: Seen
) -> None:
    store.go.clear()
    first = start(writer.put(route("a")))
    await until(lambda: bool(store.transactions))
    rest = [start(writer.put(route(name))) for name in "bcd"]
    await until(lambda: len(writer._queue) == 3)
    store.go.set()
    await finish(first, *rest)
    assert list(map(len, store.transactions)) == [1, 3]


async def test_one_key_twice_is_two_transactions_and_the_last_word_stays(
    writer: TableWriter, store: Seen
) -> None:
    targets = [f"http://127.0.0.1:{port}" for port in (81, 82, 83)]
    changes = [start(writer.put(route("x", target))) for target in targets]
    await finish(*changes, start(writer.put(route("y"))))
    assert list(map(len, store.transactions)) == [1, 1, 2]
    [stored, _] = (await store.read(ROUTES)).items
    assert targets[-1].encode() in stored.value


async def test_add_and_delete_of_one_route_keep_their_order(
    writer: TableWriter, store: Seen
) -> None:
    await finish(
        start(writer.put(route("x"))),
        start(writer.delete("/user/x/")),
        start(writer.put(route("x"))),
        start(writer.delete("/user/x/")),
    )
    assert (await store.read(ROUTES)).items == ()


async def test_large_values_do_not_make_large_transactions(
    writer: TableWriter, store: Seen, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_BATCH_BYTES", 3000)
    large = [Route(f"/user/{n}/", "http://a", {"x": "y" * 1000}) for n in range(10)]
    await finish(*(start(writer.put(each)) for each in large))
    assert list(map(len, store.transactions)) == [2] * 5
    huge = Route("/user/huge/", "http://a", {"x": "y" * 5000})
    await finish(start(writer.put(huge)))  # larger than a batch may be, but alone


async def test_a_flood_is_refused_not_kept(
    writer: TableWriter, store: Seen, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_WAITING", 2)
    store.go.clear()
    waiting = [start(writer.put(route(name))) for name in "ab"]
    await until(lambda: bool(store.transactions))
    waiting += [start(writer.put(route(name))) for name in "cd"]
    await until(lambda: len(writer._queue) == 2)
    with pytest.raises(StoreUnavailable, match="2 changes wait"):
        await writer.put(route("e"))
    store.go.set()
    await finish(*waiting)


# --- errors --------------------------------------------------------------------------------------


async def test_an_error_reaches_all_who_shared_the_transaction_and_no_other(
    writer: TableWriter, store: Seen
) -> None:
    store.errors.append(StoreRefused("permission denied"))
    puts = [start(writer.put(route(f"u{number}"))) for number in range(150)]
    async with asyncio.timeout(SOON):
        results = await asyncio.gather(*puts, return_exceptions=True)
    first = len(store.transactions[0])
    failed, written = results[:first], results[first:]
    assert {type(error) for error in failed} == {StoreRefused}
    assert len({id(error) for error in failed}) == first  # each has a traceback of its own
    assert set(written) == {None}
    assert len((await store.read(ROUTES)).items) == 150 - first


async def test_the_next_change_is_tried_after_an_error(writer: TableWriter, store: Seen) -> None:
    await store.set_available(False)
    with pytest.raises(StoreUnavailable):
        await writer.put(route("x"))
    await store.set_available(True)
    await finish(start(writer.put(route("x"))))


async def test_closing_tells_all_who_wait(writer: TableWriter, store: Seen) -> None:
    store.go.clear()
    flying = start(writer.put(route("a")))
    await until(lambda: bool(store.transactions))
    queued = start(writer.put(route("b")))
    await until(lambda: bool(writer._queue))
    await writer.close()
    for put in (flying, queued):
        with pytest.raises(StoreUnavailable):
            await put


async def test_closing_tells_those_who_wait_for_replicas(writer: TableWriter, store: Seen) -> None:
    await report(store.client(), "a", 1)
    put = start(writer.put(route("x")))
    await sleeping(writer)
    await writer.close()
    async with asyncio.timeout(SOON):
        with pytest.raises(StoreUnavailable):
            await put


# --- another etcd --------------------------------------------------------------------------------


@pytest.fixture
def resets(writer: TableWriter) -> list[str]:
    seen: list[str] = []
    writer.on_reset = lambda: seen.append(writer.cluster_id)
    return seen


async def test_an_etcd_made_anew_is_noticed_at_the_next_write(
    writer: TableWriter, store: Seen, resets: list[str]
) -> None:
    await finish(start(writer.put(route("x"))))
    assert resets == []
    await store.wipe(cluster_id="memory-2", revision=50)
    await finish(start(writer.put(route("y"))))
    await finish(start(writer.put(route("z"))))
    assert resets == ["memory-2"]


async def test_a_restored_etcd_is_noticed_by_its_revision(
    writer: TableWriter, store: Seen, resets: list[str]
) -> None:
    for name in "abcde":
        await finish(start(writer.put(route(name))))
    await store.wipe(cluster_id="memory-1", revision=2)
    await finish(start(writer.put(route("y"))))
    assert resets == ["memory-1"]


async def test_an_etcd_made_anew_is_noticed_while_waiting(
    writer: TableWriter, store: Seen, resets: list[str]
) -> None:
    await report(store.client(), "a", 1)
    put = start(writer.put(route("x")))
    await sleeping(writer)
    await until(lambda: bool(store._memory.changed._waiters))
    await store.wipe(cluster_id="memory-2")
    await finish(put)  # no live replica is behind now
    assert resets == ["memory-2"]


async def test_replicas_count_again_after_a_reset(
    writer: TableWriter, store: Seen, resets: list[str]
) -> None:
    other = store.client()
    for name in "abcde":
        await finish(start(writer.put(route(name))))
    await store.wipe(cluster_id="memory-2", revision=2)
    await report(other, "a", 1)
    put = start(writer.put(route("x")))
    revision = await sleeping(writer)
    await report(other, "a", revision)
    await finish(put)
    assert resets == ["memory-2"]


async def test_an_answer_that_was_long_on_its_way_is_no_reset(
    writer: TableWriter, store: Seen, resets: list[str]
) -> None:
    """Reading a large table takes longer than a write; the answer's revision is the older one."""
    await finish(start(writer.put(route("a"))))
    known = writer.revision
    slow: Snapshot = await store.read(ROUTES)
    await finish(start(writer.put(route("b"))))
    writer.note(slow.cluster_id, slow.revision, known)
    assert resets == []
    assert writer.revision == slow.revision + 1
    # nor is it one if a reset was noticed meanwhile
    await store.wipe(cluster_id="memory-2")
    await finish(start(writer.put(route("c"))))
    fresh = await store.read(ROUTES)
    writer.note(fresh.cluster_id, fresh.revision, known + 100)
    assert resets == ["memory-2"]
