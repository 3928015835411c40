"""What a run is told to do.  Nonsense is refused with one line, as is load that nobody asked for.

Invariant: whatever is not on this machine's loopback is loaded only after ``--yes`` or a typed
"yes", at a bounded rate and for a bounded time.
"""

from __future__ import annotations

import argparse
import ipaddress
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from .results import NULL

__all__ = ["Options", "is_loopback", "parse"]

SCENARIOS = ("latency", "churn", "class", "faults")
DURING = ("churn", "latency", "class")
FAULTS = ("replica", "agent", "traefik", "etcd")
#: contestants of a run that names none, and those that there are
DEFAULT = ("chp", "junction-2")
LOCAL = ("chp", "junction-1", "junction-2", "junction-3", "junction-inprocess", NULL)
#: the one contestant of a run on a deployment
REMOTE = "deployment"
#: what a run may ask for at most: users at once, requests and changes a second, seconds, rounds
MOST = {"users": 5000, "rate": 5000.0, "changes": 100.0, "seconds": 3600.0, "rounds": 20,
        "routes": 50_000, "workers": 50, "students": 2000, "repeats": 100, "alone": 60}  # fmt: skip


#: real servers that are started here at most: each is some 100 MB
REAL = 20


@dataclass(frozen=True)
class Options:
    """A whole run; see ``--help``.  ``hub`` is empty for one that starts what it needs."""

    scenarios: tuple[str, ...]
    only: tuple[str, ...]
    rounds: int
    settings: dict[str, Any] = field(default_factory=dict)
    hub: str = ""
    token: str = ""
    yes: bool = False
    profile: bool = False
    keep: str = ""
    out: str = ""
    printed: bool = False
    missing: Callable[[str], str] = lambda name: ""

    @property
    def local(self) -> bool:
        """Whether it starts what it loads."""
        return not self.hub


def is_loopback(url: str) -> bool:
    """Whether a URL leads to this machine for certain: a name may lead anywhere."""
    host = urlsplit(url).hostname or ""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _arguments(run: argparse.ArgumentParser) -> None:
    """What a run is told."""
    run.add_argument("scenario", nargs="*", help=f"of {', '.join(SCENARIOS)} (all)")
    run.add_argument("--hub", default="", help="URL of a running JupyterHub (start one here)")
    run.add_argument(
        "--token", default=os.environ.get("JUNCTION_LOADTEST_TOKEN", ""),
        help="API token of an admin of that hub ($JUNCTION_LOADTEST_TOKEN)",
    )  # fmt: skip
    run.add_argument("--yes", action="store_true", help="load what is not local without asking")
    run.add_argument("--only", help=f"contestants, with commas, of {', '.join(LOCAL)}")
    run.add_argument("--rounds", type=int, help="how often each is measured (2; a deployment: 1)")
    run.add_argument("--seconds", type=float, help="of each load (8; a deployment: 60)")
    run.add_argument("--users", type=int, help="at once (50; a deployment: 20)")
    run.add_argument("--rate", type=float, help="requests a second, in all (150; 20)")
    run.add_argument("--changes", type=float, help="servers' starts and stops a second (10; 0.5)")
    run.add_argument("--routes", type=int, help="users with a server from the start (100; 5)")
    run.add_argument("--fault", default="replica", help=f"what is killed: {', '.join(FAULTS)}")
    run.add_argument("--during", default="churn", help=f"and while: {', '.join(DURING)} (churn)")
    run.add_argument("--at", type=float, default=0.4, help="when, as a share of the time (0.4)")
    run.add_argument(
        "--students", type=int,
        help="of a class, who come within --seconds and work as long (30; a deployment: 10)",
    )  # fmt: skip
    run.add_argument("--real", type=int, help="students with a real JupyterLab server (1)")
    run.add_argument(
        "--password", default=os.environ.get("JUNCTION_LOADTEST_PASSWORD", ""),
        help="signs students in by the login form ($JUNCTION_LOADTEST_PASSWORD)",
    )  # fmt: skip
    run.add_argument(
        "--alone", type=float, default=3.0,
        help="seconds in which the generator shows what it reaches without a proxy (3; 0: none)",
    )  # fmt: skip
    run.add_argument("--profile", action="store_true", help="collect profiles, in one more round")
    run.add_argument(
        "--workers", type=int, default=0,
        help="Locust workers to wait for (0); they end with the first load, so it has to be one",
    )  # fmt: skip
    run.add_argument(
        "--listen", default="127.0.0.1:5557", help="where workers come to (127.0.0.1:5557)"
    )
    run.add_argument("--print", action="store_true", help="also print report.md and results.json")
    run.add_argument("--out", default="", help="folder of the report (build/loadtest)")
    run.add_argument("--keep", default="", help="name of a report to keep in loadtests/reports")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="junction-loadtest", description="Load tests of JupyterHub's proxies.",
        allow_abbrev=False,
        epilog="In a checkout: [TOKEN=…] make loadtest [HUB=URL] [ARGS=…]",
    )  # fmt: skip
    commands = parser.add_subparsers(dest="command", required=True)
    # whole names only: what hides a token (__main__) knows no others
    add = partial(commands.add_parser, allow_abbrev=False)
    run = add("run", help="load something, and report what came of it")
    equal = add("equal", help="the same run again and again: are they told apart?")
    for each in (run, equal):
        _arguments(each)
    equal.add_argument("--repeats", type=int, default=10, help="comparisons (10)")
    compare = add("compare", help="tell two runs' differences from noise")
    compare.add_argument("before", help="results.json of the one run")
    compare.add_argument("after", help="results.json of the other")
    return parser


