"""How pods come and go: drains, upgrades, budgets, and what NOTES say."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from options import GROUPS
from rendering import CHART, EXISTING, FULL, RELEASE, at, nested, parse, render, template

REPLICA, ETCD = f"Deployment/{FULL}-replica", f"StatefulSet/{FULL}-etcd"


@pytest.mark.parametrize(("accept", "grace"), [(15, 60), (0, 0), (30, 3600)])
def test_a_replica_is_not_killed_while_it_drains(accept: int, grace: int) -> None:
    values = nested("replica", {"acceptGrace": accept, "grace": grace})
    pod = at(render(EXISTING, values)[REPLICA], "spec/template/spec")
    # the supervisor gives Traefik 5 s more than both graces, and the agent another 5
    assert pod["terminationGracePeriodSeconds"] >= accept + grace + 10
    assert f"--accept-grace={accept}" in pod["containers"][0]["args"]
    assert f"--grace={grace}" in pod["containers"][0]["args"]


def test_an_upgrade_takes_no_replica_away_before_the_next_one_is_ready() -> None:
    deployment = render(EXISTING)[REPLICA]
    assert at(deployment, "spec/strategy") == {
        "type": "RollingUpdate",
        "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1},
    }
    container = at(deployment, "spec/template/spec/containers/0")
    assert container["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "status"}
    live = container["livenessProbe"]
    assert live["httpGet"] == {"path": "/healthz", "port": "status"}
    assert live["periodSeconds"] * live["failureThreshold"] >= 30, "an agent may start again"


def test_the_runtime_folder_is_a_folder_in_a_volume_in_memory() -> None:
    pod = at(render(EXISTING)[REPLICA], "spec/template/spec")
    assert at(pod, "volumes/name=run/emptyDir/medium") == "Memory"
    assert at(pod, "containers/0/volumeMounts/name=run/mountPath") == "/run/junction"


@pytest.mark.parametrize("replicas", [0, 1, 2, 5])
def test_no_budget_blocks_a_drain(replicas: int) -> None:
    values = {"replica": {"replicas": replicas}, "etcd": {"replicas": 1}}
    objects = render(EXISTING, values)
    for name in (f"{FULL}-replica", f"{FULL}-etcd"):
        budget = objects[f"PodDisruptionBudget/{name}"]["spec"]
        assert budget["maxUnavailable"] == 1
        assert "minAvailable" not in budget
    if replicas == 0:
        assert objects[REPLICA]["spec"]["replicas"] == 0


def test_the_autoscaler_alone_sets_the_number() -> None:
    objects = render(GROUPS["scaled"])
    assert "replicas" not in objects[REPLICA]["spec"]
    scaler = objects[f"HorizontalPodAutoscaler/{FULL}-replica"]["spec"]
    assert scaler["scaleTargetRef"]["name"] == objects[REPLICA]["metadata"]["name"]
    assert scaler["metrics"][0]["resource"]["target"]["averageUtilization"] == 80


def test_etcd_starts_at_once_and_is_updated_one_by_one() -> None:
    spec = render(EXISTING)[ETCD]["spec"]
    assert spec["podManagementPolicy"] == "Parallel"
    assert spec["updateStrategy"] == {"type": "RollingUpdate"}
    assert spec["serviceName"] == f"{FULL}-etcd"
    headless = render(EXISTING)[f"Service/{FULL}-etcd"]["spec"]
    assert headless["clusterIP"] == "None"
    assert headless["publishNotReadyAddresses"] is True


def test_no_keeper_takes_an_etcd_with_it_but_by_a_signal() -> None:
    pod = at(render(EXISTING)[ETCD], "spec/template/spec")
    member = at(pod, "containers/name=etcd")
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert member[probe]["httpGet"]["port"] == "metrics", "keep may fail in all pods at once"
    assert pod["shareProcessNamespace"] is True
    keep = at(pod, "containers/name=keep")
    assert keep["securityContext"] == member["securityContext"], "it may end what runs as it"


@pytest.mark.parametrize("volumes", [True, False])
def test_a_member_that_is_not_ready_is_evicted_if_its_volume_stays(volumes: bool) -> None:
    objects = render(EXISTING, nested("etcd.persistence.enabled", volumes))
    budget = objects[f"PodDisruptionBudget/{FULL}-etcd"]["spec"]
    assert budget.get("unhealthyPodEvictionPolicy") == ("AlwaysAllow" if volumes else None)


def test_a_lost_quorum_kills_no_member() -> None:
    member = at(render(EXISTING)[ETCD], "spec/template/spec/containers/name=etcd")
    # /livez reads what the member has itself; /readyz asks for a quorum, and for a vote
    assert member["livenessProbe"]["httpGet"] == {"path": "/livez", "port": "metrics"}
    assert member["startupProbe"]["httpGet"] == member["livenessProbe"]["httpGet"]
    assert member["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "metrics"}


def test_prepare_and_keep_are_told_the_same() -> None:
    pod = at(render(EXISTING)[ETCD], "spec/template/spec")
    prepare, keep = at(pod, "initContainers/name=prepare"), at(pod, "containers/name=keep")
    shared = [
        "etcd",
        "--name=$(POD_NAME)",
        "--members=3",
        f"--service={FULL}-etcd",
        "--domain=ns.svc.cluster.local",
        "--data-dir=/var/lib/etcd/data",
        "--config=/etc/etcd-config/etcd.yaml",
        "--tls-dir=/etc/etcd/tls",
        "--root-password-file=/etc/junction/auth/root-password",
        f"--cluster-token=ns-{FULL}",
        "--quota-bytes=1073741824",
    ]
    assert prepare["args"] == [*shared[:1], "prepare", *shared[1:]]
    assert keep["args"][: len(shared) + 1] == [*shared[:1], "keep", *shared[1:]]
    assert keep["args"][len(shared) + 1 :] == [
        "--hub-user=hub",
        "--hub-password-file=/etc/junction/auth/hub-password",
        "--agent-user=agent",
        "--agent-password-file=/etc/junction/auth/agent-password",
        "--prefix=/junction/",
        "--status=0.0.0.0:2382",
    ]
    # only its own password is there for the one that runs but a moment
    keys = [item["key"] for item in at(pod, "volumes/name=root/secret/items")]
    assert keys == ["root-password"]


def test_the_test_is_a_test_and_runs_nowhere_else() -> None:
    objects = render(EXISTING)
    pod = objects[f"Pod/{FULL}-test"]
    hook = pod["metadata"]["annotations"]
    assert hook["helm.sh/hook"] == "test"
    # one that went well is not there when the release is uninstalled; Helm shows what it said
    assert hook["helm.sh/hook-delete-policy"] == "before-hook-creation,hook-succeeded"
    assert hook["helm.sh/hook-output-log-policy"] == "hook-succeeded,hook-failed"
    assert pod["spec"]["restartPolicy"] == "Never"
    args = pod["spec"]["containers"][0]["args"]
    assert args[0] == "check"
    assert f"--replicas={FULL}-replicas.ns.svc.cluster.local:8000" in args
    assert "--etcd-username=hub" in args
    headless = objects[f"Service/{FULL}-replicas"]["spec"]
    assert headless["clusterIP"] == "None"
    assert "publishNotReadyAddresses" not in headless


@pytest.mark.parametrize(
    ("given", "full"),
    [
        ({}, "rel-junction"),
        ({"nameOverride": "rel"}, "rel"),
        ({"fullnameOverride": "a" * 60}, "a" * 40),
    ],
)
def test_names(given: dict[str, str], full: str) -> None:
    objects = render(EXISTING, given)
    assert f"Deployment/{full}-replica" in objects
    longest = max(len(name.partition("/")[2]) for name in objects)
    assert longest <= 63
    assert len(f"{full}-etcd-0") <= 63


@pytest.fixture
def speaking(tmp_path: Path) -> Path:
    """The chart, with its notes as an object: `helm template` does not show them."""
    chart = tmp_path / "junction"
    shutil.copytree(CHART, chart)
    notes = chart / "templates" / "NOTES.txt"
    text = notes.read_text()
    notes.unlink()
    (notes.parent / "_notes.tpl").write_text('{{ define "notes" }}' + text + "{{ end }}")
    (notes.parent / "notes.yaml").write_text(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: notes}\n"
        'data: {notes: {{ include "notes" . | toJson }}}\n'
    )
    return chart


@pytest.mark.parametrize(
    ("given", "said", "unsaid"),
    [
        ({}, [f"{FULL}-etcd-hub-access", f"helm test {RELEASE}", "port 80"], ["spare", "z2jh"]),
        (
            nested("etcd.persistence.whenDeleted", "Retain"),
            [f"leaves the claims data-{FULL}-etcd-N and the Secret {FULL}-etcd-auth"],
            [],
        ),
        (EXISTING, ["hub-password of Secret my-auth", "tls.key of Secret my-client"], []),
        (GROUPS["z2jh"], ["proxy-public", "proxy.chp.pdb.enabled"], ["port 80"]),
        ({"replica": {"replicas": 1}, "etcd": {"replicas": 1}}, ["replica.replicas", "spare"], []),
        (GROUPS["external"], ["etcd at https://e1:2379", "Secret e-auth", "Secret e-tls"], []),
        (nested("networkPolicy.enabled", False), ["etcd-client"], ["NetworkPolicies"]),
    ],
)
def test_notes_say_what_to_do_next(
    speaking: Path, given: Any, said: list[str], unsaid: list[str]
) -> None:
    text = template(
        json.dumps(given), "--kube-version=1.34.0", "--show-only=templates/notes.yaml",
        chart=speaking,
    )  # fmt: skip
    notes = parse(text)["ConfigMap/notes"]["data"]["notes"]
    assert not [word for word in said if word not in notes], notes
    assert not [word for word in unsaid if word in notes], notes
    assert not re.search(r"<no value>|map\[|\n\n\n", notes), notes
