"""Parts of Junction killed, lost or cut off, under a load that counts what users notice."""

from __future__ import annotations

import time
from typing import Any

import cluster
import pytest

from e2e import faults
from e2e.figures import note
from e2e.kube import until
from e2e.load import Counted
from e2e.site import MEMBERS, REPLICAS, Site

#: of the agent's command line
AGENT = "jupyterhub_junction.cli agent"
#: seconds around a kill in which what was in flight may fail
MARGIN = 3.0


def lost(counted: Counted, at: float, most: int) -> None:
    """No request failed but those that were in flight when something was killed, or seen dead."""
    later = [one for one in counted.failed if one.began > at]
    assert not later, f"began later: {later[:5]} of {counted}"
    assert len(counted.failed) <= most, counted


def killed(site: Site, selector: str, program: str) -> tuple[Any, float]:
    pod = site.kube.ready(selector, 3 if selector == MEMBERS else 2)[0]
    faults.kill(pod, program)
    return pod, time.monotonic()


@pytest.mark.usefixtures("owned")
def test_a_killed_traefik_fails_only_what_was_in_flight_on_it(site: Site) -> None:
    with site.load(websockets=12) as load:
        pod, at = killed(site, REPLICAS, "traefik")
        load.more(600)
        # whom the kernel let in before its supervisor had seen it dead was about to be its user
        seen = site.kube.logged(pod.metadata.name, "traefik ended with code -9")
        at = min(max(at, seen), at + MARGIN)
    note("a Traefik killed", load.counted)
    lost(load.counted, at, most=5)
    assert 0 < len(load.counted.closed) < 12, "those on the other replica stay open"


@pytest.mark.usefixtures("owned")
def test_a_killed_agent_fails_nothing(site: Site) -> None:
    with site.load() as load:
        killed(site, REPLICAS, AGENT)
        load.more(600)
    note("an agent killed", load.counted)
    assert not load.counted.failed, load.counted
    assert not load.counted.closed, load.counted


@pytest.mark.usefixtures("owned")
def test_a_killed_etcd_member_fails_nothing(site: Site) -> None:
    with site.load() as load:
        killed(site, MEMBERS, "/usr/local/bin/etcd")
        site.hub.stop_server("ada")
        site.hub.start_server("ada")
        load.more(300)
        site.kube.ready(MEMBERS, 3, 120)
    ours = [one for one in load.counted.failed if "/ada/" not in one.path]
    assert not ours, load.counted


@pytest.mark.usefixtures("owned")
def test_a_killed_hub_fails_nothing(site: Site) -> None:
    with site.load() as load:
        faults.kill(site.kube.ready("component=hub", 1)[0], "jupyterhub")
        load.more(600)
        until(site.hub.answers, "the hub again", 120)
        load.more(300)
    note("the hub killed", load.counted)
    assert not load.counted.failed, load.counted
    assert not load.counted.closed, load.counted


def test_a_members_lost_volume_heals_by_itself(site: Site) -> None:
    with site.load() as load:
        pod = site.kube.ready(MEMBERS, 3)[-1]
        claim = f"data-{pod.metadata.name}"
        site.kube.kubectl("delete", "pvc", claim, "--wait=false")
        site.kube.kubectl("delete", "pod", pod.metadata.name)
        began = time.monotonic()
        site.kube.ready(MEMBERS, 3, 60)
        took = time.monotonic() - began
        load.more(100)
    assert not load.counted.failed, load.counted
    assert not load.counted.closed, load.counted
    note("a member's volume lost", f"back in quorum after {took:.1f} s; {load.counted}")


def test_all_of_etcd_lost_and_the_table_comes_back(site: Site) -> None:
    with site.load() as load:
        names = [pod.metadata.name for pod in site.kube.ready(MEMBERS, 3)]
        for name in names:
            site.kube.kubectl("delete", "pvc", f"data-{name}", "--wait=false")
        site.kube.kubectl("delete", "pod", "--grace-period=0", "--force", *names)
        site.kube.ready(MEMBERS, 3, 180)
        until(lambda: complete(site), "the table to be complete again", 120)
        load.more(300)
    note("all of etcd lost, volumes too", load.counted)
    assert not load.counted.failed, load.counted
    assert not load.counted.closed, load.counted


def complete(site: Site) -> bool:
    try:
        return site.routes_are_complete()
    except OSError:
        return False


@pytest.mark.usefixtures("owned")
def test_a_replica_cut_off_from_etcd_serves_on_and_holds_nobody_up(site: Site) -> None:
    pod = site.kube.ready(REPLICAS, 2)[0]
    with site.load() as load:
        with faults.cut_off(pod, AGENT, 2379):
            began = time.monotonic()
            site.hub.stop_server("ada")
            site.hub.start_server("ada")
            took = time.monotonic() - began
            load.more(300)
        load.more(100)
        site.kube.ready(REPLICAS, 2, 60)
        # it has caught up: whichever replica is asked, ada's new server answers
        failed = len(load.counted.failed)
        load.more(300)
        assert len(load.counted.failed) == failed, load.counted
    ours = [one for one in load.counted.failed if "/ada/" not in one.path]
    assert not ours, load.counted
    note("a replica cut off from etcd", f"a server stopped and started in {took:.1f} s meanwhile")


@pytest.mark.usefixtures("owned")
def test_a_killed_node_costs_at_most_its_replicas_share(site: Site) -> None:
    kube = site.kube
    hub = kube.ready("component=hub", 1)[0].spec.node_name
    # its death takes a replica, and neither the hub nor a user's server
    node = ({pod.spec.node_name for pod in kube.ready(REPLICAS, 2)} - {hub}).pop()
    with site.load(websockets=12) as load:
        cluster.kill(node)
        at = time.monotonic()
        try:
            until(lambda: gone(site, node), f"the replica on {node} out of the Service", 60)
            out = time.monotonic()
            load.more(600)
            share = len([one for one in load.counted.failed if one.began <= out + MARGIN])
            later = [one for one in load.counted.failed if one.began > out + MARGIN]
            total = max(1, int((out - at + MARGIN) * load.rate))
            note(
                "a node killed",
                f"out of the Service after {out - at:.1f} s, {share} of {total} failed meanwhile;"
                f" {load.counted}",
            )
            assert not later, load.counted
            assert share <= total * 0.7, load.counted
        finally:
            cluster.heal(node)
    kube.ready(REPLICAS, 2, 180)
    kube.ready(MEMBERS, 3, 180)


def gone(site: Site, node: str) -> bool:
    """Whether no ready endpoint of the Service is on the node."""
    from kubernetes import client

    slices: Any = client.DiscoveryV1Api().list_namespaced_endpoint_slice(
        site.kube.namespace, label_selector="kubernetes.io/service-name=junction"
    )
    return not any(
        one.node_name == node and one.conditions.ready
        for each in slices.items
        for one in each.endpoints or ()
    )
