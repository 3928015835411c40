"""Values that cannot work: said in one line, and what works is not taken down."""

from __future__ import annotations

from typing import Any

import pytest

from e2e.certificates import expired
from e2e.kube import until
from e2e.site import FULL, MEMBERS, REPLICAS, Site, new_namespace


def refused(site: Site, values: dict[str, Any], *said: str) -> None:
    """An upgrade that cannot work: helm fails, the new pods say why, the old replicas serve on."""
    before = {pod.metadata.name for pod in site.kube.ready(REPLICAS, 2)}
    with site.load() as load:
        answer = site.kube.helm(
            "upgrade", "junction", str(site.chart), values=site.with_values(values),
            wait=30, check=False,
        )  # fmt: skip
        try:
            assert "Error:" in answer, answer
            for line in said:
                until(lambda: line in site.said_of_new(before), f"a pod that says {line!r}", 60)  # noqa: B023
            load.more(200)
            still = {
                pod.metadata.name for pod in site.kube.pods(REPLICAS) if site.kube.is_ready(pod)
            }
            assert before <= still
        finally:
            site.kube.helm("rollback", "junction", "--wait", "--timeout=180s")
            site.kube.ready(REPLICAS, 2, 120)
    assert not load.counted.failed, load.counted


@pytest.mark.parametrize(
    ("values", "said"),
    [
        pytest.param(
            {"replica": {"tls": {"secretName": "not-there"}}},
            'secret "not-there" not found',
            id="missing-secret",
        ),
        pytest.param(
            {
                "etcd": {
                    "enabled": False,
                    "external": {"endpoints": ["http://nowhere.invalid:2379"]},
                },
            },
            "http://nowhere.invalid:2379: ",
            id="wrong-external-etcd",
        ),
    ],
)
def test_an_upgrade_that_cannot_work_takes_nothing_down(
    site: Site, values: dict[str, Any], said: str
) -> None:
    refused(site, values, said)


def test_certificates_that_expired_take_nothing_down(site: Site) -> None:
    for which in ("server", "client"):
        expired(site.kube, f"{FULL}-etcd-ca", f"{FULL}-etcd-{which}-tls", f"old-{which}")
    values = {
        "certificates": {
            "source": "existing",
            "existing": {"serverSecret": "old-server", "clientSecret": "old-client"},
        }
    }
    line = "the certificate for etcd {} expired on"
    members = {pod.metadata.name: pod.metadata.uid for pod in site.kube.ready(MEMBERS, 3)}
    refused(
        site,
        values,
        line.format("/etc/junction/etcd/tls.crt"),
        line.format("/etc/etcd/tls/tls.crt"),
    )
    after = {pod.metadata.name: pod.metadata.uid for pod in site.kube.ready(MEMBERS, 3)}
    assert len(members.items() & after.items()) >= 2, "a quorum that works was taken down"


def test_a_namespace_without_volumes_is_told_by_name(site: Site) -> None:
    with new_namespace(site.kube.kubeconfig) as kube:
        values = site.with_values({"etcd": {"persistence": {"storageClass": "not-there"}}})
        said = kube.helm(
            "install", "junction", str(site.chart), values=values, wait=15, check=False
        )
        assert "Error:" in said
        until(
            lambda: "unbound immediate PersistentVolumeClaims" in kube.kubectl("describe", "pods"),
            "an event that says what is missing",
            30,
        )
        assert 'storageclass.storage.k8s.io "not-there" not found' in kube.kubectl(
            "describe", "pvc"
        )
