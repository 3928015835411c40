"""metrics-server, on the host as CoreDNS is: what containers use, for autoscalers to ask.

Not one of what every cluster has: a test that needs it starts it, and it ends with the cluster.
"""

from __future__ import annotations

import base64

from .controlplane import ControlPlane
from .processes import Program, run, wait
from .settings import HOST, ClusterError

__all__ = ["start"]

USER = "system:metrics-server"
NAME = "metrics-server"
HOSTS = [f"{NAME}.kube-system.svc", HOST]
#: it looks at each node once in so many seconds; less than 10 is refused
RESOLUTION_SECONDS = 10
START_SECONDS = 90.0
MANIFEST = """\
apiVersion: v1
kind: Service
metadata: {{name: {name}, namespace: kube-system}}
spec:
  ports: [{{name: https, port: 443, targetPort: {port}}}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: {name}-host
  namespace: kube-system
  labels:
    kubernetes.io/service-name: {name}
    endpointslice.kubernetes.io/managed-by: junction-cluster
addressType: IPv4
ports: [{{name: https, port: {port}, protocol: TCP}}]
endpoints:
  - addresses: ["{host}"]
    conditions: {{ready: true, serving: true, terminating: false}}
---
apiVersion: apiregistration.k8s.io/v1
kind: APIService
metadata: {{name: v1beta1.metrics.k8s.io}}
spec:
  group: metrics.k8s.io
  version: v1beta1
  groupPriorityMinimum: 100
  versionPriority: 100
  caBundle: {ca}
  service: {{name: {name}, namespace: kube-system}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {{name: "{user}"}}
rules:
  - apiGroups: [""]
    resources: [nodes/metrics]
    verbs: [get]
  - apiGroups: [""]
    resources: [pods, nodes]
    verbs: [get, list, watch]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {{name: "{user}"}}
roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: "{user}"}}
subjects: [{{kind: User, name: "{user}", apiGroup: rbac.authorization.k8s.io}}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {{name: "{user}:auth-delegator"}}
roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: "system:auth-delegator"}}
subjects: [{{kind: User, name: "{user}", apiGroup: rbac.authorization.k8s.io}}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {{name: {name}-auth-reader, namespace: kube-system}}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: Role
  name: extension-apiserver-authentication-reader
subjects: [{{kind: User, name: "{user}", apiGroup: rbac.authorization.k8s.io}}]
"""


def program(plane: ControlPlane) -> Program:
    """The server itself; it serves the API server alone."""
    kubeconfig = plane.kubeconfig(USER)
    certificate, key = plane.authority.pair(NAME, NAME, hosts=HOSTS)
    return plane.program(
        NAME, NAME, f"--kubeconfig={kubeconfig}", f"--authentication-kubeconfig={kubeconfig}",
        f"--authorization-kubeconfig={kubeconfig}", f"--bind-address={HOST}",
        f"--secure-port={plane.ports[NAME]}", f"--tls-cert-file={certificate}",
        f"--tls-private-key-file={key}", "--kubelet-preferred-address-types=InternalIP",
        f"--kubelet-certificate-authority={plane.authority.certificate}",
        f"--metric-resolution={RESOLUTION_SECONDS}s", "--kubelet-request-timeout=5s",
    )  # fmt: skip


def start(plane: ControlPlane) -> None:
    """Start it, unless it runs; return when it knows what the nodes use.

    Raises:
        ClusterError: it is not on PATH, or did not get there, or the cluster is an older one.
    """
    if NAME not in plane.ports:
        raise ClusterError("the cluster was made by an older checkout: `make cluster-down`")
    ca = base64.b64encode(plane.authority.certificate.read_bytes()).decode()
    manifest = MANIFEST.format(name=NAME, user=USER, host=HOST, port=plane.ports[NAME], ca=ca)
    kubectl = ("kubectl", f"--kubeconfig={plane.admin}")
    run(*kubectl, "apply", "-f", "-", stdin=manifest)
    server = program(plane)
    server.start()

    def knows() -> bool:
        try:
            return "unknown" not in run(*kubectl, "top", "nodes", "--no-headers")
        except ClusterError:  # it has no metrics of any node yet
            return False

    wait("metrics-server to know the nodes", knows, START_SECONDS, server, pause=1.0)
