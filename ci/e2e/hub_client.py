"""The hub's REST API, as far as the tests need it."""

from __future__ import annotations

import json
import ssl
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterable
from typing import Any

from .kube import until

__all__ = ["Hub"]


class Hub:
    """A hub behind its proxy.

    Args:
        url: of the proxy, with the hub's base URL, without a slash at its end.
        token: of a service that may do all of this.
        context: what HTTPS is trusted by.
    """

    def __init__(self, url: str, token: str, context: ssl.SSLContext | None = None) -> None:
        self.url, self.token, self.context = url, token, context

    def ask(self, method: str, path: str, body: Any = None, deadline: float = 30) -> Any:
        """One call; returns the JSON of the answer.  Raises OSError for what is no 2xx."""
        request = urllib.request.Request(  # noqa: S310
            f"{self.url}/hub/api{urllib.parse.quote(path)}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"token {self.token}"},
        )
        with urllib.request.urlopen(  # noqa: S310
            request, timeout=deadline, context=self.context
        ) as answer:
            text = answer.read()
        return json.loads(text) if text else None

    def answers(self) -> bool:
        """Whether the hub answers through the proxy."""
        try:
            return bool(self.ask("GET", "/", deadline=5))
        except OSError:
            return False

    def start_server(self, user: str, deadline: float = 180, name: str = "") -> None:
        """Make a user, if need be, and run their server, or one of theirs by its name."""
        try:
            self.ask("POST", f"/users/{user}")
        except urllib.error.HTTPError as error:
            if error.code != 409:
                raise
        try:
            self.ask("POST", f"/users/{user}/servers/{name}" if name else f"/users/{user}/server")
        except urllib.error.HTTPError as error:
            if error.code != 400:  # runs already
                raise
        until(lambda: self.is_running(user, name), f"{user}'s server {name}", deadline)

    def stop_server(self, user: str, deadline: float = 60) -> None:
        """Stop a user's server, and wait until it is gone."""
        self.ask("DELETE", f"/users/{user}/server")
        until(lambda: not self.ask("GET", f"/users/{user}")["servers"], f"{user} to end", deadline)

    def is_running(self, user: str, name: str = "") -> bool:
        """Whether the server is ready."""
        try:
            servers = self.ask("GET", f"/users/{user}", deadline=5)["servers"]
        except OSError:
            return False
        return bool(servers.get(name, {}).get("ready"))

    def routes(self) -> dict[str, Any]:
        """The proxy's table, as the hub reads it."""
        return self.ask("GET", "/proxy")  # type: ignore[no-any-return]

    def has_routes(self, users: Iterable[str]) -> bool:
        """Whether the proxy's table has a route for each of these users; below any base URL."""
        try:
            table = [urllib.parse.unquote(route) for route in self.routes()]
        except OSError:
            return False
        return all(any(route.endswith(f"/user/{user}/") for route in table) for user in users)
