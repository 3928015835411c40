"""The table on disk: what was saved is read, and what cannot be is as good as nothing."""

from __future__ import annotations

import asyncio
import json
import logging
import stat
from pathlib import Path

import pytest
from harness.waiting import SOON, until

from jupyterhub_junction.agent import saved_table
from jupyterhub_junction.agent.replica import Replica
from jupyterhub_junction.agent.saved_table import SavedTable
from jupyterhub_junction.changed import Changed
from jupyterhub_junction.keys import ROUTES, TABLE, TableInfo, encode_route
from jupyterhub_junction.routes import Route, RouteTable
from jupyterhub_junction.store import Item, Snapshot

LOG = logging.getLogger("test.saved")
ITEMS = (
    Item(TABLE, TableInfo("0" * 16).encode(), 0),
    Item(ROUTES + "/", encode_route(Route("/", "http://hub:80", {"hub": True})), 0),
    Item(ROUTES + "/user/é \u2028/", encode_route(Route("/user/é \u2028/", "http://a:80")), 0),
)


async def saved(path: Path) -> SavedTable:
    table = SavedTable(path, LOG)
    replica = Replica()
    assert replica.offer(Snapshot("one", 7, ITEMS))
    keeping = asyncio.create_task(table.keep(replica, Changed()))
    try:
        await until(path.exists, "the table is saved", deadline=SOON)
    finally:
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)
    return table


async def test_what_was_saved_is_read(tmp_path: Path) -> None:
    table = await saved(tmp_path / "table.json")
    found = table.read()
    assert found is not None
    snapshot, age = found
    assert (snapshot.cluster_id, snapshot.revision) == ("one", 7)
    assert {i.key: i.value for i in snapshot.items} == {i.key: i.value for i in ITEMS}
    assert 0 <= age < 60
    assert Replica().offer(snapshot)


async def test_only_its_owner_reads_it_and_a_link_is_not_followed(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_text("mine")
    (tmp_path / "table.new").symlink_to(other)
    table = await saved(tmp_path / "table.json")
    assert stat.S_IMODE(table.path.stat().st_mode) == 0o600
    assert other.read_text() == "mine"


def test_none_was_saved(tmp_path: Path) -> None:
    assert SavedTable(tmp_path / "table.json", LOG).read() is None


@pytest.mark.parametrize(
    "change",
    [
        lambda text: "",
        lambda text: "{}",
        lambda text: "[1]",
        lambda text: text[: len(text) // 2],
        lambda text: text.rpartition("\n")[0].rpartition("\n")[0],
        lambda text: text.replace('"format": 1', '"format": 2'),
        lambda text: text.replace("one", "two") + "\nnonsense",
        lambda text: "\x00\xff",
    ],
)
async def test_a_file_that_is_broken_is_said_and_not_used(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, change
) -> None:
    table = await saved(tmp_path / "table.json")
    table.path.write_text(change(table.path.read_text()))
    assert table.read() is None
    assert str(table.path) in caplog.text


async def test_a_folder_that_is_gone_does_not_end_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    table = SavedTable(tmp_path / "gone" / "table.json", LOG)
    replica = Replica()
    assert replica.offer(Snapshot("one", 7, ITEMS))
    keeping = asyncio.create_task(table.keep(replica, Changed()))
    await until(lambda: "cannot be saved" in caplog.text, "it is said", deadline=SOON)
    assert not keeping.done()
    keeping.cancel()
    await asyncio.gather(keeping, return_exceptions=True)


INFO = TableInfo("0" * 16).encode()


def test_a_line_each_so_that_no_other_thread_waits_long(tmp_path: Path) -> None:
    table = SavedTable(tmp_path / "table.json", LOG)
    table.write("one", 3, RouteTable([Route("/", "http://hub:80")]), INFO)
    head, *rows = table.path.read_text().splitlines()
    assert json.loads(head)["keys"] == len(rows) == 2


def test_only_what_has_changed_is_encoded_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded: list[str] = []

    def encode(route: Route) -> bytes:
        encoded.append(route.routespec)
        return encode_route(route)

    monkeypatch.setattr(saved_table, "encode_route", encode)
    table = SavedTable(tmp_path / "table.json", LOG)
    routes = RouteTable(Route(f"/user/{name}/", "http://a:80") for name in "abc")
    table.write("one", 3, routes, INFO)
    encoded.clear()
    routes.add(Route("/user/a/", "http://b:80"))
    routes.remove("/user/b/")
    routes.add(Route("/user/d/", "http://d:80"))
    table.write("one", 6, routes, INFO)
    assert sorted(encoded) == ["/user/a/", "/user/d/"]
    found = table.read()
    assert found is not None
    values = {item.key: item.value for item in found[0].items}
    assert values == {
        TABLE: INFO, **{ROUTES + each.routespec: encode_route(each) for each in routes.values()}
    }  # fmt: skip
    assert values[ROUTES + "/user/a/"] == encode_route(Route("/user/a/", "http://b:80"))
