"""Calls to etcd's HTTP gateway: endpoints, TLS, sign-in, retries, and errors that a person can use.

Invariants:

* A call ends within its deadline, with an answer or with one of :mod:`store`'s errors.
* A call that fails on one endpoint goes on to the next; the one that answered last comes first.
* A call may reach etcd more than once (an answer lost on the way is asked for again elsewhere), so
  only what may be done twice is sent through here.
* No error and no log line holds the password or a token.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import random
import socket
import ssl
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import aiohttp

from .store import Compacted, StoreError, StoreRefused, StoreUnavailable

__all__ = ["Gateway", "Json", "Password", "RpcError", "Stream", "Transport", "cancelled"]

log = logging.getLogger(__name__)

T = TypeVar("T")
Json = dict[str, Any]
#: the password itself, the file that holds it (read at each sign-in), or a function that gives it
Password = str | Path | Callable[[], str]

#: a failed endpoint is asked last for this long, in seconds
_SET_ASIDE = 5.0
#: first and longest pause between rounds over all endpoints, in seconds
_PAUSE, _LONGEST_PAUSE = 0.05, 1.0
#: an endpoint gets half of the time left, but not less than this, in seconds
_SHORTEST_TRY = 1.0

# gRPC status codes (google.golang.org/grpc/codes)
_INVALID_ARGUMENT, _DEADLINE_EXCEEDED, _NOT_FOUND, _PERMISSION_DENIED = 3, 4, 5, 7
_OUT_OF_RANGE, _UNAUTHENTICATED = 11, 16


class RpcError(Exception):
    """etcd's own answer that a call failed (etcd's api/v3rpc/rpctypes/error.go lists them)."""

    def __init__(self, endpoint: str, code: int, message: str) -> None:
        super().__init__(f"{endpoint}: {message}")
        self.endpoint = endpoint
        self.code = code
        self.message = message.removeprefix("etcdserver: ")

    @property
    def sign_in_again(self) -> bool:
        """The token ran out, or users and roles changed since it was given, or there is none."""
        return (
            self.code == _UNAUTHENTICATED
            or "invalid auth token" in self.message
            or "revision of auth store is old" in self.message
            or "user name is empty" in self.message
        )

    @property
    def transient(self) -> bool:
        """Another endpoint, or the same one a little later, may answer."""
        if "database space exceeded" in self.message:
            return False
        return self.code not in (
            _INVALID_ARGUMENT,
            _NOT_FOUND,
            _PERMISSION_DENIED,
            _OUT_OF_RANGE,
            9,  # failed precondition
            _UNAUTHENTICATED,
        )

    def as_store_error(self, user: str | None) -> StoreError:
        """The error of :mod:`store` that tells what to mend."""
        where, what = f"etcd at {self.endpoint}", self.message
        if self.code == _OUT_OF_RANGE and "compacted" in what:
            return Compacted(f"{where}: {what}")
        if self.transient:
            return StoreUnavailable(f"{where}: {what}")
        if "user name is empty" in what or (self.sign_in_again and user is None):
            return StoreRefused(f"{where} wants a user and a password: none are configured")
        if "authentication failed" in what or "user name not found" in what:
            return StoreRefused(f"{where} refuses user {user!r}: the user or the password is wrong")
        if self.code == _PERMISSION_DENIED:
            return StoreRefused(
                f"{where}: user {user!r} has no permission for this: grant its role the keys"
            )
        if "database space exceeded" in what:
            return StoreRefused(
                f"{where} is full: compact and defragment it, then disarm its NOSPACE alarm"
            )
        return StoreRefused(f"{where}: {what}")


class Transport(Exception):
    """An endpoint could not be talked to; ``refused`` when it will not be better later."""

    def __init__(self, endpoint: str, what: str, *, refused: bool = False) -> None:
        super().__init__(f"{endpoint}: {what}")
        self.refused = refused


class _Tls:
    """The TLS context of the files given, made anew when a file changes (a renewed certificate)."""

    def __init__(self, ca: str | None, cert: str | None, key: str | None) -> None:
        if (cert is None) != (key is None):
            raise StoreRefused("etcd's client certificate and key go together: one is missing")
        self.ca, self._cert, self._key = ca, cert, key
        self.has_cert = cert is not None
        self._files = [name for name in (ca, cert, key) if name is not None]
        self._stamp: list[tuple[int, int, int]] | None = None
        self._context: ssl.SSLContext | None = None

    def context(self) -> ssl.SSLContext:
        try:
            stamp = [
                (s.st_mtime_ns, s.st_size, s.st_ino) for s in (os.stat(f) for f in self._files)
            ]
            if self._context is not None and stamp == self._stamp:
                return self._context
            context = ssl.create_default_context(cafile=self.ca)
            if self._cert is not None:
                context.load_cert_chain(self._cert, self._key)
        except (OSError, ssl.SSLError, ValueError) as error:
            # While certificate and key are being replaced they may not fit for a moment.
            if self._context is not None:
                log.warning("etcd's new TLS files cannot be used yet: %s", error)
                return self._context
            files = ", ".join(self._files)
            raise StoreRefused(
                f"the TLS files for etcd ({files}) cannot be used: {error}"
            ) from None
        self._stamp, self._context = stamp, context
        return context


class Stream:
    """An open streaming call: ``first`` is its first message, :meth:`next` gives the others."""

    def __init__(
        self, endpoint: str, response: aiohttp.ClientResponse, requests: asyncio.Queue[Json]
    ) -> None:
        self.endpoint = endpoint
        self.first: Json = {}
        self._response = response
        self._requests = requests
        self._lines: deque[bytes] = deque()
        self._rest = bytearray()

    def send(self, request: Json) -> None:
        """Send one more request on the stream."""
        self._requests.put_nowait(request)

    async def next(self) -> Json:
        """The next message; a call that is cancelled loses nothing.

        Raises:
            Transport: the stream broke.
            RpcError: etcd ended it with an error.
        """
        # StreamReader.readline() refuses lines over 128 KiB; a batch of events can be far longer.
        while not self._lines:
            try:
                chunk = await self._response.content.readany()
            except (aiohttp.ClientError, OSError) as error:
                raise Transport(self.endpoint, f"the stream broke: {_reason(error)}") from None
            if not chunk and self._response.content.at_eof():
                raise Transport(self.endpoint, "the stream ended")
            head, *parts = chunk.split(b"\n")
            self._rest += head
            for part in parts:
                if self._rest.strip():
                    self._lines.append(bytes(self._rest))
                self._rest = bytearray(part)
        message = _object(self.endpoint, self._response, self._lines.popleft())
        if "error" in message:
            raise _rpc_error(self.endpoint, message["error"])
        result = message.get("result")
        return result if isinstance(result, dict) else message

    def close(self) -> None:
        self._response.close()


class Gateway:
    """A client of the gateway's JSON calls (etcd's Documentation, "gRPC gateway").

    Args:
        endpoints: base URLs of members, or of anything that leads to members.
        username: etcd user to sign in as; None: do not sign in.
        password: see :data:`Password`.
        ca: PEM file with the CAs to trust; None: the system's.
        cert: PEM file with the client certificate (chain).
        key: PEM file with its key.
        timeout: seconds that a call may take, over all endpoints and retries.
    """

    def __init__(
        self,
        endpoints: Sequence[str],
        *,
        username: str | None = None,
        password: Password | None = None,
        ca: str | os.PathLike[str] | None = None,
        cert: str | os.PathLike[str] | None = None,
        key: str | os.PathLike[str] | None = None,
        timeout: float = 5.0,
    ) -> None:
        self.endpoints = tuple(_base_url(endpoint) for endpoint in endpoints)
        if not self.endpoints:
            raise StoreRefused("no etcd endpoint is configured")
        if username is not None and password is None:
            raise StoreRefused(f"etcd's user {username!r} needs a password")
        self.username = username
        self.timeout = timeout
        self._password = password
        self._tls = _Tls(*(None if f is None else os.fspath(f) for f in (ca, cert, key)))
        # Clients that share a list of endpoints spread over them.
        self._current = random.randrange(len(self.endpoints))  # noqa: S311
        self._set_aside: dict[str, float] = {}
        self._token: str | None = None
        self._signing_in = asyncio.Lock()
        self._http: aiohttp.ClientSession | None = None

    # -- calls ---------------------------------------------------------------------------------

    async def call(self, path: str, body: Json, *, signed: bool = True) -> Json:
        """POST ``body`` to ``path`` on an endpoint that answers.

        Raises:
            StoreUnavailable: no endpoint answered by the deadline.
            StoreRefused: etcd said no.
            RpcError: "not found", which means something else to each caller.
        """

        async def one(endpoint: str) -> Json:
            return await self.call_one(endpoint, path, body, signed=signed)

        return await self._over_endpoints(one)

    async def call_one(self, endpoint: str, path: str, body: Json, *, signed: bool = True) -> Json:
        """POST to one endpoint, once; signs in again once if the token is no longer good.

        Raises:
            Transport: the endpoint cannot be talked to.
            RpcError: etcd's own error.
        """

        async def post(headers: Mapping[str, str]) -> Json:
            return await self._post(endpoint, path, body, headers)

        return await (self._with_token(endpoint, post) if signed else post({}))

    @asynccontextmanager
    async def stream(self, path: str, request: Json) -> AsyncIterator[Stream]:
        """Open a streaming call; it is open when its first message is there.

        Raises as :meth:`call` does, for the opening.
        """

        async def one(endpoint: str) -> Stream:
            async def begin(headers: Mapping[str, str]) -> Stream:
                return await self._open(endpoint, path, request, headers)

            return await self._with_token(endpoint, begin)

        stream = await self._over_endpoints(one)
        try:
            yield stream
        except Transport:
            self._failed(stream.endpoint)
            raise
        finally:
            stream.close()

    async def close(self) -> None:
        """Close all connections."""
        if self._http is not None:
            await self._http.close()
            self._http = None

    # -- endpoints -----------------------------------------------------------------------------

    async def _over_endpoints(self, one: Callable[[str], Awaitable[T]]) -> T:
        clock = asyncio.get_running_loop().time
        deadline = clock() + self.timeout
        pause = _PAUSE
        failures: dict[str, Exception] = {}
        while True:
            for endpoint in self._order():
                left = deadline - clock()
                if left <= 0:
                    break
                share = max(left / 2, min(left, _SHORTEST_TRY))
                try:
                    async with asyncio.timeout(share):
                        result = await one(endpoint)
                except TimeoutError:
                    failures[endpoint] = Transport(endpoint, f"no answer in {share:.1f} s")
                except Transport as error:
                    failures[endpoint] = error
                except RpcError as error:
                    if not error.transient:
                        if error.code == _NOT_FOUND:
                            raise
                        raise error.as_store_error(self.username) from None
                    failures[endpoint] = error
                else:
                    self._answered(endpoint)
                    return result
                self._failed(endpoint)
            if all(isinstance(f, Transport) and f.refused for f in failures.values()):
                raise StoreRefused(f"etcd cannot be used: {_sentence(failures)}")
            if clock() + pause >= deadline:
                raise StoreUnavailable(f"no etcd endpoint answers: {_sentence(failures)}")
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _order(self) -> list[str]:
        turned = self.endpoints[self._current :] + self.endpoints[: self._current]
        now = time.monotonic()
        return sorted(turned, key=lambda endpoint: self._set_aside.get(endpoint, 0.0) > now)

    def _answered(self, endpoint: str) -> None:
        self._current = self.endpoints.index(endpoint)
        self._set_aside.pop(endpoint, None)

    def _failed(self, endpoint: str) -> None:
        self._set_aside[endpoint] = time.monotonic() + _SET_ASIDE
        if self.endpoints[self._current] == endpoint:
            self._current = (self._current + 1) % len(self.endpoints)

    # -- signing in ----------------------------------------------------------------------------

    async def _with_token(
        self, endpoint: str, do: Callable[[Mapping[str, str]], Awaitable[T]]
    ) -> T:
        if self.username is None:
            return await do({})
        token = self._token
        if token is None:
            token = await self._sign_in(endpoint, None)
        try:
            return await do(_authorization(token))
        except RpcError as error:
            if not error.sign_in_again:
                raise
        # Signed in where the call goes: a token from a member that runs ahead is unknown here.
        return await do(_authorization(await self._sign_in(endpoint, token)))

    async def _sign_in(self, endpoint: str, stale: str | None) -> str:
        async with self._signing_in:
            if self._token is not None and self._token != stale:
                return self._token
            body = {"name": self.username, "password": self._read_password()}
            try:
                answer = await self._post(endpoint, "/v3/auth/authenticate", body, {})
            except RpcError as error:
                if "authentication is not enabled" not in error.message:
                    raise
                log.warning("etcd at %s asks for no password: authentication is off", endpoint)
                answer = {"token": ""}
            self._token = str(answer.get("token", ""))
            return self._token

    def _read_password(self) -> str:
        if isinstance(self._password, Path):
            try:
                return self._password.read_text().strip("\r\n")
            except (OSError, ValueError) as error:
                reason = getattr(error, "strerror", None) or "not text"
                raise StoreRefused(
                    f"etcd's password file {self._password} cannot be read: {reason}"
                ) from None
        return self._password() if callable(self._password) else str(self._password)

    # -- HTTP ----------------------------------------------------------------------------------

    def _request(
        self, endpoint: str, path: str, headers: Mapping[str, str], data: Any
    ) -> Awaitable[aiohttp.ClientResponse]:
        if self._http is None or self._http.closed:
            self._http = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None))
        return self._http.post(
            endpoint + path,
            data=data,
            headers={"Content-Type": "application/json", **headers},
            ssl=self._tls.context() if endpoint.startswith("https:") else True,
            allow_redirects=False,
        )

    async def _post(self, endpoint: str, path: str, body: Json, headers: Mapping[str, str]) -> Json:
        try:
            response = await self._request(endpoint, path, headers, json.dumps(body).encode())
            async with response:
                text = await response.read()
        except (aiohttp.ClientError, OSError) as error:
            raise self._explain(endpoint, error) from None
        answer = _object(endpoint, response, text)
        if "error" in answer and isinstance(answer["error"], dict):
            raise _rpc_error(endpoint, answer["error"])
        if response.status != 200:
            raise _rpc_error(endpoint, answer)
        return answer

    async def _open(
        self, endpoint: str, path: str, request: Json, headers: Mapping[str, str]
    ) -> Stream:
        requests: asyncio.Queue[Json] = asyncio.Queue()
        requests.put_nowait(request)

        async def body() -> AsyncIterator[bytes]:
            while True:
                yield json.dumps(await requests.get()).encode() + b"\n"

        # Go's server answers while the request's body is still open only if the connection is
        # not to be used again; a member that loses its leader ends a stream that asks for one.
        headers = {**headers, "Connection": "close", "Grpc-Metadata-hasleader": "true"}
        try:
            response = await self._request(endpoint, path, headers, body())
        except (aiohttp.ClientError, OSError) as error:
            raise self._explain(endpoint, error) from None
        stream = Stream(endpoint, response, requests)
        try:
            _keep_tcp_alive(response)
            if response.status != 200:
                raise _rpc_error(endpoint, _object(endpoint, response, await response.read()))
            stream.first = await stream.next()
            if stream.first.get("canceled") and "cancel_reason" in stream.first:
                raise cancelled(endpoint, str(stream.first["cancel_reason"]))
        except BaseException:
            stream.close()
            raise
        return stream

    def _explain(self, endpoint: str, error: Exception) -> Transport:
        """Say what is wrong with the way to an endpoint, and what to mend."""
        cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
        if isinstance(error, aiohttp.ClientConnectorCertificateError):
            cause = error.certificate_error
        if isinstance(cause, ssl.SSLCertVerificationError):
            if "ostname mismatch" in cause.verify_message or "IP address" in cause.verify_message:
                what = f"its certificate is for another name ({cause.verify_message.rstrip('.')})"
            else:
                what = (
                    f"its certificate is not trusted ({cause.verify_message}):"
                    f" check the CA file {self._tls.ca or '(none given)'}"
                )
            return Transport(endpoint, what, refused=True)
        text = _reason(cause)
        if isinstance(cause, socket.gaierror):
            return Transport(endpoint, "its name is not known: check the address")
        if isinstance(cause, ConnectionRefusedError):
            return Transport(endpoint, "connection refused: check the address, and that etcd runs")
        if "WRONG_VERSION_NUMBER" in text or "RECORD_LAYER_FAILURE" in text:
            return Transport(endpoint, "it does not speak TLS: use http://", refused=True)
        if any(f"ALERT_{why}" in text for why in _CERTIFICATE_ALERTS):
            what = "it does not trust the client certificate: check it, and etcd's CA"
            if not self._tls.has_cert:
                what = "it wants a client certificate: none is configured"
            return Transport(endpoint, what, refused=True)
        return Transport(endpoint, text)


#: TLS alerts about the client's certificate, as OpenSSL names them
_CERTIFICATE_ALERTS = (
    "CERTIFICATE_REQUIRED",
    "BAD_CERTIFICATE",
    "UNKNOWN_CA",
    "CERTIFICATE_UNKNOWN",
    "CERTIFICATE_EXPIRED",
    "HANDSHAKE_FAILURE",
)


def _base_url(endpoint: str) -> str:
    try:
        parts = urlsplit(endpoint)
        good = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        good = False
    if not good or "@" in parts.netloc or parts.path.strip("/") or parts.query or parts.fragment:
        shown = endpoint.rpartition("@")[2]
        raise StoreRefused(
            f"etcd endpoint {shown!r} is not a URL like https://etcd.example.org:2379"
        )
    return f"{parts.scheme}://{parts.netloc}"


def _authorization(token: str) -> dict[str, str]:
    return {"Authorization": token} if token else {}


def _object(endpoint: str, response: aiohttp.ClientResponse, text: bytes) -> Json:
    with suppress(ValueError):
        answer = json.loads(text)
        if isinstance(answer, dict):
            return answer
    if b"HTTP request to an HTTPS server" in text:
        raise Transport(endpoint, "it speaks TLS: use https://", refused=True)
    raise Transport(
        endpoint,
        f"it does not answer as etcd's gateway does (HTTP {response.status},"
        f" {response.content_type}): check the address",
        # What stands in front of an etcd answers 502 to 504 while etcd is away.
        refused=response.status < 500,
    )


def _rpc_error(endpoint: str, error: Any) -> Exception:
    if not isinstance(error, dict):
        return RpcError(endpoint, 2, str(error))
    code = error.get("grpc_code", error.get("code", 2))
    message = str(error.get("message") or error.get("error") or "unknown error")
    if code == 12 or (code == _NOT_FOUND and message == "Not Found"):
        # The gateway's own 404; etcd's have etcd's words.
        return Transport(endpoint, "it has no etcd v3 gateway there: check it", refused=True)
    return RpcError(endpoint, int(code or 2), message)


def cancelled(endpoint: str, reason: str) -> RpcError:
    """The error behind a watch's ``cancel_reason``, which has no code but etcd's words."""
    code = 14
    if "permission denied" in reason:
        code = _PERMISSION_DENIED
    elif "auth token" in reason:
        code = _UNAUTHENTICATED
    elif "auth store is old" in reason or "user name is empty" in reason:
        code = _INVALID_ARGUMENT
    elif "compacted" in reason:
        code = _OUT_OF_RANGE
    return RpcError(endpoint, code, reason.partition("desc = ")[2] or reason)


def _reason(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _sentence(failures: Mapping[str, Exception]) -> str:
    return "; ".join(str(failure) for failure in failures.values()) or "no time was left"


def _keep_tcp_alive(response: aiohttp.ClientResponse) -> None:
    # A peer that went away without a word is noticed although nothing is being sent.
    connection = response.connection
    raw = (
        connection.transport.get_extra_info("socket")
        if connection and connection.transport
        else None
    )
    if raw is None:
        return
    with suppress(OSError):
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in (("TCP_KEEPIDLE", 10), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 3)):
            if hasattr(socket, option):
                raw.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
