"""What a client gets: a server's response in the client's own framing, or one of ours.

Pure.  Invariant: the client sees an end only where the server's response had one.
"""

from __future__ import annotations

from http import HTTPStatus

from .bodies import ChunkedBody, LengthBody, UntilClose, last_chunk, response_body
from .http11 import RequestHead, ResponseHead
from .rewrite import error_head, response_head, safe_trailers

__all__ = ["PassedResponse", "plain_response", "reason_of"]


def reason_of(status: int) -> bytes:
    """The reason phrase of a status."""
    try:
        return HTTPStatus(status).phrase.encode()
    except ValueError:
        return b""


def plain_response(
    status: int, text: str, *, keep: bool, minor: int = 1, body: bool = True
) -> bytes:
    """A whole response in plain text, for when there is no page to show."""
    content = f"{text}\n".encode()
    connection = b"close" if not keep else b"keep-alive" if minor == 0 else b""
    return (
        b"HTTP/1.1 %d %b\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: %d\r\n"
        % (status, reason_of(status), len(content))
        + (b"Connection: %b\r\n" % connection if connection else b"")
        + b"\r\n"
        + (content if body else b"")
    )


class PassedResponse:
    """A server's response being passed on.

    Args:
        head: the final response's.
        request: what it answers.
        keep: whether the client's connection may be used again, if the response lets it.
        error: the status to show it with if it is an error page of the hub, else 0.

    Attributes:
        head: as given.
        body: what is yet to come of it.
        chunked: it is sent to the client in chunks.
        keep: the client's connection can be used again.
        first: the head for the client.

    Raises:
        BadMessage: it is framed in two ways, or in one that this proxy does not know.
    """

    __slots__ = ("body", "chunked", "first", "head", "keep")

    def __init__(self, head: ResponseHead, request: RequestHead, keep: bool, error: int) -> None:
        old = request.minor == 0
        self.head = head
        self.body = response_body(head, b"GET" if error else request.method)
        counted = isinstance(self.body, LengthBody)
        self.chunked = not counted and not old
        self.keep = keep and (counted or not old)
        connection = b"close" if not self.keep else b"keep-alive" if old else b""
        if error:
            self.first = error_head(
                head, error, reason_of(error), chunked=self.chunked, connection=connection
            )
        else:
            self.first = response_head(head, chunked=self.chunked, connection=connection)

    def feed(self, data: bytes) -> tuple[list[bytes], bytes]:
        """What to send to the client for what the server has sent, and what is beyond its end.

        Raises:
            BadMessage: the server's framing is broken.
        """
        body = self.body
        payload, rest = body.feed(data)
        if not self.chunked:
            return [payload], rest
        out = [b"%x\r\n" % len(payload), payload, b"\r\n"] if payload else []
        if body.done and isinstance(body, ChunkedBody):
            out.append(last_chunk(safe_trailers(body.trailers)))
        return out, rest

    @property
    def ends_with_connection(self) -> bool:
        """Whether the server's closing is the response's end."""
        return isinstance(self.body, UntilClose)

    @property
    def end_shows(self) -> bool:
        """Whether the client can tell an end from a connection cut short."""
        return self.chunked or isinstance(self.body, LengthBody)
