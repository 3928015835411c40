"""Heads, framing and bodies; and what a proxy changes in them."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jupyterhub_junction.bodies import (
    ChunkedBody,
    LengthBody,
    UntilClose,
    chunk,
    last_chunk,
    request_body,
    response_body,
)
from jupyterhub_junction.http11 import BadMessage, RequestHead, ResponseHead, find_head, tokens
from jupyterhub_junction.rewrite import (
    ForwardedRules,
    Peer,
    request_head,
    response_head,
    safe_trailers,
)

OUTSIDE = Peer("203.0.113.9", tls=False)


def request(*lines: str, first: str = "GET /a?b=c HTTP/1.1", host: bool = True) -> RequestHead:
    fields = ("Host: hub.example:8000", *lines) if host else lines
    return RequestHead("".join(f"{line}\r\n" for line in (first, *fields)).encode("latin-1"))


def response(*lines: str, first: str = "HTTP/1.1 200 OK") -> ResponseHead:
    return ResponseHead("".join(f"{line}\r\n" for line in (first, *lines)).encode("latin-1"))


def forwarded(
    head: RequestHead, peer: Peer = OUTSIDE, rules: ForwardedRules | None = None, **changes: bool
) -> RequestHead:
    """The head that the server behind would read."""
    flags = {"upgrade": False, "chunked": False, **changes}
    data = request_head(
        head,
        target=head.target,
        host=b"server:1",
        peer=peer,
        rules=rules or ForwardedRules(),
        **flags,
    )
    assert data.endswith(b"\r\n\r\n")
    return RequestHead(data[:-2])


# -- heads


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


def test_keeping_alive() -> None:
    assert request().keeps_alive()
    assert not request("Connection: foo, Close").keeps_alive()
    assert not request(first="GET / HTTP/1.0").keeps_alive()
    assert request("Connection: Keep-Alive", first="GET / HTTP/1.0").keeps_alive()


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


# -- what a proxy changes


def test_fields_of_one_hop_end_there() -> None:
    head = request(
        "Connection: X-Mine, close, Host, Content-Length",
        "X-Mine: 1",
        "Keep-Alive: 5",
        "Proxy-Connection: close",
        "TE: trailers, gzip",
        "Upgrade: h2c",
        "Content-Length: 0",
        "Origin: http://hub.example",
    )
    seen = forwarded(head)
    assert seen.host == b"hub.example:8000"
    for gone in (b"x-mine", b"keep-alive", b"proxy-connection", b"upgrade"):
        assert not seen.all(gone)
    assert seen.all(b"te") == [b"trailers"]
    assert tokens(seen.all(b"connection")) == {b"te"}
    assert seen.all(b"content-length") == [b"0"]
    assert seen.all(b"origin") == [b"http://hub.example"]


def test_an_untrusted_client_does_not_say_who_it_is() -> None:
    head = request(
        "X-Forwarded-For: 1.2.3.4",
        "x-forwarded-proto: https",
        "X-Forwarded-Host: evil",
        "X-Forwarded-Prefix: /x",
        "X-Real-IP: 1.2.3.4",
        "X-Scheme: https",
        "Forwarded: for=1.2.3.4",
    )
    seen = forwarded(head)
    assert seen.all(b"x-forwarded-for") == [b"203.0.113.9"]
    assert seen.all(b"x-forwarded-proto") == [b"http"]
    assert seen.all(b"x-forwarded-port") == [b"8000"]
    assert seen.all(b"x-forwarded-host") == [b"hub.example:8000"]
    for gone in (b"x-forwarded-prefix", b"x-real-ip", b"x-scheme", b"forwarded"):
        assert not seen.all(gone)


def test_a_trusted_proxy_is_added_to_as_chp_does() -> None:
    head = request(
        "X-Forwarded-For: 1.2.3.4", "X-Forwarded-Proto: https", "X-Forwarded-Host: hub.org"
    )
    seen = forwarded(head, Peer("10.1.2.3", True), ForwardedRules(["10.0.0.0/8"]))
    assert seen.all(b"x-forwarded-for") == [b"1.2.3.4,10.1.2.3"]
    assert seen.all(b"x-forwarded-proto") == [b"https,https"]
    assert seen.all(b"x-forwarded-host") == [b"hub.org"]
    kept = forwarded(head, Peer("10.1.2.3", True), ForwardedRules(["10.0.0.0/8"], "keep"))
    assert kept.all(b"x-forwarded-for") == [b"1.2.3.4"]
    assert kept.all(b"x-forwarded-proto") == [b"https"]


def test_whom_the_rules_trust() -> None:
    rules = ForwardedRules(["127.0.0.0/8", "::1", "unix"])
    assert all(rules.trusts(Peer(a, False)) for a in ("127.1.2.3", "::1", "", "::ffff:127.0.0.1"))
    assert not any(rules.trusts(Peer(a, False)) for a in ("10.0.0.1", "fe80::1%eth0", "strange"))
    assert ForwardedRules(["*"]).trusts(OUTSIDE)
    assert not ForwardedRules().trusts(Peer("", False))
    with pytest.raises(ValueError, match="example"):
        ForwardedRules(["proxy.example"])


NAMES = st.sampled_from(
    [
        "Connection",
        "Content-Length",
        "Transfer-Encoding",
        "Upgrade",
        "TE",
        "Keep-Alive",
        "X-Forwarded-For",
        "X-Forwarded-Host",
        "Cookie",
        "Expect",
        "X-Other",
    ]
)
VALUES = st.sampled_from(
    ["close", "upgrade", "websocket", "chunked", "5", "host, content-length, te", "1.2.3.4", ""]
)


@given(
    fields=st.lists(st.tuples(NAMES, VALUES), max_size=6),
    method=st.sampled_from(["GET", "POST", "OPTIONS"]),
)
def test_what_is_forwarded_reads_as_what_came(fields: list[tuple[str, str]], method: str) -> None:
    """No header changes where the body ends, where the request goes, or who sent it."""
    head = request(*(f"{n}: {v}" for n, v in fields), first=f"{method} /a?b HTTP/1.1")
    try:
        body = request_body(head)
    except BadMessage:
        return
    seen = forwarded(head, chunked=isinstance(body, ChunkedBody))
    again = request_body(seen)
    assert type(again) is type(body)
    assert again.done == body.done
    assert (seen.method, seen.target, seen.host) == (head.method, head.target, head.host)
    assert seen.all(b"x-forwarded-for") == [b"203.0.113.9"]
    assert seen.keeps_alive()


def test_an_old_client_without_host_gets_the_servers() -> None:
    assert forwarded(request(first="GET / HTTP/1.0", host=False)).host == b"server:1"


def test_responses_keep_what_is_theirs() -> None:
    head = response(
        "Location: http://127.0.0.1:1/x",
        "Set-Cookie: a=1",
        "Set-Cookie: b=2",
        "Connection: close, X-Hop",
        "X-Hop: 1",
        "Keep-Alive: timeout=5",
        first="HTTP/1.1 302 Over There",
    )
    seen = response_head(head, chunked=True)
    assert seen == (
        b"HTTP/1.1 302 Over There\r\nLocation: http://127.0.0.1:1/x\r\nSet-Cookie: a=1\r\n"
        b"Set-Cookie: b=2\r\nTransfer-Encoding: chunked\r\n\r\n"
    )


def test_trailers_say_nothing_that_heads_should() -> None:
    names = (
        b"X-Sum",
        b"Content-Length",
        b"X-Forwarded-For",
        b"Authorization",
        b"Transfer-Encoding",
    )
    assert safe_trailers([(n.lower(), n, b"1") for n in names]) == [(b"X-Sum", b"1")]
