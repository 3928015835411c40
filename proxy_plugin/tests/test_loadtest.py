"""Load tests: what they compute, what they refuse, and what they write.  Nothing is started."""

from __future__ import annotations

import dataclasses
import gzip
import io
import json
import math
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from scenarios.__main__ import main
from scenarios.compare import Verdict, compare, render, summary
from scenarios.flames import flame_graph
from scenarios.histogram import Histogram
from scenarios.load import recording
from scenarios.load.recorder import Recorder, failure
from scenarios.metrics import failures, figures, quantile
from scenarios.options import Options, chosen, is_loopback, parse
from scenarios.pprof import folded
from scenarios.profiling import METRICS, parse_metrics
from scenarios.remote import consent
from scenarios.report import generator_note, markdown, page, write_report
from scenarios.results import Result, Round
from scenarios.runner import SCENARIOS
from scenarios.stage import LoadtestError, Stage
from scenarios.tls_cost import Asked, parse_h2load
from scenarios.watch import Guard

# --- times


def test_a_percentile_is_true_to_a_hundredth() -> None:
    dice = random.Random(1)  # noqa: S311
    values = [dice.uniform(0.1, 500) for _ in range(2000)]
    found = Histogram()
    for value in values:
        found.add(value)
    for share in (0.01, 0.5, 0.99, 1.0):
        exact = sorted(values)[max(0, math.ceil(share * len(values)) - 1)]
        assert found.percentile(share) == pytest.approx(exact, rel=0.011)


def test_histograms_add_up_and_survive_json() -> None:
    one, two = Histogram(), Histogram()
    for value in (1.0, 2.0, 2.0):
        one.add(value)
    two.add(9.0)
    both = Histogram.total([Histogram.of(json.loads(json.dumps(one.plain()))), two])
    assert both.count == 4
    assert both.percentile(1.0) == pytest.approx(9, rel=0.011)


def test_no_time_is_lost_below_the_first_bucket() -> None:
    found = Histogram()
    found.add(0.0)
    assert found.count == 1


@pytest.mark.parametrize(("counts", "share"), [({}, 0.5), ({1: 1}, 1.1), ({1: 1}, -0.1)])
def test_percentiles_of_nothing_are_refused(counts: dict[int, int], share: float) -> None:
    with pytest.raises(ValueError, match=r"values|share"):
        Histogram(counts).percentile(share)


@pytest.mark.parametrize(
    ("sure", "freedom", "expected"),
    [
        (0.95, 1, 12.706), (0.95, 2, 4.303), (0.95, 4, 2.776), (0.95, 10, 2.228),
        (0.95, 100, 1.984), (0.95, 10**6, 1.97), (0.999, 1, 636.62), (0.999, 3, 12.924),
        (0.999, 4, 8.610), (0.999, 5, 6.869), (0.999, 10, 4.587),
    ],
)  # fmt: skip
def test_students_t_is_as_in_the_tables(sure: float, freedom: int, expected: float) -> None:
    assert quantile(sure, freedom) == pytest.approx(expected, rel=0.001)


# --- the generator's lines


def test_what_a_worker_has_counted_is_not_lost() -> None:
    worker, master = Recorder(), Recorder()
    worker.request("small", 5.0, 10)
    worker.request("small", 5.0, 0, exception=ConnectionError("gone"))
    master.request("small", 7.0, 10)
    master.add(json.loads(json.dumps(worker.take())))
    taken = master.take()
    assert sum(taken["kinds"]["small"]["times"].values()) == 2
    assert taken["kinds"]["small"]["failed"] == {"ConnectionError: gone": 1}
    assert taken["bytes"] == 20
    assert master.take()["kinds"] == {}


def test_kinds_of_failures_are_few() -> None:
    recorder = Recorder()
    for number in range(100):
        recorder.request("small", 1.0, 0, exception=ConnectionError(f"reason {number}"))
    failed = recorder.take()["kinds"]["small"]["failed"]
    assert len(failed) <= 21
    assert sum(failed.values()) == 100


def test_a_failure_does_not_repeat_an_answers_headers() -> None:
    assert failure(ValueError("status 404 -+-+- {'date': 'now'}")) == "ValueError: status 404"


