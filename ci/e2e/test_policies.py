"""The evaluation of NetworkPolicies: what is kept is told from what is not."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from cluster import ClusterError
from cluster.policies import Flow, Peer, differences, peers

ROOT = Path(__file__).resolve().parents[2]

STORE = """
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: etcd}
spec:
  template:
    metadata: {labels: {app: etcd}}
    spec:
      containers: [{name: etcd, ports: [{name: client, containerPort: 2379}]}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: agent}
spec:
  template:
    metadata: {labels: {etcd-client: "true"}}
    spec: {containers: [{name: agent}]}
"""
POLICY = """
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: etcd}
spec:
  podSelector: {matchLabels: {app: etcd}}
  ingress:
    - from: [{podSelector: {matchLabels: {etcd-client: "true"}}}]
      ports: [{port: client}]
"""
OTHERS = {
    "user": Peer({"component": "singleuser"}),
    "elsewhere": Peer({"etcd-client": "true"}, namespace="elsewhere"),
    "outside": Peer(None, address="192.0.2.1"),
}
TABLE = [
    Flow("Deployment/agent", "StatefulSet/etcd", 2379, allowed=True),
    Flow("Deployment/agent", "StatefulSet/etcd", 2380, allowed=False),
    Flow("user", "StatefulSet/etcd", 2379, allowed=False),
    Flow("elsewhere", "StatefulSet/etcd", 2379, allowed=False),
    Flow("outside", "StatefulSet/etcd", 2379, allowed=False),
    Flow("user", "outside", 443, allowed=True),
]


def test_a_table_that_is_kept_has_no_differences() -> None:
    assert differences(STORE + POLICY, TABLE, OTHERS) == []


def test_a_dropped_policy_is_a_difference_in_each_row_that_it_kept() -> None:
    assert differences(STORE, TABLE, OTHERS) == [
        f"{flow}: allowed, denied is expected" for flow in TABLE if not flow.allowed
    ]


def test_a_policy_that_shuts_out_its_own_client_is_a_difference() -> None:
    narrow = POLICY.replace('etcd-client: "true"', 'etcd-client: "none"')
    assert differences(STORE + narrow, TABLE, OTHERS) == [
        f"{TABLE[0]}: denied, allowed is expected"
    ]


def test_a_table_of_pods_that_are_not_there_is_refused() -> None:
    with pytest.raises(ClusterError, match="the table names Deployment/gone, there is"):
        differences(STORE, [Flow("Deployment/gone", "StatefulSet/etcd", 2379, allowed=True)])


#: with ours and Zero to JupyterHub's policies together
TOGETHER = [
    Flow("outside", "Deployment/junction-replica", 8000, allowed=True),
    Flow("outside", "Deployment/junction-replica", 8081, allowed=False),
    Flow("outside", "StatefulSet/junction-etcd", 2379, allowed=False),
    Flow("Deployment/junction-replica", "StatefulSet/junction-etcd", 2379, allowed=True),
    Flow("Deployment/junction-replica", "StatefulSet/junction-etcd", 2380, allowed=False),
    Flow("Deployment/junction-replica", "Deployment/hub", 8081, allowed=True),
    Flow("Deployment/junction-replica", "user", 8888, allowed=True),
    Flow("StatefulSet/junction-etcd", "StatefulSet/junction-etcd", 2380, allowed=True),
    Flow("StatefulSet/junction-etcd", "StatefulSet/junction-etcd", 2379, allowed=True),
    Flow("StatefulSet/junction-etcd", "Deployment/hub", 8081, allowed=False),
    Flow("StatefulSet/junction-etcd", "user", 8888, allowed=False),
    Flow("hub with Junction", "StatefulSet/junction-etcd", 2379, allowed=True),
    Flow("hub with Junction", "StatefulSet/junction-etcd", 2380, allowed=False),
    # the hub that does not use it yet, and whoever runs code of users
    Flow("Deployment/hub", "StatefulSet/junction-etcd", 2379, allowed=False),
    Flow("user", "StatefulSet/junction-etcd", 2379, allowed=False),
    Flow("user", "StatefulSet/junction-etcd", 2380, allowed=False),
    Flow("user", "Deployment/junction-replica", 8081, allowed=False),
    Flow("elsewhere", "StatefulSet/junction-etcd", 2379, allowed=False),
    # what was there before goes on
    Flow("outside", "Deployment/proxy", 8000, allowed=True),
    Flow("Deployment/proxy", "Deployment/hub", 8081, allowed=True),
    Flow("Deployment/hub", "Deployment/proxy", 8001, allowed=True),
]


def test_the_chart_beside_zero_to_jupyterhub_keeps_the_table() -> None:
    shared = ROOT.parent / "shared" / "z2jh" / "default.yaml"
    if not shared.is_file():
        pytest.skip(f"{shared} is not there: what Zero to JupyterHub renders")
    ours = subprocess.run(
        ["helm", "template", "junction", ROOT / "chart" / "junction", "--kube-version=1.34.0",
         "--namespace=jhub", "--set=jupyterhub.enabled=true,jupyterhub.releaseName=jhub"],
        check=True, capture_output=True, text=True, timeout=60,
    ).stdout  # fmt: skip
    z2jh = shared.read_text()
    both = f"{z2jh}\n---\n{ours}"
    hub = peers(both, "jhub")["Deployment/hub"]
    labels = {**(hub.labels or {}), "junction.jupyter.org/etcd-client": "true"}
    user = {"app": "jupyterhub", "release": "jhub", "component": "singleuser-server"}
    others = {
        "hub with Junction": replace(hub, labels=labels),
        "user": Peer(user, namespace="jhub", ports={8888: "notebook-port"}),
        "elsewhere": Peer({"junction.jupyter.org/etcd-client": "true"}, namespace="elsewhere"),
        "outside": Peer(None, address="192.0.2.1"),
    }
    assert differences(both, TOGETHER, others, namespace="jhub") == []
