"""The benchmark: what it computes, what it refuses, and that a small run works."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
import pytest
from bench import idle
from bench.client import Connection, steady, until_served
from bench.contestants import CONTESTANTS, Contestant, Subject
from bench.goals import GOALS, verdicts
from bench.hub import Hub
from bench.hubside import HubSide, own_target
from bench.measures import MEASURES
from bench.measures.bench import Bench, live_everywhere, spread
from bench.measures.requests import Requests, beside_bare
from bench.measures.steady import Phase
from bench.options import Options, Settings, parse
from bench.plots import plot_all
from bench.processes import Cost, Usage, cpu_between
from bench.report import TESTS, render, write_report
from bench.results import Failed, Outcome, Run, TooSlow
from bench.runner import run
from bench.stats import percentile, summary
from bench.tables import COLUMNS, figure, glance_table, goals_table, notes, size_table
from bench.world import World, answered_by
from bench.wrk import Wrk, script
from bench.wrk import parse as parse_wrk
from harness.waiting import SOON, until

from jupyterhub_junction.conformance.backend import Backend, Exchange

# --- summaries


def test_percentiles_are_values_that_were_measured() -> None:
    values = [5.0, 1.0, 4.0, 2.0, 3.0]
    assert percentile(values, 0.5) == 3
    assert percentile(values, 0.99) == 5
    assert percentile(values, 0.0) == 1
    assert percentile([7.0], 0.5) == 7
    assert percentile([float(n) for n in range(1, 1001)], 0.99) == 990


@pytest.mark.parametrize(("values", "share"), [([], 0.5), ([1.0], 1.1), ([1.0], -0.1)])
def test_percentiles_of_nothing_are_refused(values: list[float], share: float) -> None:
    with pytest.raises(ValueError, match=r"values|share"):
        percentile(values, share)


def test_a_summary_is_in_milliseconds() -> None:
    found = summary([0.001, 0.003, 0.002])
    assert (found.count, found.median, found.p99, found.max) == (3, 2, 3, 3)


@pytest.mark.parametrize("count", [1, 2, 19, 20, 21, 1000])
def test_a_spread_holds_the_last_and_none_twice(count: int) -> None:
    found = spread(count, 20)
    assert found[-1] == count - 1
    assert found == sorted(set(found))
    assert len(found) == min(count, 20)
    assert found[0] >= 0


def test_cpu_of_a_process_that_was_started_anew_is_left_out() -> None:
    before = Usage(10.0, {"hub": (1, 5.0), "traefik": (2, 100.0)})
    after = Usage(12.0, {"hub": (1, 6.0), "traefik": (3, 0.5), "new": (4, 1.0)})
    assert cpu_between(before, after) == Cost(2.0, {"hub": 0.5})
    assert cpu_between(before, after).total == 1.0


def test_a_change_costs_what_is_beyond_the_quiet_load_until_all_is_applied() -> None:
    quiet = Cost(10.0, {"traefik": 0.1})
    busy = Cost(4.0, {"traefik": 0.3})
    phase = Phase(cost=busy, late=Cost(6.0, {"traefik": 0.2}), asked=10, done=8)
    assert phase.cpu_s_per_change(quiet) == pytest.approx((1.2 + 1.2 - 1.0) / 8)
    assert Phase(cost=busy).cpu_s_per_change(quiet) is None


def test_costs_of_several_times_add_up() -> None:
    both = Cost(2.0, {"hub": 0.5, "etcd": 0.1}) + Cost(6.0, {"hub": 0.1, "traefik": 0.4})
    assert both == Cost(8.0, {"hub": 0.2, "etcd": 0.025, "traefik": 0.3})
    assert Cost(0.0, {}) + both == both
    assert Cost(0.0, {}) + Cost(0.0, {}) == Cost(0.0, {})


# --- wrk

SAID = """
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     1.11ms    1.66ms  34.21ms   90.18%
  Latency Distribution
     50%  478.00us
     75%    1.20ms
     90%    2.70ms
     99%    1.02s
  11108 requests in 1.00s, 1.61MB read
  Non-2xx or 3xx responses: 3
