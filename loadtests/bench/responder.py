"""The user servers' and the hub's stand-in, as a program: the same for every contestant.

nginx answers where there is one: it is faster than any proxy under test.  Without it the
WebSocket echo's process answers plain requests too, and the report says so.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from pathlib import Path

from aiohttp import WSMsgType, web

__all__ = ["LARGE", "nginx_config"]

#: bytes of the large body
LARGE = 1_000_000


def nginx_config(directory: Path, server: int, hub: int, unix: Path) -> str:
    """nginx's configuration as user servers (a port and a Unix socket) and hub (another port)."""
    return f"""
worker_processes 1;
pid {directory}/responder.pid;
error_log stderr crit;
events {{ worker_connections 8192; }}
http {{
    access_log off;
    default_type text/plain;
    keepalive_requests 1000000000;
    keepalive_timeout 600s;
    sendfile on;
    tcp_nopush on;
    client_body_temp_path {directory}/t1; proxy_temp_path {directory}/t2;
    fastcgi_temp_path {directory}/t3; uwsgi_temp_path {directory}/t4;
    scgi_temp_path {directory}/t5;
    server {{
        listen 127.0.0.1:{server} backlog=4096;
        listen unix:{unix};
        root {directory}/bodies;
        location / {{ return 200 "server"; }}
        location ~ /large$ {{ rewrite ^ /large.bin break; }}
    }}
    server {{
        listen 127.0.0.1:{hub} backlog=4096;
        location / {{ return 404 "hub"; }}
    }}
}}
"""


def _plain(status: int, body: bytes) -> Callable[[web.Request], object]:
    large = b"x" * LARGE

    async def answer(request: web.Request) -> web.Response:
        wants_large = status == 200 and request.path.endswith("/large")
        return web.Response(status=status, body=large if wants_large else body)

    return answer


async def _echo(request: web.Request) -> web.WebSocketResponse:
    socket = web.WebSocketResponse(compress=False)
    await socket.prepare(request)
    async for message in socket:
        if message.type == WSMsgType.TEXT:
            await socket.send_str(message.data)
    return socket


async def _site(handler: Callable[[web.Request], object], port: int, unix: str = "") -> int:
    app = web.Application()
    app.router.add_route("*", "/{rest:.*}", handler)  # type: ignore[arg-type]
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port, backlog=4096).start()
    if unix:
        await web.UnixSite(runner, unix).start()
    found: int = runner.addresses[0][1]
    return found


async def main() -> None:
    """Print the ports as JSON, and answer until stdin ends."""
    setup = json.loads(sys.argv[1])
    ports = {"echo": await _site(_echo, 0)}
    if not setup["nginx"]:
        ports["server"] = await _site(_plain(200, b"server"), 0, setup["unix"])
        ports["hub"] = await _site(_plain(404, b"hub"), 0)
    print(json.dumps(ports), flush=True)
    await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main())
