"""EtcdStore against real etcd members: the contract, failures of members, and what it refuses."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from harness.etcd_cluster import USERS, EtcdCluster
from harness.store_contract import CONTRACT, Check, batches
from harness.waiting import CLUSTER, until

from jupyterhub_junction.etcd.errors import FAILED_PRECONDITION, RpcError
from jupyterhub_junction.etcd.store import EtcdStore
from jupyterhub_junction.ports import free_ports
from jupyterhub_junction.store import (
    Batch,
    Compacted,
    Delete,
    Put,
    StoreError,
    StoreRefused,
    StoreUnavailable,
)

pytestmark = pytest.mark.needs_programs

WRONG = "open sesame"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdCluster]:
    """Three members without users, for tests that break nothing."""
    cluster = EtcdCluster(tmp_path_factory.mktemp("etcd"))
    asyncio.run(cluster.start())
    yield cluster
    cluster.stop()


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdCluster]:
    """One member with TLS, client certificates and users; tokens last two seconds."""
    cluster = EtcdCluster(
        tmp_path_factory.mktemp("secured"),
        members=1,
        tls=True,
        auth=True,
        options=["--auth-token-ttl=2", "--log-level=debug"],
    )
    asyncio.run(cluster.start())
    yield cluster
    cluster.stop()


@asynccontextmanager
async def client(cluster: EtcdCluster, *args: Any, **options: Any) -> AsyncIterator[EtcdStore]:
    store = cluster.store(*args, **options)
    try:
        yield store
    finally:
        await store.close()


_prefixes = itertools.count()


@pytest.fixture
async def store(shared: EtcdCluster) -> AsyncIterator[EtcdStore]:
    """An empty store: a prefix of its own on the shared cluster."""
    async with client(shared, prefix=f"/test-{next(_prefixes)}/") as one:
        yield one


async def following(store: EtcdStore, revision: int, last: int | str) -> list[Batch]:
    """All of routes/ from a revision on, as an agent reads it: a watch that broke is begun anew.

    Args:
        last: the revision or the key with which it ends.
    """
    found: list[Batch] = []

    def ended() -> bool:
        if isinstance(last, int):
            return bool(found) and found[-1].revision >= last
        return any(event.key == last for batch in found for event in batch.events)

    async with asyncio.timeout(CLUSTER):
        while not ended():
            begin = found[-1].revision + 1 if found else revision
            try:
                async with aclosing(store.watch("routes/", revision=begin)) as watch:
                    async for batch in watch:
                        if batch.events:
                            found.append(batch)
                            if ended():
                                break
            except StoreUnavailable:
                continue
    return found


async def put(store: EtcdStore, key: str, value: bytes = b"") -> int:
    """Write until it is written; returns the revision."""

    async def written() -> int:
        try:
            return (await store.write([Put(key, value)])).revision
        except StoreUnavailable:
            return 0

    return await until(written, f"{key} is written")


# -- the contract, and sizes -------------------------------------------------------------------


@pytest.mark.parametrize("check", CONTRACT, ids=lambda check: check.__name__)
async def test_contract(check: Check, store: EtcdStore) -> None:
    await check(store)


async def test_a_full_transaction(store: EtcdStore) -> None:
    """A write of max_operations, each of its events over 8 KiB: more than one line's buffer."""
    operations = [Put(f"routes/{n:03}", b"x" * 8192) for n in range(store.max_operations)]
    written = await store.write(operations, read=["routes/"])
    assert len(written.items) == store.max_operations
    [batch] = await batches(
        store, "routes/", revision=written.revision, until_revision=written.revision
    )
    assert [e.key for e in batch.events] == [o.key for o in operations]


async def test_a_response_in_fragments_is_one_batch(store: EtcdStore) -> None:
    """A watch from the past sends many revisions in one response, which etcd splits at 1.5 MiB."""
    first = 0
    for number in range(12):
        written = await store.write([Put(f"routes/{n}", bytes(100_000)) for n in range(number + 1)])
        first = first or written.revision
    found = await batches(store, "routes/", revision=first, until_revision=written.revision)
    assert [len(b.events) for b in found] == list(range(1, 13))