Requests/sec:  11075.23
Transfer/sec:      1.60MB
counted 11108 3 4
"""


def test_wrk_is_understood() -> None:
    found = parse_wrk(SAID)
    assert (found.per_second, found.median, found.p99) == (11075.23, 0.478, 1020.0)
    assert (found.requests, found.failed) == (11108, 7)


def test_a_wrk_that_gave_no_result_is_an_error() -> None:
    with pytest.raises(ValueError, match="unable to connect"):
        parse_wrk("unable to connect to 127.0.0.1:1 Connection refused")


def test_the_script_holds_every_path() -> None:
    assert '"/user/n0/",\n"/user/n1/"' in script(["/user/n0/", "/user/n1/"])


# --- arguments

NAMES, PARTS = [one.name for one in CONTESTANTS], list(MEASURES)


def test_what_is_left_out_is_everything() -> None:
    options = parse([], NAMES, PARTS)
    assert options.routes == (10, 1_000, 10_000, 50_000)
    assert (list(options.only), list(options.measures)) == (NAMES, PARTS)
    assert options.limit == 60


def test_selections_keep_their_order_and_fill_is_always_one_of_them() -> None:
    options = parse(
        ["--routes=1000,10,10", "--only=junction-1,chp", "--measure=memory,live"], NAMES, PARTS
    )
    assert options.routes == (10, 1000)
    assert options.only == ("chp", "junction-1")
    assert options.measures == ("fill", "live", "memory")


def test_quick_is_small() -> None:
    options = parse(["--quick"], NAMES, PARTS)
    assert max(options.routes) <= 1000
    assert options.settings.seconds < Settings().seconds


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--routes=many"], "--routes many"),
        (["--routes="], "--routes "),
        (["--routes=0"], "--routes 0"),
        (["--routes=10,-1"], "--routes 10,-1"),
        (["--routes=1000000"], "1000000"),
        (["--quick", "--routes=10000"], "bench-quick"),
        (["--only=chip"], "chip"),
        (["--measure=speed"], "speed"),
        (["--limit=0"], "--limit 0"),
        (["--limit=nan"], "--limit nan"),
        (["--seconds=-1"], "--seconds -1"),
        (["--adds=0"], "--adds 0"),
        (["--keep=../elsewhere"], "../elsewhere"),
    ],
)
def test_nonsense_is_one_clear_line(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        parse(words, NAMES, PARTS)
    assert ended.value.code == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("bench: ")
    assert said in line


def test_servers_have_targets_of_their_own_on_loopback() -> None:
    targets = [own_target(number) for number in range(70_000)]
    assert len(set(targets)) == len(targets)
    hosts = [urlsplit(target).hostname for target in targets]
    assert all(ipaddress.ip_address(host or "").is_loopback for host in hosts)


# --- results, goals and tables


def _live(contestant: str, routes: int, median: float, p99: float) -> Outcome:
    return Outcome(contestant, routes, "live", {"live": {"median": median, "p99": p99}})


def _speed(contestant: str, routes: int, per_second: float) -> Outcome:
    values = {"small": {"per_second": per_second}, "beside_bare": per_second / 2000}
    return Outcome(contestant, routes, "requests", values)


@pytest.fixture
def a_run() -> Run:
    return Run(
        "make bench", "2026-01-02T03:04:05+00:00", "0123456789ab",
        host={"cpus": "2"}, versions={"traefik": "3.7.15"}, settings={"limit": 60.0},
        servers="nginx, with one worker",
        outcomes=[
            _live("chp", 10, 4.0, 6.0),
            _live("junction-3", 10, 10.0, 20.0),
            _live("junction-3", 10_000, 12.0, 61.0),
            _speed("chp", 10, 1000.0), _speed("chp", 10_000, 1000.0),
            _speed("junction-1", 10_000, 2400.0),
            _speed("junction-inprocess", 10, 1400.0), _speed("junction-inprocess", 10_000, 1600.0),
            Outcome("chp", 10_000, "fill", failed="10000 routes: over 60 s", kind="limit"),
            Outcome("chp", 10_000, "live", skipped="10000 routes: over 60 s", kind="limit"),
            Outcome("junction-3", 10_000, "restore", {"live_s": 3.0, "failed": 0}),
        ],
    )  # fmt: skip


def test_verdicts_are_computed_from_the_run_alone(a_run: Run) -> None:
    found = {one.goal.what: one for one in verdicts(a_run)}
    words = {what: one.word for what, one in found.items()}
    assert words["add → live on all of 3 replicas, median"] == "met"
    assert words["add → live on all of 3 replicas, p99"] == "**missed**"
    assert words["the same at 50,000, beside 10 (median)"] == "met, at 10,000 only"
    assert words["requests/s of a replica, beside CHP"] == "**missed**"
    assert found["requests/s of a replica, beside CHP"].value == 2.4
    assert words["requests/s of a replica, beside bare Traefik"] == "met"
    # the worst of all sizes counts
    inprocess = found["requests/s of junction-inprocess, beside CHP, at any size"]
    assert inprocess.value == 1.4
    assert words["requests that failed meanwhile"] == "met"


def test_every_goal_is_missed_or_not_measured_where_nothing_is_good() -> None:
    assert {one.word for one in verdicts(Run("", "", ""))} == {"not measured"}
    bad = {1e9, 0.0}
    assert all(any(not goal.holds(value) for value in bad) for goal in GOALS)


def test_tables_say_what_was_not_measured(a_run: Run) -> None:
    column = next(one for one in COLUMNS if one.paths == ("live.median", "live.p99"))
    table = size_table(a_run, column)
    assert "| N = 10 | N = 10,000 |" in table
    assert "| chp | 4 / 6 | – |" in table
    assert "| junction-3 | 10 / 20 | 12 / 61 |" in table
    fill = size_table(a_run, next(one for one in COLUMNS if one.measure == "fill"))
    assert "| chp |  | over the limit |" in fill
    [note] = notes(a_run, ["fill"])
    assert note == "- chp, N = 10,000: failed: 10000 routes: over 60 s"
    assert "≤ 15 ms | 12 ms | met |" in goals_table(a_run)
    glance = glance_table(a_run)
    assert "| chp | over the limit |" in glance
    assert "| junction-3 | 12 / 61 |" in glance


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (-0.0, "0"), (12345.6, "12,346"), (0.01234, "0.0123"), (14.26, "14.3")],
)
def test_figures(value: float, text: str) -> None:
    assert figure(value) == text


def test_every_measure_has_its_place_in_the_report() -> None:
    assert {name for test in TESTS for name in test.measures} == set(MEASURES)
    assert {column.measure for column in COLUMNS} == set(MEASURES)


def test_a_report_holds_all_one_needs_to_judge_it(a_run: Run, tmp_path: Path) -> None:
    write_report(a_run, tmp_path)
    text = (tmp_path / "report.md").read_text()
    for part in ("make bench", "0123456789ab", "3.7.15", "compare rows of this", "left out"):
        assert part in text
    assert "| the user servers are | nginx, with one worker |" in text
    assert Run.read(tmp_path / "results.json") == a_run
    for image in ("live.png", "requests.png"):
        assert f"]({image})" in text
        assert (tmp_path / image).read_bytes().startswith(b"\x89PNG")
    # what a run did not measure is not shown, not even from a run before
    empty = Run("", "2026", "")
    write_report(empty, tmp_path)
    assert not list(tmp_path.glob("*.png"))
    assert plot_all(empty, tmp_path) == []
    assert "##" in render(empty, [])


# --- probes and the run


@contextlib.asynccontextmanager
async def _server(wrong: int) -> AsyncIterator[tuple[tuple[str, int], list[str]]]:
    """Answers wrongly at first, as a proxy does that has not the route yet."""
    asked: list[str] = []

    async def answer(exchange: Exchange) -> None:
        await exchange.body()
        asked.append(exchange.seen.target)
        good = len(asked) > wrong
        await exchange.reply(200 if good else 404, [], b"server" if good else b"hub")

    backend = await Backend("server", answer).start()
    try:
        host, port = backend.url.removeprefix("http://").split(":")
        yield (host, int(port)), asked
    finally:
        await backend.stop()


async def test_a_probe_ends_with_the_first_right_answer() -> None:
    async with _server(wrong=3) as (address, asked):
        connection = Connection(address)
        found = await until_served(connection, "/user/x/")
        connection.close()
    assert asked == ["/user/x/"] * 4
    assert 0 < found.asked < found.at


async def test_no_answer_is_not_gone() -> None:
    async with _server(wrong=10**9) as (address, _):
        pass
    answer = await Connection(address).get("/")
    assert answer.status == 0
    assert not answer.by_server


@contextlib.asynccontextmanager
async def _closing(part: bytes, whole: int) -> AsyncIterator[tuple[tuple[str, int], list[bytes]]]:
    """Answers so many requests of each connection, and ends the next one after a part of it."""
    asked: list[bytes] = []
    serving: list[asyncio.Task[None] | None] = []
    good = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nserver"

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving.append(asyncio.current_task())
        with contextlib.closing(writer), contextlib.suppress(EOFError, ConnectionError):
            for number in range(whole + 1):
                asked.append(await reader.readuntil(b"\r\n\r\n"))
                writer.write(good if number < whole else part)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname(), asked
        async with asyncio.timeout(SOON):
            await asyncio.gather(*filter(None, serving))


async def test_a_probe_asks_again_only_on_a_kept_connection_without_a_byte_of_the_answer() -> None:
    async with _closing(b"", whole=1) as (address, asked):
        connection = Connection(address)
        assert [(await connection.get("/")).status for _ in range(3)] == [200, 200, 200]
        assert (connection.renewed, len(asked)) == (2, 5)
        connection.close()
    # a new connection that is closed is the proxy's failure
    async with _closing(b"", whole=0) as (address, asked):
        connection = Connection(address)
        assert (await connection.get("/")).status == 0
        assert (connection.renewed, len(asked)) == (0, 1)
    # and so is half an answer
    async with _closing(b"HTTP/1.1 200 OK\r\nContent-Le", whole=1) as (address, asked):
        connection = Connection(address)
        assert [(await connection.get("/")).status for _ in range(2)] == [200, 0]
        assert (connection.renewed, len(asked)) == (0, 2)


async def test_a_connection_known_to_be_closed_is_not_used() -> None:
    async with _server(wrong=0) as (address, _):
        connection = Connection(address)
        await connection.get("/")
        assert connection._streams is not None
        reader, _ = connection._streams
        reader.feed_eof()
        assert (await connection.get("/")).by_server
        assert connection.renewed == 0
        connection.close()


async def test_a_yardstick_that_does_not_start_costs_the_contestant_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JUNCTION_TRAEFIK", "/bin/false")
    here = ("127.0.0.1", 9)
    around = World(tmp_path, here, here, here, tmp_path / "unix", 1.0)
    speed = Wrk(1.0, 1.0, 1.0, 0, 1)
    found = Requests(speed, speed, 1.0)
    await beside_bare(Bench(Subject([here]), around, 1, Settings()), tmp_path, found)
    assert found.beside_bare is None
    assert "ended" in found.no_yardstick


async def test_a_steady_load_never_asks_again() -> None:
    async with _closing(b"", whole=1) as (address, asked):
        load = await steady([address], lambda number: "/", 100, 0.2)
    assert load.wrong > 0
    assert load.sent == len(asked) == 20


async def test_a_route_that_is_never_live_is_too_slow() -> None:
    async with _server(wrong=10**9) as (address, _):
        with pytest.raises(TooSlow, match=r"a fill: over 0\.1 s"):
            await live_everywhere([address], ["n0"], 0.1, "a fill")


async def test_a_steady_load_counts_what_the_server_did_not_answer() -> None:
    async with _server(wrong=5) as (address, asked):
        load = await steady([address], lambda number: f"/user/n{number}/", 1000, 0.05)
    assert (load.sent, load.wrong, len(asked)) == (50, 5, 50)
    assert "404" in load.first_wrong


def _options(*only: str, **settings: Any) -> Options:
    return Options(
        routes=(10,), only=only, measures=tuple(MEASURES), limit=60,
        settings=Settings(**{"adds": 3, "seconds": 1, "messages": 20, "rate": 50, **settings}),
    )  # fmt: skip


async def test_a_run_survives_a_contestant_that_fails(tmp_path: Path) -> None:
    @contextlib.asynccontextmanager
    async def broken(around: World, directory: Path) -> AsyncIterator[Subject]:
        raise RuntimeError("it does not start")
        yield

    outcomes: list[Outcome] = []
    absent = Contestant("absent", broken, "", lambda: "it is not installed")
    await run(_options("broken", "absent"), outcomes, [Contestant("broken", broken, ""), absent])
    assert {one.skipped for one in outcomes} == {
        "RuntimeError: it does not start",
        "it is not installed",
    }
    assert len(outcomes) == 2 * len(MEASURES)


@pytest.mark.parametrize(
    ("error", "said", "kind"),
    [
        (TooSlow("a fill: over 1 s"), "a fill: over 1 s", "limit"),
        (Failed("no WebSocket"), "no WebSocket", "error"),
        # of a client within the measure: it says nothing of the limit
        (TimeoutError(), "TimeoutError", "error"),
        (ValueError("wrk printed no result in 5 s"), "ValueError: wrk printed no result in 5 s",
         "error"),
    ],
)  # fmt: skip
async def test_what_went_wrong_has_its_kind(
    error: Exception, said: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextlib.asynccontextmanager
    async def start(around: World, directory: Path) -> AsyncIterator[Subject]:
        yield Subject([around.server])

    async def measure(bench: object) -> None:
        raise error

    monkeypatch.setitem(MEASURES, "fill", measure)
    outcomes: list[Outcome] = []
    contestant = Contestant("one", start, "")
    await run(replace(_options("one"), routes=(10, 20)), outcomes, [contestant])
    found = {(one.routes, one.measure): one for one in outcomes}
    assert (found[10, "fill"].failed, found[10, "fill"].kind) == (said, kind)
    assert (found[10, "live"].skipped, found[10, "live"].kind) == (said, kind)
    assert (found[20, "fill"].skipped, found[20, "fill"].kind) == (f"{said} at 10", kind)


async def test_a_measure_that_takes_too_long_is_over_the_limit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def measure(bench: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setitem(MEASURES, "fill", measure)
    monkeypatch.setattr("bench.runner.PATIENCE", 0.01)
    outcomes: list[Outcome] = []
    options = replace(_options("direct"), limit=1.0)
    direct = replace(next(one for one in CONTESTANTS if one.name == "direct"), static=False)
    await run(options, outcomes, [direct])
    assert (outcomes[0].failed, outcomes[0].kind) == ("over 0.02 s", "limit")


def _chp_setup(directory: Path, program: Path) -> dict[str, Any]:
    return {
        "kind": "chp", "directory": str(directory), "hub": "http://127.0.0.1:1",
        "public": "http://127.0.0.1:1/", "limit": 5, "chp": str(program),
    }  # fmt: skip


async def test_a_hubs_side_ends_what_has_only_begun_to_start(tmp_path: Path) -> None:
    side = HubSide(_chp_setup(tmp_path, tmp_path / "chp"))
    await side.stop()  # nothing yet
    side.proxy.proxy_process = subprocess.Popen(["sleep", "300"])  # noqa: ASYNC220
    await side.stop()
    assert side.proxy.proxy_process.returncode == -signal.SIGKILL


def _ended(process: psutil.Process) -> bool:
    """Whether it is gone, or only whoever inherited it has not asked for its exit code yet."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return bool(process.status() == psutil.STATUS_ZOMBIE)
    return True


