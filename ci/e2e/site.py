"""One installed Junction with a hub and running user servers."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .hub_client import Hub
from .kube import Kube, until
from .load import Load

__all__ = ["CHART", "FULL", "MEMBERS", "REPLICAS", "Site", "new_namespace"]

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "chart" / "junction"
HUB_CHART = Path(__file__).parent / "hub"
FULL = "junction"
REPLICAS = "app.kubernetes.io/name=junction,app.kubernetes.io/component=replica"
MEMBERS = "app.kubernetes.io/name=junction,app.kubernetes.io/component=etcd"
USERS = ("ada", "béla", "has@")
TOKEN = "token-admin"  # noqa: S105

#: small, for three nodes that share two cores; all else is the chart's own defaults
SMALL: dict[str, Any] = {
    "replica": {
        "resources": {"requests": {"cpu": "50m", "memory": "128Mi"}},
        "acceptGrace": 8,
        "grace": 10,
    },
    "etcd": {
        "resources": {"requests": {"cpu": "50m", "memory": "64Mi"}},
        "persistence": {"size": "1Gi"},
    },
    "service": {"type": "NodePort"},
}


def merged(*parts: Mapping[str, Any]) -> dict[str, Any]:
    """Values as Helm merges them: later ones win, maps are merged, lists are replaced."""
    found: dict[str, Any] = {}
    for part in parts:
        for key, value in part.items():
            both = isinstance(value, Mapping) and isinstance(found.get(key), Mapping)
            found[key] = merged(found[key], value) if both else value
    return found


@contextmanager
def new_namespace(kubeconfig: Path, enforce: str = "restricted") -> Iterator[Kube]:
    """A namespace of its own, with all that was in it gone at the end."""
    kube = Kube(kubeconfig, f"e2e-{uuid.uuid4().hex[:6]}")
    kube.run("kubectl", "create", "namespace", kube.namespace)
    kube.run(
        "kubectl", "label", "namespace", kube.namespace,
        f"pod-security.kubernetes.io/enforce={enforce}",
    )  # fmt: skip
    try:
        yield kube
    finally:
        kube.run("kubectl", "delete", "namespace", kube.namespace, "--wait=false", check=False)
        # nobody waits for what a drain would wait for
        kube.kubectl("delete", "pods", "--all", "--grace-period=1", "--wait=false", check=False)
        kube.run(
            "kubectl", "wait", "--for=delete", f"namespace/{kube.namespace}", "--timeout=120s",
            check=False, deadline=180,
        )  # fmt: skip


def hub_values() -> dict[str, Any]:
    """The hub's values: Junction's hub image, and etcd's access from the chart's Secret."""
    names = ["", "_PREFIX", "_USERNAME", "_PASSWORD", "_CA", "_CERT", "_KEY"]
    access = {
        f"JUNCTION_ETCD{name}": {
            "valueFrom": {
                "secretKeyRef": {"name": f"{FULL}-etcd-hub-access", "key": f"JUNCTION_ETCD{name}"}
            }
        }
        for name in names
    }
    return {
        "hub": {
            "labels": {"junction.jupyter.org/etcd-client": "true"},
            "extraEnv": access,
        }
    }


class Site:
    """Junction and a hub in one namespace.

    Args:
        kube: the namespace.
        node: where the hub and the users' servers run, so that others may die; anywhere if empty.
    """

    def __init__(self, kube: Kube, node: str = "") -> None:
        self.kube = kube
        self.values: dict[str, Any] = SMALL
        here = {"nodeSelector": {"kubernetes.io/hostname": node} if node else {}}
        self.hub_values = merged(hub_values(), {"hub": here, "singleuser": here})
        self.chart = CHART
        self.url = ""

    @property
    def hub(self) -> Hub:
        """The hub behind the proxy."""
        return Hub(self.url, TOKEN)

    def install(self, users: Sequence[str] = USERS) -> None:
        """Install both, and run the users' servers."""
        # no replica is ready before a hub has written a table, so neither can wait for the other
        self.kube.helm("install", FULL, str(CHART), values=self.values, wait=0)
        self.kube.helm("install", "hub", str(HUB_CHART), values=self.hub_values)
        self._until_served()
        for user in users:
            self.hub.start_server(user)

    def _until_served(self) -> None:
        self.kube.ready(REPLICAS, 2)
        self.kube.ready(MEMBERS, 3)
        self.url = self.kube.node_port(FULL)
        until(self.hub.answers, "the hub through the proxy", 60)

    def uninstall(self) -> None:
        """Take Junction away, and nothing else; what stays is in :meth:`left`."""
        self.kube.helm("uninstall", FULL, "--wait", "--timeout=120s")

    def left(self) -> list[str]:
        """All objects of Junction's release, of whatever kind: ``kind/name``."""
        words = ["api-resources", "--verbs=list", "--namespaced", "-o", "name"]
        kinds = [kind for kind in self.kube.kubectl(*words).split() if "events" not in kind]
        ours = f"app.kubernetes.io/name=junction,app.kubernetes.io/instance={FULL}"
        there = self.kube.kubectl(
            "get", ",".join(kinds), "-l", ours, "-o", "name", "--ignore-not-found"
        )
        # kubectl warns of kinds that are on their way out
        return sorted(line for line in there.splitlines() if line and " " not in line)

    def install_again(self, chart: Path, values: Mapping[str, Any] | None = None) -> None:
        """Install Junction anew under the hub and the servers that run on."""
        self.kube.helm("install", FULL, str(chart), values=self.with_values(values or {}), wait=0)
        self.kube.ready(MEMBERS, 3, 240)
        # its certificates are new, and the hub has the old ones in its environment
        self.kube.kubectl("rollout", "restart", "deployment/hub")
        self.kube.kubectl("rollout", "status", "deployment/hub", "--timeout=180s")
        self._until_served()

    def upgrade(self, values: Mapping[str, Any] | None = None, *more: str, wait: int = 300) -> str:
        """``helm upgrade`` with values beside the site's own."""
        given = merged(self.values, values or {})
        return self.kube.helm("upgrade", FULL, str(CHART), *more, values=given, wait=wait)

    def with_values(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The site's own values with others on top."""
        return merged(self.values, values)

    def upgrade_hub(self, values: Mapping[str, Any] | None = None) -> None:
        """``helm upgrade`` of the hub with values beside its own."""
        given = merged(self.hub_values, values or {})
        self.kube.helm("upgrade", "hub", str(HUB_CHART), values=given)
        until(self.hub.answers, "the hub through the proxy", 60)

    def knows(self, routes: int) -> bool:
        """Whether every replica's table has at least so many routes."""
        counts = []
        for pod in self.kube.pods(REPLICAS):
            told = self.kube.exec(
                pod.metadata.name, "python3", "-c",
                "import urllib.request as r; print(r.urlopen('http://127.0.0.1:8081/status').read().decode())",
            )  # fmt: skip
            counts.append(json.loads(told)["routes"])
        return bool(counts) and min(counts) >= routes

    def said_of_new(self, before: set[str]) -> str:
        """Logs and events of replicas that were not there before, and of members not ready."""
        said = []
        pods = self.kube.pods(REPLICAS)
        pods += [pod for pod in self.kube.pods(MEMBERS) if not self.kube.is_ready(pod)]
        for pod in pods:
            if (name := pod.metadata.name) not in before:
                said.append(self.kube.kubectl("logs", name, "--all-containers", check=False))
                said.append(self.kube.kubectl("describe", "pod", name, check=False))
        return "\n".join(said)

    def load(self, **settings: Any) -> Load:
        """A load on the users' servers."""
        return Load(self.url, USERS, TOKEN, **settings)

    def routes_are_complete(self) -> bool:
        """Whether the table holds every user's server and the hub."""
        from urllib.parse import quote

        table = self.hub.routes()
        return all(f"/user/{quote(user)}/" in table or f"/user/{user}/" in table for user in USERS)