async def test_a_write_too_large_is_refused(store: EtcdStore) -> None:
    with pytest.raises(StoreRefused, match="too large"):
        await store.write([Put("routes/a", bytes(2_000_000))])


async def test_many_callers_at_once(store: EtcdStore) -> None:
    written = await asyncio.gather(*(store.write([Put(f"routes/{n}", b"")]) for n in range(300)))
    revisions = sorted(w.revision for w in written)
    found = await batches(store, "routes/", revision=revisions[0], until_revision=revisions[-1])
    assert [b.revision for b in found] == revisions


# -- watches -----------------------------------------------------------------------------------


async def test_a_watch_names_the_cluster_at_once(store: EtcdStore) -> None:
    snapshot = await store.read("")
    async with aclosing(store.watch("routes/", revision=snapshot.revision + 1)) as watch:
        assert await anext(watch) == Batch(snapshot.cluster_id, snapshot.revision)


async def test_a_silent_watch_is_told_that_nothing_came(shared: EtcdCluster) -> None:
    """Writes elsewhere move the revision on; the watch asks, and etcd's word for it arrives."""
    async with client(shared, prefix="/silent/", silence=1.0) as store:
        start = (await store.read("")).revision + 1
        async with (
            asyncio.timeout(CLUSTER),
            aclosing(store.watch("routes/", revision=start)) as watch,
        ):
            await anext(watch)
            elsewhere = await store.write([Put("activity/a", b"")])
            async for batch in watch:
                assert batch.events == ()
                if batch.revision == elsewhere.revision:
                    break


async def test_a_compacted_revision_cannot_be_watched(
    shared: EtcdCluster, store: EtcdStore
) -> None:
    first = await store.write([Put("routes/a", b"1")])
    for _ in range(3):
        last = await store.write([Put("routes/a", b"2")])
    await shared.ctl("compaction", str(last.revision))
    with pytest.raises(Compacted, match=str(last.revision)):
        await batches(store, "routes/", revision=first.revision, until_revision=last.revision)


async def test_a_revision_that_never_was_cannot_be_watched(store: EtcdStore) -> None:
    """A cluster restored from an old snapshot has less history than its readers."""
    current = (await store.read("")).revision
    with pytest.raises(Compacted, match="restored"):
        await batches(store, "routes/", revision=current + 1000, until_revision=current + 1000)


async def test_a_lease_ends_by_itself(store: EtcdStore) -> None:
    lease = await store.lease(1)
    written = await store.write([Put("replicas/x", b"", lease=lease)])
    [batch] = await batches(
        store,
        "replicas/",
        revision=written.revision + 1,
        until_revision=written.revision + 1,
    )
    assert [(e.key, e.value) for e in batch.events] == [("replicas/x", None)]
    assert not await store.keep_alive(lease)


# -- members that fail -------------------------------------------------------------------------


async def test_members_killed_one_after_another_lose_no_event(tmp_path: Path) -> None:
    """Each member, the leader among them, dies once while routes are written and watched."""
    async with EtcdCluster(tmp_path) as cluster, client(cluster) as hub, client(cluster) as agent:
        start = (await hub.read("")).revision + 1
        first = await cluster.leader()
        keys: list[str] = []
        for victim in (first, (first + 1) % 3, (first + 2) % 3):
            more = [f"routes/{len(keys) + n:03}" for n in range(20)]
            followed = asyncio.create_task(following(agent, start, more[-1]))
            for n, key in enumerate(more):
                if n == 10:
                    cluster.kill(victim)
                await put(hub, key)
            keys += more
            found = await followed
            revisions = [b.revision for b in found]
            assert revisions == sorted(set(revisions))
            # A write whose answer was lost may be done twice.
            assert list(dict.fromkeys(e.key for b in found for e in b.events)) == keys
            await cluster.restart(victim)


