"""Members that prepare themselves: real ones, over mTLS, whose pods and volumes are taken away."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from harness.etcd_pods import Pods
from harness.waiting import until

from jupyterhub_junction.store import Put, StoreUnavailable

pytestmark = pytest.mark.needs_programs


@pytest.fixture
async def pods(tmp_path: Path) -> AsyncIterator[Pods]:
    """Three members, with users."""
    async with Pods(tmp_path / "etcd") as made:
        made.create()
        await made.until_whole()
        await made.until_users()
        yield made


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


async def test_three_at_once_found_one_cluster(pods: Pods) -> None:
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
