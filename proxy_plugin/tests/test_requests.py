"""What a server gets of a client's request."""

from __future__ import annotations

import pytest
from harness.heads import request

from jupyterhub_junction.forwarder.backends import parse_target
from jupyterhub_junction.forwarder.http11 import BadMessage, RequestHead
from jupyterhub_junction.forwarder.requests import PassedRequest, error_request
from jupyterhub_junction.forwarder.rewrite import ForwardedRules, Peer

WEBSOCKET = ("Connection: keep-alive, Upgrade", "Upgrade: WebSocket")


def test_what_is_a_websocket_and_what_is_not() -> None:
    assert PassedRequest(request(*WEBSOCKET)).upgrade
    assert not PassedRequest(request("Connection: Upgrade", "Upgrade: h2c")).upgrade
    assert not PassedRequest(request("Upgrade: websocket")).upgrade
    assert not PassedRequest(request(*WEBSOCKET, first="POST / HTTP/1.1")).upgrade
    assert not PassedRequest(request(*WEBSOCKET, first="GET / HTTP/1.0")).upgrade
    with pytest.raises(BadMessage):
        PassedRequest(request(*WEBSOCKET, "Content-Length: 1"))


def test_what_may_be_sent_twice() -> None:
    assert PassedRequest(request()).repeatable
    for method in ("POST", "PUT", "DELETE", "PATCH"):
        assert not PassedRequest(request(first=f"{method} / HTTP/1.1")).repeatable
    assert not PassedRequest(request("Content-Length: 1")).repeatable


def test_chunks_are_written_anew_and_lengths_pass() -> None:
    chunks = PassedRequest(request("Transfer-Encoding: chunked"))
    assert chunks.feed(b"0005;x=y\r\nhel") == (b"3\r\nhel\r\n", b"")
    assert chunks.feed(b"lo\r\n0\r\nHost: b\r\n\r\nGET") == (b"2\r\nlo\r\n0\r\n\r\n", b"GET")
    counted = PassedRequest(request("Content-Length: 3"))
    assert counted.feed(b"helGET") == (b"hel", b"GET")


def test_the_head_goes_to_the_path_of_the_target() -> None:
    head = PassedRequest(request()).first(
        parse_target("http://server:1/base/"), Peer("127.0.0.1", tls=False), ForwardedRules()
    )
    assert RequestHead(head[:-2]).target == b"/base/a?b=c"


def test_an_error_page_is_asked_for_with_nothing_but_the_url() -> None:
    target = parse_target("http://hub:1/hub/error")
    assert error_request(target, 503, b"/a/\xff?b=c") == (
        b"GET /hub/error/503?url=%2Fa%2F%FF%3Fb%3Dc HTTP/1.1\r\nHost: hub:1\r\n"
        b"Accept: text/html\r\n\r\n"
    )
