"""The choice of the event loop."""

from __future__ import annotations

import asyncio

import pytest
import uvloop

from jupyterhub_junction import loops


async def running() -> type:
    return type(asyncio.get_running_loop())


def test_uvloop_where_there_is_one() -> None:
    assert loops.run(running()) is uvloop.Loop


def test_asyncios_own_where_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loops, "uvloop", None)
    assert issubclass(loops.run(running()), asyncio.SelectorEventLoop)


def test_other_threads_keep_their_loop() -> None:
    loops.run(running())
    assert asyncio.run(running()) is not uvloop.Loop
