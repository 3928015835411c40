"""The evaluation of NetworkPolicies: what is kept is told from what is not."""

from __future__ import annotations

import pytest
from cluster import ClusterError
from cluster.policies import Flow, Peer, differences

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
