"""Selectors find their pods, ports have names that are there, and NetworkPolicies say who may."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from options import GROUPS
from policies import Peer, allowed, selects
from rendering import (
    FULL,
    ROOT,
    Object,
    at,
    containers,
    merged,
    nested,
    pods,
    render,
)

CLIENT = {"junction.jupyter.org/etcd-client": "true"}
CASES = ("base", "tls", "z2jh", "scaled", "external")


def labels(pod: Object) -> dict[str, str]:
    found = pod["metadata"]["labels"]
    assert isinstance(found, dict)
    return found


def port_names(pod: Object) -> dict[str, int]:
    every = [port for one in containers(pod) for port in one.get("ports", [])]
    return {port["name"]: port["containerPort"] for port in every}


@pytest.mark.parametrize("case", CASES)
def test_every_selector_finds_one_kind_of_pods(case: str) -> None:
    objects = render(GROUPS[case])
    everyone = dict(pods(objects))
    for name, thing in objects.items():
        selector = at(thing, "spec/selector") or at(thing, "spec/podSelector")
        if not selector:
            continue
        if thing["kind"] == "Service":
            selector = {"matchLabels": selector}
        found = [owner for owner, pod in everyone.items() if selects(selector, labels(pod))]
        component = thing["metadata"]["labels"]["app.kubernetes.io/component"]
        wanted = {
            "replica": f"Deployment/{FULL}-replica",
            "etcd": f"StatefulSet/{FULL}-etcd",
            "test": f"Pod/{FULL}-test",
        }
        assert found == [wanted[component]], name
        if thing["kind"] == "Service":
            for port in thing["spec"]["ports"]:
                assert port["targetPort"] in port_names(everyone[found[0]]), name
        if thing["kind"] in ("Deployment", "StatefulSet"):
            spread = at(thing, "spec/template/spec/topologySpreadConstraints")
            assert [one["topologyKey"] for one in spread] == [
                "kubernetes.io/hostname",
                "topology.kubernetes.io/zone",
            ]
            for one in spread:
                assert selects(one["labelSelector"], labels(everyone[found[0]]))


@pytest.mark.parametrize("case", CASES)
def test_probes_name_ports_that_are_there(case: str) -> None:
    for _, pod in pods(render(GROUPS[case])):
        for container in containers(pod):
            own = {port["name"] for port in container.get("ports", [])}
            for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
                if probe in container:
                    assert container[probe]["httpGet"]["port"] in own


@pytest.mark.parametrize("case", CASES)
def test_every_mount_has_its_volume(case: str) -> None:
    objects = render(GROUPS[case])
    for name, pod in pods(objects):
        volumes = {one["name"] for one in pod["spec"].get("volumes") or []}
        claims = at(objects[name], "spec/volumeClaimTemplates") or []
        volumes |= {one["metadata"]["name"] for one in claims}
        mounted = {one["name"] for c in containers(pod) for one in c.get("volumeMounts") or []}
        assert mounted == volumes, name


def test_two_releases_in_one_namespace_do_not_meet() -> None:
    service = render()[f"Service/{FULL}"]
    other = render(nested("fullnameOverride", "other"))
    assert not set(other) & set(render())
    selector = service["spec"]["selector"]
    assert selector["app.kubernetes.io/instance"] == "rel"


def world(*values: Any) -> tuple[list[Object], dict[str, Peer], dict[str, int]]:
    """Policies, who there is, and the replicas' named ports."""
    objects = render(*values)
    found = [one for one in objects.values() if one["kind"] == "NetworkPolicy"]
    everyone = dict(pods(objects))
    peers = {
        "replica": Peer(labels(everyone[f"Deployment/{FULL}-replica"])),
        "test": Peer(labels(everyone[f"Pod/{FULL}-test"])),
        "hub": Peer({"app": "jupyterhub", "component": "hub", "release": "rel", **CLIENT}),
        "user": Peer({"app": "jupyterhub", "component": "singleuser-server", "release": "rel"}),
        "stranger": Peer({"app": "other"}),
        "elsewhere": Peer({**CLIENT}, "elsewhere"),
        "dns": Peer({"k8s-app": "kube-dns"}, "kube-system"),
        "outside": Peer(None),
    }
    if etcd := everyone.get(f"StatefulSet/{FULL}-etcd"):
        peers["etcd"] = Peer(labels(etcd))
    return found, peers, port_names(everyone[f"Deployment/{FULL}-replica"])


