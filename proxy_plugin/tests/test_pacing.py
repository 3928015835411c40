"""Applies take a bounded share of the time, and no change waits for ever."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jupyterhub_junction.agent.pacing import Pacing


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 10))))
def test_applies_of_uncovered_changes_take_their_share_of_the_time(
    applies: list[tuple[float, float]],
) -> None:
    """Each begins no sooner than it may: after all that were before it, less the burst."""
    pacing = Pacing()
    debt = costs = idles = 0.0
    for cost, more in applies:
        idle = pacing.uncovered_wait(debt) + more
        debt = pacing.debt(debt, idle, cost)
        idles += idle
        assert pacing.uncovered * costs <= idles + pacing.burst + 1e-6
        costs += cost


@given(st.lists(st.floats(0, 100), min_size=1))
def test_no_change_waits_longer_than_the_most_and_debts_do_not_grow_without_end(
    costs: list[float],
) -> None:
    pacing = Pacing()
    debt = 0.0
    for cost in costs:
        debt = pacing.debt(debt, 0.0, cost)
        assert pacing.uncovered_wait(debt) <= pacing.most_uncovered
        assert pacing.covered_wait(cost) <= pacing.most_covered
        assert pacing.young_for(cost) <= pacing.most_young
    rested = pacing.debt(debt, pacing.most_uncovered, 0.0)
    assert pacing.uncovered_wait(rested) == 0


def test_the_defaults() -> None:
    pacing = Pacing()
    assert pacing.covered_wait(0.1) == pytest.approx(1.0)
    assert pacing.young_for(0.1) == pytest.approx(1.0)
    assert pacing.uncovered_wait(pacing.debt(0.0, math.inf, 0.5)) == pytest.approx(0.5)


@pytest.mark.parametrize("value", [-1, math.nan, math.inf])
def test_what_is_no_time_is_refused_by_name(value: float) -> None:
    with pytest.raises(ValueError, match="pacing: burst is"):
        Pacing(burst=value)
