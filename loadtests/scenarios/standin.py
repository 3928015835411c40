"""A small server that stands in for any number of single-user servers, as a program.

It answers below ``/user/<name>/`` what JupyterLab asks for, with bodies of the asked size and no
meaning; so that a thousand users cost the machine one process, and what is measured is the proxy.
It prints its ports as JSON and ends with its stdin.  On the port ``hub`` everything is 404 ``hub``:
the default route of proxies that have no JupyterHub leads there.

A request says with ``X-Loadtest-Size`` how many bytes it wants; a real server takes no notice.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import WSMsgType, web

from jupyterhub_junction.forwarder import loops

__all__ = ["EVENT_PAUSE", "SIZE", "application"]

#: the header with the wanted size of a body
SIZE = "X-Loadtest-Size"
#: a body has at most so many bytes
MOST = 50_000_000
#: seconds between two events of the stream
EVENT_PAUSE = 0.25
_FILLING = b"x" * 1_000_000


def _body(size: int) -> bytes:
    size = max(0, min(size, MOST))
    return _FILLING[:size] if size <= len(_FILLING) else b"x" * size


async def _root(request: web.Request) -> web.Response:
    return web.Response(body=b"server")


async def _any(request: web.Request) -> web.Response:
    """Whatever was recorded: so many bytes."""
    if request.can_read_body:
        async for _ in request.content.iter_chunked(65536):
            pass
    if SIZE in request.headers:
        return web.Response(body=_body(int(request.headers[SIZE])))
    return web.json_response({"version": "stand-in"})


async def _hub(request: web.Request) -> web.Response:
    return web.Response(status=404, text="hub")


async def _stored(request: web.Request) -> web.Response:
    size = 0
    async for part in request.content.iter_chunked(65536):
        size += len(part)
    return web.json_response({"size": size}, status=201)


async def _made(request: web.Request) -> web.Response:
    await request.read()
    return web.json_response({}, status=201)


async def _session(request: web.Request) -> web.Response:
    await request.read()
    return web.json_response({"id": "s", "kernel": {"id": "k"}}, status=201)


async def _terminal(request: web.Request) -> web.Response:
    await request.read()
    return web.json_response({"name": "1"})


async def _gone(request: web.Request) -> web.Response:
    return web.Response(status=204)


async def _events(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    try:
        while True:
            await response.write(b"data: {}\n\n")
            await asyncio.sleep(EVENT_PAUSE)
    except ConnectionError:
        return response


def _socket(
    answer: Callable[[str], list[str]],
) -> Callable[[web.Request], Awaitable[web.WebSocketResponse]]:
    async def handle(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(compress=False)
        await socket.prepare(request)
        async for message in socket:
            if message.type == WSMsgType.TEXT:
                for line in answer(message.data):
                    await socket.send_str(line)
        return socket

    return handle


def _echo(said: str) -> list[str]:
    _, text = json.loads(said)
    return [json.dumps(["stdout", text])]


def _kernel(said: str) -> list[str]:
    """A kernel's messages about one request, in their order and with about their sizes."""
    asked = json.loads(said)
    parent = {"msg_id": asked["header"]["msg_id"]}
    kind = asked["header"]["msg_type"]
    base = {"parent_header": parent, "metadata": {}, "buffers": []}

    def message(kind: str, channel: str, content: object) -> str:
        header = {"msg_type": kind, "msg_id": "x" * 40, "session": "x" * 36}
        return json.dumps({**base, "header": header, "channel": channel, "content": content})

    reply = message(kind.replace("_request", "_reply"), "shell", {"status": "ok"})
    busy = message("status", "iopub", {"execution_state": "busy"})
    idle = message("status", "iopub", {"execution_state": "idle"})
    stream = [message("stream", "iopub", {"text": "x" * 80})] if kind == "execute_request" else []
    return [busy, *stream, reply, idle]


def application(hub: bool = True, **settings: Any) -> web.Application:
    """The server; with ``hub``, all that is no user's is 404."""
    app = web.Application(client_max_size=MOST, **settings)
    user = "/user/{name}"
    for method, path, handler in (
        ("GET", "/", _root),
        ("PUT", "/api/contents/{rest:.*}", _stored),
        ("POST", "/api/contents", _made),
        ("POST", "/api/sessions", _session),
        ("POST", "/api/terminals", _terminal),
        ("DELETE", "/api/{rest:.*}", _gone),
        ("GET", "/stand-in/events", _events),
        ("GET", "/terminals/websocket/{rest:.*}", _socket(_echo)),
        ("GET", "/api/kernels/{kernel}/channels", _socket(_kernel)),
        ("GET", "/api/events/subscribe", _socket(lambda said: [])),
        ("*", "/{rest:.*}", _any),
    ):
        app.router.add_route(method, user + path, handler)
    if hub:
        app.router.add_route("*", "/{rest:.*}", _hub)
    return app


def _nobody() -> web.Application:
    """Where the default route leads: no server answers here."""
    app = web.Application()
    app.router.add_route("*", "/{rest:.*}", _hub)
    return app


async def _site(app: web.Application) -> int:
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, backlog=4096).start()
    found: int = runner.addresses[0][1]
    return found


async def main() -> None:
    """Print the ports, and answer until stdin ends."""
    ports = {"port": await _site(application()), "hub": await _site(_nobody())}
    print(json.dumps(ports), flush=True)
    await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    loops.run(main())
