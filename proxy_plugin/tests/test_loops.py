"""The choice of the event loop."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
import uvloop

from jupyterhub_junction.forwarder import loops


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


@pytest.mark.parametrize(
    ("version", "good"),
    [
        ((3, 11, 9), True),
        ((3, 12, 0), False),
        ((3, 12, 8), False),
        ((3, 12, 9), True),
        ((3, 13, 0), False),
        ((3, 13, 1), False),
        ((3, 13, 2), True),
        ((3, 14, 0), True),
    ],
)
def test_pythons_whose_writelines_pauses_nobody(version: tuple[int, ...], good: bool) -> None:
    with contextlib.closing(asyncio.SelectorEventLoop()) as loop:
        assert loops.writelines_pauses(loop, version) is good
    with contextlib.closing(uvloop.new_event_loop()) as loop:
        assert loops.writelines_pauses(loop, version)
