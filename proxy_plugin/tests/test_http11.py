"""Heads of requests and responses."""

from __future__ import annotations

import pytest
from harness.heads import request
from hypothesis import given
from hypothesis import strategies as st

from jupyterhub_junction.forwarder.http11 import BadMessage, RequestHead, ResponseHead, find_head


def test_a_head_keeps_bytes_and_order() -> None:
    head = request("X-Name:  a\tb ", "x-name: \xe9")
    assert (head.method, head.target, head.minor) == (b"GET", b"/a?b=c", 1)
    assert head.fields[1:] == [
        (b"x-name", b"X-Name", b"a\tb"),
        (b"x-name", b"x-name", b"\xe9"),
    ]
    assert head.all(b"x-name") == [b"a\tb", b"\xe9"]
    assert head.first(b"none") is None


@pytest.mark.parametrize(
    ("first", "status"),
    [
        ("GET /a", 400),
        ("GET  /a HTTP/1.1", 400),
        ("GET /a b HTTP/1.1", 400),
        ("GET\t/a HTTP/1.1", 400),
        ("G(T /a HTTP/1.1", 400),
        ("GET a HTTP/1.1", 400),
        ("GET * HTTP/1.1", 400),
        ("GET /a#b HTTP/1.1", 400),
        ("GET /a\x00 HTTP/1.1", 400),
        ("GET http://other.example/ HTTP/1.1", 400),
        ("GET http:// HTTP/1.1", 400),
        ("GET ftp://hub.example:8000/ HTTP/1.1", 400),
        ("GET /a http/1.1", 400),
        ("PRI * HTTP/2.0", 505),
        ("GET /a HTTP/1.2", 505),
        ("CONNECT hub.example:8000 HTTP/1.1", 405),
    ],
)
def test_request_lines_refused(first: str, status: int) -> None:
    with pytest.raises(BadMessage) as caught:
        request(first=first)
    assert caught.value.status == status


@pytest.mark.parametrize(
    "line",
    [
        "Name : value",
        " folded: value",
        "\tfolded",
        "no colon",
        ": no name",
        "Na me: value",
        "Name: a\rb",
        "Name: a\nb",
        "Name: a\x00b",
        "Name: a\x7fb",
        "Na\xe9me: value",
        "Host: other.example",
        "Host: hub.example:8000",
    ],
)
def test_header_lines_refused(line: str) -> None:
    with pytest.raises(BadMessage):
        request(line)


def test_host_is_needed_once_and_well_formed() -> None:
    with pytest.raises(BadMessage):
        request(host=False)
    assert request(first="GET / HTTP/1.0", host=False).host == b""
    assert request("Host: [::1]:80", host=False).host == b"[::1]:80"
    for host in ("a b", "a/b", "user@host", "a, b", "h:x", "[::1", "a\\b"):
        with pytest.raises(BadMessage):
            request(f"Host: {host}", host=False)


def test_absolute_form_becomes_origin_form() -> None:
    head = request(first="GET HTTP://HUB.example:8000/x%2Fy?z HTTP/1.1")
    assert head.target == b"/x%2Fy?z"
    assert request(first="GET http://hub.example:8000?z HTTP/1.1").target == b"/?z"


def test_find_head_has_a_limit_and_wants_cr() -> None:
    assert find_head(b"a\r\n\r\nb", 0, 100) == 1
    assert find_head(b"a\r\n\r", 0, 100) == -1
    with pytest.raises(BadMessage) as caught:
        find_head(b"a" * 101, 0, 100)
    assert caught.value.status == 431
    with pytest.raises(BadMessage):
        find_head(b"GET / HTTP/1.1\nHost: a\n\n", 0, 100)


def test_find_head_finds_one_behind_another() -> None:
    assert find_head(b"a\r\n\r\nb\r\n\r\n", 0, 100, 5) == 6
    assert find_head(b"a\r\n\r\n\r\n\r", 0, 100, 5) == -1
    assert find_head(b"a" * 200 + b"\r\n\r\n" + b"b" * 100, 0, 100, 204) == -1
    with pytest.raises(BadMessage):
        find_head(b"a\r\n\r\n" + b"b" * 101, 0, 100, 5)
    with pytest.raises(BadMessage):
        find_head(b"a\r\n\r\n\nb", 0, 100, 5)


@given(
    data=st.binary(max_size=200), prefix=st.sampled_from([b"", b"GET / HTTP/1.1\r\nHost: a\r\n"])
)
def test_any_bytes_are_a_head_or_are_refused(data: bytes, prefix: bytes) -> None:
    for kind in (RequestHead, ResponseHead):
        try:
            head = kind(prefix + data)
        except BadMessage:
            continue
        for _, name, value in head.fields:
            assert not set(name + value) & set(b"\r\n\0")


@given(
    cuts=st.lists(st.integers(0, 60), max_size=8),
    data=st.just(b"GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n\r\nbody"),
)
def test_the_end_of_a_head_is_found_however_it_is_cut(cuts: list[int], data: bytes) -> None:
    seen = 0
    for cut in sorted(c for c in cuts if c < data.index(b"\r\n\r\n") + 4):
        assert find_head(data[:cut], seen, 1000) == -1
        seen = cut
    assert find_head(data, seen, 1000) == data.index(b"\r\n\r\n")


def test_keeping_alive() -> None:
    assert request().keeps_alive()
    assert not request("Connection: foo, Close").keeps_alive()
    assert not request(first="GET / HTTP/1.0").keeps_alive()
    assert request("Connection: Keep-Alive", first="GET / HTTP/1.0").keeps_alive()


def test_lines_pass_whole_but_for_a_plain_connection() -> None:
    assert request("X:  a ").lines() == b"Host: hub.example:8000\r\nX: a\r\n"
    assert request("Connection: close", "X: a").lines() == request("X: a").lines()
    assert request("X: Connection: close").lines() is not None
    for hop in ("Connection: X", "connection: close", "TE: trailers", "Upgrade: h2c"):
        assert request(hop).lines() is None
    assert request("Connection: close", "Connection: close").lines() is None
    assert not request("X-Name: a").claims
    assert request("x-forwarded-prefix: a").claims
    scheme = frozenset((b"x-scheme", b"forwarded"))
    assert request("X-Scheme:a").claims_any(scheme)
    assert not request("X-Real-Ip: a").claims_any(scheme)