async def test_a_stopped_member_is_passed_over(tmp_path: Path) -> None:
    """SIGSTOP: its sockets accept and nothing answers, as on a host that hangs."""
    async with EtcdCluster(tmp_path) as cluster:
        leader = await cluster.leader()
        victim = (leader + 1) % 3
        order = [cluster.endpoints[n] for n in (victim, leader, (leader + 2) % 3)]
        async with client(cluster, endpoints=order) as store:
            store.gateway._current = 0
            await store.read("")
            cluster.pause(victim)
            await store.write([Put("routes/a", b"")])
            assert store.gateway._order()[-1] == order[0]
            cluster.resume(victim)


async def test_a_watch_on_a_stopped_member_ends(tmp_path: Path) -> None:
    async with EtcdCluster(tmp_path, members=1) as cluster, client(cluster, silence=1.0) as store:
        revision = (await store.write([Put("routes/a", b"")])).revision
        async with aclosing(store.watch("routes/", revision=revision + 1)) as watch:
            await anext(watch)
            cluster.pause(0)
            with pytest.raises(StoreUnavailable, match="silent for 1 s"):
                async with asyncio.timeout(CLUSTER):
                    await anext(watch)
        cluster.resume(0)


async def test_a_watch_on_a_store_that_holds_nothing_yet_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """etcd answers no progress request before its first write."""
    async with EtcdCluster(tmp_path, members=1) as cluster, client(cluster, silence=0.3) as store:
        current, looks = store._current_revision, asyncio.Semaphore(0)

        async def look() -> int:
            looks.release()
            return await current()

        monkeypatch.setattr(store, "_current_revision", look)
        async with aclosing(store.watch("routes/", revision=2)) as watch:
            await anext(watch)
            following = asyncio.ensure_future(anext(watch))
            async with asyncio.timeout(CLUSTER):
                for _ in range(2):  # silent for that long, twice
                    await looks.acquire()
                await store.write([Put("routes/a", b"")])
                assert [event.key for event in (await following).events] == ["routes/a"]


async def test_a_watch_on_a_member_without_a_leader_ends(tmp_path: Path) -> None:
    async with EtcdCluster(tmp_path) as cluster:
        endpoints = cluster.endpoints[:1]
        async with client(cluster, endpoints=endpoints, timeout=2.0) as store:
            async with aclosing(store.watch("routes/", revision=1)) as watch:
                await anext(watch)
                cluster.kill(1)
                cluster.kill(2)
                with pytest.raises(StoreUnavailable, match="no leader"):  # noqa: PT012
                    async with asyncio.timeout(CLUSTER):
                        while True:  # it may have heard of its leader a while ago
                            await anext(watch)
            with pytest.raises(StoreUnavailable):
                await store.read("")
            with pytest.raises(StoreUnavailable):
                await store.write([Put("routes/a", b"")])
            await cluster.restart(1, 2)
            await put(store, "routes/a")


async def test_all_members_restarted(tmp_path: Path) -> None:
    async with (
        EtcdCluster(tmp_path, tls=True, auth=True) as cluster,
        client(cluster) as hub,
        client(cluster, "agent") as agent,
    ):
        start = await put(hub, "routes/0")
        followed = asyncio.create_task(following(agent, start, start + 2))
        await put(hub, "routes/1")
        cluster.kill_all()
        with pytest.raises(StoreUnavailable, match="connection refused"):
            await hub.read("")
        await cluster.restart()
        # Tokens are in the members' memory: both clients sign in again without a word.
        await put(hub, "routes/2")
        assert [e.key for b in await followed for e in b.events] == [
            "routes/0",
            "routes/1",
            "routes/2",
        ]


async def test_made_anew_is_another_cluster(tmp_path: Path) -> None:
    async with EtcdCluster(tmp_path, members=1) as cluster, client(cluster) as store:
        old = await store.write([Put("routes/a", b"")])
        await cluster.wipe()
        new = await store.read("")
        assert new.items == ()
        assert new.cluster_id != old.cluster_id


async def test_restored_from_a_snapshot(tmp_path: Path) -> None:
    async with EtcdCluster(tmp_path, members=1) as cluster, client(cluster) as store:
        old = await store.write([Put("routes/a", b"old")])
        await cluster.snapshot(tmp_path / "snapshot")
        for _ in range(5):
            lost = await store.write([Put("routes/a", b"lost")])
        await cluster.restore(tmp_path / "snapshot")
        restored = await store.read("routes/")
        assert [item.value for item in restored.items] == [b"old"]
        assert restored.cluster_id != old.cluster_id
        with pytest.raises(Compacted, match="restored"):
            await batches(
                store, "routes/", revision=lost.revision + 1, until_revision=lost.revision + 1
            )


