"""The side of a mirror that does not serve: what it may cost, and what of it is told."""

from __future__ import annotations

import asyncio
import logging

import pytest
from harness.waiting import SOON, until

from jupyterhub_junction.proxies.follower import MAX_REFUSED, Follower

LOG = logging.getLogger("test.follower")
SHORT = 0.02


class Side:
    """Takes writes while it is open, and fails them while it has a reason to."""

    def __init__(self) -> None:
        self.got: list[str] = []
        self.error: Exception | None = None
        self.open = asyncio.Event()
        self.open.set()
        self.running = 0

    async def take(self, what: str) -> None:
        self.running += 1
        try:
            await self.open.wait()
            if self.error is not None:
                raise self.error
            self.got.append(what)
        finally:
            self.running -= 1


async def write(follower: Follower, side: Side, spec: str, what: str) -> None:
    await follower.settle(follower.submit(spec, lambda: side.take(what)))


async def test_a_call_returns_when_the_side_has_it() -> None:
    side, follower = Side(), Follower("the side", LOG, wait=SOON)
    await write(follower, side, "/a/", "one")
    assert side.got == ["one"]
    assert follower.in_step


async def test_the_newest_of_a_route_is_written_last_and_those_between_not_at_all() -> None:
    side, follower = Side(), Follower("the side", LOG, wait=SHORT)
    side.open.clear()
    for number in range(5):
        await write(follower, side, "/a/", f"a{number}")
        await write(follower, side, "/b/", f"b{number}")
    await until(lambda: side.running == 2, "one at a time of each route", deadline=SOON)
    side.open.set()
    await until(lambda: not follower.waiting, deadline=SOON)
    assert sorted(side.got) == ["a0", "a4", "b4"], "b0 had not begun"
    assert side.got.index("a0") < side.got.index("a4")


async def test_one_call_waits_for_a_side_that_is_late_and_the_next_ones_do_not(
    caplog: pytest.LogCaptureFixture,
) -> None:
    side, follower = Side(), Follower("the side", LOG, wait=SHORT)
    side.open.clear()
    with caplog.at_level("INFO"):
        await write(follower, side, "/0/", "0")
        follower.wait = 3600  # who waited now would never return
        async with asyncio.timeout(SOON):
            for number in range(1, 50):
                await write(follower, side, f"/{number}/", str(number))
        assert not follower.in_step
        side.open.set()
        await follower.drain()
        assert not follower.in_step, "it may have been started anew meanwhile"
        with follower.check():
            pass
        assert follower.in_step
    assert len(side.got) == 50
    assert [record.message for record in caplog.records] == [
        "the side, which does not serve, is out of step, and holds no route up:"
        " it has not answered for 0.02 s",
        "the side is in step again",
    ]


async def test_a_failure_is_told_once_and_mended_by_a_check(
    caplog: pytest.LogCaptureFixture,
) -> None:
    changes: list[bool] = []
    side = Side()
    follower = Follower("the side", LOG, on_change=lambda: changes.append(follower.in_step))
    side.error = RuntimeError("connection\nrefused")
    with caplog.at_level("INFO"):
        for number in range(20):
            await write(follower, side, f"/{number}/", "x")
        await until(lambda: not follower.waiting, deadline=SOON)
        assert (follower.in_step, follower.reason, follower.lost) == (
            False, "connection refused", 20,
        )  # fmt: skip
        side.error = None
        await write(follower, side, "/a/", "y")
        await until(lambda: not follower.waiting, deadline=SOON)
        assert not follower.in_step, "what was lost is still not there"
        with follower.check():
            follower.submit("/0/", lambda: side.take("x"))
            await follower.settle_all()
    assert follower.in_step
    assert changes == [False, True]
    assert len(caplog.records) == 2


