"""Calls to etcd's HTTP gateway: endpoints, TLS, sign-in, retries, and errors that a person can use.

Invariants:

* A call ends within its deadline, with an answer or with one of :mod:`..store`'s errors; it gets
  back the time by which its own process, without CPU, say, noticed that an endpoint was late.
* A call that fails on one endpoint goes on to the next; the one that answered last comes first.
* A call may reach etcd more than once (an answer lost on the way is asked for again elsewhere), so
  only what may be done twice is sent through here.
* No error and no log line holds the password or a token.
"""

from __future__ import annotations

import asyncio
import io
import json
import logging
import os
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import aiohttp

from ..store import StoreRefused, StoreUnavailable
from .errors import (
    NOT_FOUND,
    Json,
    RpcError,
    Transport,
    cancelled,
    explain,
    parse,
    rpc_error,
)
from .stream import Stream
from .tls import TlsFiles

__all__ = ["Gateway", "Password"]

log = logging.getLogger(__name__)

T = TypeVar("T")
#: the password itself, the file that holds it (read at each sign-in), or a function that gives it
Password = str | Path | Callable[[], str]

#: a failed endpoint is asked last for this long, in seconds
_SET_ASIDE = 5.0
#: first and longest pause between rounds over all endpoints, in seconds
_PAUSE, _LONGEST_PAUSE = 0.05, 1.0
#: an endpoint gets half of the time left, but not less than this, in seconds
_SHORTEST_TRY = 1.0
#: calls under way at once; the others wait here, not in aiohttp's queue (100 connections), where an
#: endpoint would be blamed for the wait
_AT_ONCE = 64


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
        #: what is said when none of them answers
        self.unanswered = "no etcd endpoint answers"
        self.tls = TlsFiles(*(None if f is None else os.fspath(f) for f in (ca, cert, key)))
        # Clients that share a list of endpoints spread over them.
        self._current = random.randrange(len(self.endpoints))  # noqa: S311
        self._set_aside: dict[str, float] = {}
        self._token: str | None = None
        self._signing_in = asyncio.Lock()
        self._slots = asyncio.Semaphore(_AT_ONCE)
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

        deadline = asyncio.get_running_loop().time() + self.timeout
        try:
            async with asyncio.timeout_at(deadline):
                await self._slots.acquire()
        except TimeoutError:
            raise StoreUnavailable(
                f"etcd is too slow: {_AT_ONCE} calls are waiting for it at {self.endpoints[0]}"
            ) from None
        try:
            return await self._over_endpoints(one, deadline)
        finally:
            self._slots.release()

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

        deadline = asyncio.get_running_loop().time() + self.timeout
        stream = await self._over_endpoints(one, deadline)
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

    async def _over_endpoints(self, one: Callable[[str], Awaitable[T]], deadline: float) -> T:
        clock = asyncio.get_running_loop().time
        pause = _PAUSE
        failures: dict[str, Exception] = {}
        while True:
            for endpoint in self._order():
                left = deadline - clock()
                if left <= 0:
                    break
                share = max(left / 2, min(left, _SHORTEST_TRY))
                due = clock() + share
                try:
                    async with asyncio.timeout_at(due):
                        result = await one(endpoint)
                except TimeoutError:
                    # not etcd's: its answer may be here, and nobody has read it
                    deadline += max(0.0, clock() - due)
                    failures[endpoint] = Transport(endpoint, f"no answer in {share:.1f} s")
                except Transport as error:
                    failures[endpoint] = error
                except RpcError as error:
                    if not error.transient:
                        if error.code == NOT_FOUND:
                            raise
                        raise error.as_store_error(self.username) from None
                    failures[endpoint] = error
                else:
                    self._answered(endpoint)
                    return result
                self._failed(endpoint)
            refused = [f for f in failures.values() if isinstance(f, Transport) and f.refused]
            if len(refused) == len(self.endpoints):
                raise StoreRefused(f"etcd cannot be used: {_sentence(failures)}")
            if clock() + pause >= deadline:
                raise StoreUnavailable(f"{self.unanswered}: {_sentence(failures)}")
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
        except asyncio.CancelledError:
            # A token names the raft index that it was given at, and etcd answers nothing at all
            # before it has got there (auth/simple_token.go): one of a lost cluster would hang us.
            if self._token == token:
                self._token = None
            raise
        except RpcError as error:
            if not error.sign_in_again:
                raise
        # Signed in where the call goes: a token from a member that runs ahead is unknown here.
        try:
            return await do(_authorization(await self._sign_in(endpoint, token)))
        except RpcError as error:
            if error.sign_in_again:
                raise Transport(
                    endpoint, f"a new sign-in is not good yet: {error.message}"
                ) from None
            raise

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
                log.log(
                    logging.INFO if self.username == "root" else logging.WARNING,
                    "etcd at %s asks for no password: authentication is off",
                    endpoint,
                )
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
            ssl=self.tls.context() if endpoint.startswith("https:") else True,
            allow_redirects=False,
        )

    async def _post(self, endpoint: str, path: str, body: Json, headers: Mapping[str, str]) -> Json:
        try:
            # As a file: aiohttp sends it in pieces, so that a large one does not hold up the loop.
            data = io.BytesIO(json.dumps(body).encode())
            response = await self._request(endpoint, path, headers, data)
            async with response:
                text = await response.read()
        except (aiohttp.ClientError, OSError) as error:
            raise self._explain(endpoint, error) from None
        answer = parse(endpoint, response, text)
        if "error" in answer and isinstance(answer["error"], dict):
            raise rpc_error(endpoint, answer["error"])
        if response.status != 200:
            raise rpc_error(endpoint, answer)
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
            stream.keep_tcp_alive()
            if response.status != 200:
                raise rpc_error(endpoint, parse(endpoint, response, await response.read()))
            stream.first = await stream.next()
            if stream.first.get("canceled") and "cancel_reason" in stream.first:
                raise cancelled(endpoint, str(stream.first["cancel_reason"]))
        except BaseException:
            stream.close()
            raise
        return stream

    def _explain(self, endpoint: str, error: Exception) -> Transport:
        return explain(
            endpoint, error, ca=self.tls.ca, cert=self.tls.cert, trouble=self.tls.trouble
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


def _sentence(failures: Mapping[str, Exception]) -> str:
    return "; ".join(str(failure) for failure in failures.values()) or "no time was left"