# -- users, passwords, permissions -------------------------------------------------------------


async def test_agents_write_only_replicas_and_activity(secured: EtcdCluster) -> None:
    async with client(secured, "hub") as hub, client(secured, "agent") as agent:
        await hub.write([Put("routes//user/a/", b"1"), Put("table", b"{}")])
        assert len((await agent.read("")).items) >= 2
        lease = await agent.lease(60)
        await agent.write([Put("replicas/x", b"1", lease=lease), Put("activity//user/a/", b"1")])
        assert await agent.keep_alive(lease)
        for operations in (
            [Put("routes//user/b/", b"1")],
            [Delete("routes//user/a/")],
            [Put("replicas/x", b"1"), Put("table", b"")],
        ):
            with pytest.raises(StoreRefused, match="'agent' has no permission"):
                await agent.write(operations)
        await agent.revoke(lease)
        assert [i.key for i in (await hub.read("routes/")).items] == ["routes//user/a/"]


async def test_nobody_reads_outside_the_prefix(secured: EtcdCluster) -> None:
    async with client(secured, "agent", prefix="/else/") as agent:
        with pytest.raises(StoreRefused, match="no permission"):
            await agent.read("")
        with pytest.raises(StoreRefused, match="no permission"):
            await batches(agent, "", revision=1, until_revision=1)


async def run_out(cluster: EtcdCluster, token: str) -> None:
    """Wait until etcd says that it has forgotten the token; a look at it would keep it alive."""

    async def forgotten() -> bool:
        lines = cluster.members[0].log.read_text(errors="replace").splitlines()
        return any("deleted a simple token" in line and token in line for line in lines)

    await until(forgotten, "the token runs out")


