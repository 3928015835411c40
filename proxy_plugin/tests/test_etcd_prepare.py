"""Members that prepare themselves: real ones, over mTLS, whose pods and volumes are taken away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from harness.certificates import make_expired
from harness.etcd_cluster import USERS
from harness.etcd_pods import Pods
from harness.waiting import until

from jupyterhub_junction.etcd.errors import RpcError, Transport
from jupyterhub_junction.etcd_member.membership import Running
from jupyterhub_junction.store import Delete, Put, StoreError, StoreUnavailable

# one cluster for all that leave it whole: to found one takes the longest
pytestmark = [pytest.mark.needs_programs, pytest.mark.asyncio(loop_scope="module")]

NEW = ("another one", "root's other one")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Pods]:
    async with Pods(tmp_path_factory.mktemp("etcd") / "pods") as made:
        made.create()
        yield made


@pytest_asyncio.fixture(loop_scope="module")
async def pods(shared: Pods) -> Pods:
    """Three members, with users, and no keys but the test's own."""
    await shared.until_whole()
    await shared.until_users()
    store = shared.store()
    await store.write([Delete(item.key) for item in (await store.read("")).items])
    await store.close()
    shared.forget_logs()
    return shared


async def write(pods: Pods, key: str) -> int:
    """Write as the hub, until it is done; returns the revision."""
    store = pods.store()

    async def written() -> int:
        try:
            return (await store.write([Put(key, b"1")])).revision
        except StoreUnavailable:
            return 0

    try:
        return await until(written, f"{key} is written")
    finally:
        await store.close()


async def keys(pods: Pods, number: int) -> set[str]:
    """The keys as one member alone gives them."""
    store = pods.store(endpoints=[pods.nodes[number].client_url])
    try:
        return {item.key for item in (await store.read("")).items}
    finally:
        await store.close()


async def change(pods: Pods, what: str, body: dict[str, Any]) -> None:
    """Change the membership behind the keepers' backs; etcd refuses it until all are settled."""
    async with pods.access() as access:

        async def done() -> bool:
            try:
                await access.call(pods.nodes[0], f"/v3/cluster/member/{what}", body)
            except (RpcError, Transport):
                return False
            return True

        await until(done, f"a member is to be changed: {what}")


async def test_three_at_once_found_one_cluster(shared: Pods) -> None:
    pods = shared  # its beginning
    await pods.until_whole()
    await pods.until_users()
    await write(pods, "routes/a")
    for number in range(3):
        assert await keys(pods, number) == {"routes/a"}
    assert sum(pods.log(n).count("founding a new cluster") for n in range(3)) == 1


async def test_a_member_whose_volume_is_deleted_comes_back_by_itself(pods: Pods) -> None:
    await write(pods, "routes/a")
    before = {member.id for member in await pods.members()}
    cluster = await pods.cluster_id()
    await pods.delete(1, disk=True)
    pods.create(1)
    await pods.until_whole()
    assert len({member.id for member in await pods.members()} & before) == 2
    assert await pods.cluster_id() == cluster
    assert await keys(pods, 1) == {"routes/a"}


async def test_a_rolling_restart_never_loses_quorum(pods: Pods) -> None:
    store = pods.store(timeout=10.0)
    done: list[int] = []
    stop = asyncio.Event()

    async def load() -> None:
        while not stop.is_set():
            done.append((await store.write([Put("routes/x", b"1")])).revision)

    try:
        writing = asyncio.create_task(load())
        for number in range(3):
            await pods.delete(number, term=True)
            pods.create(number)
            await pods.until_whole()
        stop.set()
        await writing
    finally:
        await store.close()
    assert done == sorted(set(done))
    assert await pods.cluster_id()
    assert "founding" not in "".join(map(pods.log, range(3)))


async def test_a_rejoin_that_is_interrupted_is_done_again(pods: Pods) -> None:
    await write(pods, "routes/a")
    await pods.delete(2, disk=True)
    old = next(m for m in await pods.members() if m.name == "etcd-2")
    # as far as `prepare` may have come before its node went down
    await change(pods, "remove", {"ID": str(old.id)})
    await change(pods, "add", {"peerURLs": [pods.nodes[2].peer_url], "isLearner": True})
    pods.create(2)
    await pods.until_whole()
    assert await keys(pods, 2) == {"routes/a"}


async def test_a_member_that_was_removed_while_it_ran_comes_back(pods: Pods) -> None:
    await write(pods, "routes/a")
    old = next(m for m in await pods.members() if m.name == "etcd-2")
    await change(pods, "remove", {"ID": str(old.id)})
    await pods.until_whole()
    assert old.id not in {m.id for m in await pods.members()}
    assert await keys(pods, 2) == {"routes/a"}


async def test_all_volumes_lost_found_another_cluster_with_the_same_users(pods: Pods) -> None:
    await write(pods, "routes/a")
    before = await pods.cluster_id()
    for number in range(3):
        await pods.delete(number, disk=True)
    pods.create()
    await pods.until_whole()
    await pods.until_users()
    assert await pods.cluster_id() not in (0, before)
    assert await keys(pods, 0) == set()


async def test_all_pods_restarted_keep_their_cluster(pods: Pods) -> None:
    await write(pods, "routes/a")
    before = await pods.cluster_id()
    for number in range(3):
        await pods.delete(number)
    pods.create()
    await pods.until_whole()
    assert await pods.cluster_id() == before
    assert await keys(pods, 1) == {"routes/a"}


