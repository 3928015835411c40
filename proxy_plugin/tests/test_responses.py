"""What a client gets of a server's response, or of ours."""

from __future__ import annotations

import pytest
from harness.heads import request, response

from jupyterhub_junction.forwarder.http11 import BadMessage, RequestHead, ResponseHead
from jupyterhub_junction.forwarder.responses import PassedResponse, plain_response

CHUNKED = "Transfer-Encoding: chunked"


def passed(
    head: ResponseHead, asked: RequestHead | None = None, keep: bool = True, error: int = 0
) -> PassedResponse:
    return PassedResponse(head, asked or request(), keep, error)


def test_a_counted_body_passes_as_it_is() -> None:
    counted = passed(response("Content-Length: 5"))
    piece = b"hel"
    out, rest = counted.feed(piece)
    assert (out, rest) == ([piece], b"")
    assert out[0] is piece
    assert not counted.body.done
    assert counted.feed(b"lo+") == ([b"lo"], b"+")
    assert counted.body.done
    assert (counted.keep, counted.chunked, counted.end_shows) == (True, False, True)


def test_chunks_are_written_anew() -> None:
    chunks = passed(response(CHUNKED))
    out, rest = chunks.feed(b"05;x\r\nhello\r\n0\r\nX-Sum: 1\r\nHost: a\r\n\r\n+")
    assert b"".join(out) == b"5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n"
    assert rest == b"+"
    assert chunks.first.endswith(b"Transfer-Encoding: chunked\r\n\r\n")


def test_until_the_connection_ends() -> None:
    new, old = passed(response()), passed(response(), request(first="GET / HTTP/1.0"))
    assert new.ends_with_connection
    assert (new.chunked, new.keep, new.end_shows) == (True, True, True)
    assert (old.chunked, old.keep, old.end_shows) == (False, False, False)
    assert b"".join(new.feed(b"hello")[0]) == b"5\r\nhello\r\n"
    assert new.feed(b"") == ([], b"")
    assert b"".join(old.feed(b"hello")[0]) == b"hello"


def test_an_error_page_has_the_errors_status_and_none_of_the_hubs_fields() -> None:
    page = response("Set-Cookie: a", "Content-Type: text/html", "Content-Length: 2")
    shown = passed(page, request(first="POST / HTTP/1.1"), keep=False, error=503)
    assert shown.first == (
        b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/html\r\nContent-Length: 2\r\n"
        b"Connection: close\r\n\r\n"
    )


def test_what_has_two_framings_is_refused() -> None:
    with pytest.raises(BadMessage):
        passed(response(CHUNKED, "Content-Length: 2"))


def test_plain_responses() -> None:
    assert plain_response(404, "No", keep=True) == (
        b"HTTP/1.1 404 Not Found\r\nContent-Type: text/plain; charset=utf-8\r\n"
        b"Content-Length: 3\r\n\r\nNo\n"
    )
    assert b"\r\nConnection: keep-alive\r\n" in plain_response(404, "No", keep=True, minor=0)
    assert plain_response(404, "No", keep=False, body=False).endswith(b"close\r\n\r\n")