async def test_a_check_that_fails_mends_nothing() -> None:
    side, follower = Side(), Follower("the side", LOG)
    side.error = RuntimeError("no")
    await write(follower, side, "/a/", "x")
    with follower.check():
        follower.submit("/a/", lambda: side.take("x"))
        await follower.settle_all()
    assert follower.failed
    assert not follower.in_step
    with pytest.raises(KeyError), follower.check():
        raise KeyError
    assert follower.failed


async def test_a_check_that_still_writes_at_its_end_mends_nothing_yet() -> None:
    side, follower = Side(), Follower("the side", LOG, wait=SHORT)
    side.open.clear()
    await write(follower, side, "/a/", "x")
    with follower.check():
        await follower.settle_all()
    assert not follower.in_step
    side.open.set()
    await follower.drain()
    with follower.check():
        await follower.settle_all()
    assert follower.in_step


async def test_a_check_of_a_side_in_step_that_another_error_ends_changes_nothing() -> None:
    follower = Follower("the side", LOG)
    with pytest.raises(KeyError), follower.check():
        raise KeyError
    assert follower.in_step
    assert not follower.failed


async def test_as_many_wait_as_may_and_no_more() -> None:
    side, follower = Side(), Follower("the side", LOG, wait=SHORT, limit=3)
    side.open.clear()
    for number in range(10):
        await write(follower, side, f"/{number}/", str(number))
    await until(lambda: side.running == 3, deadline=SOON)
    assert follower.waiting == 3
    assert follower.lost == 7
    assert "3 routes wait" in follower.reason
    side.open.set()
    await until(lambda: not follower.waiting, deadline=SOON)
    assert follower.failed


async def test_a_route_that_is_refused_leaves_the_side_in_step(
    caplog: pytest.LogCaptureFixture,
) -> None:
    side, follower = Side(), Follower("the side", LOG)
    side.error = ValueError("no such route")
    for _ in range(3):
        await write(follower, side, "/a/", "x")
    assert follower.in_step
    assert follower.refused == {"/a/": "no such route"}
    assert len(caplog.records) == 1
    for number in range(MAX_REFUSED + 5):
        await write(follower, side, f"/{number}/", "x")
    assert len(follower.refused) == MAX_REFUSED
    side.error = None
    await write(follower, side, "/a/", "x")
    assert "/a/" not in follower.refused


async def test_a_read_that_is_late_says_why_once_it_fails(
    caplog: pytest.LogCaptureFixture,
) -> None:
    side, follower = Side(), Follower("the side", LOG, wait=SHORT)
    side.open.clear()
    side.error = RuntimeError("it is gone")
    assert await follower.read(lambda: side.take("")) is None
    assert "has not answered" in follower.reason
    assert await follower.read(lambda: side.take("")) is None
    assert side.running == 1, "one question at a time"
    side.open.set()
    await until(lambda: follower.reason == "it is gone", deadline=SOON)
    follower.wait = SOON
    assert await follower.read(lambda: side.take("")) is None
    told = [record.getMessage().rpartition(": ")[2] for record in caplog.records]
    assert told == ["it has not answered for 0.02 s", "it is gone"], "each once"
    side.error = None

    async def seven() -> int:
        return 7

    assert await follower.read(seven) == 7


async def test_a_check_that_could_not_ask_puts_nothing_in_step() -> None:
    side, follower = Side(), Follower("the side", LOG, wait=SHORT)
    side.open.clear()
    assert await follower.read(lambda: side.take("")) is None
    with follower.check():
        assert await follower.read(lambda: side.take("")) is None
    assert not follower.in_step
    side.open.set()
    await until(lambda: not side.running, deadline=SOON)
    with follower.check():
        await follower.read(lambda: side.take(""))
    assert follower.in_step


async def test_what_is_still_written_ends_with_the_hub() -> None:
    side, follower = Side(), Follower("the side", LOG, wait=SHORT)
    side.open.clear()
    await write(follower, side, "/a/", "x")
    await follower.close()
    assert side.running == 0
    assert not follower.in_step