def test_the_recording_is_of_a_whole_start() -> None:
    lab, notebook = recording.phase("lab"), recording.phase("notebook")
    assert len(lab) > 50
    assert len(notebook) > 5
    assert sum(one.size for one in lab) > 3_000_000
    assert [one.at for one in lab] == sorted(one.at for one in lab)
    assert lab[0].at == 0
    assert all(one.size >= 0 for one in lab)
    assert all("recorded" not in one.path for one in (*lab, *notebook))
    assert recording.sign_in_files()


# --- results made by hand


def second(at: float, milliseconds: float, count: int = 20, failed: int = 0) -> dict[str, Any]:
    found = Histogram()
    for number in range(count):
        found.add(milliseconds * (1 + number / count))
    why = {"answered 503": failed} if failed else {}
    return {
        "t": at, "for_s": 1.0, "users": 5, "cpu": 0.1, "bytes": 100,
        "kinds": {"small": {"times": found.plain(), "failed": why}},
    }  # fmt: skip


def result(
    seed: int, factor: float = 1.0, rounds: int = 3, failed: int = 0, scatter: float = 0.05,
    machine: float = 1.0,
) -> Result:  # fmt: skip
    """Rounds with scatter of some 5 % between them; all takes ``machine`` times as long there."""
    dice = random.Random(seed)  # noqa: S311
    found = Result(
        "junction-loadtest run", "2026-11-24T00:00:00+00:00", "abc", settings={"users": 5}
    )
    found.null = {
        "per_second": 1000 / machine, "cpu": 0.9, "wrk": 0, "said": "1000 requests/s"
    }  # fmt: skip
    for number in range(1, rounds + 1):
        for name, base in (("chp", 10.0), ("junction-2", 5.0)):
            level = base * factor * machine * math.exp(dice.gauss(0, scatter))
            one = Round("latency", name, number)
            one.seconds = [
                second(t, level * math.exp(dice.gauss(0, scatter)), failed=failed)
                for t in range(1, 9)
            ]
            one.system = [{"t": 1.0, "cpu": {"hub": 9.0, "node": 0.5, "generator": 9.0},
                           "memory": {"node": 100.0, "stand-in": 9.0}}]  # fmt: skip
            one.changes = [{"t": 1.0, "do": "start", "live_ms": level, "returned_ms": level}]
            found.rounds.append(one)
    return found


def test_figures_are_of_the_proxy_alone() -> None:
    found = figures(result(1), "latency")["chp"]
    assert found["proxy CPU"].value == pytest.approx(0.5)
    assert found["proxy memory"].value == pytest.approx(100)
    assert found["requests"].value == pytest.approx(20)


def test_an_interval_holds_the_figure_and_is_never_nothing() -> None:
    one = figures(result(1), "latency")["chp"]["small, median"]
    low, high = one.interval
    assert low < one.value < high
    assert high / low >= math.exp(0.1) * 0.999


def test_more_rounds_make_it_surer() -> None:
    few, many = (figures(result(1, rounds=n), "latency")["chp"]["small, p99"] for n in (2, 12))
    assert many.half() < few.half()


def test_one_round_has_no_interval() -> None:
    once = result(1, rounds=1)
    assert figures(once, "latency")["chp"]["small, p99"].half() == math.inf
    assert "small, p99 (ms) | 2" in markdown(once, SCENARIOS)


def test_equal_runs_differ_in_nothing() -> None:
    assert not compare(result(1), result(1)).different
    said = render(compare(result(1), result(1)), "a", "b")
    assert said.endswith("no difference (above the noise)")


@pytest.mark.parametrize(("rounds", "scatter"), [(2, 0.05), (2, 0.2), (3, 0.05), (3, 0.2)])
def test_runs_of_equal_things_are_told_apart_once_in_ten_times_at_most(
    rounds: int, scatter: float
) -> None:
    def run(seed: int) -> Result:
        return result(seed, rounds=rounds, scatter=scatter)

    told = sum(bool(compare(run(n), run(n + 1000)).different) for n in range(40))
    assert told <= 4


def test_a_machine_that_was_slower_meanwhile_is_no_difference() -> None:
    def verdict(n: int) -> Verdict:
        return compare(result(n), result(n + 1000, machine=1.4))

    assert sum(bool(verdict(n).different) for n in range(20)) <= 2
    assert "the machine was slower or faster by 40% without a proxy" in verdict(1).unlike


def test_a_third_more_is_found_by_six_rounds() -> None:
    for n in range(20):
        rows = compare(result(n, rounds=6), result(n + 1000, rounds=6, factor=1.3)).different
        assert {row.what for row in rows} >= {"small, median", "small, p99"}
        assert all(row.ratio > 1 for row in rows)