async def test_tokens_are_renewed(secured: EtcdCluster, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with client(secured) as store:
        await store.read("")
        token = store.gateway._token
        assert token
        await run_out(secured, token)
        assert (await store.write([Put("routes//user/e/", b"")])).done
        assert store.gateway._token != token
        assert token not in caplog.text


async def test_users_changed_while_signed_in(secured: EtcdCluster) -> None:
    """Any change of users or roles makes etcd refuse the tokens given before it."""
    async with client(secured) as store:
        await store.read("")
        await secured.ctl("role", "add", "another")
        written = await store.write([Put("routes//user/c/", b"")])
        assert written.done
        await secured.ctl("role", "delete", "another")
        await batches(store, "routes/", revision=written.revision, until_revision=written.revision)


async def test_a_watch_outlives_its_token(secured: EtcdCluster) -> None:
    async with client(secured, silence=30) as store, client(secured) as writer:
        start = (await store.read("")).revision + 1
        async with aclosing(store.watch("routes/", revision=start)) as watch:
            await anext(watch)
            token = store.gateway._token
            assert token
            await run_out(secured, token)
            written = await writer.write([Put("routes//user/d/", b"")])
            async with asyncio.timeout(CLUSTER):
                assert (await anext(watch)).revision == written.revision


@pytest.mark.parametrize("user", ["hub", "nobody"])
async def test_a_wrong_password(
    secured: EtcdCluster, user: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with client(secured, user, password=WRONG) as store:
        with pytest.raises(StoreRefused, match=f"refuses user '{user}'.*password is wrong") as info:
            await store.read("")
        one_line(info.value)
        assert WRONG not in str(info.value) + caplog.text


async def test_no_user_where_one_is_needed(secured: EtcdCluster) -> None:
    async with client(secured, username=None, password=None) as store:
        with pytest.raises(StoreRefused, match="wants a user and a password"):
            await store.read("")


async def test_a_password_from_a_file_or_a_function(secured: EtcdCluster, tmp_path: Path) -> None:
    file = tmp_path / "password"
    async with client(secured, password=file) as store:
        with pytest.raises(StoreRefused, match="cannot be read: No such file"):
            await store.read("")
        file.write_text(USERS["hub"] + "\n")
        await store.read("")
    async with client(secured, password=lambda: USERS["hub"]) as store:
        await store.read("")


async def test_a_user_where_none_is_needed(
    shared: EtcdCluster, caplog: pytest.LogCaptureFixture
) -> None:
    async with client(shared, username="hub", password=WRONG) as store:
        await store.read("")
        assert "authentication is off" in caplog.text


# -- addresses and certificates ----------------------------------------------------------------


def one_line(error: StoreError) -> None:
    assert "\n" not in str(error)
    assert len(str(error)) < 400


async def refused(store: EtcdStore, words: str, kind: type[StoreError] = StoreRefused) -> None:
    try:
        with pytest.raises(kind, match=words) as info:
            await store.read("")
        one_line(info.value)
        assert any(endpoint in str(info.value) for endpoint in store.gateway.endpoints)
    finally:
        await store.close()


async def test_nobody_listens() -> None:
    store = EtcdStore([f"http://127.0.0.1:{port}" for port in free_ports(2)], timeout=0.5)
    await refused(store, "connection refused: check the address.*connection", StoreUnavailable)


async def test_an_unknown_name() -> None:
    store = EtcdStore(["http://etcd.invalid:2379"], timeout=0.5)
    await refused(store, "its name is not known", StoreUnavailable)


@pytest.mark.parametrize(
    "endpoint", ["etcd:2379", "http://", "ftp://etcd:2379", "http://u:p@etcd:2379", "http://[", ""]
)
def test_not_an_address(endpoint: str) -> None:
    with pytest.raises(StoreRefused, match="is not a URL like") as info:
        EtcdStore([endpoint])
    assert "u:p" not in str(info.value)


async def test_not_an_etcd() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        page = b"<html>Welcome</html>"
        head = f"HTTP/1.1 404 Not Found\r\nContent-Type: text/html\r\nContent-Length: {len(page)}"
        writer.write(head.encode() + b"\r\nConnection: close\r\n\r\n" + page)
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        store = EtcdStore([f"http://127.0.0.1:{port}"])
        await refused(store, r"does not answer as etcd's gateway does \(HTTP 404, text/html\)")


async def test_tls_where_there_is_none(shared: EtcdCluster) -> None:
    endpoints = [e.replace("http:", "https:") for e in shared.endpoints]
    store = EtcdStore(endpoints, timeout=1.0)
    await refused(store, "should the address begin with http://", StoreUnavailable)


async def test_no_tls_where_there_is(secured: EtcdCluster) -> None:
    endpoints = [e.replace("https:", "http:") for e in secured.endpoints]
    store = EtcdStore(endpoints, timeout=1.0)
    await refused(store, "should the address begin with https://", StoreUnavailable)


async def test_no_ca(secured: EtcdCluster) -> None:
    await refused(secured.store(ca=None), "not trusted.*check the CA file")


async def test_no_client_certificate(secured: EtcdCluster) -> None:
    store = secured.store(cert=None, key=None)
    await refused(store, "wants a client certificate: none is configured")


def test_a_certificate_without_its_key(secured: EtcdCluster) -> None:
    with pytest.raises(StoreRefused, match="go together"):
        secured.store(key=None)


async def test_tls_files_that_are_not_there(secured: EtcdCluster, tmp_path: Path) -> None:
    async with client(secured, ca=tmp_path / "ca.pem") as store:
        with pytest.raises(StoreRefused, match=r"ca\.pem.*cannot be used: .*No such file"):
            await store.read("")


async def test_a_bad_endpoint_beside_good_ones(shared: EtcdCluster) -> None:
    [port] = free_ports(1)
    bad = [f"http://127.0.0.1:{port}", shared.endpoints[0].replace("http:", "https:")]
    async with client(shared, endpoints=[*bad, *shared.endpoints]) as store:
        for start in range(5):
            store.gateway._current = start
            await store.read("")


async def test_a_token_of_a_lost_cluster_does_not_hang_its_client(secured: EtcdCluster) -> None:
    """etcd waits for the index in a token, which a cluster that was made anew may never reach."""
    lost = "abcdefghijklmnop.999999999"
    async with client(secured) as store:
        store.gateway._token = lost
        await store.read("")
        store.gateway._token = lost
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await store.read("")
        await store.read("")


async def test_renewed_certificates_are_used(secured: EtcdCluster, tmp_path: Path) -> None:
    """A certificate of another CA is refused; the good one, put in its place, is used at once."""
    assert secured.certificates is not None
    from harness.certificates import make_certificates

    others = make_certificates(tmp_path / "other")
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    cert.write_bytes(others.client_cert.read_bytes())
    key.write_bytes(others.client_key.read_bytes())
    async with client(secured, cert=cert, key=key) as store:
        with pytest.raises(StoreRefused, match="does not trust the client certificate"):
            await store.read("")
        cert.write_bytes(secured.certificates.client_cert.read_bytes())
        with pytest.raises(StoreRefused):  # the key does not fit yet: the old pair stays in use
            await store.read("")
        assert f"{key} is not the key of {cert}" in store.warning
        key.write_bytes(secured.certificates.client_key.read_bytes())
        await store.read("")
        assert not store.warning
        cert.unlink()
        await store.read("")
        assert str(cert) in store.warning


# -- versions ----------------------------------------------------------------------------------


async def test_check_and_status(shared: EtcdCluster, store: EtcdStore) -> None:
    version = await store.check()
    status = await store.status()
    assert [s.endpoint for s in status] == shared.endpoints
    assert {s.version for s in status} == {version}
    assert sum(s.is_leader for s in status) == 1
    assert len({s.cluster_id for s in status}) == 1
    assert len({s.member_id for s in status}) == 3


@pytest.mark.parametrize(
    ("version", "outcome"),
    [
        ("3.3.27", "refused"),
        ("", "refused"),
        ("3.4.37", "warned"),
        ("3.5.32", "warned"),
        ("3.5.33", "fine"),
        ("3.6.13", "warned"),
        ("3.6.14", "fine"),
        ("3.7.0-rc.1", "warned"),
        ("3.7.1", "fine"),
        ("3.8.0", "fine"),
        ("4.0.0", "fine"),
    ],
)
async def test_versions(
    version: str,
    outcome: str,
    store: EtcdStore,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    call = store.gateway.call

    async def another(path: str, body: dict[str, Any]) -> dict[str, Any]:
        return {"version": version} if path.endswith("status") else await call(path, body)

    monkeypatch.setattr(store.gateway, "call", another)
    if outcome == "refused":
        with pytest.raises(StoreRefused, match="too old"):
            await store.check()
    else:
        assert await store.check() == version
    assert ("upgrade" in caplog.text) == (outcome == "warned")


def test_a_member_that_learns_is_passed_over_and_not_the_end() -> None:
    """One that has just joined answers few calls before it votes."""
    error = RpcError("etcd-1", FAILED_PRECONDITION, "etcdserver: rpc not supported for learner")
    assert error.transient
    assert isinstance(error.as_store_error("agent"), StoreUnavailable)
    other = RpcError("etcd-1", FAILED_PRECONDITION, "etcdserver: lease already exists")
    assert not other.transient


async def test_time_that_the_client_was_held_up_itself_is_not_etcds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As on a machine that gives it no CPU: the member has answered, and nobody has read it."""
    store = EtcdStore(["http://127.0.0.1:1", "http://127.0.0.1:2"], timeout=5)
    loop = asyncio.get_running_loop()
    clock, lost, asked = loop.time, 0.0, 0

    async def call_one(*_: object, **__: object) -> dict[str, str]:
        nonlocal lost, asked
        asked += 1
        if asked == 1:
            lost = 10.0
            await asyncio.Event().wait()
        return {"answer": "here"}

    monkeypatch.setattr(loop, "time", lambda: clock() + lost)
    monkeypatch.setattr(store.gateway, "call_one", call_one)
    assert await store.gateway.call("/v3/kv/range", {}) == {"answer": "here"}
    assert asked == 2
