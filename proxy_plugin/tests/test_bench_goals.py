"""The benchmark's verdicts: nobody passes by failing, or by what was not measured."""

from __future__ import annotations

import pytest
from bench.goals import GOALS, Verdict, verdicts
from bench.measures.requests import ratio
from bench.results import Outcome, Run
from bench.tables import COLUMNS, glance_table, goals_table, notes, size_table

P99 = "add → live on all of 3 replicas, p99"
BESIDE_BARE = "requests/s of a replica, beside bare Traefik"
BESIDE_CHP = "requests/s of a replica, beside CHP"
ANY_SIZE = "requests/s of junction-inprocess, beside CHP, at any size"
CHURN = "p99 of requests during 20 changes/s, beside the quiet p99 (3 replicas)"
GROWTH = "the same at 50,000, beside 10 (median)"
LIMIT = "10000 routes at once: over 60 s"


def live(routes: int) -> Outcome:
    return Outcome("junction-3", routes, "live", {"live": {"median": 5.0, "p99": 9.0}})


def speed(contestant: str, routes: int, per_second: float, failed: int = 0) -> Outcome:
    values = {"small": {"failed": failed}, "beside_bare": per_second, "turns_failed": 0}
    return Outcome(contestant, routes, "requests", values)


def steady(routes: int, **values: object) -> Outcome:
    times = {"quiet": {"p99": 4.0}, "churn": {"p99": 5.0}, "failed": 0, "failed_changes": 0}
    return Outcome("junction-3", routes, "steady", {**times, **values})


def verdict(what: str, *outcomes: Outcome) -> Verdict:
    return next(
        one
        for one in verdicts(Run("", "", "", outcomes=list(outcomes)))
        if one.goal.what.startswith(what)
    )


def test_a_smaller_size_counts_where_the_goals_was_not_run() -> None:
    assert verdict(P99, live(10), live(1000)).word == "met, at 1,000 only"
    assert verdict(P99, live(10), live(1000), live(10_000)).word == "met"
    assert verdict(P99, live(50_000)).word == "not measured"


@pytest.mark.parametrize(
    "failed",
    [
        Outcome("junction-3", 10_000, "live", failed="add of one route: over 60 s", kind="limit"),
        Outcome("junction-3", 10_000, "live", failed="HubError: add: no", kind="error"),
        # what comes after a fill that failed is not run
        Outcome("junction-3", 10_000, "live", skipped=LIMIT, kind="limit"),
    ],
)
def test_who_failed_at_the_goals_size_is_not_saved_by_a_smaller_one(failed: Outcome) -> None:
    reason = failed.failed or failed.skipped
    found = verdict(P99, live(1000), failed)
    assert found.word == f"**missed** (junction-3, N = 10,000: {reason})"
    # nor where the run has only smaller sizes, and it failed at the greatest of them
    quick = Outcome("junction-3", 1000, "live", failed=reason, kind=failed.kind)
    assert verdict(P99, live(10), quick).word == (
        f"**missed**, at 1,000 only (junction-3, N = 1,000: {reason})"
    )


def test_what_could_not_run_here_is_not_measured() -> None:
    absent = Outcome("junction-3", 10_000, "live", skipped="traefik is not on PATH")
    assert verdict(P99, absent).word == "not measured"


def test_a_peer_that_failed_is_nobodys_success() -> None:
    chp = Outcome("chp", 10_000, "requests", skipped=LIMIT, kind="limit")
    assert verdict(BESIDE_CHP, speed("junction-1", 10_000, 3000.0), chp).word == (
        f"not measured (chp, N = 10,000: {LIMIT})"
    )
    smaller = [speed("junction-1", 1000, 3000.0), speed("chp", 1000, 1000.0)]
    assert verdict(BESIDE_CHP, *smaller, speed("junction-1", 10_000, 3000.0), chp).word == (
        f"met, at 1,000 only (chp, N = 10,000: {LIMIT})"
    )


def test_requests_that_failed_are_no_speed() -> None:
    good = [speed("chp", 10_000, 1000.0), speed("junction-1", 10_000, 3000.0)]
    assert verdict(BESIDE_CHP, *good).word == "met"
    wrong = [speed("chp", 10_000, 1000.0), speed("junction-1", 10_000, 9000.0, failed=3)]
    assert verdict(BESIDE_CHP, *wrong).word == (
        "**missed** (junction-1, N = 10,000: 3 wrong answers)"
    )
    slow = [speed("chp", 10_000, 1.0, failed=1), speed("junction-1", 10_000, 3000.0)]
    assert verdict(BESIDE_CHP, *slow).word == "not measured (chp, N = 10,000: 1 wrong answers)"