#: source, target, port, whether it gets through: plain, and with z2jh's labels
TABLE = [
    ("outside", "replica", 8000, True, True),
    ("stranger", "replica", 8000, True, True),
    ("user", "replica", 8000, True, True),
    ("outside", "replica", 8081, False, False),
    ("stranger", "replica", 8081, False, False),
    ("replica", "hub", 8081, True, True),
    ("replica", "user", 8888, True, True),
    ("replica", "stranger", 80, True, False),
    ("replica", "user", 22, True, False),
    ("replica", "etcd", 2379, True, True),
    ("replica", "etcd", 2380, False, False),
    ("replica", "dns", 53, True, True),
    ("replica", "outside", 443, False, False),
    ("replica", "test", 8099, True, True),
    ("test", "replica", 8000, True, True),
    ("test", "etcd", 2379, True, True),
    ("test", "etcd", 2382, True, True),
    ("hub", "etcd", 2382, False, False),
    ("test", "dns", 53, True, True),
    ("test", "outside", 443, False, False),
    ("stranger", "test", 8099, False, False),
    ("hub", "etcd", 2379, True, True),
    ("hub", "etcd", 2380, False, False),
    ("user", "etcd", 2379, False, False),
    ("user", "etcd", 2381, False, False),
    ("stranger", "etcd", 2379, False, False),
    ("elsewhere", "etcd", 2379, False, False),
    ("outside", "etcd", 2379, False, False),
    ("etcd", "etcd", 2379, True, True),
    ("etcd", "etcd", 2380, True, True),
    ("etcd", "dns", 53, True, True),
    ("etcd", "hub", 8081, False, False),
    ("etcd", "outside", 443, False, False),
]


@pytest.mark.parametrize(("source", "target", "port", "plain", "z2jh"), TABLE)
def test_who_may_talk_to_whom(source: str, target: str, port: int, plain: bool, z2jh: bool) -> None:
    for case, wanted in (("base", plain), ("z2jh", z2jh)):
        policies, peers, ports = world(GROUPS[case])
        assert allowed(policies, peers[source], peers[target], port, ports) is wanted, case


def test_without_policies_all_get_through() -> None:
    policies, peers, ports = world(GROUPS["base"], nested("networkPolicy.enabled", False))
    assert policies == []
    assert allowed(policies, peers["stranger"], peers["etcd"], 2379, ports)


def test_every_pod_is_under_a_policy_for_both_ways() -> None:
    for case in CASES:
        objects = render(GROUPS[case])
        for name, pod in pods(objects):
            policies = [one["spec"] for one in objects.values() if one["kind"] == "NetworkPolicy"]
            mine = [one for one in policies if selects(one["podSelector"], labels(pod))]
            assert [sorted(one["policyTypes"]) for one in mine] == [["Egress", "Ingress"]], name


def test_metrics_and_users_can_be_narrowed() -> None:
    scraper = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "elsewhere"}}}
    narrow = nested("networkPolicy", {"metricsFrom": [scraper], "usersFrom": [scraper]})
    policies, peers, ports = world(GROUPS["base"], narrow)
    for target, port in (("replica", 8081), ("etcd", 2381), ("etcd", 2382), ("replica", 8000)):
        assert allowed(policies, peers["elsewhere"], peers[target], port, ports)
        assert not allowed(policies, peers["stranger"], peers[target], port, ports)
    assert allowed(policies, peers["test"], peers["replica"], 8000, ports), "helm test"


def test_an_external_etcd_is_reached_on_its_ports() -> None:
    endpoints = ["https://a:12379", "https://b", "http://c"]
    for plain, wanted in ((endpoints, {12379, 443, 80}), (endpoints[:2], {12379, 443})):
        given = nested("etcd.external", {"endpoints": plain, "tlsSecret": ""})
        policies, peers, ports = world(merged(GROUPS["external"], given))
        for port in (12379, 443, 80, 2379):
            through = allowed(policies, peers["replica"], peers["outside"], port, ports)
            assert through is (port in wanted)


