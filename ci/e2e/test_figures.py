"""What users notice of what happens to Junction: counted by a load that goes on all along."""

from __future__ import annotations

import time

import pytest

from e2e.figures import note
from e2e.load import Counted
from e2e.site import FULL, MEMBERS, REPLICAS, SMALL, Site


def no_request_failed(counted: Counted) -> None:
    assert not counted.failed, counted
    assert not counted.refused, counted


def test_helm_test_adds_fetches_and_deletes_a_route(site: Site) -> None:
    said = site.kube.helm("test", FULL, wait=120)
    assert said.count("added, served, deleted, gone") == 2, said


def test_upgrade_rolls_all_and_no_request_fails(site: Site) -> None:
    before = {pod.metadata.name for pod in site.kube.pods(REPLICAS)}
    grace = SMALL["replica"]["acceptGrace"] + SMALL["replica"]["grace"]
    with site.load(rate=80) as load:
        began = time.monotonic()
        rolled = {"podAnnotations": {"rolled": "yes"}}
        site.upgrade({"replica": rolled, "etcd": rolled})
        site.kube.ready(REPLICAS, 2, 120)
        site.kube.ready(MEMBERS, 3, 240)
        load.more(max(0, 10_000 - load.counted.requests) or 1000)
    note("upgrade of replicas and etcd", load.counted)
    no_request_failed(load.counted)
    assert not before & {pod.metadata.name for pod in site.kube.pods(REPLICAS)}
    assert load.counted.closed, "the WebSockets of the old replicas have to close at last"
    early = [one for one in load.counted.closed if one.at - began < grace - 1]
    assert not early, early
    assert load.counted.requests >= 10_000


@pytest.mark.parametrize("number", [0, 1, 2])
def test_drain_of_a_node_fails_no_request(site: Site, number: int) -> None:
    nodes = site.kube.workers()
    if number >= len(nodes) or len(nodes) < 3:
        pytest.skip(f"a drain needs three nodes to leave two, there are {len(nodes)}")
    node = nodes[number]
    with site.load() as load:
        site.kube.run("kubectl", "cordon", node)
        try:
            site.kube.run(
                "kubectl", "drain", node, "--ignore-daemonsets", "--delete-emptydir-data",
                "--pod-selector=app.kubernetes.io/name=junction", "--timeout=180s",
                deadline=240,
            )  # fmt: skip
            site.kube.ready(REPLICAS, 2, 120)
            load.more(500)
        finally:
            site.kube.run("kubectl", "uncordon", node)
        site.kube.ready(MEMBERS, 3, 180)
        load.more(200)
    note(f"drain of {node}", load.counted)
    no_request_failed(load.counted)
