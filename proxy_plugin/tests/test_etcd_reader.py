"""The package etcd3, over gRPC, and EtcdStore see the same keys and the same history."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from harness.etcd_cluster import EtcdCluster
from harness.store_contract import batches
from harness.waiting import CLUSTER

from jupyterhub_junction.etcd.store import EtcdStore
from jupyterhub_junction.store import Delete, Put

pytestmark = pytest.mark.needs_programs

PREFIX = "/junction/"
CLIENT = Path(__file__).parent / "harness" / "etcd3_client.py"


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[EtcdCluster]:
    async with EtcdCluster(tmp_path, members=1) as one:
        yield one


@pytest.fixture
async def store(cluster: EtcdCluster) -> AsyncIterator[EtcdStore]:
    one = cluster.store(prefix=PREFIX)
    yield one
    await one.close()


async def etcd3(cluster: EtcdCluster, do: str, **request: Any) -> Any:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(CLIENT),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION": "python"},
    )
    request |= {"do": do, "port": cluster.members[0].client_port}
    try:
        async with asyncio.timeout(CLUSTER):
            out, errors = await process.communicate(json.dumps(request).encode())
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, errors.decode()
    return json.loads(out)


async def test_etcd3_reads_what_we_write(cluster: EtcdCluster, store: EtcdStore) -> None:
    lease = await store.lease(60)
    first = await store.write(
        [
            Put("routes//user/秀樹/", b'{"target": "http://127.0.0.1:1"}'),
            Put("routes//user/has@/", bytes(range(256))),
            Put("replicas/x", b"", lease=lease),
        ]
    )
    second = await store.write([Delete("routes//user/has@/"), Put("table", b"{}")])
    seen = await etcd3(cluster, "read", prefix=PREFIX)
    assert [
        (s["key"], s["value"].encode("latin-1"), s["mod_revision"], s["lease"]) for s in seen
    ] == [
        ("/junction/replicas/x", b"", first.revision, lease),
        ("/junction/routes//user/秀樹/", b'{"target": "http://127.0.0.1:1"}', first.revision, 0),
        ("/junction/table", b"{}", second.revision, 0),
    ]


async def test_we_read_what_etcd3_writes(cluster: EtcdCluster, store: EtcdStore) -> None:
    start = (await store.read("")).revision + 1
    binary = bytes(range(256))
    wrote = await etcd3(
        cluster,
        "write",
        puts=[
            ["/junction/routes//user/秀樹/", binary.decode("latin-1")],
            ["/junction/replicas/x", "r"],
            ["/else/a", "unseen"],
        ],
        txn=[["/junction/table", "t"], ["/junction/activity/a", "1"]],
        deletes=["/junction/activity/a"],
    )
    snapshot = await store.read("")
    assert [(i.key, i.value, i.mod_revision - start, i.lease) for i in snapshot.items] == [
        ("replicas/x", b"r", 1, wrote["lease"]),
        ("routes//user/秀樹/", binary, 0, 0),
        ("table", b"t", 3, 0),
    ]
    found = await batches(store, "", revision=start, until_revision=start + 4)
    assert [(b.revision - start, [(e.key, e.value) for e in b.events]) for b in found] == [
        (0, [("routes//user/秀樹/", binary)]),
        (1, [("replicas/x", b"r")]),
        (3, [("table", b"t"), ("activity/a", b"1")]),
        (4, [("activity/a", None)]),
    ]


async def test_both_see_one_history(cluster: EtcdCluster, store: EtcdStore) -> None:
    start = (await store.read("")).revision + 1
    for number in range(30):
        await store.write([Put(f"routes/{number % 7}", b"%d" % number), Put("table", b"")])
        if number % 3 == 0:
            await store.write([Delete(f"routes/{number % 7}")])
    last = (await store.write([Put("routes/last", b"")])).revision
    theirs = await etcd3(cluster, "watch", prefix=PREFIX + "routes/", revision=start, until=last)
    ours = await batches(store, "routes/", revision=start, until_revision=last)
    assert [
        [b.revision, PREFIX + e.key, None if e.value is None else e.value.decode()]
        for b in ours
        for e in b.events
    ] == theirs
