"""The keeper's own HTTP endpoint: probes and metrics."""

from __future__ import annotations

import asyncio

from aiohttp import web

from .etcd_keep import NOT_LOOKED, Keeper

__all__ = ["serve_keeper"]

#: seconds without an end of a round after which the keeper is stuck
_STUCK = 300.0


async def serve_keeper(keeper: Keeper, listen: str) -> web.AppRunner:
    """Answer at ``host:port`` until the runner is cleaned up."""
    clock = asyncio.get_running_loop().time

    def answer(wrong: str) -> web.Response:
        return web.Response(text=f"{wrong or 'ok'}\n", status=503 if wrong else 200)

    async def healthz(_: web.Request) -> web.Response:
        """Whether the keeper itself goes on."""
        silent = clock() - keeper.looked
        stuck = keeper.trouble != NOT_LOOKED and silent > _STUCK + keeper.interval
        return answer(f"no round has ended for {silent:.0f} s" if stuck else "")

    async def readyz(_: web.Request) -> web.Response:
        """Whether the member and its cluster are as they should be."""
        return answer(keeper.trouble)

    async def metrics(_: web.Request) -> web.Response:
        lines = [f"junction_etcd_{name} {number}" for name, number in keeper.numbers().items()]
        return web.Response(text="\n".join(lines) + "\n")

    app = web.Application()
    for handler in (healthz, readyz, metrics):
        app.router.add_get("/" + handler.__name__, handler)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
    await runner.setup()
    host, _, port = listen.rpartition(":")
    await web.TCPSite(runner, host.strip("[]") or None, int(port)).start()
    return runner