def test_one_round_tells_nothing_apart_and_says_why() -> None:
    verdict = compare(result(1, rounds=1), result(2, rounds=1, factor=2.0))
    assert not verdict.different
    assert "one round each" in verdict.unlike[0]


def test_what_takes_twice_as_long_is_found() -> None:
    verdict = compare(result(1), result(2, factor=2.0))
    assert {row.what for row in verdict.different} >= {"small, median", "small, p99"}
    assert all(row.ratio > 1 for row in verdict.different)
    assert "MORE" in render(verdict, "a", "b")


def test_what_a_profiler_slowed_down_is_in_no_figure() -> None:
    plain, profiled = result(1), result(1)
    profiled.rounds += [one for one in result(2, factor=9.0, rounds=1).rounds]
    for one in profiled.rounds[-2:]:
        one.no_profiles = {"node": "there is no profiler for node"}
    assert figures(profiled, "latency") == figures(plain, "latency")


def test_new_failures_are_found() -> None:
    verdict = compare(result(1), result(1, failed=3))
    assert [row.what for row in verdict.different] == ["failed", "failed"]
    assert summary(verdict).startswith("2 of ")
    assert "latency, chp: failed × " in summary(verdict)


def test_more_rounds_are_no_more_failures() -> None:
    found = compare(result(1, rounds=2, failed=5), result(2, rounds=6, failed=5))
    assert [row for row in found.different if row.what == "failed"] == []


def test_failures_in_clusters_are_no_difference() -> None:
    def clustered(seed: int, *counts: int) -> Result:
        found = result(seed, rounds=len(counts))
        for one in found.rounds:
            one.seconds[0]["kinds"]["small"]["failed"] = {"reset": counts[one.number - 1]}
        return found

    def failed(before: Result, after: Result) -> list[str]:
        return [row.contestant for row in compare(before, after).different if row.what == "failed"]

    assert failed(clustered(1, 50, 250), clustered(2, 150, 500)) == []
    assert failed(clustered(1, 150, 150), clustered(2, 325, 325)) == ["chp", "junction-2"]


def test_a_contestant_that_is_missing_is_no_equal() -> None:
    before, after = result(1), result(1)
    for one in after.rounds:
        if one.contestant == "chp":
            one.failed, one.seconds = "it did not start", []
    found = compare(before, after)
    assert not found.same
    assert "after: latency, chp: it did not start" in found.broken
    after.rounds = [one for one in after.rounds if one.contestant != "chp"]
    found = compare(before, after)
    assert found.broken == ["only before: latency, chp"]
    assert "no difference in what both have" in summary(found)


def test_a_round_that_was_interrupted_counts_only_where_there_is_no_other() -> None:
    found = result(1)
    chp = [one for one in found.rounds if one.contestant == "chp"]
    chp[0].failed = "interrupted"
    assert found.of("latency", "chp") == chp[1:]
    for one in chp:
        one.failed = "interrupted"
    assert found.of("latency", "chp") == chp


def test_processes_count_while_they_are_loaded() -> None:
    found = result(1)
    for one in found.rounds:
        idle = {"cpu": {"node": 0.0}, "memory": {"node": 100.0}}
        one.system += [{"t": t, **idle} for t in (10.0, 11.0)]
        late = second(10, 5, count=0)
        one.seconds.append({**late, "late": True, "for_s": 4.0})
    assert figures(found, "latency")["chp"]["proxy CPU"].value == pytest.approx(0.5)
    assert figures(found, "latency")["chp"]["requests"].value == pytest.approx(20)


def test_other_settings_are_named() -> None:
    other = result(2)
    other.settings["users"] = 6
    assert compare(result(1), other).unlike == ["users: 5 / 6"]


def test_failures_are_counted_by_kind() -> None:
    found = result(1, failed=2)
    found.rounds[0].changes.append({"t": 1, "do": "start", "failed": "no"})
    assert failures(found.rounds[:1]) == {"small: answered 503": 16, "start: no": 1}


# --- what is written


