"""The load tests' Jobs as they are given: master and workers load Junction from inside."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from e2e.kube import until
from e2e.site import FULL, ROOT, TOKEN, Site

MANIFESTS = ROOT / "loadtests" / "kubernetes" / "loadtest.yaml"
IMAGE = "localhost/junction-test/loadtest:0.1.0"
WORKERS = 2
#: in place of what the file loads
TINY = (
    "scenarios", "run", "latency", f"--hub=http://{FULL}", "--yes", "--routes=1", "--users=6",
    "--rate=20", "--seconds=6", f"--workers={WORKERS}", "--listen=0.0.0.0:5557",
    "--out=/tmp/report", "--print",
)  # fmt: skip


def manifests() -> list[dict[str, Any]]:
    """The file's own, but for the image, what is loaded and how much, and room on small nodes."""
    found = list(yaml.safe_load_all(MANIFESTS.read_text()))
    for one in found:
        if one["kind"] != "Job":
            continue
        spec = one["spec"]
        (inside,) = spec["template"]["spec"]["containers"]
        inside |= {"image": IMAGE, "resources": {"requests": {"cpu": "50m", "memory": "128Mi"}}}
        if "parallelism" in spec:
            spec |= {"parallelism": WORKERS, "completions": WORKERS}
        else:
            inside["args"] = list(TINY)
    return found


@pytest.fixture
def jobs(site: Site) -> Iterator[None]:
    """The Jobs, run as the file's first lines say."""
    kube = site.kube
    text = yaml.safe_dump_all(manifests())
    kube.kubectl("create", "secret", "generic", "loadtest", f"--from-literal=token={TOKEN}")
    try:
        kube.kubectl("apply", "-f-", stdin=text)
        yield
    finally:
        kube.kubectl("delete", "-f-", "--ignore-not-found", stdin=text, check=False)
        kube.kubectl("delete", "secret", "loadtest", check=False)


def over(site: Site, job: str) -> bool:
    """Whether it has done its work; an error if it has failed."""
    found = json.loads(site.kube.kubectl("get", "job", job, "-o", "json"))
    done = {one["type"] for one in found["status"].get("conditions", []) if one["status"] == "True"}
    assert "Failed" not in done, site.kube.kubectl("logs", f"job/{job}", check=False)[-4000:]
    return "Complete" in done


def answered(report: dict[str, Any], kind: str) -> int:
    return sum(
        sum(line["kinds"].get(kind, {"times": {}})["times"].values())
        for one in report["rounds"]
        for line in one["seconds"]
    )


def test_the_jobs_load_a_hub_report_and_leave_nothing(site: Site, jobs: None) -> None:
    before = {one["name"] for one in site.hub.ask("GET", "/users")}
    until(lambda: over(site, "loadtest"), "the load test to end", 300)
    said = site.kube.kubectl("logs", "job/loadtest", "-c", "loadtest")
    lines = said.strip().splitlines()
    assert any(line.startswith("# Load test of ") for line in lines), said[-4000:]
    report = json.loads(lines[-1])
    assert report["target"].startswith(f"http://{FULL}, JupyterHub ")
    (one,) = report["rounds"]
    assert not one["failed"], one["failed"]
    assert not one["left"]
    assert answered(report, "small") > 0, said[-4000:]
    assert answered(report, "WebSocket echo") > 0, said[-4000:]
    assert max(line["users"] for line in one["seconds"]) >= 6
    # what each worker did came to the report, and none has failed
    until(lambda: over(site, "loadtest-workers"), "the workers to end with it", 60)
    # its users, and their servers
    assert {one["name"] for one in site.hub.ask("GET", "/users")} <= before
    assert not [path for path in site.hub.routes() if "loadtest-" in path]
