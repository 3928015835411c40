"""What a proxy changes in a head that passes it."""

from __future__ import annotations

import pytest
from harness.heads import request, response
from hypothesis import given
from hypothesis import strategies as st

from jupyterhub_junction.forwarder.bodies import ChunkedBody, request_body
from jupyterhub_junction.forwarder.http11 import BadMessage, RequestHead, tokens
from jupyterhub_junction.forwarder.rewrite import (
    ForwardedRules,
    Peer,
    request_head,
    response_head,
    safe_trailers,
)

OUTSIDE = Peer("203.0.113.9", tls=False)


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


def test_what_the_proxy_in_front_lets_through_is_not_kept() -> None:
    """Its clients may say what it does not know; only what it says itself counts."""
    rules = ForwardedRules(["*"], "keep")
    said = ("X-Forwarded-Proto: https", "X-Real-Ip: 10.0.0.1", "X-Other: 1")
    for lie in ("Forwarded: for=1.2.3.4", "x-scheme: https", "X-ProxyScheme: https"):
        for more in ((), ("TE: gzip",)):  # as whole lines, and one by one
            seen = forwarded(request(lie, *said, *more), rules=rules)
            assert seen.fields == request(*said).fields
    kept = forwarded(request("X-Scheme: https"), rules=ForwardedRules(["*"]))
    assert kept.all(b"x-scheme") == [b"https"]


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
        "X-Scheme",
        "X-Real-Ip",
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


@given(
    fields=st.lists(st.tuples(NAMES, VALUES), max_size=5),
    trusted=st.sampled_from(["nobody", "append", "keep"]),
)
def test_whole_lines_or_one_by_one_comes_to_the_same(
    fields: list[tuple[str, str]], trusted: str
) -> None:
    """``TE: gzip`` changes nothing, but for that each field is looked at by itself."""
    lines = [f"{n}: {v}" for n, v in fields if n not in ("TE", "Transfer-Encoding")]
    rules = ForwardedRules()
    if trusted != "nobody":
        rules = ForwardedRules(["*"], "keep" if trusted == "keep" else "append")
    whole, single = request(*lines), request(*lines, "TE: gzip")
    assert single.lines() is None
    assert forwarded(whole, rules=rules).fields == forwarded(single, rules=rules).fields
    assert response_head(response(*lines)) == response_head(response(*lines, "TE: gzip"))
