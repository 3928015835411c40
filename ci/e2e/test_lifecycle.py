"""A release that goes and comes again, and one that is upgraded from an earlier version."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest

from e2e.earlier import earlier_chart
from e2e.figures import note
from e2e.kube import until
from e2e.site import CHART, FULL, MEMBERS, REPLICAS, Site

KEPT: dict[str, Any] = {"etcd": {"persistence": {"whenDeleted": "Retain"}}}


def routes_are_back(site: Site) -> None:
    """The users' servers, which ran all along, are served again."""
    until(site.routes_are_complete, "the users' routes", 60)
    with site.load() as load:
        load.more(100)
    assert not load.counted.failed, load.counted


@pytest.fixture(scope="module")
def left(site: Site, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What an uninstall left; after it an earlier release was installed, whose volumes are kept."""
    site.uninstall()
    with suppress(TimeoutError):
        until(lambda: not site.left(), "nothing to be left", 60)
    found = site.left()
    chart, what = earlier_chart(tmp_path_factory.mktemp("earlier"))
    note("the earlier release", what)
    site.install_again(chart, KEPT)
    return found


def test_an_uninstall_leaves_nothing(left: list[str]) -> None:
    assert left == []


def test_routes_come_back_with_a_new_install(site: Site, left: list[str]) -> None:
    routes_are_back(site)


def test_an_upgrade_from_an_earlier_release_fails_no_request(site: Site, left: list[str]) -> None:
    before = {pod.metadata.uid for pod in site.kube.pods(MEMBERS) + site.kube.pods(REPLICAS)}
    with site.load(rate=80) as load:
        site.upgrade(KEPT)
        site.kube.ready(REPLICAS, 2, 120)
        pods = site.kube.ready(MEMBERS, 3, 240) + site.kube.pods(REPLICAS)
        load.more(300)
    note("upgrade from an earlier release", load.counted)
    assert not load.counted.failed, load.counted
    assert not load.counted.refused, load.counted
    assert not before & {pod.metadata.uid for pod in pods}, "the upgrade has to replace all pods"


def test_volumes_and_their_passwords_are_kept_and_used_again(site: Site) -> None:
    site.upgrade(KEPT)
    cluster = cluster_id(site)
    kept = [f"persistentvolumeclaim/data-{FULL}-etcd-{n}" for n in range(3)]
    kept.append(f"secret/{FULL}-etcd-auth")
    site.uninstall()
    until(lambda: site.left() == kept, f"nothing but {kept} to be left", 60)
    site.install_again(CHART)
    routes_are_back(site)
    assert cluster_id(site) == cluster, "the volumes hold the same etcd"


def cluster_id(site: Site) -> str:
    """Of etcd, as each replica has it from there."""
    pod = site.kube.ready(REPLICAS, 2)[0].metadata.name
    told = site.kube.exec(
        pod, "python3", "-c",
        "import urllib.request as r; print(r.urlopen('http://127.0.0.1:8081/status').read().decode())",
    )  # fmt: skip
    found = json.loads(told)["cluster_id"]
    assert found
    return str(found)
