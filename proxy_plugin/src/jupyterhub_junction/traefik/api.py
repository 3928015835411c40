"""Traefik's own API on loopback: push a document, and confirm that it is in effect.

An apply is confirmed, not assumed: the document carries a marker router with a number of its
own, and :meth:`TraefikAPI.wait_for` asks until Traefik shows it.
"""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any

import aiohttp

from .documents import marker_name

__all__ = ["TraefikAPI", "TraefikError"]


class TraefikError(Exception):
    """Traefik does not answer, or refuses a document; one clear line."""


class TraefikAPI:
    """Client of one Traefik's control entry point.

    Args:
        url: ``http://127.0.0.1:port``.
        password: the one whose hash stands in the control document.
        provider: ``rest`` or ``file``: where the routes come from.
    """

    def __init__(self, url: str, password: str, provider: str = "rest") -> None:
        self.url = url
        self.provider = provider
        credentials = base64.b64encode(f"junction:{password}".encode()).decode()
        self._headers = {"Authorization": f"Basic {credentials}"}
        self._session: aiohttp.ClientSession | None = None

    async def _call(
        self, method: str, path: str, *, body: bytes | None = None, timeout: float = 5.0
    ) -> tuple[int, bytes]:
        if self._session is None:
            self._session = aiohttp.ClientSession(headers=self._headers, trust_env=False)
        limit = aiohttp.ClientTimeout(total=timeout)
        try:
            async with self._session.request(
                method, self.url + path, data=body, timeout=limit
            ) as response:
                return response.status, await response.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            why = str(error) or type(error).__name__
            raise TraefikError(f"Traefik at {self.url} does not answer: {why}") from None

    async def version(self) -> dict[str, Any]:
        """What ``/api/version`` says: version and the date of this start."""
        status, body = await self._call("GET", "/api/version")
        if status != 200:
            raise TraefikError(f"Traefik at {self.url} answers {status} to /api/version")
        loaded: dict[str, Any] = json.loads(body)
        return loaded

    async def put(self, body: bytes, timeout: float = 60.0) -> None:
        """Give the REST provider a document (JSON), which replaces the one before."""
        status, answer = await self._call("PUT", "/api/providers/rest", body=body, timeout=timeout)
        if status != 200:
            raise TraefikError(f"Traefik refuses the routes with {status}: {answer[:200]!r}")

    async def has(self, serial: int) -> bool:
        """Whether the document with this marker is in effect."""
        status, _ = await self._call(
            "GET", f"/api/http/routers/{marker_name(serial)}@{self.provider}"
        )
        return status == 200

    async def serves(self, router: str) -> bool | None:
        """Whether a router is in effect; None if Traefik does not answer for itself.

        One that has started and not yet read its control document answers all with a 404 of its
        own: it can say nothing of routers then.
        """
        try:
            status, body = await self._call("GET", f"/api/http/routers/{router}")
        except TraefikError:
            return None
        if status == 200:
            return True
        return False if body.startswith(b"{") else None

    async def is_up(self, service: str) -> bool:
        """Whether the only server of a service passes its health check."""
        status, body = await self._call("GET", f"/api/http/services/{service}@{self.provider}")
        if status != 200:
            return False
        servers: dict[str, str] = json.loads(body).get("serverStatus", {})
        return bool(servers) and all(state == "UP" for state in servers.values())

    async def wait_for(self, serial: int, timeout: float = 60.0) -> None:
        """Return when the document with this marker is in effect.

        Raises:
            TraefikError: it is not within ``timeout`` seconds.
        """
        pause = 0.002
        try:
            async with asyncio.timeout(timeout):
                while not await self.has(serial):
                    await asyncio.sleep(pause)
                    pause = min(pause * 1.5, 0.1)
        except TimeoutError:
            raise TraefikError(
                f"Traefik did not put document {serial} into effect within {timeout:g} s"
            ) from None

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()