@contextlib.asynccontextmanager
async def _being_started(
    directory: Path,
) -> AsyncIterator[tuple[Hub, asyncio.Task[None], psutil.Process]]:
    """A hub's side whose proxy's program runs, and is waited for; its start, and the program."""
    pid, program = directory / "pid", directory / "program"
    program.write_text(f"#!/bin/sh\necho $$ > {pid}.new; mv {pid}.new {pid}; exec sleep 300\n")
    program.chmod(0o755)
    hub = Hub(_chp_setup(directory, program), directory / "hub.log")
    starting = asyncio.create_task(hub.start(60))
    try:
        await until(pid.exists, "the proxy's program")
        yield hub, starting, psutil.Process(int(pid.read_text()))
    finally:
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        await hub.stop(grace=0.1)


async def test_a_hubs_side_that_hangs_leaves_no_program(tmp_path: Path) -> None:
    async with _being_started(tmp_path) as (hub, starting, started):
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        os.kill(hub.pid, signal.SIGSTOP)
    await until(lambda: _ended(started), "the proxy's program has ended", deadline=SOON)


async def test_a_hubs_side_that_is_terminated_leaves_no_program(tmp_path: Path) -> None:
    """A signal to all of a run's processes reaches it before anybody has closed its stdin."""
    async with _being_started(tmp_path) as (hub, _, started):
        os.kill(hub.pid, signal.SIGTERM)
        await until(lambda: _ended(started), "the proxy's program has ended", deadline=SOON)


