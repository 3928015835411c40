"""A small JupyterHub for load tests: its REST API in memory, and the stand-in as every server."""

from __future__ import annotations

from typing import Any

from aiohttp import web
from scenarios.standin import application

TOKEN = "the-token"  # noqa: S105
SCOPES = ["admin:users", "admin:servers", "tokens"]


class FakeHub:
    """Attributes:
    users: those there are, and whether their server runs.
    made: all there ever were.
    scopes: of the token.
    failing: whether every request to a user's server is answered with 503.
    keeps: whether users cannot be removed.
    away: how many requests to its API are answered with 503 from now on.
    """

    def __init__(self) -> None:
        self.users: dict[str, bool] = {}
        self.made: set[str] = set()
        self.scopes = SCOPES
        self.failing = False
        self.keeps = False
        self.away = 0
        self.asked = 0
        self._runner: web.AppRunner | None = None

    async def start(self) -> str:
        """Serve; returns the URL."""

        @web.middleware
        async def gate(request: web.Request, handler: Any) -> web.StreamResponse:
            if not request.path.startswith("/user/"):
                return await handler(request)
            self.asked += 1
            name = request.path.split("/")[2]
            if self.failing or not self.users.get(name):
                return web.Response(status=503)
            return await handler(request)

        @web.middleware
        async def signed_in(request: web.Request, handler: Any) -> web.StreamResponse:
            if request.path.startswith("/hub/api/u"):
                token = request.headers.get("Authorization", "")
                if self.away:
                    self.away -= 1
                    return web.Response(status=503)
                if token not in (f"token {TOKEN}", "token of-a-user"):
                    return web.json_response({"message": "Forbidden"}, status=403)
            return await handler(request)

        app = application(middlewares=[gate, signed_in], hub=False)
        api = "/hub/api"
        app.router.add_get(f"{api}/", self._about)
        app.router.add_get(f"{api}/user", self._me)
        app.router.add_get(f"{api}/users", self._users)
        app.router.add_post(f"{api}/users", self._create)
        app.router.add_delete(f"{api}/users/{{name}}", self._remove)
        app.router.add_post(f"{api}/users/{{name}}/tokens", self._token)
        app.router.add_post(f"{api}/users/{{name}}/server", self._start)
        app.router.add_delete(f"{api}/users/{{name}}/server", self._stop)
        app.router.add_get(f"{api}/users/{{name}}/server/progress", self._progress)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        return f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def stop(self) -> None:
        """No longer."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _about(self, request: web.Request) -> web.Response:
        return web.json_response({"version": "6.1.1"})

    async def _me(self, request: web.Request) -> web.Response:
        return web.json_response({"name": "admin", "scopes": self.scopes})

    async def _users(self, request: web.Request) -> web.Response:
        prefix = request.query["name_filter"]
        return web.json_response([{"name": name} for name in self.users if prefix in name])

    async def _create(self, request: web.Request) -> web.Response:
        names = (await request.json())["usernames"]
        self.users |= dict.fromkeys(names, False)
        self.made |= set(names)
        return web.json_response([], status=201)

    async def _remove(self, request: web.Request) -> web.Response:
        if self.keeps:
            return web.json_response({"message": "not today"}, status=500)
        assert not self.users[request.match_info["name"]], "its server was not stopped"
        del self.users[request.match_info["name"]]
        return web.Response(status=204)

    async def _token(self, request: web.Request) -> web.Response:
        return web.json_response({"token": "of-a-user"}, status=201)

    async def _start(self, request: web.Request) -> web.Response:
        self.users[request.match_info["name"]] = True
        return web.Response(status=202)

    async def _stop(self, request: web.Request) -> web.Response:
        self.users[request.match_info["name"]] = False
        return web.Response(status=204)

    async def _progress(self, request: web.Request) -> web.Response:
        return web.Response(text='data: {"ready": true}\n\n', content_type="text/event-stream")
