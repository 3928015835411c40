"""configurable-http-proxy, the reference of the suite."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import subprocess
from collections.abc import AsyncIterator
from typing import Any

from harness.hub_http import hub_http_client_of
from jupyterhub.proxy import ConfigurableHTTPProxy

from jupyterhub_junction.conformance.implementation import FEATURES, Implementation, Running
from jupyterhub_junction.conformance.surroundings import Surroundings
from jupyterhub_junction.ports import free_port


def program(name: str, variable: str) -> str | None:
    """A program that the environment names, or on PATH."""
    return os.environ.get(variable) or shutil.which(name)


def needs(name: str, variable: str):
    """A check that a program is there: in the environment variable, or on PATH."""

    def missing() -> str | None:
        if program(name, variable) is None:
            return f"{name} is not on PATH, and {variable} does not name it"
        return None

    return missing


def _chp_command() -> str:
    return program("configurable-http-proxy", "JUNCTION_CHP") or ""


def _chp_version() -> str:
    shown = subprocess.run([_chp_command(), "--version"], capture_output=True, text=True)
    return f"configurable-http-proxy {shown.stdout.strip()}"


@contextlib.asynccontextmanager
async def run_chp(around: Surroundings) -> AsyncIterator[tuple[Any, dict[str, Any], Any]]:
    """JupyterHub's object of a CHP that runs, its settings, and how to restart it."""
    scheme = "https" if around.options.internal_ssl else "http"
    settings = {
        "command": [_chp_command()],
        "auth_token": "a-token",
        "api_url": f"{scheme}://127.0.0.1:{free_port()}",
        "pid_file": str(around.directory / "chp.pid"),
        "log_level": "error",
        # Its own watch would start it a second time after restart_proxy.
        "check_running_interval": 3600,
    }
    async with hub_http_client_of(around):
        owner = ConfigurableHTTPProxy(**settings, **around.proxy_arguments())
        await owner.start()

        async def restart() -> None:
            await asyncio.to_thread(_stop_chp, owner)
            await owner.start()

        try:
            yield owner, settings, restart
        finally:
            await asyncio.to_thread(_stop_chp, owner)


@contextlib.asynccontextmanager
async def start_chp(around: Surroundings) -> AsyncIterator[Running]:
    async with run_chp(around) as (owner, settings, restart):

        async def restart_hub() -> ConfigurableHTTPProxy:
            return ConfigurableHTTPProxy(should_start=False, **settings, **around.proxy_arguments())

        yield Running(owner, (around.public_url,), restart_hub, restart)


def _stop_chp(owner: ConfigurableHTTPProxy) -> None:
    owner._check_running_callback.stop()
    owner.proxy_process.kill()
    owner.proxy_process.wait()
    owner._remove_process_files()


_CHP_DIES = "the client is left waiting: the cut is not passed on"

CHP = Implementation(
    "chp",
    start_chp,
    features=frozenset(FEATURES) - {"refuses-bad-routes"},
    known={
        "activity-websocket-server": "only what clients send over a WebSocket counts",
        "dies-chunked": _CHP_DIES,
        "dies-counted": _CHP_DIES,
        "dies-reset": _CHP_DIES,
        "forwarded-not-trusted": "X-Forwarded-* fields of any client are added to",
        "head-before-body": "the head is held until the body begins",
        "hop-by-hop-request": "fields that Connection names are handed on",
        "hop-by-hop-response": "fields that Connection names are handed on",
        "host-case": "host names are compared as they are written",
        "path-dot-segments": "dot segments are resolved",
        "path-dot-segments-encoded": "dot segments are resolved",
        "path-not-utf8": "answered with 500: paths have to be UTF-8",
        "query-quote": "' arrives as %27",
        "trailers-request": "trailers are dropped",
        "trailers-response": "trailers are dropped",
    },
    missing=needs("configurable-http-proxy", "JUNCTION_CHP"),
    version=_chp_version,
    reference=True,
)
