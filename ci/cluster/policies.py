"""Who may talk to whom, by the NetworkPolicies of rendered manifests: evaluated, not enforced.

``differences`` compares a table of flows with what cyclonus says of the policies.  The pods are
those that the manifests make (``Deployment/hub``), and those that the caller adds; a flow names
them, so a renamed or missing pod is an error and never a flow that is silently not looked at.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from .processes import run
from .settings import ClusterError

__all__ = ["Flow", "Peer", "differences", "peers"]

#: what makes pods, and where in it their template is
TEMPLATES = {
    "Pod": (),
    "Deployment": ("spec", "template"),
    "StatefulSet": ("spec", "template"),
    "DaemonSet": ("spec", "template"),
    "Job": ("spec", "template"),
    "CronJob": ("spec", "jobTemplate", "spec", "template"),
}


@dataclass(frozen=True, slots=True)
class Peer:
    """One end of a flow: a pod with labels, or what is outside of the cluster at an address.

    Attributes:
        labels: the pod's; None for what is outside.
        ports: number -> name of the ports that the pod declares.
        address: outside, where; a pod's does not matter unless a policy has an ``ipBlock``.
    """

    labels: Mapping[str, str] | None
    namespace: str = "default"
    namespace_labels: Mapping[str, str] = field(default_factory=dict)
    ports: Mapping[int, str] = field(default_factory=dict)
    address: str = "10.208.9.9"

    def as_traffic(self) -> dict[str, object]:
        if self.labels is None:
            return {"IP": self.address}
        labels = {"kubernetes.io/metadata.name": self.namespace, **self.namespace_labels}
        pod = {"Namespace": self.namespace, "NamespaceLabels": labels, "PodLabels": self.labels}
        return {"IP": self.address, "Internal": pod}


@dataclass(frozen=True, slots=True)
class Flow:
    """A row of the table: may the source open a connection to that port of the destination?"""

    source: str
    destination: str
    port: int
    allowed: bool
    protocol: str = "TCP"

    def __str__(self) -> str:
        return f"{self.source} -> {self.destination} {self.protocol} {self.port}"


def documents(rendered: str) -> list[dict[str, Any]]:
    return [one for one in yaml.safe_load_all(rendered) if isinstance(one, dict)]


def peers(rendered: str, namespace: str = "default") -> dict[str, Peer]:
    """``Kind/name`` -> the pods that the manifests make."""
    found: dict[str, Peer] = {}
    for one in documents(rendered):
        if (path := TEMPLATES.get(one.get("kind", ""))) is None:
            continue
        template = one
        for step in path:
            template = template[step]
        found[f"{one['kind']}/{one['metadata']['name']}"] = Peer(
            labels=template.get("metadata", {}).get("labels") or {},
            namespace=one["metadata"].get("namespace") or namespace,
            ports={
                port["containerPort"]: port.get("name", "")
                for container in template["spec"].get("containers", ())
                for port in container.get("ports") or ()
            },
        )
    return found


def policies(rendered: str, namespace: str) -> list[dict[str, Any]]:
    """The NetworkPolicies, with what the API server would fill in."""
    found = [one for one in documents(rendered) if one.get("kind") == "NetworkPolicy"]
    for one in found:
        one["metadata"].setdefault("namespace", namespace)
        types = ["Ingress", "Egress"] if one["spec"].get("egress") else ["Ingress"]
        one["spec"].setdefault("policyTypes", types)
    return found


def differences(
    rendered: str,
    expected: Iterable[Flow],
    others: Mapping[str, Peer] | None = None,
    namespace: str = "default",
) -> list[str]:
    """Where the policies differ from the table: one line for each such row, none if they agree.

    Args:
        rendered: manifests as YAML, of all charts together.
        expected: the table.
        others: pods that no manifest makes (a user's, one of another namespace), and the outside.
        namespace: of what names none.

    Raises:
        ClusterError: the table names a pod that is not there, or cyclonus cannot evaluate it.
    """
    flows = list(expected)
    known = peers(rendered, namespace) | dict(others or {})
    unknown = {name for flow in flows for name in (flow.source, flow.destination)} - set(known)
    if unknown:
        raise ClusterError(
            f"the table names {', '.join(sorted(unknown))}, there is {', '.join(sorted(known))}"
        )
    traffic = [
        {
            "Source": known[flow.source].as_traffic(),
            "Destination": known[flow.destination].as_traffic(),
            "ResolvedPort": flow.port,
            "ResolvedPortName": known[flow.destination].ports.get(flow.port, ""),
            "Protocol": flow.protocol,
        }
        for flow in flows
    ]
    answers = evaluate(policies(rendered, namespace), traffic)
    return [
        f"{flow}: {'allowed' if allowed else 'denied'},"
        f" {'allowed' if flow.allowed else 'denied'} is expected"
        for flow, allowed in zip(flows, answers, strict=True)
        if allowed != flow.allowed
    ]


def evaluate(listed: list[dict[str, Any]], traffic: list[dict[str, Any]]) -> list[bool]:
    """Whether each of the flows is allowed."""
    kind = {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicyList"}
    with tempfile.TemporaryDirectory() as temporary:
        rules, flows = Path(temporary) / "policies.yaml", Path(temporary) / "traffic.json"
        rules.write_text(json.dumps(kind | {"items": listed}))
        flows.write_text(json.dumps(traffic))
        files = ("--policy-path", rules, "--traffic-path", flows)
        said = run("cyclonus", "analyze", "--mode", "query-traffic", *files)
    answers = re.findall(r"^\| IS ALLOWED\? \| *(TRUE|FALSE) ", said, re.MULTILINE)
    if len(answers) != len(traffic):
        raise ClusterError(f"cyclonus answered {len(answers)} of {len(traffic)} questions: {said}")
    return [answer == "TRUE" for answer in answers]