def test_a_result_survives_its_file(tmp_path: Path) -> None:
    found = result(1)
    found.write(tmp_path / "results.json")
    assert Result.read(tmp_path / "results.json") == found


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 1}', '{"format": 99, "rounds": []}'])
def test_a_file_that_is_no_result_is_one_line(
    tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "other.json"
    path.write_text(text)
    assert main(["compare", str(path), str(path)]) == 2
    said = capsys.readouterr().err
    assert "other.json" in said
    assert said.count("\n") == 1


def test_the_page_needs_nothing_else(tmp_path: Path) -> None:
    found = result(1, failed=1)
    found.rounds[0].events.append({"t": 2.0, "what": "a <replica> was killed"})
    found.rounds[0].left = ["user x"]
    found.rounds[0].profiles = {"hub": {"main;<lambda>": 3}}
    found.rounds[0].etcd = {"commits": 5}
    write_report(found, tmp_path, SCENARIOS)
    html = (tmp_path / "report.html").read_text()
    assert "a &lt;replica&gt; was killed" in html
    assert "<replica>" not in html
    assert "&lt;lambda&gt;" in html
    assert "could not be removed: user x" in html
    assert html.count("data:image/png") >= 4
    assert 'src="http' not in html
    text = (tmp_path / "report.md").read_text()
    assert "| small, p99 (ms) |" in text
    assert "failed 24 times: small: answered 503" in text
    # one look after a second: the hub's nine cores, CHP's half
    assert "| hub | 9.0 | 9.0 |" in text
    assert "| node | 0.5 | 0.5 |" in text
    assert "<th>CPU seconds</th>" in html


def test_a_generator_that_is_in_the_way_says_so() -> None:
    busy = result(1)
    # what it uses as users are told to stop
    busy.rounds[0].seconds.append({**second(9, 5, count=0), "late": True, "cpu": 1.5})
    busy.rounds[0].seconds.append({**second(9, 5, count=0), "for_s": 0.02, "cpu": 1.5})
    assert "was not in the way" in generator_note(busy)
    busy.rounds[0].seconds[0]["cpu"] = 0.95
    assert "may be in the way" in generator_note(busy)


def test_nothing_measured_is_still_a_report() -> None:
    found = Result("run", "2026-11-24", "abc")
    found.rounds = [Round("faults", "chp", 1, skipped="it has no agent")]
    assert "it has no agent" in markdown(found, SCENARIOS)
    assert "it has no agent" in page(found, SCENARIOS)


def test_flames_are_as_wide_as_their_share() -> None:
    found = flame_graph({"main;work": 3, "main;wait": 1})
    assert "width='1000.0'" in found
    assert "width='750.0'" in found
    assert "work (75.0%)" in found
    assert flame_graph({}) == "<p>no samples</p>"


H2LOAD = """
Application protocol: h2
finished in 5.00s, 2000.00 req/s, 1.00MB/s
requests: 10003 total, 10032 started, 10000 done, 9999 succeeded, 1 failed, 0 errored, 0 timeout
status codes: 9998 2xx, 1 3xx, 1 4xx, 0 5xx
"""


def test_what_h2load_counted_is_what_was_answered_by_http2() -> None:
    assert parse_h2load(H2LOAD) == Asked(requests=10000, failed=2)
    with pytest.raises(ValueError, match="no result of HTTP/2"):
        parse_h2load(H2LOAD.replace("h2\n", "http/1.1\n"))
    with pytest.raises(ValueError, match="could not connect"):
        parse_h2load("could not connect")


# --- what is refused


def options(*words: str) -> Options:
    command = "equal" if any(word.startswith("--repeats") for word in words) else "run"
    return chosen(parse([command, *words]), lambda name: "")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--hub=hub.example", "--token=x"], "https://hub.example"),
        (["--hub=ftp://hub.example", "--token=x"], "https://hub.example"),
        (["--hub=https://hub.example"], "--token"),
        (["--hub=https://hub.example", "--token=x", "--rate=100000"], "--rate 100000"),
        (["--hub=https://hub.example", "--token=x", "--only=chp"], "--only"),
        (["--hub=https://hub.example", "--token=x", "faults"], "faults"),
        (["--seconds=0"], "--seconds 0"),
        (["--seconds=100000"], "--seconds 100000"),
        (["--users=-1"], "--users -1"),
        (["--rounds=nan"], "rounds"),
        (["latency,speed"], "speed"),
        (["--only=chip"], "chip"),
        (["--fault=disk"], "disk"),
        (["--during=lunch"], "lunch"),
        (["--at=1"], "--at 1"),
        (["--workers=-1"], "--workers -1"),
        (["--real=21"], "--real 21"),
        (["--keep=../x"], "../x"),
        (["--alone=-1"], "--alone -1"),
        (["--repeats=0"], "--repeats 0"),
        (["--repeats=2", "--keep=x"], "--keep x"),
        (["--repeats=2", "--rounds=1"], "--rounds 1"),
        (["--hub=http://[::1", "--token=x"], "http://[::1"),
        (["--hub=https://me:secret@hub.example", "--token=x"], "https://hub.example"),
        (["--hub=https://hub.example", "--token=x", "--profile"], "--profile"),
        (["--hub=https://hub.example", "--tok=x"], "--tok=x"),
        (["--workers=2", "latency"], "--workers"),
        (["--workers=2", "--rounds=1", "latency"], "--workers"),
        (["--workers=2", "--rounds=1", "--only=chp", "latency", "churn"], "--workers"),
        (
            ["--workers=4", "--rounds=1", "--only=chp", "--students=10", "class"],
            "--students 10",
        ),
    ],
)
def test_nonsense_is_refused_with_its_value(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("JUNCTION_LOADTEST_TOKEN", raising=False)
    with pytest.raises(SystemExit) as ended:
        options(*words)
    assert ended.value.code == 2
    assert said in capsys.readouterr().err.splitlines()[-1]


def test_a_deployment_gets_less_by_default() -> None:
    here, there = options(), options("--hub=https://hub.example/hub/", "--token=x")
    assert there.hub == "https://hub.example"
    for what in ("rate", "changes", "users"):
        assert there.settings[what] < here.settings[what]
    assert "faults" not in there.scenarios
    assert not there.settings["may_fail"]


@pytest.mark.parametrize(
    ("url", "local"),
    [
        ("http://127.0.0.1:8000", True), ("http://[::1]:8000", True), ("http://localhost", True),
        ("https://hub.example", False), ("http://10.0.0.1", False), ("http://0.0.0.0", False),
        ("http://localhost.example", False), ("http://127.0.0.1.example", False),
    ],
)  # fmt: skip
def test_only_loopback_is_local(url: str, local: bool) -> None:
    assert is_loopback(url) == local


def test_what_is_not_local_is_not_loaded_unasked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("yes\n"))
    far = options("--hub=https://hub.example", "--token=x")
    with pytest.raises(LoadtestError, match=r"https://hub\.example.*--yes"):
        consent(far)
    consent(dataclasses.replace(far, yes=True))
    consent(options("--hub=http://127.0.0.1:1", "--token=x"))


