"""Settings for all tests."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
import uvloop
from harness.ports import Lane
from hypothesis import settings

from jupyterhub_junction import ports

# by default an example that takes longer than 200 ms fails, which a busy machine may do to any
settings.register_profile("junction", deadline=None)
settings.load_profile("junction")

# free_port asks free_ports, and all else that the tests import is imported after this
ports.free_ports = Lane().free_ports


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("numprocesses", None) or hasattr(config, "workerinput"):
        from harness.scheduling import SideBySide

        config.pluginmanager.register(SideBySide())


def pytest_asyncio_loop_factories(
    item: pytest.Function,
) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """A module that says ``EVERY_LOOP = True`` has its tests run on each loop there may be."""
    loops: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {"asyncio": asyncio.new_event_loop}
    if getattr(item.module, "EVERY_LOOP", False):
        loops["uvloop"] = uvloop.new_event_loop
    return loops
