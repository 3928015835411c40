# ruff: noqa: E501 (a value is a line)
"""Every value of the chart: one that is not the default, and where it shows.

A value is rendered with the others of its group in one go, unless it is ``alone``, and compared
with the group's own rendering without it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from rendering import EXISTING, EXTERNAL, FULL, merged, nested

__all__ = ["GROUPS", "OPTIONS", "Option"]

AUTH = {"auth": EXISTING["auth"]}
#: what has to be given so that a value shows at all
GROUPS: dict[str, dict[str, Any]] = {
    "base": EXISTING,
    "node-port": merged(EXISTING, nested("service.type", "NodePort")),
    "tls": merged(
        EXISTING, {"replica": {"tls": {"secretName": "web"}}, "service": {"type": "NodePort"}}
    ),
    "z2jh": merged(EXISTING, nested("jupyterhub.enabled", True)),
    "scaled": merged(EXISTING, nested("replica.autoscaling.enabled", True)),
    "volatile": merged(EXISTING, nested("etcd.persistence.enabled", False)),
    "external": merged(
        EXTERNAL, {"etcd": {"external": {"tlsSecret": "e-tls", "authSecret": "e-auth"}}}
    ),
    "nothing": {},
    "chart-certificates": AUTH,
    "chart-passwords": {"certificates": EXISTING["certificates"]},
    "cert-manager": merged(AUTH, nested("certificates.source", "cert-manager")),
    "issuer": merged(
        AUTH,
        {
            "certificates": {
                "source": "cert-manager",
                "certManager": {"createIssuer": False, "issuerRef": {"name": "theirs"}},
            }
        },
    ),
}


@dataclass(frozen=True)
class Option:
    """One value: ``where`` is ``Kind/name`` and, after a blank, a path in it.

    ``shows`` is what is there with the value; with ``within`` it is among what is there.
    """

    path: str
    value: Any
    where: str
    shows: Any = None
    within: bool = False
    group: str = "base"
    alone: bool = False
    #: values that this one cannot be without
    needs: dict[str, Any] = field(default_factory=dict)


DIGEST = "sha256:" + "0" * 64
VOLUME = {"name": "x", "emptyDir": {}}
MOUNT = {"name": "x", "mountPath": "/x"}
ENV = {"name": "X", "value": "1"}
TAINT = {"key": "x", "operator": "Exists"}
PEER = {"ipBlock": {"cidr": "192.0.2.0/24"}}
RULE = {"ports": [{"port": 7777, "protocol": "TCP"}]}
AFFINITY: dict[str, Any] = {"podAffinity": {}}
SPREAD = {
    "topologyKey": "rack",
    "maxSkew": 2,
    "whenUnsatisfiable": "DoNotSchedule",
    "labelSelector": {"matchLabels": {"a": "b"}},
}
MORE = {
    "name": "more",
    "image": "more",
    "securityContext": {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    },
}
METRIC = {
    "type": "Pods",
    "pods": {"metric": {"name": "x"}, "target": {"type": "AverageValue", "averageValue": "5"}},
}
RESOURCES = {"limits": {"memory": "7Gi"}}

DEPLOYMENT, STATEFUL_SET = f"Deployment/{FULL}-replica", f"StatefulSet/{FULL}-etcd"
REPLICA, ETCD = f"{DEPLOYMENT} spec/template", f"{STATEFUL_SET} spec/template"
CONTAINER = f"{REPLICA}/spec/containers/name=replica"
MEMBER = f"{ETCD}/spec/containers/name=etcd"
KEEP = f"{ETCD}/spec/containers/name=keep"
CLAIM = f"{STATEFUL_SET} spec/volumeClaimTemplates/0"
EMPTY = f"{ETCD}/spec/volumes/name=data/emptyDir"
SERVICE = f"Service/{FULL}"
HPA = f"HorizontalPodAutoscaler/{FULL}-replica spec"
POLICY = f"NetworkPolicy/{FULL}"
SERVER, CA = f"Certificate/{FULL}-etcd-server spec", f"Certificate/{FULL}-etcd-ca"
TEST = f"Pod/{FULL}-test spec/containers/0"


def _pod(key: str, pod: str, owner: str, container: str) -> list[Option]:
    """What replicas and etcd have in common."""
    spec = f"{pod}/spec"
    return [
        Option(f"{key}.resources", RESOURCES, f"{container}/resources/limits/memory", "7Gi"),
        Option(f"{key}.extraEnv", [ENV], f"{container}/env", ENV, True),
        Option(f"{key}.extraVolumes", [VOLUME], f"{spec}/volumes", VOLUME, True),
        Option(f"{key}.extraVolumeMounts", [MOUNT], f"{container}/volumeMounts", MOUNT, True),
        Option(f"{key}.extraContainers", [MORE], f"{spec}/containers", MORE, True),
        Option(f"{key}.podLabels", {"x": "y"}, f"{pod}/metadata/labels/x", "y"),
        Option(f"{key}.podAnnotations", {"x": "y"}, f"{pod}/metadata/annotations/x", "y"),
        Option(f"{key}.annotations", {"x": "y"}, f"{owner} metadata/annotations/x", "y"),
        Option(f"{key}.podSecurityContext", {"runAsUser": 5}, f"{spec}/securityContext/runAsUser", 5),
        Option(f"{key}.nodeSelector", {"x": "y"}, f"{spec}/nodeSelector", {"x": "y"}),
        Option(f"{key}.tolerations", [TAINT], f"{spec}/tolerations", [TAINT]),
        Option(f"{key}.affinity", AFFINITY, f"{spec}/affinity", AFFINITY),
        Option(f"{key}.topologySpreadConstraints", [SPREAD], f"{spec}/topologySpreadConstraints", [SPREAD]),
        Option(f"{key}.priorityClassName", "high", f"{spec}/priorityClassName", "high"),
    ]  # fmt: skip


def _image(key: str, container: str, name: str, tag: str) -> list[Option]:
    image = f"{container}/image"
    return [
        Option(f"{key}.image.registry", "r.example", image, f"r.example/{name}:{tag}", alone=True),
        Option(f"{key}.image.repository", "a/b", image, f"quay.io/a/b:{tag}", alone=True),
        Option(f"{key}.image.tag", "v9", image, f"quay.io/{name}:v9", alone=True),
        Option(f"{key}.image.digest", DIGEST, image, f"quay.io/{name}@{DIGEST}", alone=True),
        Option(f"{key}.image.pullPolicy", "Always", f"{container}/imagePullPolicy", "Always"),
    ]


def _argument(path: str, value: Any, argument: str) -> Option:
    return Option(f"replica.{path}", value, f"{CONTAINER}/args", argument, True)


def _external(path: str, value: Any, container: str, argument: str) -> Option:
    return Option(f"etcd.external.{path}", value, f"{container}/args", argument, True, "external")


OPTIONS: list[Option] = [
    Option("nameOverride", "x", "Deployment/rel-x-replica kind", "Deployment", alone=True),
    Option("fullnameOverride", "x", "Deployment/x-replica kind", "Deployment", alone=True),
    Option("clusterDomain", "c.d", f"{KEEP}/args", "--domain=ns.svc.c.d", True),
    Option("global.imageRegistry", "m.example", f"{MEMBER}/image", "m.example/coreos/etcd:v3.6.14"),
    Option("imagePullSecrets", [{"name": "x"}], f"{ETCD}/spec/imagePullSecrets", [{"name": "x"}]),
    Option("commonLabels", {"l": "m"}, f"{SERVICE}-etcd metadata/labels/l", "m"),
    Option("commonAnnotations", {"a": "b"}, f"{SERVICE}-etcd metadata/annotations/a", "b"),
    Option("jupyterhub.enabled", True, f"{REPLICA}/metadata/labels/component", "proxy"),
    Option("jupyterhub.releaseName", "jh", f"{REPLICA}/metadata/labels/release", "jh", group="z2jh"),
    *_pod("replica", REPLICA, DEPLOYMENT, CONTAINER),
    *_image("replica", CONTAINER, "jupyterhub-junction/replica", "0.1.0"),
    Option("replica.replicas", 5, f"{DEPLOYMENT} spec/replicas", 5),
    Option("replica.extraInitContainers", [MORE], f"{REPLICA}/spec/initContainers", [MORE]),
    _argument("acceptGrace", 21, "--accept-grace=21"),
    _argument("grace", 300, "--grace=300"),
    _argument("trust", ["10.0.0.0/8"], "--trust=10.0.0.0/8"),
    _argument("logLevel", "DEBUG", "--log-level=DEBUG"),
    _argument("maxStale", 90, "--max-stale=90"),
    _argument("pacing.covered", 2.5, "--pace-covered=2.5"),
    _argument("pacing.uncovered", 1, "--pace-uncovered=1"),
    _argument("extraArgs", ["--lease=5"], "--lease=5"),
    Option("replica.tls.secretName", "w", f"{REPLICA}/spec/volumes/name=tls/secret/secretName", "w", group="node-port"),
    Option("replica.pdb.enabled", False, f"PodDisruptionBudget/{FULL}-replica kind", None, alone=True),
    Option("replica.pdb.maxUnavailable", "25%", f"PodDisruptionBudget/{FULL}-replica spec/maxUnavailable", "25%"),
    Option("replica.autoscaling.enabled", True, f"{HPA}/scaleTargetRef/name", f"{FULL}-replica", alone=True),
    Option("replica.autoscaling.minReplicas", 3, f"{HPA}/minReplicas", 3, group="scaled"),
    Option("replica.autoscaling.maxReplicas", 9, f"{HPA}/maxReplicas", 9, group="scaled"),
    Option("replica.autoscaling.targetCPU", 55, f"{HPA}/metrics/0/resource/target/averageUtilization", 55, group="scaled"),
    Option("replica.autoscaling.metrics", [METRIC], f"{HPA}/metrics", [METRIC], group="scaled", alone=True),
    Option("replica.autoscaling.behavior", {"scaleUp": {"stabilizationWindowSeconds": 5}}, f"{HPA}/behavior/scaleUp/stabilizationWindowSeconds", 5, group="scaled"),
    Option("service.enabled", False, f"{SERVICE} kind", None, alone=True),
    Option("service.type", "LoadBalancer", f"{SERVICE} spec/type", "LoadBalancer"),
    Option("service.ports.http", 8080, f"{SERVICE} spec/ports/name=http/port", 8080),
    Option("service.ports.https", 8443, f"{SERVICE} spec/ports/name=https/port", 8443, group="tls"),
    Option("service.nodePorts.http", 30080, f"{SERVICE} spec/ports/name=http/nodePort", 30080, group="node-port", alone=True),
    Option("service.nodePorts.https", 30443, f"{SERVICE} spec/ports/name=https/nodePort", 30443, group="tls"),
    Option("service.annotations", {"x": "y"}, f"{SERVICE} metadata/annotations/x", "y"),
    Option("service.labels", {"x": "y"}, f"{SERVICE} metadata/labels/x", "y"),
    Option("service.loadBalancerClass", "c", f"{SERVICE} spec/loadBalancerClass", "c"),
    Option("service.loadBalancerIP", "192.0.2.1", f"{SERVICE} spec/loadBalancerIP", "192.0.2.1"),
    Option("service.loadBalancerSourceRanges", ["192.0.2.0/24"], f"{SERVICE} spec/loadBalancerSourceRanges", ["192.0.2.0/24"]),
    Option("service.externalTrafficPolicy", "Local", f"{SERVICE} spec/externalTrafficPolicy", "Local"),
    Option("service.ipFamilyPolicy", "PreferDualStack", f"{SERVICE} spec/ipFamilyPolicy", "PreferDualStack"),
    *_pod("etcd", ETCD, STATEFUL_SET, MEMBER),
    *_image("etcd", MEMBER, "coreos/etcd", "v3.6.14"),
    Option("etcd.enabled", False, f"{STATEFUL_SET} kind", None, group="nothing", alone=True, needs=EXTERNAL),
    Option("etcd.extraInitContainers", [MORE], f"{ETCD}/spec/initContainers", MORE, True),
    Option("etcd.replicas", 5, f"{KEEP}/args", "--members=5", True),
    Option("etcd.keepResources", RESOURCES, f"{KEEP}/resources/limits/memory", "7Gi"),
    Option("etcd.quota", 8589934592, f"{KEEP}/args", "--quota-bytes=8589934592", True),
    Option("etcd.persistence.enabled", False, f"{EMPTY}/sizeLimit", "4Gi", alone=True),
    Option("etcd.persistence.size", "9Gi", f"{CLAIM}/spec/resources/requests/storage", "9Gi"),
    Option("etcd.persistence.storageClass", "fast", f"{CLAIM}/spec/storageClassName", "fast"),
    Option("etcd.persistence.accessModes", ["ReadWriteOncePod"], f"{CLAIM}/spec/accessModes", ["ReadWriteOncePod"]),
    Option("etcd.persistence.annotations", {"x": "y"}, f"{CLAIM}/metadata/annotations/x", "y"),
    Option("etcd.persistence.whenDeleted", "Retain", f"{STATEFUL_SET} spec/persistentVolumeClaimRetentionPolicy/whenDeleted", "Retain"),
    Option("etcd.persistence.whenScaled", "Retain", f"{STATEFUL_SET} spec/persistentVolumeClaimRetentionPolicy/whenScaled", "Retain"),
    Option("etcd.emptyDir.medium", "Memory", f"{EMPTY}/medium", "Memory", group="volatile"),
    Option("etcd.emptyDir.sizeLimit", "1Gi", f"{EMPTY}/sizeLimit", "1Gi", group="volatile"),
    _external("endpoints", ["https://a:1", "https://b"], CONTAINER, "--etcd=https://a:1,https://b"),
    _external("prefix", "/p/", CONTAINER, "--etcd-prefix=/p/"),
    _external("hubUsername", "h", TEST, "--etcd-username=h"),
    _external("agentUsername", "a", CONTAINER, "--etcd-username=a"),
    Option("etcd.external.authSecret", "e", f"{REPLICA}/spec/volumes/name=etcd-auth/secret/secretName", "e", group="external"),
    Option("etcd.external.tlsSecret", "e", f"{REPLICA}/spec/volumes/name=etcd-tls/secret/secretName", "e", group="external"),
    Option("etcd.external.clientCertificate", False, f"{CONTAINER}/args/-1", "--etcd-ca=/etc/junction/etcd/ca.crt", group="external", alone=True),
    Option("etcd.pdb.enabled", False, f"PodDisruptionBudget/{FULL}-etcd kind", None, alone=True),
    Option("auth.existingSecret", "mine", f"{REPLICA}/spec/volumes/name=etcd-auth/secret/secretName", "mine", group="chart-passwords"),
    Option("certificates.source", "cert-manager", f"{CA} kind", "Certificate", group="chart-certificates", alone=True),
    Option("certificates.existing.serverSecret", "s", f"{ETCD}/spec/volumes/name=tls/secret/secretName", "s"),
    Option("certificates.existing.clientSecret", "c", f"{REPLICA}/spec/volumes/name=etcd-tls/secret/secretName", "c"),
    Option("certificates.certManager.createIssuer", False, f"{CA} kind", None, group="cert-manager", alone=True, needs=nested("certificates.certManager.issuerRef.name", "n")),
    Option("certificates.certManager.issuerRef.name", "n", f"{SERVER}/issuerRef/name", "n", group="issuer"),
    Option("certificates.certManager.issuerRef.kind", "ClusterIssuer", f"{SERVER}/issuerRef/kind", "ClusterIssuer", group="issuer"),
    Option("certificates.certManager.issuerRef.group", "g.example", f"{SERVER}/issuerRef/group", "g.example", group="issuer"),
    Option("certificates.certManager.duration", "48h", f"{SERVER}/duration", "48h", group="cert-manager"),
    Option("certificates.certManager.renewBefore", "24h", f"{SERVER}/renewBefore", "24h", group="cert-manager"),
    Option("networkPolicy.enabled", False, f"{POLICY}-etcd kind", None, alone=True),
    Option("networkPolicy.usersFrom", [PEER], f"{POLICY}-replica spec/ingress/0/from", [PEER]),
    Option("networkPolicy.metricsFrom", [PEER], f"{POLICY}-etcd spec/ingress/3/from", [PEER]),
    Option("networkPolicy.targets", [RULE], f"{POLICY}-replica spec/egress/0", RULE),
    Option("networkPolicy.etcdFrom", [PEER], f"{POLICY}-etcd spec/ingress/0/from", PEER, True),
    Option("networkPolicy.externalEtcd", [PEER], f"{POLICY}-replica spec/egress/1/to", [PEER], group="external"),
    Option("networkPolicy.dns", [PEER], f"{POLICY}-etcd spec/egress/1/to", [PEER]),
    Option("networkPolicy.extraIngress", [RULE], f"{POLICY}-replica spec/ingress", RULE, True),
    Option("networkPolicy.extraEgress", [RULE], f"{POLICY}-replica spec/egress", RULE, True),
    Option("serviceAccount.create", False, f"{REPLICA}/spec/serviceAccountName", "default", alone=True),
    Option("serviceAccount.name", "sa", f"{REPLICA}/spec/serviceAccountName", "sa"),
    Option("serviceAccount.annotations", {"x": "y"}, "ServiceAccount/sa metadata/annotations/x", "y"),
    Option("test.enabled", False, f"Pod/{FULL}-test kind", None, alone=True),
    Option("test.port", 9000, f"{TEST}/args", "--serve=$(POD_IP):9000", True),
    Option("test.resources", RESOURCES, f"{TEST}/resources/limits/memory", "7Gi"),
]  # fmt: skip
