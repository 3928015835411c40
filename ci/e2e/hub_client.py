"""The hub's REST API, as far as the tests need it."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import Any

from .kube import until

__all__ = ["Hub"]


class Hub:
    """A hub behind its proxy.

    Args:
        url: of the proxy, on loopback.
        token: of a service that may do all of this.
    """

    def __init__(self, url: str, token: str) -> None:
        self.url, self.token = url, token

    def ask(self, method: str, path: str, body: Any = None, deadline: float = 30) -> Any:
        """One call; returns the JSON of the answer.  Raises OSError for what is no 2xx."""
        request = urllib.request.Request(  # noqa: S310
            f"{self.url}/hub/api{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"token {self.token}"},
        )
        with urllib.request.urlopen(request, timeout=deadline) as answer:  # noqa: S310
            text = answer.read()
        return json.loads(text) if text else None

    def answers(self) -> bool:
        """Whether the hub answers through the proxy."""
        try:
            return bool(self.ask("GET", "/", deadline=5))
        except OSError:
            return False

    def start_server(self, user: str, deadline: float = 180) -> None:
        """Make a user, if need be, and run their server."""
        try:
            self.ask("POST", f"/users/{user}")
        except urllib.error.HTTPError as error:
            if error.code != 409:
                raise
        try:
            self.ask("POST", f"/users/{user}/server")
        except urllib.error.HTTPError as error:
            if error.code != 400:  # runs already
                raise
        until(lambda: self.is_running(user), f"{user}'s server", deadline)

    def stop_server(self, user: str, deadline: float = 60) -> None:
        """Stop a user's server, and wait until it is gone."""
        self.ask("DELETE", f"/users/{user}/server")
        until(lambda: not self.ask("GET", f"/users/{user}")["servers"], f"{user} to end", deadline)

    def is_running(self, user: str) -> bool:
        """Whether the server is ready."""
        try:
            servers = self.ask("GET", f"/users/{user}", deadline=5)["servers"]
        except OSError:
            return False
        return bool(servers.get("", {}).get("ready"))

    def routes(self) -> dict[str, Any]:
        """The proxy's table, as the hub reads it."""
        return self.ask("GET", "/proxy")  # type: ignore[no-any-return]
