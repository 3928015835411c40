"""What a run is told to do.  Nonsense is refused with one line."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Options", "Settings", "parse"]

ROUTES: tuple[int, ...] = (10, 1_000, 10_000, 50_000)
QUICK_ROUTES: tuple[int, ...] = (10, 1_000)
#: what quick may not exceed, so that it stays quick
QUICK_MOST = 1_000
MOST = 200_000


@dataclass(frozen=True)
class Settings:
    """How much is measured.

    Attributes:
        adds: single adds and deletes, at most.
        seconds: of each load.
        rate: requests a second of the steady load.
        changes: adds and deletes a second of the churn.
        messages: over the WebSocket.
    """

    adds: int = 100
    seconds: float = 10.0
    rate: float = 200.0
    changes: float = 20.0
    messages: int = 2000


@dataclass(frozen=True)
class Options:
    """A whole run; see ``--help``."""

    routes: tuple[int, ...]
    only: tuple[str, ...]
    measures: tuple[str, ...]
    limit: float
    settings: Settings
    quick: bool = False
    keep: str = ""


def parse(words: Sequence[str], contestants: Sequence[str], measures: Sequence[str]) -> Options:
    """Options from command-line words.

    Raises:
        SystemExit: they make no sense; one line on stderr says why.
    """
    parser = argparse.ArgumentParser(
        prog="make bench ARGS=…", usage='make bench ARGS="[--option value …]"',
        description="Measure Junction and its peers side by side.",
    )  # fmt: skip
    parser.add_argument("--quick", action="store_true", help="up to 1,000 routes, < 10 minutes")
    parser.add_argument("--routes", help="sizes of the table, with commas")
    parser.add_argument("--only", help=f"contestants, with commas, of {', '.join(contestants)}")
    parser.add_argument("--measure", help=f"measures, with commas, of {', '.join(measures)}")
    parser.add_argument("--limit", type=float, help="seconds for one thing (60; quick: 20)")
    parser.add_argument("--adds", type=int, help="single adds and deletes (100; quick: 30)")
    parser.add_argument("--seconds", type=float, help="of each load (10; quick: 3)")
    parser.add_argument("--keep", default="", help="name of a report to keep in loadtests/reports")
    given = parser.parse_args(words)

    def refuse(why: str) -> None:
        parser.exit(2, f"bench: {why}\n")

    quick = given.quick
    routes = QUICK_ROUTES if quick else ROUTES
    if given.routes is not None:
        try:
            routes = tuple(sorted({int(part) for part in given.routes.split(",")}))
        except ValueError:
            refuse(f"--routes {given.routes} is no list of numbers, as in --routes 10,1000")
        if routes[0] < 1 or routes[-1] > MOST:
            refuse(f"--routes {given.routes}: between 1 and {MOST}")
        if quick and routes[-1] > QUICK_MOST:
            refuse(f"--routes {given.routes}: bench-quick has at most {QUICK_MOST}: make bench")

    def chosen(what: str, value: str | None, known: Sequence[str]) -> tuple[str, ...]:
        if value is None:
            return tuple(known)
        names = value.split(",")
        for name in names:
            if name not in known:
                refuse(f"--{what} {name}: there is none of that name, only {', '.join(known)}")
        return tuple(name for name in known if name in names)

    def positive(what: str, value: float | None, default: float, most: float) -> float:
        if value is None:
            return default
        if not 0 < value <= most:
            refuse(f"--{what} {value:g}: more than 0 and at most {most:g}")
        return value

    if given.keep and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,59}", given.keep):
        refuse(f"--keep {given.keep!r} is no name: letters, digits, and . _ - between them")
    wanted = chosen("measure", given.measure, measures)
    if "fill" not in wanted and "fill" in measures:
        wanted = ("fill", *wanted)  # without it there are no routes
    return Options(
        routes=routes,
        only=chosen("only", given.only, contestants),
        measures=wanted,
        limit=positive("limit", given.limit, 20 if quick else 60, 3600),
        settings=Settings(
            adds=int(positive("adds", given.adds, 30 if quick else 100, 100_000)),
            seconds=positive("seconds", given.seconds, 3 if quick else 10, 3600),
            messages=1000 if quick else 2000,
        ),
        quick=quick,
        keep=given.keep,
    )
