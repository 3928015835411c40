"""The agent's own HTTP endpoint: probes, status and metrics."""

from __future__ import annotations

import socket

from aiohttp import web

from ..probes import as_metrics, as_probe, serve_app
from .agent import Agent

__all__ = ["serve_status"]


async def serve_status(
    agent: Agent, listen: str, health: socket.socket | None = None
) -> web.AppRunner:
    """The agent's own HTTP endpoint: probes, status and metrics.

    Args:
        listen: ``host:port``.
        health: a bound socket on which every path says whether this replica is ready, and nothing
            else: users may ask there.
    """

    async def ready(_: web.Request) -> web.Response:
        if agent.not_ready:
            return web.json_response({"status": "not ready"}, status=503)
        return web.json_response({"status": "OK"})

    async def healthz(_: web.Request) -> web.Response:
        return as_probe("")

    async def readyz(_: web.Request) -> web.Response:
        return as_probe(agent.not_ready)

    async def status(_: web.Request) -> web.Response:
        return web.json_response(agent.status())

    async def metrics(_: web.Request) -> web.Response:
        shown = agent.status()
        numbers = {
            "ready": int(not agent.not_ready),
            "following": int(not agent.trouble),
            "routes": shown["routes"],
            "revision": shown["revision"],
            "applied_revision": shown["applied"],
            "applies_total": shown["applies"],
            "apply_seconds_total": shown["apply_seconds"],
            "forwarder_connections": shown["forwarder_connections"],
            "bad_keys": len(agent.replica.bad),
        }
        return as_metrics("junction", numbers)

    app = web.Application()
    for handler in (healthz, readyz, status, metrics):
        app.router.add_get("/" + handler.__name__, handler)
    probed = web.Application()
    probed.router.add_get("/{path:.*}", ready)
    health_runner = web.AppRunner(probed, access_log=None, shutdown_timeout=1)

    async def end_health(_: web.Application) -> None:
        await health_runner.cleanup()

    app.on_cleanup.append(end_health)
    runner = await serve_app(app, listen)
    if health is not None:
        await health_runner.setup()
        await web.SockSite(health_runner, health).start()
    return runner
