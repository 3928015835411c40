"""Nobody sleeps through a change."""

from __future__ import annotations

import asyncio

from harness.waiting import SOON, until

from jupyterhub_junction.changed import Changed


async def test_a_condition_that_holds_already_is_not_waited_for() -> None:
    assert await Changed().until(lambda: True)


async def test_all_who_wait_look_at_each_change() -> None:
    changed, number = Changed(), 0
    waiters = [asyncio.create_task(changed.until(lambda n=n: number >= n)) for n in (1, 2)]
    await asyncio.sleep(0)
    number = 1
    changed.notify()
    await until(waiters[0].done, deadline=SOON)
    assert not waiters[1].done()
    number = 2
    changed.notify()
    changed.notify()
    async with asyncio.timeout(SOON):
        assert await asyncio.gather(*waiters) == [True, True]


async def test_who_has_waited_long_enough_is_told_that_it_does_not_hold() -> None:
    changed = Changed()
    assert not await changed.until(lambda: False, timeout=0.01)
    changed.notify()  # nobody is left to be woken
    assert not changed._waiting