async def test_a_lost_disk_waits_for_the_others_data(pods: Pods) -> None:
    await write(pods, "routes/a")
    before = await pods.cluster_id()
    for number in range(3):
        await pods.delete(number, disk=number == 0)
    pods.create(0)
    await until(lambda: "no cluster with a leader answers" in pods.log(0), "etcd-0 waits")
    pods.create(1, 2)
    await pods.until_whole()
    assert await pods.cluster_id() == before
    assert await keys(pods, 0) == {"routes/a"}


async def test_what_is_left_of_a_lost_cluster_joins_the_next_one(pods: Pods) -> None:
    before = await pods.cluster_id()
    for number in (1, 2):
        await pods.delete(number, disk=True)
    pods.create(1, 2)  # and etcd-0 runs all along, without a quorum and with nobody to restart it
    await pods.until_whole()
    assert await pods.cluster_id() not in (0, before)
    assert "etcd is of another cluster, and has to start without its old data" in pods.log(0)
    assert "founding a new cluster" in pods.log(1)


async def test_members_are_added_and_taken_away(tmp_path: Path) -> None:
    async with Pods(tmp_path / "etcd", 1) as pods:
        pods.create()
        await pods.until_whole()
        await pods.until_users()
        await write(pods, "routes/a")
        pods.size = 3
        pods.create(1, 2)  # the old pod learns of them when it is started again
        await until(
            lambda: sum("votes from now on" in pods.log(n) for n in (1, 2)) == 2, "two more"
        )
        await pods.delete(0)
        pods.create(0)
        await pods.until_whole()
        # a StatefulSet takes the last ones away whenever it likes, before anything can be asked of
        # them: here while the first one starts again, and is a quorum with them
        pods.size = 1
        await pods.delete(0)
        pods.create(0)
        await pods.until_whole_of(3)
        for number in (1, 2):
            await pods.delete(number, disk=True)
        await pods.until_whole()
        assert "etcd is left alone, and goes on as the only one" in pods.log(0)
        assert await keys(pods, 0) == {"routes/a"}
        await write(pods, "routes/b")


async def test_what_was_taken_away_is_removed(tmp_path: Path) -> None:
    async with Pods(tmp_path / "etcd", 3, most=3, keep=["--patience=1"]) as pods:
        pods.create()
        await pods.until_whole()
        await pods.until_users()
        pods.size = 2
        await pods.delete(2, disk=True)
        for number in range(2):
            await pods.delete(number)
            pods.create(number)
            await until(lambda: members_vote(pods, number), "it votes again")  # noqa: B023
        await pods.until_whole()


async def members_vote(pods: Pods, number: int) -> bool:
    peer = (await pods.look())[number]
    return isinstance(peer, Running) and peer.has_leader


async def test_nothing_is_written_where_nothing_is_to_be_done(pods: Pods) -> None:
    store = pods.store()
    try:
        await store.read("")
        token = store.gateway._token
        for number in range(3):  # another start of each keeper
            await pods.delete(number)
            pods.create(number)
            await pods.until_whole()
        await until(lambda: all("are well" in pods.log(n) for n in range(3)), "all look")
    finally:
        await store.close()
    assert token
    assert " users: " not in "".join(map(pods.log, range(3)))


async def test_passwords_that_are_renewed_are_set(pods: Pods) -> None:
    (pods.directory / "hub-password").write_text(NEW[0])
    (pods.directory / "root-password").write_text(NEW[1] + "\n")
    store = pods.store(password=NEW[0], timeout=15.0)
    root = pods.store("root", password=NEW[1], timeout=15.0)

    async def both() -> bool:
        try:
            await store.read("")
            await root.read("")
        except StoreError:
            return False
        return True

    try:
        await until(both, "hub and root sign in with the new passwords")
        await pods.delete(1, disk=True)
        pods.create(1)
        await pods.until_whole()
    finally:
        await store.close()
        await root.close()
        for user in ("hub", "root"):
            (pods.directory / f"{user}-password").write_text(USERS[user])
    await pods.until_users()


async def test_a_full_etcd_is_emptied(tmp_path: Path) -> None:
    quota = 8 * 1024 * 1024
    async with Pods(tmp_path / "etcd", options=[f"--quota-bytes={quota}"]) as pods:
        pods.create()
        await pods.until_whole()
        await pods.until_users()
        store = pods.store()
        try:
            with pytest.raises(StoreError, match="is full"):  # noqa: PT012
                for _ in range(200):
                    await store.write([Put("routes/x", b"x" * 100_000)])
        finally:
            await store.close()
        await until(lambda: can_write(pods), "etcd takes writes again")
        await until(
            lambda: all("defragmented" in pods.log(n) for n in range(3)),
            "each member gives its space back",
        )


async def can_write(pods: Pods) -> bool:
    store = pods.store()
    try:
        await store.write([Put("routes/y", b"1")])
    except StoreError:
        return False
    finally:
        await store.close()
    return True


async def test_a_wrong_ca_says_which_file(tmp_path: Path) -> None:
    async with Pods(tmp_path / "etcd", 1) as pods:
        (pods.tls / "ca.crt").write_text("nothing")
        pods.create()
        await until(lambda: str(pods.tls / "ca.crt") in pods.log(0), "the file is named")
        assert "Traceback" not in pods.log(0)


async def test_an_expired_certificate_says_which_file(tmp_path: Path) -> None:
    async with Pods(tmp_path / "etcd", 1) as pods:
        make_expired(pods.tls)
        pods.create()
        line = f"the certificate for etcd {pods.tls / 'tls.crt'} expired on"
        await until(lambda: line in pods.log(0), "the file is named")
        assert "Traceback" not in pods.log(0)
