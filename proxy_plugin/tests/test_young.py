"""A route is young for a whole period, and for less than two."""

from __future__ import annotations

from jupyterhub_junction.agent.young import Young

A, B = ("", "/user/a"), ("", "/user/b")


def test_one_is_young_for_a_whole_period_after_the_running_one() -> None:
    young = Young()
    young.add(A)
    assert young.grow() == set()
    young.add(B)
    assert set(young) == {A, B}
    assert len(young) == 2
    assert young.grow() == {A}
    assert A not in young
    assert B in young


def test_added_again_it_keeps_its_age() -> None:
    young = Young()
    young.add(A)
    young.grow()
    young.add(A)
    assert young.grow() == {A}
    assert not young


def test_one_that_is_gone_does_not_grow_up() -> None:
    young = Young()
    young.add(A)
    young.add(B)
    young.grow()
    young.discard(A)
    assert young.grow() == {B}


def test_all_of_them_at_once() -> None:
    young = Young()
    young.add(A)
    young.grow()
    young.add(B)
    assert young.clear() == {A, B}
    assert not young
