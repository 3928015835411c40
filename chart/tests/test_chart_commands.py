"""The commands in the manifests are commands of the package, with arguments that it takes."""

from __future__ import annotations

import argparse

import pytest
from options import GROUPS
from rendering import CHART, FULL, at, merged, nested, render

from jupyterhub_junction import cli
from jupyterhub_junction.etcd import environment

REPLICA, ETCD = f"Deployment/{FULL}-replica", f"StatefulSet/{FULL}-etcd"


def parsed(group: str, name: str, container: str) -> argparse.Namespace:
    values = merged(GROUPS[group], nested("replica.trust", ["10.0.0.0/8"]))
    found = at(render(values)[name], container)
    assert found["command"] == ["junction"]
    return cli._parser().parse_args(found["args"])


@pytest.mark.parametrize("group", ["base", "tls", "z2jh", "external"])
def test_replica(group: str) -> None:
    options = parsed(group, REPLICA, "spec/template/spec/containers/name=replica")
    assert options.command == "replica"
    assert options.runtime_dir == "/run/junction/replica"
    assert options.trust == ["10.0.0.0/8"]
    tls = group == "tls"
    assert options.listen == ("0.0.0.0:8443" if tls else "0.0.0.0:8000")
    assert bool(options.ssl_cert) == tls
    if tls:
        assert (options.redirect, options.redirect_to) == ("0.0.0.0:8000", 443)


@pytest.mark.parametrize(
    ("step", "container"),
    [
        ("prepare", "spec/template/spec/initContainers/name=prepare"),
        ("keep", "spec/template/spec/containers/name=keep"),
    ],
)
def test_etcd(step: str, container: str) -> None:
    options = parsed("base", ETCD, container)
    assert (options.command, options.step) == ("etcd", step)
    assert options.members == 3
    assert options.domain == "ns.svc.cluster.local"
    assert options.quota_bytes == 1024**3


@pytest.mark.parametrize("group", ["base", "tls", "external"])
def test_check(group: str) -> None:
    options = parsed(group, f"Pod/{FULL}-test", "spec/containers/0")
    assert options.command == "check"
    assert options.replicas.startswith("https://") == (group == "tls")
    assert options.etcd_username == "hub"
    keepers = environment.endpoints(options.etcd_keepers)
    wanted = [] if group == "external" else [f"{FULL}-etcd-{n}" for n in range(3)]
    assert [one.partition(".")[0] for one in keepers] == wanted
    assert all(one.endswith(f".{FULL}-etcd.ns.svc.cluster.local:2382") for one in keepers)


def test_pace_and_lease_have_the_package_s_defaults() -> None:
    options = parsed("base", REPLICA, "spec/template/spec/containers/name=replica")
    bare = cli._parser().parse_args(["replica", "--listen=:8000", "--etcd=http://127.0.0.1:1"])
    for name in ("pace_covered", "pace_uncovered", "max_stale", "log_level", "lease"):
        assert getattr(options, name) == getattr(bare, name), f"{name} in {CHART}/values.yaml"
