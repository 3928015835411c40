"""A Zero to JupyterHub (z2jh) with CHP, and the steps from there to Junction and back.

The chart is the one that ``Z2JH_CHART`` names, else the stand-in beside this file, whose rendering
``test_standin.py`` holds against z2jh's own.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from .hub_client import Hub
from .kube import Kube, until
from .load import Counted, Load
from .site import CHART, FULL, HUB_CHART, MEMBERS, REPLICAS, ROOT, SMALL, TOKEN, merged

__all__ = ["PRESETS", "PROXY", "Z2jh"]

PRESETS = ROOT / "chart" / "presets"
RELEASE = "hub"
#: z2jh's own proxy pod; replicas that joined have Junction's labels too
PROXY = "app=jupyterhub,component=proxy,app.kubernetes.io/name!=junction"
SERVERS = "app=jupyterhub,component=singleuser-server"
PEOPLE = ("ada", "béla")

_RESTRICTED = {
    "allowPrivilegeEscalation": False,
    "runAsNonRoot": True,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}
#: an admin's values, by z2jh's keys; the stand-in takes those that it has and leaves the others
VALUES: dict[str, Any] = {
    "hub": {
        "image": {"name": "quay.io/jupyterhub/k8s-hub", "tag": "4.4.0"},
        "db": {"type": "sqlite-pvc", "pvc": {"storage": "1Gi"}},
        "services": {"tests": {"apiToken": TOKEN}},
        "loadRoles": {
            "tests": {
                "services": ["tests"],
                "scopes": ["admin:users", "admin:servers", "access:servers", "proxy"],
            }
        },
        "config": {
            "JupyterHub": {"authenticator_class": "dummy"},
            # as the namespace enforces it
            "KubeSpawner": {"container_security_context": _RESTRICTED},
        },
    },
    "proxy": {
        "secretToken": "0123456789abcdef" * 4,
        "service": {"type": "NodePort"},
        # CHP does not know it; short, as WebSockets do not end by themselves here
        "chp": {"extraEnv": {"JUNCTION_GRACE": "4"}},
    },
    "singleuser": {
        "image": {"name": "localhost/junction-test/singleuser", "tag": "0.1.0"},
        "storage": {"type": "none"},
        "cloudMetadata": {"blockWithIptables": False},
        "memory": {"guarantee": None},
        "cpu": {"guarantee": 0.05},
    },
    "scheduling": {
        "userScheduler": {"enabled": False},
        "userPlaceholder": {"enabled": False},
    },
    "prePuller": {"hook": {"enabled": False}, "continuous": {"enabled": False}},
    "cull": {"enabled": False},
}
#: what an upgrade of z2jh changes that starts the hub and CHP anew
RESTART = {part: {"annotations": {"restarted": "yes"}} for part in ("hub", "proxy")}


@dataclass
class Z2jh:
    """A release of z2jh in a namespace of its own."""

    kube: Kube

    @cached_property
    def chart(self) -> str:
        """The chart that is installed."""
        return os.environ.get("Z2JH_CHART") or str(HUB_CHART)

    @cached_property
    def values(self) -> dict[str, Any]:
        """The admin's own values."""
        standin = {"proxy": {"enabled": True}} if self.chart == str(HUB_CHART) else {}
        return merged(VALUES, standin)

    @cached_property
    def url(self) -> str:
        """Users' address, which stays."""
        return self.kube.node_port("proxy-public")

    @property
    def hub(self) -> Hub:
        """The hub behind the proxy."""
        return Hub(self.url, TOKEN)

    def install(self) -> None:
        """z2jh as it is without Junction, with running servers."""
        self.kube.helm("install", RELEASE, self.chart, values=self.values)
        until(self.hub.answers, "the hub through CHP", 60)
        for user in PEOPLE:
            self.hub.start_server(user)

    def load(self, *, rate: float = 50, websockets: int = 20) -> Load:
        """A load on the users' servers."""
        return Load(self.url, PEOPLE, TOKEN, rate=rate, websockets=websockets)

    def step(
        self, *names: str, presets: Path = PRESETS, wait: int = 240, check: bool = True
    ) -> str:
        """One ``helm upgrade`` with the admin's values and a preset; returns what helm said."""
        files = [f"--values={presets / name}.yaml" for name in names]
        return self.kube.helm(
            "upgrade",
            RELEASE,
            self.chart,
            *files,
            values=self.values,
            wait=wait,
            check=check,
        )

    def install_junction(self) -> None:
        """Junction's chart; its replicas are not ready before a hub has written a table."""
        joined = {"enabled": True, "releaseName": RELEASE}
        values = merged(SMALL, {"jupyterhub": joined, "service": {"enabled": False}})
        self.kube.helm("upgrade", FULL, str(CHART), "--install", values=values, wait=0)
        self.kube.ready(MEMBERS, 3, 180)

    def prepare(self) -> None:
        """Junction beside CHP."""
        self.install_junction()
        self.step("prepare")
        self.kube.ready(REPLICAS, 2, 120)

    @cached_property
    def own_loss(self) -> Counted:
        """What users lose by an upgrade of plain z2jh that restarts CHP and the hub."""
        self.values = merged(self.values, RESTART)
        with self.load() as load:
            self.step()
            until(self.hub.answers, "the hub through CHP", 60)
            until(lambda: self.hub.has_routes(PEOPLE), "all routes in CHP", 120)
            load.reopened()
        print(f"z2jh's own upgrade: {load.counted}")
        return load.counted

    def proxy(self) -> Any:
        """z2jh's own proxy pod."""
        return self.kube.ready(PROXY, 1)[0]

    def image(self) -> str:
        """The image of z2jh's own proxy pod."""
        return str(self.proxy().spec.containers[0].image)

    def servers(self) -> Mapping[str, str]:
        """Users' pods and what tells each from a new one."""
        return {one.metadata.name: one.metadata.uid for one in self.kube.pods(SERVERS)}
