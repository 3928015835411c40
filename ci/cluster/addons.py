"""What every cluster has beside its programs: a name server's Service, a storage class, rights."""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path

from .images import scratch
from .processes import run
from .settings import CLUSTER_DNS, HOST, PAUSE, PROBE, PROVISIONER, STORAGE_CLASS, cache

__all__ = ["apply", "pause_image", "probe_image"]

# CoreDNS is on the host: its Service has no pods to select, so the addresses are given by hand.
MANIFEST = """\
apiVersion: v1
kind: Service
metadata:
  name: kube-dns
  namespace: kube-system
  labels: {{k8s-app: kube-dns, kubernetes.io/name: CoreDNS}}
spec:
  clusterIP: {dns}
  ports:
    - {{name: dns, port: 53, protocol: UDP, targetPort: {port}}}
    - {{name: dns-tcp, port: 53, protocol: TCP, targetPort: {port}}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: kube-dns-host
  namespace: kube-system
  labels:
    k8s-app: kube-dns
    kubernetes.io/service-name: kube-dns
    endpointslice.kubernetes.io/managed-by: junction-cluster
addressType: IPv4
ports:
  - {{name: dns, port: {port}, protocol: UDP}}
  - {{name: dns-tcp, port: {port}, protocol: TCP}}
endpoints:
  - addresses: ["{host}"]
    conditions: {{ready: true, serving: true, terminating: false}}
---
apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata:
  name: {storage_class}
  annotations: {{storageclass.kubernetes.io/is-default-class: "true"}}
provisioner: {provisioner}
reclaimPolicy: Delete
volumeBindingMode: WaitForFirstConsumer
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata:
  name: system:coredns
rules:
  - apiGroups: [""]
    resources: [services, pods, namespaces]
    verbs: [list, watch]
  - apiGroups: [discovery.k8s.io]
    resources: [endpointslices]
    verbs: [list, watch]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata:
  name: system:coredns
roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: system:coredns}}
subjects:
  - {{kind: User, name: "system:coredns", apiGroup: rbac.authorization.k8s.io}}
"""


def apply(kubeconfig: Path, dns_port: int) -> None:
    """Put them there, or leave them as they are."""
    manifest = MANIFEST.format(
        dns=CLUSTER_DNS, port=dns_port, host=HOST, storage_class=STORAGE_CLASS,
        provisioner=PROVISIONER,
    )  # fmt: skip
    run("kubectl", f"--kubeconfig={kubeconfig}", "apply", "-f", "-", stdin=manifest)


def pause_image() -> Path:
    """The archive of the pods' first process."""
    return program_image("pause", PAUSE)


def probe_image() -> Path:
    """The archive of what tests see by whether pods reach each other (programs/probe)."""
    return program_image("probe", PROBE)


def program_image(program: str, image: str) -> Path:
    """The archive of an image that has one of our small programs in it, made once."""
    source = Path(__file__).parent / "programs" / program / "main.go"
    archives = cache() / "cluster-images"
    digest = hashlib.sha256(source.read_bytes()).hexdigest()[:12]
    archive = archives / f"{program}-{digest}.tar"
    if not archive.exists():
        archives.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=archives) as temporary:
            built, fresh = Path(temporary) / program, Path(temporary) / archive.name
            static = ("env", "CGO_ENABLED=0", "GO111MODULE=off", f"GOCACHE={temporary}/cache")
            build = ("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", built, source)
            run(*static, *build, seconds=300)
            scratch(fresh, image, {f"/{program}": built}, [f"/{program}"])
            fresh.rename(archive)
    return archive
