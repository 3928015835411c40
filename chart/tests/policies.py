"""Who may talk to whom, by the NetworkPolicies: both ends have to agree."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from rendering import Object

__all__ = ["Peer", "allowed", "selects"]


@dataclass(frozen=True)
class Peer:
    """A pod, or somebody outside (``labels`` is None)."""

    labels: Mapping[str, str] | None = field(default_factory=dict)
    namespace: str = "ns"


def selects(selector: Object, labels: Mapping[str, str]) -> bool:
    """Whether a label selector selects these labels; only what charts here use is understood."""
    assert set(selector) <= {"matchLabels"}, f"not understood: {selector}"
    return all(labels.get(key) == value for key, value in selector.get("matchLabels", {}).items())


def _is_among(peer: Peer, entries: Iterable[Object] | None, namespace: str) -> bool:
    if not entries:
        return True
    for entry in entries:
        if "ipBlock" in entry:
            # pods are in 10.0.0.0/8 here, and the outside is not
            if peer.labels is None and entry["ipBlock"]["cidr"] == "0.0.0.0/0":
                return True
            if peer.labels is not None and entry["ipBlock"]["cidr"] == "10.0.0.0/8":
                return True
            continue
        there = peer.namespace == namespace
        if "namespaceSelector" in entry:
            there = selects(
                entry["namespaceSelector"], {"kubernetes.io/metadata.name": peer.namespace}
            )
        if there and peer.labels is not None and selects(entry.get("podSelector", {}), peer.labels):
            return True
    return False


def _one_way(
    policies: list[Object], here: Peer, other: Peer, port: int, ports: Mapping[str, int], way: str
) -> bool:
    if here.labels is None:
        return True
    mine = [
        policy
        for policy in policies
        if policy["metadata"]["namespace"] == here.namespace
        and way in policy["spec"]["policyTypes"]
        and selects(policy["spec"]["podSelector"], here.labels)
    ]
    peers = "from" if way == "Ingress" else "to"
    for policy in mine:
        for rule in policy["spec"].get(way.lower(), []):
            numbers = {ports.get(one["port"], one["port"]) for one in rule.get("ports", [])}
            if numbers and port not in numbers:
                continue
            if _is_among(other, rule.get(peers), here.namespace):
                return True
    return not mine


def allowed(
    policies: list[Object], source: Peer, target: Peer, port: int, ports: Mapping[str, int]
) -> bool:
    """Whether a connection gets through.

    Args:
        ports: numbers of the target's named ports.
    """
    return _one_way(policies, source, target, port, ports, "Egress") and _one_way(
        policies, target, source, port, ports, "Ingress"
    )
