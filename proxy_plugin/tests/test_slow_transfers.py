"""What guards long transfers: Traefik would cut an upload after 60 s, which no test can wait for.

So the clock is made short instead: with a limit of a second the suite's rows on slow transfers
fail, so they notice a cut; and the Traefik that is started otherwise says itself that it has none.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from jupyterhub_junction.conformance.implementation import Options, Running
from jupyterhub_junction.conformance.surroundings import surroundings
from jupyterhub_junction.conformance.wire import Truncated
from jupyterhub_junction.conformance.world import World
from jupyterhub_junction.proxies.file import TraefikFileProxy
from jupyterhub_junction.traefik import runtime

pytestmark = pytest.mark.needs_programs

LIMITS = ("readTimeout", "writeTimeout")


@contextlib.asynccontextmanager
async def started(directory: Path) -> AsyncIterator[World]:
    async with surroundings(Options(), directory) as around:
        proxy = TraefikFileProxy(grace=1, **around.proxy_arguments())
        await proxy.start()
        try:
            await proxy.add_route("/", around.hub.host, {"hub": True})
            world = World(Running(proxy, (around.public_url,)), around, directory)
            try:
                yield world
            finally:
                await world.close()
        finally:
            await proxy.stop()


@pytest.mark.parametrize(
    ("limit", "row"), [("readTimeout", "upload-slow"), ("writeTimeout", "download-slow")]
)
async def test_the_rows_on_slow_transfers_notice_a_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, row: str
) -> None:
    # not before: it would be too late for pytest to rewrite their assertions
    from jupyterhub_junction.conformance import streaming
    from jupyterhub_junction.conformance.behaviours import BEHAVIOURS

    assert BEHAVIOURS[row].theme == streaming.__name__.rpartition(".")[2]
    ours = runtime.static_document

    def limited(**options: Any) -> dict[str, Any]:
        document = ours(**options)
        document["entryPoints"]["web"]["transport"]["respondingTimeouts"][limit] = "1s"
        return document

    monkeypatch.setattr(runtime, "static_document", limited)
    async with started(tmp_path) as world:
        with pytest.raises((AssertionError, OSError, EOFError, Truncated)):
            await BEHAVIOURS[row].body(world)


async def test_traefik_says_that_it_has_no_limit(tmp_path: Path) -> None:
    async with started(tmp_path) as world:
        api = world.proxy._api
        status, body = await api._call("GET", "/api/entrypoints/web")
        assert status == 200
        timeouts = json.loads(body)["transport"]["respondingTimeouts"]
        assert timeouts["idleTimeout"] == "3m0s"  # so it shows what it has
        assert all(timeouts.get(name, "0s") == "0s" for name in LIMITS), timeouts