def test_a_scenario_says_what_it_lacks() -> None:
    stage = Stage(["http://127.0.0.1:1"])
    settings = options().settings
    assert SCENARIOS["latency"].absent(stage, settings) == ""
    for name in ("churn", "faults", "class"):
        assert SCENARIOS[name].absent(stage, settings)


def test_most_requests_failing_ends_the_load() -> None:
    guard, good = Guard(), second(1, 5)["kinds"]
    for _ in range(20):
        guard.second(good)
    bad = second(1, 5, count=1, failed=20)["kinds"]
    guard.second(bad)
    guard.second(bad)
    with pytest.raises(LoadtestError, match=r"of \d+ requests failed .*small: answered 503"):
        guard.second(bad)


def test_a_deployment_that_hangs_ends_the_load() -> None:
    guard = Guard(rate=20)
    guard.second(second(1, 5)["kinds"])
    # what lasts goes on
    echoes = {"WebSocket echo": second(1, 5)["kinds"]["small"]}
    with pytest.raises(LoadtestError, match="no request was answered well for 20 s"):  # noqa: PT012
        for _ in range(20):
            guard.second(echoes)


def test_students_may_be_silent() -> None:
    guard = Guard()
    for _ in range(100):
        guard.second({})


def test_few_requests_a_second_may_fail_as_well() -> None:
    guard, bad = Guard(rate=2), second(1, 5, count=0, failed=1)["kinds"]
    with pytest.raises(LoadtestError, match="5 of 5 requests failed"):  # noqa: PT012
        for _ in range(5):
            guard.second(bad)


def test_changes_that_fail_end_the_load() -> None:
    guard, good = Guard(), second(1, 5)["kinds"]
    done, stopped = {"do": "start", "live_ms": 1.0}, {"do": "stop", "live_ms": 1.0}
    bad = {"do": "start", "failed": "no server"}
    # what did not start is stopped all the same
    guard.second(good, [bad, stopped] * 3 + [done, stopped] + [bad, stopped] * 4)
    with pytest.raises(LoadtestError, match=r"last 5 servers' starts failed \(no server\)"):
        guard.second(good, [done, stopped] + [bad, stopped] * 5)


