"""The proxies that the suite is run on here, and how to start them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import ssl
import subprocess
from collections.abc import AsyncIterator
from importlib.metadata import version

from jupyterhub.proxy import ConfigurableHTTPProxy
from jupyterhub_junction.conformance.implementation import FEATURES, Implementation, Running
from jupyterhub_junction.conformance.surroundings import Surroundings, free_port
from jupyterhub_junction.conformance.world import until
from ours import OURS


def _program(name: str, variable: str) -> str | None:
    return os.environ.get(variable) or shutil.which(name)


def _needs(name: str, variable: str):
    """A check that a program is there: in the environment variable, or on PATH."""

    def missing() -> str | None:
        if _program(name, variable) is None:
            return f"{name} is not on PATH, and {variable} does not name it"
        return None

    return missing


async def _accepts(url: str) -> bool:
    host, _, port = url.rpartition("/")[2].partition(":")
    _, writer = await asyncio.open_connection(host, int(port))
    writer.transport.abort()
    await asyncio.sleep(0)
    return True


# -- configurable-http-proxy, the reference


def _chp_command() -> str:
    return _program("configurable-http-proxy", "JUNCTION_CHP") or ""


def _chp_version() -> str:
    shown = subprocess.run([_chp_command(), "--version"], capture_output=True, text=True)
    return f"configurable-http-proxy {shown.stdout.strip()}"


@contextlib.asynccontextmanager
async def _hub_http_client(around: Surroundings) -> AsyncIterator[None]:
    """JupyterHub 6 has one HTTP client for the whole process; it must not outlive its loop."""
    try:
        from jupyterhub.httpclient import JupyterHubHTTPClient
    except ImportError:
        yield
        return
    options = {}
    if around.options.internal_ssl:
        context = ssl.create_default_context(cafile=around.internal["cafile"])
        context.load_cert_chain(around.internal["certfile"], around.internal["keyfile"])
        options["ssl"] = context
    JupyterHubHTTPClient.clear_instance()
    JupyterHubHTTPClient.instance(_internal_connector_options=options)
    try:
        yield
    finally:
        await JupyterHubHTTPClient.loop_instance().close()
        JupyterHubHTTPClient.clear_instance()


@contextlib.asynccontextmanager
async def start_chp(around: Surroundings) -> AsyncIterator[Running]:
    scheme = "https" if around.options.internal_ssl else "http"
    settings = {
        "command": [_chp_command()],
        "auth_token": "a-token",
        "api_url": f"{scheme}://127.0.0.1:{free_port()}",
        "pid_file": str(around.directory / "chp.pid"),
        "log_level": "error",
        # Its own watch would start it a second time after restart_proxy.
        "check_running_interval": 3600,
        **around.proxy_arguments(),
    }
    async with _hub_http_client(around):
        owner = ConfigurableHTTPProxy(**settings)
        await owner.start()

        async def restart_hub() -> ConfigurableHTTPProxy:
            return ConfigurableHTTPProxy(should_start=False, **settings)

        async def restart_proxy() -> None:
            await asyncio.to_thread(_stop_chp, owner)
            await owner.start()

        try:
            yield Running(owner, (around.public_url,), restart_hub, restart_proxy)
        finally:
            await asyncio.to_thread(_stop_chp, owner)


def _stop_chp(owner: ConfigurableHTTPProxy) -> None:
    owner._check_running_callback.stop()
    owner.proxy_process.kill()
    owner.proxy_process.wait()
    owner._remove_process_files()


CHP = Implementation(
    "chp",
    start_chp,
    features=frozenset(FEATURES) - {"refuses-bad-routes"},
    known={},
    missing=_needs("configurable-http-proxy", "JUNCTION_CHP"),
    version=_chp_version,
    reference=True,
)

IMPLEMENTATIONS = [CHP, *OURS]
