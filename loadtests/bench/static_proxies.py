"""The limits: nginx, and Traefik without Junction, each with one route that never changes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

from jupyterhub_junction.conformance.surroundings import free_port

from .client import Address, Connection, until_served
from .processes import Program
from .world import World, program, start_nginx

__all__ = ["start_nginx_proxy", "start_traefik"]

#: seconds until it serves
START = 60.0

Started = tuple[Address, dict[str, int], Callable[[], None]]


def _nginx_config(port: int, server: Address, echo: Address, directory: Path) -> str:
    return f"""
worker_processes auto;
pid {directory}/proxy.pid;
error_log stderr crit;
events {{ worker_connections 8192; }}
http {{
    access_log off;
    keepalive_requests 1000000000;
    client_body_temp_path {directory}/t1; proxy_temp_path {directory}/t2;
    fastcgi_temp_path {directory}/t3; uwsgi_temp_path {directory}/t4;
    scgi_temp_path {directory}/t5;
    map $http_upgrade $connection_upgrade {{ default upgrade; '' ''; }}
    upstream server {{
        server {server[0]}:{server[1]};
        keepalive 256; keepalive_requests 1000000000;
    }}
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        proxy_http_version 1.1;
        proxy_set_header Host $http_host;
        proxy_set_header Upgrade $http_upgrade;
        proxy_set_header Connection $connection_upgrade;
        proxy_max_temp_file_size 0;
        location / {{ proxy_pass http://server; }}
        location /user/echo/ {{ proxy_pass http://{echo[0]}:{echo[1]}; }}
    }}
}}
"""


async def start_nginx_proxy(around: World, directory: Path) -> Started:
    """nginx as a reverse proxy, as many workers as there are cores."""
    port = free_port()
    config = directory / "proxy.conf"
    config.write_text(_nginx_config(port, around.server, around.echo, directory))
    nginx = start_nginx(program("nginx", "JUNCTION_NGINX") or "nginx", config, directory)
    return await _serving(nginx, port, "nginx")


async def start_traefik(around: World, directory: Path) -> Started:
    """Traefik with one router and its file provider, as it comes otherwise."""
    port = free_port()
    routers = {
        "all": {"rule": 'PathPrefix("/")', "service": "server"},
        "echo": {"rule": 'PathPrefix("/user/echo")', "service": "echo"},
    }
    services = {
        "server": {"loadBalancer": {"servers": [{"url": around.server_url}]}},
        "echo": {"loadBalancer": {"servers": [{"url": around.echo_url}]}},
    }
    routes = directory / "routes.yml"  # JSON is YAML
    routes.write_text(json.dumps({"http": {"routers": routers, "services": services}}))
    traefik = Program(
        [
            program("traefik", "JUNCTION_TRAEFIK") or "traefik",
            f"--entrypoints.web.address=127.0.0.1:{port}",
            f"--providers.file.filename={routes}",
            "--log.level=ERROR",
            "--global.checknewversion=false",
            "--global.sendanonymoususage=false",
        ],
        directory / "traefik.log",
    )
    return await _serving(traefik, port, "traefik")


async def _serving(started: Program, port: int, role: str) -> Started:
    """It listens before it has its route."""
    connection = Connection(("127.0.0.1", port))
    try:
        await started.listening(port)
        async with asyncio.timeout(START):
            await until_served(connection, "/user/n0/")
    except BaseException:
        started.stop()
        raise
    finally:
        connection.close()
    return ("127.0.0.1", port), {role: started.process.pid}, started.stop