def test_few_requests_failing_do_not() -> None:
    guard = Guard()
    for _ in range(20):
        guard.second(second(1, 5, count=20, failed=5)["kinds"])


def test_locust_is_nowhere_but_in_its_own_process() -> None:
    code = (
        "import sys, scenarios.__main__, scenarios.remote, scenarios.hubs\n"
        "print([name for name in ('locust', 'gevent') if name in sys.modules])"
    )
    paths = ":".join(str(Path(__file__).resolve().parents[2] / name)
                     for name in ("loadtests", "proxy_plugin/tests", "ci"))  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONPATH": paths, "PATH": "/usr/bin:/bin"},
        capture_output=True, text=True, timeout=180,
    )  # fmt: skip
    assert done.stdout == "[]\n", done.stderr


# --- on Kubernetes

MANIFESTS = Path(__file__).resolve().parents[2] / "loadtests" / "kubernetes" / "loadtest.yaml"


def jobs() -> dict[str, Any]:
    return {
        one["metadata"]["name"]: one["spec"]
        for one in yaml.safe_load_all(MANIFESTS.read_text())
        if one["kind"] == "Job"
    }


def test_the_jobs_are_of_one_mind() -> None:
    spec = jobs()
    words = spec["loadtest"]["template"]["spec"]["containers"][0]["args"]
    assert words[0] == "scenarios"
    told = chosen(parse([*words[1:], "--token=x"]), lambda name: "")
    assert told.settings["workers"] == spec["loadtest-workers"]["parallelism"]
    assert told.settings["workers"] == spec["loadtest-workers"]["completions"]
    assert told.yes
    consent(told)
    worker = spec["loadtest-workers"]["template"]["spec"]["containers"][0]["args"]
    assert worker[2].partition(":")[2] == told.settings["listen"].partition(":")[2]


@pytest.mark.parametrize("name", ["loadtest", "loadtest-workers"])
def test_the_jobs_keep_to_the_restricted_standard(name: str) -> None:
    pod = jobs()[name]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not pod["automountServiceAccountToken"]
    for one in pod["containers"]:
        assert one["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert one["securityContext"]["readOnlyRootFilesystem"]
        assert not one["securityContext"]["allowPrivilegeEscalation"]
    assert jobs()[name]["activeDeadlineSeconds"] <= 3600


def test_kubernetes_knows_every_field() -> None:
    for one in yaml.safe_load_all(MANIFESTS.read_text()):
        kubernetes_validate.validate(one, kubernetes_validate.latest_version(), strict=True)


# --- profiles


def varint(value: int) -> bytes:
    found = b""
    while value > 0x7F:
        found += bytes([value & 0x7F | 0x80])
        value >>= 7
    return found + bytes([value])


def field(number: int, value: int | bytes) -> bytes:
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def go_profile() -> bytes:
    """main calls work 300 times, which calls leaf; work was inlined into one place with main."""
    strings = b"".join(field(6, one) for one in (b"", b"main.main", b"a.host/x/pkg.work", b"leaf"))
    functions = b"".join(field(5, field(1, n) + field(2, n)) for n in (1, 2, 3))
    inlined = field(4, field(1, 1) + field(4, field(1, 2)) + field(4, field(1, 1)))
    leaf = field(4, field(1, 2) + field(4, field(1, 3)))
    sample = field(2, field(1, varint(2) + varint(1)) + field(2, varint(300) + varint(7)))
    return gzip.compress(sample + inlined + leaf + functions + strings)


def test_gos_profiles_are_understood() -> None:
    assert folded(go_profile()) == {"main.main;pkg.work;leaf": 300}


@pytest.mark.parametrize(
    "data",
    [b"", b"404 page not found", go_profile()[:-9], gzip.compress(b"\x12\xff")],
    ids=["empty", "text", "cut", "garbage"],
)
def test_what_is_no_profile_is_said(data: bytes) -> None:
    with pytest.raises(ValueError, match="no profile"):
        folded(data)


def test_etcds_metrics_are_read() -> None:
    text = '# HELP x\netcd_mvcc_put_total 3\nprocess_cpu_seconds_total 1.5e+00\na{b="c"} 4\n'
    assert parse_metrics(text) == {"etcd_mvcc_put_total": 3, "process_cpu_seconds_total": 1.5}
    assert "etcd_mvcc_put_total" in METRICS
