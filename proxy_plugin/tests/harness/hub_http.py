"""JupyterHub's own HTTP client, which its class for CHP uses."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Any

from jupyterhub_junction.conformance.surroundings import Surroundings


@contextlib.asynccontextmanager
async def hub_http_client(**options: Any) -> AsyncIterator[None]:
    """JupyterHub 6 has one for the whole process; it must not outlive its loop."""
    try:
        from jupyterhub.httpclient import JupyterHubHTTPClient
    except ImportError:
        yield
        return
    JupyterHubHTTPClient.clear_instance()
    JupyterHubHTTPClient.instance(**options)
    try:
        yield
    finally:
        await JupyterHubHTTPClient.loop_instance().close()
        JupyterHubHTTPClient.clear_instance()


def hub_http_client_of(around: Surroundings) -> AbstractAsyncContextManager[None]:
    """The same, with the hub's own certificate under internal SSL."""
    if not around.options.internal_ssl:
        return hub_http_client()
    context = ssl.create_default_context(cafile=around.internal["cafile"])
    context.load_cert_chain(around.internal["certfile"], around.internal["keyfile"])
    return hub_http_client(_internal_connector_options={"ssl": context})