def z2jh_file(name: str) -> Path:
    """What z2jh renders, kept beside the checkout: $Z2JH_RENDERED, or shared/z2jh next to it."""
    given = os.environ.get("Z2JH_RENDERED")
    places = [Path(given)] if given else [one / "shared" / "z2jh" for one in ROOT.parents]
    found = next((one / name for one in places if (one / name).is_file()), None)
    if found is None:
        pytest.skip("no rendered z2jh here: name its folder in Z2JH_RENDERED")
    return found


def z2jh(name: str) -> Iterator[Object]:
    for thing in yaml.safe_load_all(z2jh_file(name).read_text()):
        if thing:
            thing["metadata"].setdefault("namespace", "ns")
            yield thing


@pytest.mark.parametrize(
    ("name", "group"),
    [
        ("default.yaml", "base"),
        ("https-offload.yaml", "base"),
        ("ingress.yaml", "base"),
        ("https-letsencrypt.yaml", "base"),
        ("https-secret.yaml", "tls"),
        ("https-manual.yaml", "tls"),
    ],
)
def test_replicas_join_proxy_public(name: str, group: str) -> None:
    theirs = {f"{one['kind']}/{one['metadata']['name']}": one for one in z2jh(name)}
    ours = merged(GROUPS[group], nested("jupyterhub", {"enabled": True, "releaseName": "jhub"}))
    replica = dict(pods(render(ours)))[f"Deployment/{FULL}-replica"]
    # with letsencrypt, what ends TLS sends all to proxy-http
    public = "Service/proxy-http" if "letsencrypt" in name else "Service/proxy-public"
    service = theirs[public]["spec"]
    assert selects({"matchLabels": service["selector"]}, labels(replica))
    assert {port["targetPort"] for port in service["ports"]} <= set(port_names(replica))
    alone = dict(pods(render(GROUPS["base"])))[f"Deployment/{FULL}-replica"]
    assert not selects({"matchLabels": service["selector"]}, labels(alone))


def test_replicas_pass_z2jh_s_own_policies() -> None:
    theirs = [one for one in z2jh("default.yaml") if one["kind"] == "NetworkPolicy"]
    everyone = [pod for one in z2jh("default.yaml") for _, pod in pods({"": one})]
    hub = next(pod for pod in everyone if labels(pod)["component"] == "hub")
    user = Peer({"app": "jupyterhub", "component": "singleuser-server", "release": "jhub"})
    values = merged(GROUPS["z2jh"], nested("jupyterhub.releaseName", "jhub"))
    policies, peers, ports = world(values)
    ports = {**ports, "http": 8081, "notebook-port": 8888}
    at_hub = Peer({**labels(hub), **CLIENT})
    for policy in theirs:
        for rule in policy["spec"].get("ingress", []) + policy["spec"].get("egress", []):
            for peer in (rule.get("from") or []) + (rule.get("to") or []):
                peer.get("ipBlock", {}).pop("except", None)
    assert allowed(policies + theirs, peers["replica"], at_hub, 8081, ports)
    assert allowed(policies + theirs, peers["replica"], user, 8888, ports)
    assert allowed(policies + theirs, at_hub, peers["etcd"], 2379, ports)
    assert not allowed(policies + theirs, user, peers["etcd"], 2379, ports)
    assert not allowed(policies + theirs, peers["stranger"], user, 8888, ports)


def test_labels_of_z2jh_fit_its_hub_and_user_pods() -> None:
    wanted = set()
    for thing in z2jh("default.yaml"):
        if thing["kind"] == "NetworkPolicy" and thing["metadata"]["name"] in ("hub", "singleuser"):
            for rule in thing["spec"]["ingress"]:
                for peer in rule.get("from", []):
                    wanted |= set(peer["podSelector"]["matchLabels"].items())
    replica = dict(pods(render(GROUPS["z2jh"])))[f"Deployment/{FULL}-replica"]
    assert wanted
    assert wanted <= set(labels(replica).items())
