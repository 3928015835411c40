"""What the status of the agent and of etcd's keeper have alike: probes, metrics, the address."""

from __future__ import annotations

import json
from collections.abc import Mapping

from aiohttp import web

__all__ = ["as_metrics", "as_probe", "serve_app"]


def as_probe(wrong: str) -> web.Response:
    """The answer to a probe: 503 with what is wrong, or 200."""
    return web.Response(text=f"{wrong or 'ok'}\n", status=503 if wrong else 200)


def as_metrics(prefix: str, numbers: Mapping[str, object]) -> web.Response:
    """Numbers by name in Prometheus' text format."""
    lines = [f"{prefix}_{name} {json.dumps(number)}" for name, number in numbers.items()]
    return web.Response(text="\n".join(lines) + "\n")


async def serve_app(app: web.Application, listen: str) -> web.AppRunner:
    """Answer at ``host:port`` until the runner is cleaned up."""
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
    await runner.setup()
    host, _, port = listen.rpartition(":")
    await web.TCPSite(runner, host.strip("[]") or None, int(port)).start()
    return runner
