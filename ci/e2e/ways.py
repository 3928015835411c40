"""The umbrella chart installed in the ways in which Zero to JupyterHub (z2jh) serves.

Its dependency z2jh is the chart that ``Z2JH_CHART`` names, else the stand-in.  An ingress
controller is made of the Traefik in the replica's image, as no other is on the nodes.
"""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import ssl
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .hub_client import Hub
from .kube import Kube, until
from .load import Load
from .move import PROXY, RELEASE, VALUES
from .person import Person
from .site import CHART, HUB_CHART, MEMBERS, REPLICAS, ROOT, SMALL, TOKEN, merged

__all__ = [
    "ECHO",
    "INGRESS",
    "WITHOUT_SYNC",
    "AskingFor",
    "Release",
    "acme",
    "is_standin",
    "umbrella",
]

REPLICA_IMAGE = "quay.io/jupyterhub-junction/replica:0.1.0"

#: a service that the hub runs, and that tells which headers it got
ECHO_PORT = 10101
ECHO = f"""
import http.server, json
class Echo(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(dict(self.headers.items())).encode())
http.server.ThreadingHTTPServer(("", {ECHO_PORT}), Echo).serve_forever()
"""
_SERVICE: dict[str, Any] = {
    "hub": {
        "services": {
            "echo": {
                "url": f"http://hub:{ECHO_PORT}",
                "command": ["python3", "-c", ECHO],
                "apiToken": "token-of-the-service",
            }
        },
        "service": {"extraPorts": [{"name": "echo", "port": ECHO_PORT, "targetPort": ECHO_PORT}]},
        "networkPolicy": {"ingress": [{"ports": [{"port": ECHO_PORT}]}]},
        "config": {"Authenticator": {"allow_all": True}},
    }
}

INGRESS = """
apiVersion: v1
kind: ServiceAccount
metadata: {name: ingress}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: ingress}
rules:
  - {apiGroups: [""], resources: [services, secrets], verbs: [get, list, watch]}
  - {apiGroups: [discovery.k8s.io], resources: [endpointslices], verbs: [list, watch]}
  - {apiGroups: [networking.k8s.io], resources: [ingresses], verbs: [get, list, watch]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: ingress}
subjects: [{kind: ServiceAccount, name: ingress}]
roleRef: {kind: Role, name: ingress, apiGroup: rbac.authorization.k8s.io}
---
apiVersion: v1
kind: Service
metadata: {name: ingress}
spec:
  type: NodePort
  selector: {app: ingress}
  ports:
    - {name: http, port: 80, targetPort: 8000}
    - {name: https, port: 443, targetPort: 8443}
---
apiVersion: v1
kind: Pod
metadata: {name: ingress, labels: {app: ingress}}
spec:
  serviceAccountName: ingress
  containers:
    - name: traefik
      image: IMAGE
      command:
        - traefik
        - --entrypoints.web.address=:8000
        - --entrypoints.websecure.address=:8443
        - --entrypoints.websecure.http.tls=true
        - --ping.entrypoint=web
        - --providers.kubernetesingress.namespaces=NAMESPACE
        - --providers.kubernetesingress.disableclusterscoperesources=true
      readinessProbe: {periodSeconds: 1, httpGet: {path: /ping, port: 8000}}
      securityContext:
        allowPrivilegeEscalation: false
        runAsNonRoot: true
        capabilities: {drop: [ALL]}
        seccompProfile: {type: RuntimeDefault}
"""


#: of autohttps: what keeps its certificate in a Secret is an image that is not there
WITHOUT_SYNC: list[dict[str, Any]] = [
    {"op": "remove", "path": "/spec/template/spec/containers/1"},
    *(
        {"op": "replace", "path": f"/spec/template/spec/initContainers/0/{key}", "value": value}
        for key, value in {
            "image": REPLICA_IMAGE,
            "args": ["install", "-m600", "/mnt/acme.json", "/etc/acme/acme.json"],
        }.items()
    ),
    {
        "op": "add",
        "path": "/spec/template/spec/initContainers/0/volumeMounts/-",
        "value": {"name": "kept", "mountPath": "/mnt"},
    },
    {
        "op": "add",
        "path": "/spec/template/spec/volumes/-",
        "value": {"name": "kept", "secret": {"secretName": "kept"}},
    },
]


def acme(host: str, certificate: Path, key: Path) -> str:
    """What autohttps' Traefik keeps of a certificate that it has got."""
    certificate_, key_ = (base64.b64encode(one.read_bytes()).decode() for one in (certificate, key))
    kept = {"domain": {"main": host}, "certificate": certificate_, "key": key_, "Store": "default"}
    return json.dumps({"default": {"Account": None, "Certificates": [kept]}})


