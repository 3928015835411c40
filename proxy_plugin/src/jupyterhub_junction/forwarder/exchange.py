"""One request and its response, between a client's connection and a server's.

Invariants:

* The client gets the server's response, or one of ours if the server's had not begun; never
  a mixture, and never the appearance of an end that the server did not send.
* When either side goes away, the other's connection is let go of.
* A request is sent a second time only if it asks for nothing to be done, has no body, and
  its server closed a reused connection without a word.
"""

from __future__ import annotations

import asyncio
import functools

from ..routes import Route
from .backends import Backend, Target, parse_target
from .bodies import last_chunk
from .http11 import BadMessage, RequestHead, ResponseHead, find_head
from .parties import Client, Service
from .requests import PassedRequest, error_request
from .responses import PassedResponse, plain_response, reason_of
from .rewrite import response_head

__all__ = ["Exchange"]

# a connection unused for longer may be one that its server is just closing
_FRESH = 1.0


class Exchange:
    """One request being forwarded.

    Args:
        service: what all exchanges share.
        client: where the request came from.
        head: its head.

    Raises:
        BadMessage: its body is framed in a way that cannot be read, or read in two ways.
    """

    __slots__ = (
        "_backend",
        "_error",
        "_held",
        "_over",
        "_pending",
        "_pending_size",
        "_response",
        "_reused",
        "_route",
        "_seen",
        "_spoken",
        "_target",
        "_task",
        "body",
        "client",
        "head",
        "request",
        "service",
    )

    def __init__(self, service: Service, client: Client, head: RequestHead) -> None:
        self.service = service
        self.client = client
        self.head = head
        self.request = PassedRequest(head)
        self.body = self.request.body
        self._route: Route | None = None
        self._target: Target | None = None
        self._task: asyncio.Task[None] | None = None
        self._backend: Backend | None = None
        self._reused = False
        self._over = False
        self._error = 0  # the status of the error page being fetched
        self._pending: list[bytes] = []  # of the request's body, until there is a connection
        self._pending_size = 0
        self._held, self._seen = b"", 0  # of the response's head
        self._spoken = False  # the server has, be it with an interim response
        self._response: PassedResponse | None = None  # once the client has been sent some of it

    # -- towards the server

    def start(self) -> None:
        """Find the route and a connection."""
        path, _, _ = self.head.target.partition(b"?")
        try:
            self._route = self.service.resolve(self.head.host.decode(), path.decode())
        except UnicodeDecodeError:
            self._end()
            self.client.refuse(400, "the path is not UTF-8")
            return
        if self._route is None:
            self.fail(404, "no route")
            return
        self._target = parse_target(self._route.target)
        self._acquire()

    def _acquire(self) -> None:
        assert self._target is not None
        max_idle = float("inf") if self.request.repeatable or self._error else _FRESH
        backend = self.service.backends.take(self._target, max_idle)
        self._reused = backend is not None
        if backend is not None:
            self.connected(backend)
        else:
            self._task = self.service.backends.connect(self._target, self)

    def connected(self, backend: Backend) -> None:
        """Send what there is of the request."""
        self._task = None
        if self._over:
            backend.transport.abort()
            return
        if not backend.is_open:  # it came and went before this was called
            self.backend_lost(None)
            return
        assert self._target is not None
        self._backend = backend
        backend.user = self
        self._wait()
        # not the connection's own target: targets with one address share a pool
        if self._error:
            first = error_request(self._target, self._error, self.head.target)
        else:
            first = self.request.first(self._target, self.client.remote, self.service.rules)
        backend.write_all([first, *self._pending])
        self._pending.clear()
        self.client.couple(backend)

    def _wait(self) -> None:
        """Whoever has to speak next has its whole time again."""
        limits = self.client.registry.limits
        # once the server answers, either side may be the one that waits for the other
        servers_turn = self.body.done or self._error or self._response is not None
        if self._backend is not None:
            self._backend.wait(limits.response_timeout if servers_turn else limits.body_timeout)

    def request_data(self, data: bytes) -> bytes:
        """Pass on what belongs to the request's body; returns what does not."""
        try:
            payload, rest = self.request.feed(data)
        except BadMessage as error:
            self._broken(error)
            return b""
        if self._error:
            return rest
        if self._backend is not None:
            self._backend.write(payload)
            self._wait()
        elif payload:
            self._pending.append(payload)
            self._pending_size += len(payload)
            if self._pending_size > self.client.registry.limits.buffer_bytes:
                self.client.pause_reading()
        return rest

    def _broken(self, error: BadMessage) -> None:
        self._end()
        if self._response is not None:
            self.client.transport.abort()
        else:
            self.client.refuse(error.status, str(error))

    # -- towards the client

    def response_data(self, data: bytes) -> None:
        """Pass on what the server has sent."""
        limits = self.client.registry.limits
        self._spoken = True
        try:
            if self._response is not None:
                self._pass(self._response, b"", data)
                return
            if self._held:
                data, self._held = self._held + data, b""
            at = 0  # there may be any number of interim responses before the final one
            while (end := find_head(data, self._seen, limits.header_bytes, at)) >= 0:
                head = ResponseHead(data[at : end + 2])
                self._seen, at = 0, end + 4
                if head.status >= 200:
                    response = PassedResponse(head, self.head, self._may_keep(), self._error)
                    self._pass(response, response.first, data[at:])
                    return
                if head.status == 101:
                    self._switch(head, data[at:])
                    return
                if self.head.minor == 1 and not self._error:
                    self.client.write(response_head(head))
            self._held = data[at:]
            self._seen = len(self._held)
        except BadMessage as error:
            self.fail(503, f"the server's response cannot be read: {error}")

    def _may_keep(self) -> bool:
        waits_for_body = not self.body.done and (self._error or self.head.has(b"expect"))
        return (
            not waits_for_body
            and not self.request.upgrade
            and not self.service.stopping
            and self.head.keeps_alive()
        )

    def _pass(self, response: PassedResponse, first: bytes, data: bytes) -> None:
        out, rest = response.feed(data)
        self._response = response
        if first:
            out.insert(0, first)
        self.client.write_all(out)
        if response.head.status < 300 and not self._error and self._route is not None:
            self.service.active(self._route)
        if response.body.done:
            self._complete(response, reusable=not rest and response.head.keeps_alive())
        else:
            self._wait()

    def _complete(self, response: PassedResponse, *, reusable: bool) -> None:
        backend, keep = self._backend, response.keep and self.body.done
        if reusable and backend is not None and (self.body.done or self._error):
            self._backend = backend.user = None
            self._end()
            self.service.backends.put(backend)
        else:
            self._end()
        self.client.finished(keep)

    def _switch(self, head: ResponseHead, rest: bytes) -> None:
        backend, route, client = self._backend, self._route, self.client
        if not self.request.upgrade or self._error or backend is None or route is None:
            raise BadMessage("it switches protocols unasked")
        self._backend = backend.user = None
        self._over = True
        held = client.release()
        client.write(response_head(head, upgrade=True) + rest)
        on_data = functools.partial(self.service.active, route)
        on_data()
        client.tunnel(backend, on_data)
        if held:
            backend.write(held)

    # -- ends

    def _end(self) -> None:
        self._over = True
        self._drop()

    def _drop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            self._task = None
        self._pending.clear()
        self.client.uncouple()
        backend, self._backend = self._backend, None
        if backend is not None:
            backend.user = None
            backend.transport.abort()

    def backend_failed(self, error: BaseException) -> None:
        """No connection could be made."""
        self._task = None
        if not self._over:
            self.fail(503, str(error) or type(error).__name__)

    def backend_silent(self) -> None:
        """Nothing has moved for as long as is allowed."""
        backend, limits = self._backend, self.client.registry.limits
        if backend is not None and (self.client.write_paused or backend.write_paused):
            self._wait()  # it does not take what it is sent: that has its own limit
        elif self.body.done or self._error:
            self.fail(503, f"the server said nothing for {limits.response_timeout:g} s")
        else:
            self._broken(BadMessage("the request's body did not come in time", 408))

    def backend_drained(self) -> None:
        """The server has taken what it was sent; more was not asked of the client meanwhile."""
        self._wait()

    def backend_lost(self, error: Exception | None) -> None:
        """The server's connection is gone."""
        response = self._response
        self._backend = None
        if self._over:
            return
        if not self._spoken and self._reused and (self.request.repeatable or self._error):
            assert self._target is not None
            self._reused = False
            self._task = self.service.backends.connect(self._target, self)
        elif response is not None and response.ends_with_connection and error is None:
            if response.chunked:
                self.client.write(last_chunk())
            self._complete(response, reusable=False)
        else:
            self.fail(503, str(error or "the server closed the connection"))

    def fail(self, status: int, why: str) -> None:
        """Answer in the server's place if it has not begun to; else cut the client off."""
        self._drop()
        if self._response is not None:
            self.service.failed(status, self.head, self._route, f"cut off: {why}")
            self._over = True
            if self._response.end_shows:
                self.client.close(self.client.registry.limits.stall_timeout)
            else:
                self.client.reset()  # to an HTTP/1.0 client, a close would be the end
            return
        self.service.failed(status, self.head, self._route, why)
        page = self.service.error_target
        if page and not self._error and not self.request.upgrade and self.head.method != b"HEAD":
            self._error = status
            self._held, self._seen, self._spoken = b"", 0, False
            self._target = parse_target(page)
            self.client.wait(self.client.registry.limits.error_page_timeout)
            self._acquire()
        else:
            self._plain(self._error or status)

    def _plain(self, status: int) -> None:
        keep = self.body.done and self._may_keep()
        self._end()
        text = reason_of(status).decode()
        body = self.head.method != b"HEAD"
        self.client.write(plain_response(status, text, keep=keep, minor=self.head.minor, body=body))
        self.client.finished(keep)

    def expired(self) -> None:
        """The error page did not come in time."""
        if self._response is not None:
            self._end()
            self.client.transport.abort()
        else:
            self._plain(self._error or 503)

    def client_lost(self) -> None:
        """Nobody waits for the response any more."""
        self._end()
