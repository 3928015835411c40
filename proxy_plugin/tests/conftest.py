"""Settings for all tests."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
import uvloop
from harness.ports import Lane
from hypothesis import settings

from jupyterhub_junction import sockets

# by default an example that takes longer than 200 ms fails, which a busy machine may do to any
settings.register_profile("junction", deadline=None)
settings.load_profile("junction")

# free_port asks free_ports, and all else that the tests import is imported after this
sockets.free_ports = Lane().free_ports


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Where tests run side by side, keep together those that share a fixture of their module.

    What starts programs comes first, so that what is short fills the end.
    """
    if not config.pluginmanager.hasplugin("xdist"):
        return
    for item in items:
        module = item.nodeid.partition("::")[0]
        definitions: dict[str, Any] = item._fixtureinfo.name2fixturedefs  # type: ignore[attr-defined]
        shared = sorted(
            name
            for name, found in definitions.items()
            if found[-1].scope != "function" and found[-1].baseid == module
        )
        if shared:
            item.add_marker(pytest.mark.xdist_group("-".join([module, *shared])))
    items.sort(key=lambda item: item.get_closest_marker("needs_programs") is None)


def pytest_asyncio_loop_factories(
    item: pytest.Function,
) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """A module that says ``EVERY_LOOP = True`` has its tests run on each loop there may be."""
    loops: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {"asyncio": asyncio.new_event_loop}
    if getattr(item.module, "EVERY_LOOP", False):
        loops["uvloop"] = uvloop.new_event_loop
    return loops
