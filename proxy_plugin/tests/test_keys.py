"""What stands under the prefix: written and read back, and a broken value names its key."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jupyterhub_junction.keys import (
    FORMAT,
    MAX_VALUE_BYTES,
    REPLICAS,
    ROUTES,
    TABLE,
    BadValue,
    ReplicaReport,
    TableInfo,
    check_replica_name,
    decode_activity,
    decode_route,
    encode_activity,
    encode_route,
    iso_time,
    new_table_id,
)
from jupyterhub_junction.routes import Route

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.floats(allow_nan=False, width=32),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)
OBJECTS = st.dictionaries(st.text(), JSON.filter(lambda v: v not in (float("inf"), -float("inf"))))
SPEC = "/user/x/"
KEY = ROUTES + SPEC


@given(st.dictionaries(st.text(), st.integers() | st.text() | st.none() | st.lists(st.text())))
def test_a_route_is_read_as_written(data: dict[str, object]) -> None:
    route = Route("Host.example/user/é%2F/", "http://127.0.0.1:80/x", data)
    stored = encode_route(route)
    read = decode_route(ROUTES + route.routespec, stored)
    assert (read, read.data) == (route, data)
    assert encode_route(read) == stored


BROKEN = {
    "empty": b"",
    "no JSON": b"nonsense",
    "no UTF-8": b"\xff\xfe{}",
    "cut short": b'{"target":"http://127',
    "a list": b"[]",
    "a number": b"7",
    "null": b"null",
    "no time ends": b"[" * 100_000,
    "too large": b'{"target":"http://127.0.0.1:80","data":{"x":"' + b"y" * 2_000_000 + b'"}}',
    "a number that Python will not read": b'{"x":' + b"9" * 50_000 + b"}",
}
BROKEN_ROUTES = BROKEN | {
    "no target": b"{}",
    "target is null": b'{"target":null}',
    "target is no URL": b'{"target":"nonsense"}',
    "target has another scheme": b'{"target":"ftp://127.0.0.1"}',
    "data is a list": b'{"target":"http://127.0.0.1:80","data":[1]}',
    "data is no number": b'{"target":"http://127.0.0.1:80","data":{"x":NaN}}',
    "data is large": json.dumps({"target": "http://a", "data": {"x": "y" * 70_000}}).encode(),
}


@pytest.mark.parametrize("stored", BROKEN_ROUTES.values(), ids=BROKEN_ROUTES)
def test_a_broken_route_names_its_key(stored: bytes) -> None:
    with pytest.raises(BadValue, match=f"^{KEY}: ") as refused:
        decode_route(KEY, stored)
    assert len(str(refused.value)) < 1000


@pytest.mark.parametrize("spec", ["", "user", "/a/../", "/a//", "/" + "x" * 2000 + "/", "/\udcff/"])
def test_a_key_that_is_no_routespec_is_named(spec: str) -> None:
    with pytest.raises(BadValue) as refused:
        decode_route(ROUTES + spec, b'{"target":"http://127.0.0.1:80"}')
    assert str(refused.value).startswith(ROUTES + spec)


@given(st.binary() | JSON.map(lambda loaded: json.dumps(loaded).encode()))
def test_any_value_is_read_or_named(stored: bytes) -> None:
    for read in (
        lambda: decode_route(KEY, stored),
        lambda: decode_activity(KEY, stored),
        lambda: TableInfo.decode(stored),
        lambda: ReplicaReport.decode(KEY, stored),
    ):
        try:
            read()
        except BadValue as error:
            assert str(error).startswith((KEY, TABLE))  # noqa: PT017


# --- activity ------------------------------------------------------------------------------------


def test_activity() -> None:
    assert iso_time(0) == "1970-01-01T00:00:00.000Z"
    stored = encode_activity(1_700_000_000.25)
    assert decode_activity("activity//user/x/", stored) == "2023-11-14T22:13:20.250Z"


@given(st.floats(0, 4e9), st.floats(0, 4e9))
def test_times_sort_as_text(one: float, other: float) -> None:
    assert (iso_time(one) <= iso_time(other)) or one > other
    assert len(iso_time(one)) == 24


@pytest.mark.parametrize(
    "stored", [*BROKEN.values(), b"{}", b'{"last":7}', b'{"last":"yesterday"}'], ids=range(13)
)
def test_broken_activity_names_its_key(stored: bytes) -> None:
    with pytest.raises(BadValue, match=r"^activity//x/: "):
        decode_activity("activity//x/", stored)


# --- table ---------------------------------------------------------------------------------------


def test_the_table_is_read_as_written() -> None:
    info = TableInfo(new_table_id(), "/base/hub/error/")
    assert TableInfo.decode(info.encode()) == info
    assert json.loads(info.encode())["format"] == FORMAT


def test_a_later_table_id_sorts_after() -> None:
    ids = [new_table_id() for _ in range(5)]
    assert ids == sorted(ids)
    assert new_table_id() > f"{0:016x}"


def test_a_later_table_id_sorts_after_although_the_clock_went_back() -> None:
    ahead = f"{time.time_ns() + 10**18:016x}"
    assert new_table_id(ahead) == f"{int(ahead, 16) + 1:016x}"
    assert new_table_id(f"{1:016x}") > f"{time.time_ns() - 10**12:016x}"
    assert new_table_id("f" * 16) == "f" * 16  # the last one there is


def table(**changed: object) -> bytes:
    return json.dumps({"format": FORMAT, "id": f"{1:016x}", **changed}).encode()


@pytest.mark.parametrize(
    "stored",
    [
        *BROKEN.values(),
        b"{}",
        table(format=FORMAT + 1),
        table(format=None),
        table(format="1"),
        table(id="x"),
        table(id=None),
        table(id=7),
        table(error_path="elsewhere"),
        table(error_path="/no-slash-at-the-end"),
        table(error_path="/a?b/"),
        table(error_path=["/"]),
    ],
    ids=range(21),
)
def test_a_broken_table_is_refused(stored: bytes) -> None:
    with pytest.raises(BadValue, match=r"^table: "):
        TableInfo.decode(stored)


def test_another_format_says_what_to_do() -> None:
    with pytest.raises(BadValue, match=f"format 99.*reads format {FORMAT}.*same version"):
        TableInfo.decode(table(format=99))


def test_fields_of_a_later_version_are_passed_over() -> None:
    assert TableInfo.decode(table(more=1)) == TableInfo(f"{1:016x}")


# --- replicas ------------------------------------------------------------------------------------

REPORT = ReplicaReport("cluster", 7, 6, 5, "1.0")


def test_a_report_is_read_as_written() -> None:
    assert ReplicaReport.decode(REPLICAS + "a", REPORT.encode()) == REPORT


@pytest.mark.parametrize("name", ["cluster_id", "revision", "applied", "routes", "version"])
@pytest.mark.parametrize("wrong", [None, [], True, 1.5])
def test_a_broken_report_names_key_and_field(name: str, wrong: object) -> None:
    loaded = json.loads(REPORT.encode()) | {name: wrong}
    with pytest.raises(BadValue, match=f"^replicas/a: {name} is no"):
        ReplicaReport.decode("replicas/a", json.dumps(loaded).encode())


@pytest.mark.parametrize("name", ["a", "junction-0", "a.b_c-D9", "x" * 253])
def test_replica_names(name: str) -> None:
    assert check_replica_name(name) == name


@pytest.mark.parametrize("name", ["", "a/b", "a b", "é", "x" * 254, "a\n"])
def test_bad_replica_names(name: str) -> None:
    with pytest.raises(ValueError, match="replica name"):
        check_replica_name(name)


def test_the_largest_route_fits_into_a_value() -> None:
    route = Route("/" + "é" * 400 + "/", "http://a/" + "x" * 1900, {"x": "y" * 60_000})
    assert len(encode_route(route)) < MAX_VALUE_BYTES
    assert decode_route(ROUTES + route.routespec, encode_route(route)) == route