@pytest.mark.needs_programs
def test_a_small_run_measures_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    # Other tests of the session may keep programs of theirs running.
    before = set(psutil.Process().children(recursive=True))
    outcomes: list[Outcome] = []
    asyncio.run(run(_options("junction-1", "junction-inprocess"), outcomes))
    found = {(one.contestant, one.measure): one for one in outcomes}
    assert not [one for one in outcomes if one.failed]
    for contestant in ("junction-1", "junction-inprocess"):
        for measure, path in (
            ("fill", "live_s"),
            ("live", "live.median"),
            ("echo", "median"),
            ("steady", "churn.p99"),
            ("memory", "total"),
            ("batch", "live_s"),
        ):
            assert (found[contestant, measure].number(path) or 0) > 0, (contestant, measure)
        assert found[contestant, "steady"].number("failed") == 0
        assert found[contestant, "live"].number("early") == 0
        assert found[contestant, "live"].number("early_gone") == 0
    restore = found["junction-1", "restore"]
    # all that was sent was answered; where CPU is short, not all is
    assert restore.number("failed") == restore.number("held")
    assert (restore.number("requests") or 0) > 0
    assert (found["junction-1", "recovery"].number("back_s") or 0) > 0
    assert list(tmp_path.iterdir()) == []
    assert set(psutil.Process().children(recursive=True)) - before == set()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--clients=0"], "idle: --clients 0: "),
        (["--clients=-1"], "idle: --clients -1: "),
        (["--clients=200000"], "idle: --clients 200000: "),
        (["--websockets=-1"], "idle: --websockets -1: "),
    ],
)
def test_idle_refuses_nonsense(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        idle.main(words)
    assert ended.value.code == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith(said)


def test_the_report_says_what_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUNCTION_NGINX", "/somewhere/nginx")
    assert answered_by().startswith("nginx")
    monkeypatch.delenv("JUNCTION_NGINX")
    monkeypatch.setenv("PATH", "")
    assert "nginx is missing" in answered_by()


def test_the_command_refuses_nonsense() -> None:
    loadtests = Path(__file__).resolve().parents[2] / "loadtests"
    paths = os.pathsep.join([str(loadtests), str(Path(__file__).parent)])
    done = subprocess.run(
        [sys.executable, "-m", "bench", "--only=nobody"],
        env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True, timeout=180,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.startswith("bench: --only nobody")
