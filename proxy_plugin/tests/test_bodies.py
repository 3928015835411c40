"""Where bodies end, and what is in them."""

from __future__ import annotations

import itertools

import pytest
from harness.heads import request, response
from hypothesis import given
from hypothesis import strategies as st

from jupyterhub_junction.forwarder.bodies import (
    ChunkedBody,
    LengthBody,
    UntilClose,
    chunk,
    last_chunk,
    request_body,
    response_body,
)
from jupyterhub_junction.forwarder.http11 import BadMessage

# -- framing


@pytest.mark.parametrize(
    "lines",
    [
        ("Content-Length: 5", "Content-Length: 6"),
        ("Content-Length: 5", "Content-Length: 5"),
        ("Content-Length: 5, 5",),
        ("Content-Length: +5",),
        ("Content-Length: -5",),
        ("Content-Length: 0x5",),
        ("Content-Length: 5 5",),
        ("Content-Length: 5_0",),
        ("Content-Length: ",),
        ("Content-Length: \xb2",),
        ("Content-Length: 99999999999999999999",),
        ("Content-Length: 5", "Transfer-Encoding: chunked"),
        ("Transfer-Encoding: chunked", "Transfer-Encoding: chunked"),
        ("Transfer-Encoding: chunked, identity",),
        ("Transfer-Encoding: xchunked",),
        ("Transfer-Encoding: chunked, chunked",),
        ("Transfer-Encoding: \x0bchunked",),
        ("Transfer-Encoding: identity",),
        ("Transfer-Encoding:",),
    ],
)
def test_ambiguous_framing_is_refused(lines: tuple[str, ...]) -> None:
    with pytest.raises(BadMessage):
        request_body(request(*lines, first="POST / HTTP/1.1"))
    with pytest.raises(BadMessage):
        response_body(response(*lines), b"GET")


def test_how_requests_are_framed() -> None:
    assert request_body(request()).done
    body = request_body(request("Content-Length: 5"))
    assert isinstance(body, LengthBody)
    assert body.left == 5
    assert isinstance(request_body(request("Transfer-Encoding: Chunked")), ChunkedBody)
    with pytest.raises(BadMessage) as caught:
        request_body(request("Transfer-Encoding: gzip, chunked"))
    assert caught.value.status == 501
    with pytest.raises(BadMessage):
        request_body(request("Transfer-Encoding: chunked", first="GET / HTTP/1.0"))


def test_how_responses_are_framed() -> None:
    assert isinstance(response_body(response(), b"GET"), UntilClose)
    assert isinstance(response_body(response("Transfer-Encoding: chunked"), b"GET"), ChunkedBody)
    long = response("Content-Length: 5")
    assert not response_body(long, b"GET").done
    assert response_body(long, b"HEAD").done
    for status in (204, 304):
        none = response("Content-Length: 5", first=f"HTTP/1.1 {status} X")
        assert response_body(none, b"GET").done


# -- bodies


@given(length=st.integers(0, 50), pieces=st.lists(st.binary(max_size=20)))
def test_a_length_body_takes_its_length(length: int, pieces: list[bytes]) -> None:
    body, taken, rest = LengthBody(length), b"", b""
    for piece in pieces:
        if body.done:
            rest += piece
            continue
        payload, more = body.feed(piece)
        taken, rest = taken + payload, rest + more
    everything = b"".join(pieces)
    assert (taken, rest) == (everything[:length], everything[length:])


@given(
    payloads=st.lists(st.binary(min_size=1, max_size=40), max_size=6),
    trailers=st.lists(st.sampled_from([(b"X-Sum", b"1"), (b"Other", b"a b")]), max_size=3),
    rest=st.binary(max_size=20),
    cuts=st.lists(st.integers(0, 400), max_size=12),
)
def test_chunks_survive_any_cutting(
    payloads: list[bytes], trailers: list[tuple[bytes, bytes]], rest: bytes, cuts: list[int]
) -> None:
    data = b"".join(chunk(p) for p in payloads) + last_chunk(trailers) + rest
    body, taken, after = ChunkedBody(), b"", b""
    edges = [0, *sorted(min(c, len(data)) for c in cuts), len(data)]
    for start, stop in itertools.pairwise(edges):
        if body.done:
            after += data[start:stop]
            continue
        payload, more = body.feed(data[start:stop])
        taken, after = taken + payload, after + more
    assert body.done
    assert (taken, after) == (b"".join(payloads), rest)
    assert [(name, value) for _, name, value in body.trailers] == trailers


@pytest.mark.parametrize(
    "data",
    [
        b"5\nhello\r\n0\r\n\r\n",
        b"5\r\nhelloX\r\n",
        b"5\r\nhello\n0\r\n\r\n",
        b"+5\r\nhello\r\n",
        b"-5\r\nhello\r\n",
        b"0x5\r\nhello\r\n",
        b"5 \r\nhello\r\n",
        b" 5\r\nhello\r\n",
        b"5_0\r\nhello\r\n",
        b"\r\nhello\r\n",
        b"g\r\n",
        b"10000000000000000\r\n",
        b"5;a\nb\r\nhello\r\n",
        b"5;a\rb\r\nhello\r\n",
        b"5;" + b"x" * 1000,
        b"0\r\nfolded\r\n: x\r\n\r\n",
        b"0\r\nName : x\r\n\r\n",
        b"0\r\nName: x\n\r\n",
        b"0\r\nName: " + b"x" * 10000,
        b"0\r\n" + b"Name: x\r\n" * 1000 + b"\r\n",
    ],
)
def test_broken_chunks_are_refused(data: bytes) -> None:
    with pytest.raises(BadMessage):
        ChunkedBody().feed(data)
    body = ChunkedBody()
    with pytest.raises(BadMessage):
        [body.feed(data[at : at + 1]) for at in range(len(data))]


@given(st.binary(max_size=100))
def test_any_bytes_are_chunks_or_are_refused(data: bytes) -> None:
    body = ChunkedBody()
    try:
        payload, rest = body.feed(data)
    except BadMessage:
        return
    assert len(payload) + len(rest) <= len(data)
    assert body.done or not rest


def test_a_piece_that_is_all_payload_is_not_copied() -> None:
    piece = b"x" * 100
    assert LengthBody(1000).feed(piece)[0] is piece
    assert UntilClose().feed(piece)[0] is piece
