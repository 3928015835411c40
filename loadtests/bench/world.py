"""What stands around every contestant: a folder, user servers and a hub to be routed to."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from jupyterhub_junction.conformance.surroundings import free_port

from .client import Address
from .processes import Program, module_environment
from .responder import LARGE, nginx_config

__all__ = ["World", "answered_by", "program", "world"]

#: seconds that the responder gets to start
START = 30.0


def program(name: str, variable: str) -> str | None:
    """The path of a program: what the environment variable names, or what PATH holds."""
    return os.environ.get(variable) or shutil.which(name)


def answered_by() -> str:
    """What answers for the user servers, as the report says it."""
    if program("nginx", "JUNCTION_NGINX"):
        return "nginx, with one worker"
    return "Python (aiohttp), since nginx is missing: slower than some of the proxies"


@dataclass
class World:
    """Attributes:
    directory: a folder that goes when the run ends.
    server: where user servers answer ("server", or :data:`LARGE` bytes below ``…/large``).
    hub: where everything is 404 "hub".
    echo: where WebSockets are echoed.
    unix: the user servers' other address, a Unix socket.
    limit: seconds that one thing may take.
    """

    directory: Path
    server: Address
    hub: Address
    echo: Address
    unix: Path
    limit: float

    def folder(self, name: str) -> Path:
        """A new empty folder."""
        folder = self.directory / name
        folder.mkdir()
        return folder

    @property
    def server_url(self) -> str:
        """The target of users' routes."""
        return _url(self.server)

    @property
    def hub_url(self) -> str:
        """The target of the default route."""
        return _url(self.hub)

    @property
    def echo_url(self) -> str:
        """The target of the WebSocket route."""
        return _url(self.echo)

    @property
    def unix_url(self) -> str:
        """The user servers as a target on their Unix socket."""
        return f"http+unix://{quote(str(self.unix), safe='')}"


def _url(address: Address) -> str:
    return f"http://{address[0]}:{address[1]}"


@contextlib.asynccontextmanager
async def world(directory: Path, limit: float) -> AsyncIterator[World]:
    """The responders, running."""
    nginx = program("nginx", "JUNCTION_NGINX")
    unix = directory / "server.sock"
    responder = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench.responder",
        json.dumps({"nginx": bool(nginx), "unix": str(unix)}),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, env=module_environment(),
        start_new_session=True,  # it ends with its stdin, not by the Ctrl-C that ends the run
    )  # fmt: skip
    async with contextlib.AsyncExitStack() as stack:

        async def end() -> None:
            if responder.stdin is not None:
                responder.stdin.close()
            try:
                await asyncio.wait_for(responder.wait(), 5)
            except TimeoutError:
                responder.kill()
                await responder.wait()

        stack.push_async_callback(end)
        assert responder.stdout is not None
        async with asyncio.timeout(START):
            ports = json.loads(await responder.stdout.readline())
        if nginx:
            ports |= {"server": free_port(), "hub": free_port()}
            bodies = directory / "bodies"
            bodies.mkdir()
            (bodies / "large.bin").write_bytes(b"x" * LARGE)
            config = directory / "responder.conf"
            config.write_text(nginx_config(directory, ports["server"], ports["hub"], unix))
            started = start_nginx(nginx, config, directory)
            stack.callback(started.stop)
            await started.listening(ports["server"])
        address = {name: ("127.0.0.1", int(port)) for name, port in ports.items()}
        yield World(directory, address["server"], address["hub"], address["echo"], unix, limit)


def start_nginx(nginx: str, config: Path, directory: Path) -> Program:
    """nginx in the foreground with one configuration; its own service is not touched."""
    # a root's nginx would drop to a user that cannot read the folder
    user = "user root; " if os.geteuid() == 0 else ""
    settings = f"{user}daemon off;"
    command = [nginx, "-e", "stderr", "-p", str(directory), "-c", str(config), "-g", settings]
    return Program(command, directory / f"{config.stem}.log")
