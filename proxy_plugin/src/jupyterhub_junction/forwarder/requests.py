"""What a server gets: a client's request in the server's framing, or one for an error page.

Pure.  Invariants:

* The server reads the body's end where the client put it; lengths pass as they are, chunks are
  written anew.
* The request for an error page holds nothing of the client's but the URL it asked for.
"""

from __future__ import annotations

from urllib.parse import quote

from .backends import Target
from .bodies import ChunkedBody, LengthBody, chunk, last_chunk, request_body
from .http11 import BadMessage, RequestHead, tokens
from .rewrite import ForwardedRules, Peer, request_head, safe_trailers

__all__ = ["PassedRequest", "error_request"]

# the safe methods (RFC 9110 §9.2.1): others may do something at the server
_REPEATABLE = frozenset((b"GET", b"HEAD", b"OPTIONS", b"TRACE"))


class PassedRequest:
    """A client's request being passed on.

    Args:
        head: its head.

    Attributes:
        head: as given.
        body: what is yet to come of it.
        upgrade: it asks for a WebSocket.
        repeatable: it asks for nothing to be done, and none of it is gone once it is sent.

    Raises:
        BadMessage: its body is framed in a way that cannot be read, or read in two ways.
    """

    __slots__ = ("body", "head", "repeatable", "upgrade")

    def __init__(self, head: RequestHead) -> None:
        self.head = head
        self.body: LengthBody | ChunkedBody = request_body(head)
        self.upgrade = (
            head.hop
            and head.method == b"GET"
            and head.minor == 1
            and tokens(head.all(b"upgrade")) == {b"websocket"}
            and b"upgrade" in tokens(head.all(b"connection"))
        )
        if self.upgrade and not self.body.done:
            raise BadMessage("a request for a WebSocket has no body")
        self.repeatable = self.body.done and head.method in _REPEATABLE

    def first(self, target: Target, peer: Peer, rules: ForwardedRules) -> bytes:
        """The head for the server."""
        return request_head(
            self.head,
            target=target.path(self.head.target),
            host=target.netloc,
            peer=peer,
            rules=rules,
            upgrade=self.upgrade,
            chunked=isinstance(self.body, ChunkedBody),
        )

    def feed(self, data: bytes) -> tuple[bytes, bytes]:
        """What to send to the server for what the client has sent, and what is beyond its end.

        Raises:
            BadMessage: the client's framing is broken.
        """
        payload, rest = self.body.feed(data)
        if isinstance(self.body, ChunkedBody):
            payload = chunk(payload)
            if self.body.done:
                payload += last_chunk(safe_trailers(self.body.trailers))
        return payload, rest


def error_request(target: Target, status: int, asked: bytes) -> bytes:
    """A request for the hub's error page.

    Args:
        target: where the error pages are.
        status: of the error.
        asked: the request target that could not be served.
    """
    url = quote(asked.decode("latin-1"), safe="", encoding="latin-1").encode()
    return b"GET %b/%d?url=%b HTTP/1.1\r\nHost: %b\r\nAccept: text/html\r\n\r\n" % (
        target.prefix,
        status,
        url,
        target.netloc,
    )
