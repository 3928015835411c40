"""Changes of a release that is there: what a StatefulSet keeps, or a quorum would not outlive."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_cluster import Cluster, cluster
from rendering import EXISTING, EXTERNAL, FULL, Refused, merged, nested, render

BEFORE = merged(EXISTING, nested("etcd.replicas", 7))


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Has one release, of seven members with volumes; a test puts it back as it was."""
    with cluster(tmp_path_factory.mktemp("live")) as running:
        running.install(BEFORE)
        yield running


def upgrade(here: Cluster, *values: Any) -> None:
    there = copy.deepcopy(here.sets)
    try:
        here.install(merged(BEFORE, *values))
    finally:
        here.sets = there


@pytest.mark.parametrize(
    ("key", "values", "said"),
    [
        ("etcd.replicas", nested("etcd.replicas", 3), "set it to 5"),
        ("etcd.replicas", nested("etcd.replicas", 1), "set it to 5"),
        ("etcd.persistence.enabled", nested("etcd.persistence.enabled", False), "set it to true"),
        ("etcd.persistence.size", nested("etcd.persistence.size", "8Gi"), "set it to 4Gi"),
        ("etcd.persistence.storageClass", nested("etcd.persistence.storageClass", "x"), 'to ""'),
        (
            "etcd.persistence.accessModes",
            nested("etcd.persistence.accessModes", ["ReadWriteOncePod"]),
            "ReadWriteOnce",
        ),
        ("etcd.persistence.annotations", nested("etcd.persistence.annotations.a", "b"), "to {}"),
        ("nameOverride", {"nameOverride": "x", "fullnameOverride": FULL}, "leave it as it was"),
    ],
)
def test_what_cannot_be_changed_names_the_key_and_the_mend(
    here: Cluster, key: str, values: Any, said: str
) -> None:
    with pytest.raises(Refused) as refused:
        upgrade(here, values)
    line = re.search(r"junction: (\S+) (.+)", str(refused.value))
    assert line, refused.value
    assert line[1] == key
    assert said in line[2]
    if "persistence" in key:
        assert f"kubectl delete statefulset {FULL}-etcd --cascade=orphan --namespace ns" in line[2]
    render(merged(BEFORE, values))  # without a cluster nothing is known, and nothing refused


@pytest.mark.parametrize(
    "values",
    [
        {},
        nested("etcd.replicas", 5),
        nested("etcd.replicas", 9),
        nested("etcd.persistence.size", "4096Mi"),
        nested("etcd.persistence.size", "4.0Gi"),
        nested("etcd.persistence.whenDeleted", "Retain"),
        nested("etcd.quota", 16777216),
    ],
)
def test_what_can_be_changed_is(here: Cluster, values: Any) -> None:
    upgrade(here, values)


def test_another_etcd_may_take_the_place_of_the_charts(here: Cluster) -> None:
    there = copy.deepcopy(here.sets)
    here.install(EXTERNAL)
    here.sets = there


def test_volumes_are_not_given_to_members_that_have_none(tmp_path: Path) -> None:
    with cluster(tmp_path) as running:
        running.install(merged(EXISTING, nested("etcd.persistence.enabled", False)))
        with pytest.raises(Refused, match=r"persistence\.enabled is true, .*set it to false"):
            running.install(EXISTING)
