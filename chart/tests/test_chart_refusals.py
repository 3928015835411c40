"""Values that cannot work: one line names the key and says what to do."""

from __future__ import annotations

import re
from typing import Any

import pytest
from rendering import CHART, EXISTING, EXTERNAL, Refused, merged, nested, render

#: the key that the line names, and values that it refuses
COMBINATIONS: list[tuple[str, dict[str, Any]]] = [
    ("etcd.external.endpoints", nested("etcd.external.endpoints", ["https://e:2379"])),
    ("etcd.external.endpoints", nested("etcd.enabled", False)),
    (
        "commonLabels.app.kubernetes.io/component",
        {"commonLabels": {"app.kubernetes.io/component": "x"}},
    ),
    ("etcd.external.authSecret", nested("etcd.external.authSecret", "x")),
    ("etcd.external.tlsSecret", nested("etcd.external.tlsSecret", "x")),
    (
        "etcd.external.tlsSecret",
        {
            "etcd": {
                "enabled": False,
                "external": {"endpoints": ["http://e:2379"], "tlsSecret": "x"},
            }
        },
    ),
    ("auth.existingSecret", merged(EXTERNAL, nested("auth.existingSecret", "x"))),
    ("certificates.source", merged(EXTERNAL, nested("certificates.source", "cert-manager"))),
    ("certificates.source", nested("certificates.existing.serverSecret", "x")),
    (
        "certificates.existing.serverSecret",
        merged(EXISTING, nested("certificates.existing.serverSecret", "")),
    ),
    (
        "certificates.existing.clientSecret",
        merged(EXISTING, nested("certificates.existing.clientSecret", "")),
    ),
    (
        "certificates.certManager.issuerRef.name",
        {"certificates": {"source": "cert-manager", "certManager": {"createIssuer": False}}},
    ),
    (
        "certificates.certManager.createIssuer",
        nested("certificates.certManager.issuerRef.name", "x"),
    ),
    ("etcd.replicas", nested("etcd.replicas", 2)),
    ("etcd.replicas", nested("etcd.replicas", 4)),
    ("etcd.persistence.enabled", {"etcd": {"replicas": 1, "persistence": {"enabled": False}}}),
    (
        "replica.autoscaling.maxReplicas",
        {"replica": {"autoscaling": {"enabled": True, "minReplicas": 7}}},
    ),
    (
        "replica.resources.requests.cpu",
        {"replica": {"autoscaling": {"enabled": True}, "resources": {"requests": {"cpu": None}}}},
    ),
    ("jupyterhub.releaseName", nested("jupyterhub.releaseName", "jhub")),
    ("service.nodePorts", nested("service.nodePorts.http", 30080)),
    ("service.externalTrafficPolicy", nested("service.externalTrafficPolicy", "Local")),
]
SCHEMA: list[tuple[str, Any, str]] = [
    ("replica.replica", 3, "/replica"),
    ("etcd.image.tagg", "x", "/etcd/image"),
    ("replica.replicas", "two", "/replica/replicas"),
    ("replica.replicas", -1, "/replica/replicas"),
    ("replica.pdb.maxUnavailable", 0, "/replica/pdb/maxUnavailable"),
    ("replica.pdb.maxUnavailable", "0%", "/replica/pdb/maxUnavailable"),
    ("replica.logLevel", "LOUD", "/replica/logLevel"),
    ("replica.podLabels", {"a": True}, "/replica/podLabels/a"),
    ("etcd.external.prefix", "/junction", "/etcd/external/prefix"),
    ("etcd.external.endpoints", ["e1:2379"], "/etcd/external/endpoints/0"),
    ("etcd.external.endpoints", ["https://a:1,https://b:1"], "/etcd/external/endpoints/0"),
    ("service.type", "ExternalName", "/service/type"),
    ("certificates.source", "acme", "/certificates/source"),
    ("imagePullSecrets", ["name"], "/imagePullSecrets/0"),
]


@pytest.mark.parametrize(("key", "values"), COMBINATIONS)
def test_an_illegal_combination_names_the_key_and_the_mend(key: str, values: Any) -> None:
    with pytest.raises(Refused) as refused:
        render(values)
    said = re.search(r"junction: (\S+) (.+)", str(refused.value))
    assert said, refused.value
    assert said[1] == key
    assert re.search(r": .*\b(set|name|leave|give|raise|write)\b", said[2]), "no word of what to do"


def test_every_refusal_of_the_chart_is_among_them() -> None:
    checks = (CHART / "templates" / "_checks.tpl").read_text()
    calls = checks.count('include "junction.refuse"')
    loops = 2  # two calls are in loops over two keys
    # and etcd.replicas has two cases
    assert len(COMBINATIONS) == calls + loops + 1, "a refusal without a case here"


@pytest.mark.parametrize(("path", "value", "where"), SCHEMA)
def test_the_schema_names_the_key(path: str, value: Any, where: str) -> None:
    with pytest.raises(Refused, match=f"at '{where}'"):
        render(nested(path, value))


def test_an_older_kubernetes_is_refused() -> None:
    with pytest.raises(Refused, match="requires kubeVersion"):
        render(kube="1.27.9")
    render(kube="1.28.0")


def test_values_of_a_parent_chart_are_taken() -> None:
    render({"global": {"storageClass": "theirs"}, "enabled": True})