def parse(words: Sequence[str]) -> argparse.Namespace:
    """The command line as it is: for ``run`` and ``equal``, :func:`chosen` makes options of it."""
    return _parser().parse_args(words)


def refuse(why: str) -> None:
    """End with one line.

    Raises:
        SystemExit: always.
    """
    _parser().exit(2, f"junction-loadtest: {why}\n")


def _names(
    what: str, given: str | None, known: Sequence[str], default: Sequence[str]
) -> tuple[str, ...]:
    if not given:
        return tuple(default)
    names = tuple(dict.fromkeys(given.split(",")))
    for name in names:
        if name not in known:
            refuse(f"{what} {name}: there is none of that name, only {', '.join(known)}")
    return names


def _hub(url: str) -> str:
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        refuse(f"--hub {url}: no URL, as https://hub.example.org is one")
    if "@" in parts.netloc:
        shown = url.replace(parts.netloc, parts.netloc.rpartition("@")[2])
        refuse(f"--hub {shown}: without a user or a password in it, please: --token signs in")
    if not good:
        refuse(f"--hub {url}: no URL with a scheme, as in https://{url.partition('://')[2] or url}")
    return url.rstrip("/").removesuffix("/hub")


def chosen(given: argparse.Namespace, missing: Callable[[str], str]) -> Options:
    """Options of a run.

    Raises:
        SystemExit: they make no sense; one line on stderr says why.
    """
    local = not given.hub
    hub = "" if local else _hub(given.hub)
    if hub and not given.token:
        refuse("--token is missing: an API token of an admin of that hub (TOKEN=… make …)")

    def number(what: str, here: float, there: float) -> float:
        value = getattr(given, what)
        if value is None:
            return here if local else there
        if not 0 < value <= MOST[what]:
            refuse(f"--{what} {value:g}: more than 0 and at most {MOST[what]:g}")
        return float(value)

    if given.fault not in FAULTS:
        refuse(f"--fault {given.fault}: there is none of that name, only {', '.join(FAULTS)}")
    if given.during not in DURING:
        refuse(f"--during {given.during}: there is none of that name, only {', '.join(DURING)}")
    if not 0 < given.at < 1:
        refuse(f"--at {given.at:g}: a share of the time, between 0 and 1")
    if not 0 <= given.alone <= MOST["alone"]:
        refuse(f"--alone {given.alone:g}: from 0 to {MOST['alone']:g}")
    if not 0 <= given.workers <= MOST["workers"]:
        refuse(f"--workers {given.workers}: from 0 to {MOST['workers']:g}")
    if not 0 < getattr(given, "repeats", 1) <= MOST["repeats"]:
        refuse(f"--repeats {given.repeats}: from 1 to {MOST['repeats']:g}")
    if given.keep and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,59}", given.keep):
        refuse(f"--keep {given.keep!r} is no name: letters, digits, and . _ - between them")
    if given.command == "equal" and int(number("rounds", 2, 1)) < 2:
        refuse("--rounds 1: equal needs 2 or more, as one round has no interval")
    if given.keep and given.command == "equal":
        refuse(f"--keep {given.keep}: equal writes many runs, all of them to --out")
    if not local and given.only:
        refuse("--only chooses what is started here: not with --hub")
    if not local and given.profile:
        refuse("--profile looks into what is started here: not with --hub")
    real = 1 if given.real is None else given.real
    if not 0 <= real <= REAL:
        refuse(f"--real {real}: from 0 to {REAL}")
    everything = SCENARIOS if local else tuple(one for one in SCENARIOS if one != "faults")
    scenarios = _names("scenario", ",".join(given.scenario), SCENARIOS, everything)
    if not local and "faults" in scenarios:
        refuse("faults are made where the proxy was started by the test: not with --hub")
    rounds, students = int(number("rounds", 2, 1)), int(number("students", 30, 10))
    only = _names("--only", given.only, LOCAL, DEFAULT) if local else (REMOTE,)
    if given.workers:
        if len(scenarios) * len(only) * rounds > 1 or given.profile:
            refuse(
                "--workers end with the first load: one scenario, one contestant (--only),"
                " --rounds 1 and no --profile"
            )
        if "class" in scenarios and students % given.workers:
            refuse(f"--students {students}: a multiple of --workers, as each has as many of them")
    return Options(
        scenarios=scenarios,
        only=only,
        rounds=rounds,
        settings={
            "users": int(number("users", 50, 20)), "rate": number("rate", 150, 20),
            "seconds": number("seconds", 8, 60), "changes": number("changes", 10, 0.5),
            "routes": int(number("routes", 100, 5)), "fault": given.fault, "during": given.during,
            "at": given.at,
            "students": students,
            "real": real, "sockets": True, "workers": given.workers, "listen": given.listen,
            "alone": given.alone, "prefix": "", "password": given.password, "may_fail": local,
        },
        hub=hub, token=given.token, yes=given.yes, profile=given.profile,
        keep=given.keep, out=given.out,
        printed=given.print,
        missing=missing if local else lambda name: "",
    )  # fmt: skip
