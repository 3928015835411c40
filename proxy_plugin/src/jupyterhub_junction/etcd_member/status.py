"""The keeper's own HTTP endpoint: probes and metrics."""

from __future__ import annotations

import asyncio

from aiohttp import web

from ..probes import as_metrics, as_probe, serve_app
from .keep import NOT_LOOKED, Keeper

__all__ = ["serve_keeper"]

#: seconds without an end of a round after which the keeper is stuck
_STUCK = 300.0


async def serve_keeper(keeper: Keeper, listen: str) -> web.AppRunner:
    """Answer at ``host:port`` until the runner is cleaned up."""
    clock = asyncio.get_running_loop().time

    async def healthz(_: web.Request) -> web.Response:
        """Whether the keeper itself goes on."""
        silent = clock() - keeper.looked
        stuck = keeper.trouble != NOT_LOOKED and silent > _STUCK + keeper.interval
        return as_probe(f"no round has ended for {silent:.0f} s" if stuck else "")

    async def readyz(_: web.Request) -> web.Response:
        """Whether the member and its cluster are as they should be."""
        return as_probe(keeper.trouble)

    async def metrics(_: web.Request) -> web.Response:
        return as_metrics("junction_etcd", keeper.numbers())

    app = web.Application()
    for handler in (healthz, readyz, metrics):
        app.router.add_get("/" + handler.__name__, handler)
    return await serve_app(app, listen)