def test_what_failed_turn_about_is_no_speed() -> None:
    values = {"small": {"failed": 0}, "beside_bare": 0.9, "turns_failed": 1}
    found = verdict(BESIDE_BARE, Outcome("junction-1", 10_000, "requests", values))
    assert found.word == "**missed** (junction-1, N = 10,000: 1 wrong answers)"


def test_turns_are_held_against_the_yardstick_around_them() -> None:
    assert ratio([0.9, 1.8, 0.45], [1.0, 1.0, 3.0, 1.0]) == 0.9  # 0.9, 0.9, 0.225
    assert ratio([2.0], [1.0, 3.0]) == 1.0


def test_changes_and_requests_that_failed_are_no_steady_load() -> None:
    assert verdict(CHURN, steady(10_000)).word == "met"
    assert verdict(CHURN, steady(10_000, failed_changes=4)).word == (
        "**missed** (junction-3, N = 10,000: 4 changes that failed)"
    )
    assert "2 requests that failed" in verdict(CHURN, steady(10_000, failed=2)).word


def test_growth_needs_two_sizes() -> None:
    assert verdict(GROWTH, live(10)).word == "not measured"
    assert verdict(GROWTH, live(50_000)).word == "not measured"
    assert verdict(GROWTH, live(10), live(50_000)).word == "met"


def test_at_any_size_names_those_that_were_compared() -> None:
    ours = [speed("junction-inprocess", size, 2000.0) for size in (10, 1000, 50_000)]
    chp = [speed("chp", size, 1000.0) for size in (10, 1000)]
    gone = Outcome("chp", 50_000, "requests", skipped=LIMIT, kind="limit")
    found = verdict(ANY_SIZE, *ours, *chp, gone)
    assert (found.sizes, found.size) == ((10, 1000), "N = 10, 1,000")
    assert found.word == f"met (chp, N = 50,000: {LIMIT})"
    row = next(
        line
        for line in goals_table(Run("", "", "", outcomes=[*ours, *chp, gone])).splitlines()
        if ANY_SIZE in line
    )
    assert row.startswith(f"| {ANY_SIZE}, N = 10, 1,000 | ≥ 1.5 × | 2 × | met (")
    assert "50,000 |" not in row
    # ours may fail at none
    failed = Outcome("junction-inprocess", 50_000, "requests", skipped=LIMIT, kind="limit")
    assert verdict(ANY_SIZE, *ours[:2], *chp, failed).word.startswith("**missed** (junction-inp")
    assert verdict(ANY_SIZE).word == "not measured"
    assert verdict(ANY_SIZE).size == "at no size"


def test_every_goal_is_of_its_own_name() -> None:
    assert len({goal.what for goal in GOALS}) == len(GOALS)


def test_only_what_took_too_long_is_over_the_limit() -> None:
    fill = next(one for one in COLUMNS if one.measure == "fill")
    outcomes = [
        Outcome("chp", 10, "fill", failed=LIMIT, kind="limit"),
        # it ends like a time, and is none
        Outcome("junction-1", 10, "fill", failed="OSError: no route to s", kind="error"),
        Outcome("junction-3", 10, "fill", skipped="HubError: not started", kind="error"),
    ]
    run = Run("", "", "", outcomes=outcomes)
    assert "| chp | over the limit |" in size_table(run, fill)
    assert "| junction-1 | failed |" in size_table(run, fill)
    glance = glance_table(run)
    assert "| chp | over the limit | – |" in glance
    assert "| junction-1 | failed | – |" in glance
    assert "| junction-3 | failed | – |" in glance


def test_notes_hold_what_went_wrong_beside_the_numbers() -> None:
    outcome = steady(10, failed=1, first_failure="/user/n1/: 503", errors=["HubError('no')"])
    assert notes(Run("", "", "", outcomes=[outcome]), ["steady"]) == [
        "- junction-3, N = 10: the first request that failed: /user/n1/: 503",
        "- junction-3, N = 10: the first change that failed: HubError('no')",
    ]
