"""JupyterHub's REST API, as much as a load test needs: users, tokens, servers.

Every error is a :class:`.LoadtestError` in one line that names the URL.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Any, Self

import aiohttp

from .stage import LoadtestError

__all__ = ["SCOPES", "Away", "HubAPI"]

#: what the token has to be allowed
SCOPES = ("admin:users", "admin:servers", "tokens")
#: seconds that one request may take
TIMEOUT = 30.0
#: seconds that a server may take to start, and to stop
STARTS, STOPS = 180.0, 90.0
#: what a hub that is being started again, or a proxy before it, answers
NOT_NOW = (429, 502, 503, 504)


class Away(LoadtestError):
    """The hub does not answer for now."""


class HubAPI:
    """A client; an asynchronous context.

    Args:
        url: the hub's, without ``/hub`` and without a slash at its end.
        token: of an admin, or of a service with :data:`SCOPES`.
    """

    def __init__(self, url: str, token: str) -> None:
        self.url = url
        self.token = token
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=TIMEOUT),
            # who asks sees to it that it is not too much; to wait here would be the hub's time
            connector=aiohttp.TCPConnector(limit=0),
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._session is not None
        await self._session.close()

    async def ask(
        self, method: str, path: str, body: object = None, *, token: str = "",
        good: tuple[int, ...] = (200, 201, 202, 204), raw: bytes | None = None,
    ) -> tuple[int, Any]:  # fmt: skip
        """One request below the hub's URL; returns its status, and its JSON if it has any.

        Raises:
            Away: no answer, or one that says that there is none for now.
            LoadtestError: one that is not among the good ones.
        """
        assert self._session is not None
        headers = {"Authorization": f"token {token or self.token}"}
        try:
            async with self._session.request(
                method, f"{self.url}{path}", headers=headers, allow_redirects=False,
                data=raw, json=body if raw is None else None,
            ) as answer:  # fmt: skip
                said = await answer.text(errors="replace")
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            why = str(error) or type(error).__name__
            raise Away(f"{self.url}: nobody answers {path}: {why}") from None
        if answer.status not in good:
            kind = Away if answer.status in NOT_NOW else LoadtestError
            raise kind(f"{self.url}{path}: answered {answer.status}{_message(said)}")
        try:
            return answer.status, json.loads(said)
        except ValueError:
            return answer.status, None

    async def check(self) -> dict[str, str]:
        """See that it is a hub, and that the token may do all that is needed.

        Raises:
            LoadtestError: it is none, or the token may not.
        """
        status, about = await self.ask("GET", "/hub/api/", good=tuple(range(200, 600)))
        if status != 200 or not isinstance(about, dict) or "version" not in about:
            raise LoadtestError(f"{self.url} is no JupyterHub: /hub/api/ answers {status}")
        status, me = await self.ask("GET", "/hub/api/user", good=tuple(range(200, 600)))
        if status in (401, 403):
            raise LoadtestError(f"{self.url}: the token is wrong, or no longer valid ({status})")
        if status != 200 or not isinstance(me, dict):
            raise LoadtestError(f"{self.url}: /hub/api/user answers {status}")
        lacking = [scope for scope in SCOPES if scope not in me.get("scopes", [])]
        if lacking:
            raise LoadtestError(
                f"{self.url}: the token of {me.get('name')} lacks the scopes {', '.join(lacking)}:"
                " make one for a role that has them"
            )
        return {"version": str(about["version"]), "name": str(me.get("name"))}

    async def create(self, names: list[str]) -> None:
        """Make users."""
        await self.ask("POST", "/hub/api/users", {"usernames": names})

    async def named(self, prefix: str) -> list[str]:
        """The users whose names begin so, 200 of them at most."""
        _, found = await self.ask("GET", f"/hub/api/users?name_filter={prefix}&limit=200")
        names = [str(one.get("name")) for one in found or () if isinstance(one, dict)]
        return [name for name in names if name.startswith(prefix)]

    async def user_token(self, name: str, seconds: float) -> str:
        """A token of a user, for so many seconds."""
        body = {"note": "load test", "expires_in": int(seconds)}
        _, made = await self.ask("POST", f"/hub/api/users/{name}/tokens", body)
        return str(made["token"])

    async def start(self, name: str) -> float:
        """Start a user's server; returns when (CLOCK_MONOTONIC) the hub said that it is ready.

        Raises:
            LoadtestError: it does not start.
        """
        status, _ = await self.ask("POST", f"/hub/api/users/{name}/server", {})
        if status == 201:
            return time.monotonic()
        try:
            async with asyncio.timeout(STARTS):
                async for event in self._progress(name):
                    if event.get("ready"):
                        return time.monotonic()
                    if event.get("failed"):
                        why = str(event.get("message", ""))[:200]
                        raise LoadtestError(f"the server of {name} does not start: {why}")
        except TimeoutError:
            pass
        raise LoadtestError(f"the server of {name} does not start within {STARTS:g} s")

    async def _progress(self, name: str) -> AsyncIterator[dict[str, Any]]:
        assert self._session is not None
        url = f"{self.url}/hub/api/users/{name}/server/progress"
        headers = {"Authorization": f"token {self.token}", "Accept": "text/event-stream"}
        try:
            async with self._session.get(
                url, headers=headers, timeout=aiohttp.ClientTimeout(total=STARTS)
            ) as answer:
                if answer.status != 200:
                    raise LoadtestError(f"{url}: answered {answer.status}")
                async for line in answer.content:
                    if line.startswith(b"data:"):
                        event: dict[str, Any] = json.loads(line[5:])
                        yield event
        except aiohttp.ClientError as error:
            raise LoadtestError(f"{url}: {error}") from None

    async def stop(self, name: str) -> None:
        """Stop a user's server, and wait until it has stopped.

        Raises:
            LoadtestError: it does not stop.
        """
        path = f"/hub/api/users/{name}/server"
        ends = time.monotonic() + STOPS
        while True:
            # 400: it is starting or stopping; 404: there is none
            status, _ = await self.ask("DELETE", path, good=(202, 204, 400, 404))
            if status in (204, 404):
                return
            if time.monotonic() > ends:
                raise LoadtestError(f"the server of {name} does not stop within {STOPS:g} s")
            await asyncio.sleep(0.5)

    async def remove(self, name: str) -> None:
        """Stop a user's server, if there is one, and remove the user.

        Raises:
            LoadtestError: it could not be done.
        """
        await self.stop(name)
        await self.ask("DELETE", f"/hub/api/users/{name}", good=(204, 404))


def _message(said: str) -> str:
    try:
        found = json.loads(said)
        return f": {str(found['message'])[:200]}" if found.get("message") else ""
    except (ValueError, KeyError, AttributeError, TypeError):
        return ""
