"""What a run writes: ``results.json``, ``report.md`` and plots, in one folder.

The report's texts about each test stand here, beside no figure: figures are of the run.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from .contestants import CONTESTANTS
from .plots import plot_all
from .results import Run
from .tables import COLUMNS, glance_table, goals_table, notes, size_table

__all__ = ["TESTS", "render", "write_report"]


@dataclass(frozen=True)
class Test:
    """One section: which measures it holds, why, and how they are done."""

    title: str
    measures: tuple[str, ...]
    why: str
    how: str
    plot: str = ""


TESTS = [
    Test(
        "N routes at once", ("fill",),
        "A hub that starts, or whose proxy was replaced, adds all its users' routes at once.",
        "All calls of add_route begin together; the clock stops when every replica has answered"
        " for 20 of the routes (spread, the last among them), and goes on if one of up to 1,000"
        " then looked at does not answer yet. Over the limit, the contestant stops there. As real"
        " servers have, routes have targets of their own, but for the up to 1,000 that requests are"
        " for in this and other tests: those share the address of the server that answers.",
    ),
    Test(
        "Add → live, delete → gone", ("live",),
        "A user whose server has started is sent to it at once; a proxy that is not ready sends"
        " the browser back to the hub.",
        "One add, then one delete, again and again. Every replica is asked all the while by a"
        " kept connection; what counts is the last replica's first right answer, not that"
        " add_route returned. Between two requests the probe waits 4 ms, or 2 % of the time so"
        " far, and no longer than until add_route has returned. A request whose kept connection"
        " is closed before any byte of an answer, as any proxy may do, is sent again and counted"
        " below.",
        "live.png",
    ),
    Test(
        "1,000 adds at once", ("batch",),
        "A class begins.",
        "As N routes at once, to a table that has N routes already. Comes last at each size.",
    ),
    Test(
        "Requests", ("requests",),
        "The price of the proxy in every request.",
        "Once all earlier changes are applied: "
        "wrk with one thread and 32 kept connections, on routes spread over the whole table (up"
        " to 1,000 of them), at one replica, also where there are three: the others idle, but"
        " their processes share the cores. Answers with 400 and more are counted, and"
        " requests without one; wrk takes a redirect for a good answer, so the first route is asked"
        " before it runs, and must be answered with 200. The control is the same without a proxy,"
        " just before each: rows whose controls differ much were measured on a machine that was"
        " busy otherwise. So ratios are taken turn about: three times a Traefik with one route and"
        " the contestant within seconds, the median of each beside the two turns around it.",
        "requests.png",
    ),
    Test(
        "Through the forwarder", ("forwarder",),
        "A new route's first requests, and those for servers that do not run, go through the"
        " agent's own forwarder.",
        "wrk on a route whose target is a Unix socket, which Traefik does not reach, so that"
        " every request takes that way; configurable-http-proxy and junction-inprocess serve the"
        " same target themselves. A Unix socket costs less than TCP: compare this table with"
        " itself.",
    ),
    Test(
        "WebSocket echo", ("echo",),
        "Every key in a notebook's terminal makes this trip.",
        "One message at a time on one connection to one replica.",
    ),
    Test(
        "Requests while servers come and go", ("steady",),
        "Others' changes should not be felt, nor eat the machine.",
        "200 requests a second, open-loop (a slow answer delays no later request), to each"
        " replica in turn: quiet; while 10 servers a second start and stop again (churn); and while"
        " 10 a second that have run since the fill, and are not asked for, stop and start again"
        " (restarts), which is the harder of the two for a proxy that gathers its changes."
        " Quiet and churn take three turns each, so that what else the machine does meets both;"
        " before the next, a contestant that can say so has applied all that was changed."
        " None is sent again."
        " CPU per change is that of all processes until all is applied, beyond the quiet load's,"
        " for each change that went well.",
        "churn.png",
    ),
    Test(
        "Memory", ("memory",),
        "What a node has to have.",
        "Resident memory after the tests before, all replicas together; pages that processes"
        " share count once for each. All routes but the up to 1,000 that requests are for have"
        " targets of their own. The hub's side is a Python process with JupyterHub loaded; of"
        " junction-inprocess it is the proxy too.",
        "memory.png",
    ),
    Test(
        "A killed replica", ("recovery",),
        "Nodes fail.",
        "SIGKILL to the replica; the clock stops when it answers for up to 1,000 of its routes."
        " junction's replica and jupyterhub-traefik-proxy's Traefik are started again at once by"
        " the bench (as a service manager does), configurable-http-proxy by JupyterHub itself,"
        " which looks every 5 s.",
    ),
    Test(
        "Routes restored into an empty etcd", ("restore",),
        "Routes are soft state: all of etcd may be lost.",
        "All members are killed, their data removed, and started anew; the hub checks its"
        " routes. The clock runs from when the empty etcd answers until every replica follows it"
        " with all routes, and answers for one that only the new table has. 100 requests a"
        " second go on to all replicas meanwhile.",
    ),
]  # fmt: skip

_DISCLAIMER = """\
> Written by the makers of one of the contestants. Everything ran on one machine, beside each
> other: user servers, hub, etcd, proxies and the load share its cores, so **compare rows of this
> run only**; another machine gives other figures, and other ratios. Repeat it before believing it:
> that is what the command is for."""

FINDING = "**Finding.** _To be written by whoever keeps this report; guesses marked._"

_LEFT_OUT = """\
- TLS, HTTP/2 and compression: they cost every Traefik the same, and configurable-http-proxy more.
- A network: all traffic is on loopback, so etcd's round trips and its members' disks are not apart.
- More than one core's worth of load on several replicas at once: it would measure the machine.
- jupyterhub-traefik-proxy's other stores (file, Redis, Consul): etcd is the one it shares with us.
- Days of use: growth of memory over time is not seen in minutes."""


def render(run: Run, plots: list[str]) -> str:
    """The report as Markdown."""
    what = {one.name: one.what for one in CONTESTANTS}
    lines = [
        f"# Benchmark of {run.date[:10]}", "", _DISCLAIMER, "", "## Goals", "",
        goals_table(run), "",
        "Ratios are of this run. What was not measured is neither met nor missed.", "",
        "## At a glance", "", glance_table(run), "",
        "## With what", "", "```sh", run.command, "```", "",
        f"Commit {run.commit}, {run.date}; took {run.took_s / 60:.0f} minutes.",
        f"Settings: {', '.join(f'{key} {value:g}' for key, value in run.settings.items())}.", "",
        "| machine | |", "|---|---|", *(f"| {key} | {value} |" for key, value in run.host.items()),
        f"| the user servers are | {run.servers or 'not known'} |",
        "", "| version | |", "|---|---|",
        *(f"| {key} | {value} |" for key, value in run.versions.items()), "",
        "| contestant | |", "|---|---|",
        *(f"| {name} | {what.get(name, '')} |" for name in run.contestants()), "",
        "What this machine does not show: load from elsewhere, cores that nobody shares, real"
        " disks under etcd, and networks.", "",
        "## What is left out, and why", "", _LEFT_OUT, "",
    ]  # fmt: skip
    for test in TESTS:
        lines += _section(run, test, plots)
    return "\n".join(lines).rstrip() + "\n"


def _section(run: Run, test: Test, plots: list[str]) -> list[str]:
    tables = [
        table
        for column in COLUMNS
        if column.measure in test.measures and (table := size_table(run, column))
    ]
    if not tables:
        return []
    measures = ",".join(test.measures)
    lines = [
        f"## {test.title}", "", f"**Why.** {test.why}", "", f"**How.** {test.how}", "",
        f'**Alone:** `make bench ARGS="--measure {measures}"`', "",
    ]  # fmt: skip
    for table in tables:
        lines += [table, ""]
    if test.plot in plots:
        lines += [f"![{test.title}]({test.plot})", ""]
    if reasons := notes(run, test.measures):
        lines += [*reasons, ""]
    return [
        *lines,
        FINDING,
        "",
    ]


def write_report(run: Run, folder: Path) -> None:
    """All of it; what an earlier run left there is replaced."""
    folder.mkdir(parents=True, exist_ok=True)
    run.write(folder / "results.json")
    (folder / "report.md").write_text(render(run, plot_all(run, folder)))