class AskingFor(ssl.SSLContext):
    """Asks for a host, and expects its certificate, whatever address the connection goes to."""

    host: str

    def __new__(cls, host: str, authority: Path) -> AskingFor:
        made = super().__new__(cls, ssl.PROTOCOL_TLS_CLIENT)
        made.host = host
        made.load_verify_locations(authority)
        return made

    def __init__(self, host: str, authority: Path) -> None:
        super().__init__()

    def wrap_socket(self, *words: Any, **options: Any) -> ssl.SSLSocket:
        return super().wrap_socket(*words, **options | {"server_hostname": self.host})

    def wrap_bio(self, *words: Any, **options: Any) -> ssl.SSLObject:
        return super().wrap_bio(*words, **options | {"server_hostname": self.host})


def is_standin() -> bool:
    """Whether the stand-in takes z2jh's place."""
    return not os.environ.get("Z2JH_CHART")


def umbrella(folder: Path) -> Path:
    """The umbrella chart with its dependencies, in a new folder."""
    made = folder / "jupyterhub-junction"
    shutil.copytree(ROOT / "chart" / "jupyterhub-junction", made)
    shutil.copytree(CHART, made / "charts" / "junction")
    given = Path(os.environ.get("Z2JH_CHART") or HUB_CHART)
    if given.is_file():
        shutil.unpack_archive(given, made / "charts")
    else:
        shutil.copytree(given, made / "charts" / "jupyterhub")
    chart = made / "charts" / "jupyterhub" / "Chart.yaml"
    text = re.sub(r"(?m)^name:.*", "name: jupyterhub", chart.read_text())
    # a chart in a checkout has no version that a dependency could ask for
    chart.write_text(re.sub(r"(?m)^version: 0\.0\.1.*", "version: 4.99.0", text))
    return made


class Release:
    """z2jh and Junction by one ``helm install``.

    Args:
        kube: the namespace.
        chart: made by :func:`umbrella`.
        values: z2jh's, on top of the tests' own.
        junction: values of Junction's chart.
    """

    def __init__(
        self, kube: Kube, chart: Path, values: Mapping[str, Any], junction: Mapping[str, Any]
    ) -> None:
        self.kube, self.chart = kube, chart
        own: dict[str, Any] = {key: value for key, value in VALUES["hub"].items() if key != "image"}
        self.z2jh = merged(
            VALUES | {"hub": own}, _SERVICE, {"proxy": {"enabled": True}} if is_standin() else {}
        )
        self.junction = {key: value for key, value in SMALL.items() if key != "service"}
        self.set(values, junction)
        #: users' address, with the hub's base URL, and what its certificate is held against
        self.url = ""
        self.context: ssl.SSLContext | None = None

    def set(self, values: Mapping[str, Any], junction: Mapping[str, Any]) -> None:
        """Values from now on, on top of those that there are."""
        self.z2jh = merged(self.z2jh, values)
        self.junction = merged(self.junction, junction)

    def helm(self, action: str, *more: str, **options: Any) -> str:
        """``helm install`` or ``upgrade``."""
        values = {"jupyterhub": self.z2jh, "junction": self.junction}
        return self.kube.helm(action, RELEASE, str(self.chart), *more, values=values, **options)

    def ready(self) -> None:
        """Wait until all pods are there and ready."""
        self.kube.ready(PROXY, 1)
        self.kube.ready(REPLICAS, self.junction["replica"].get("replicas", 2))
        self.kube.ready(MEMBERS, self.junction["etcd"].get("replicas", 3))
        until(self.hub.answers, "the hub through the proxy", 60)

    @property
    def hub(self) -> Hub:
        """The hub behind the proxy."""
        return Hub(self.url, TOKEN, self.context)

    def person(self, name: str) -> Person:
        """A user with a browser."""
        return Person(self.url, name, self.context)

    def load(self, users: list[str], *, rate: float = 20, websockets: int = 4) -> Load:
        """A load on users' servers."""
        return Load(self.url, users, TOKEN, rate=rate, websockets=websockets, context=self.context)

    def heard(self, forged: Mapping[str, str]) -> dict[str, str]:
        """The headers that the service gets of a request with some that are made up."""
        request = urllib.request.Request(  # noqa: S310
            f"{self.url}/services/echo/", headers=dict(forged)
        )
        with urllib.request.urlopen(  # noqa: S310
            request, timeout=30, context=self.context
        ) as answer:
            return by_name(answer.read().decode())

    def heard_inside(self, url: str, forged: Mapping[str, str]) -> dict[str, str]:
        """The same from the hub's pod, to an address inside of the cluster."""
        (pod,) = self.kube.ready("app=jupyterhub,component=hub", 1)
        fetch = (
            "import json, sys, urllib.request as r;"
            "q = r.Request(sys.argv[1], headers=json.loads(sys.argv[2]));"
            "print(r.urlopen(q, timeout=30).read().decode())"
        )
        said = self.kube.exec(
            pod.metadata.name, "python3", "-c", fetch, url, json.dumps(dict(forged)),
            container="hub",
        )  # fmt: skip
        return by_name(said)


def by_name(text: str) -> dict[str, str]:
    return {name.lower(): value for name, value in json.loads(text).items()}
