"""The stand-in chart keeps to what z2jh renders, as far as Junction and the tests see it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from e2e.site import HUB_CHART, ROOT, merged

KINDS = ("Deployment", "Service", "Secret", "PersistentVolumeClaim", "Ingress")
#: z2jh's alone, and nothing that anything here selects or reads by
OTHERS = ("chart", "heritage", "helm.sh/chart", "app.kubernetes.io/managed-by")
VALUES = {
    "hub": {"image": {"name": "quay.io/jupyterhub/k8s-hub", "tag": "set-by-chartpress"}}
    | {"db": {"type": "sqlite-pvc"}},
    "proxy": {"enabled": True, "service": {"type": "LoadBalancer"}},
}


def theirs(way: str = "default") -> dict[str, Any]:
    given = os.environ.get("Z2JH_RENDERED")
    places = [Path(given)] if given else [one / "shared" / "z2jh" for one in ROOT.parents]
    found = next((one for one in places if (one / f"{way}.yaml").is_file()), None)
    if found is None:
        pytest.skip("no rendered z2jh here: name its folder in Z2JH_RENDERED")
    return by_name((found / f"{way}.yaml").read_text())


def ours(values: dict[str, Any]) -> dict[str, Any]:
    done = subprocess.run(
        ["helm", "template", "jhub", str(HUB_CHART), "-n", "jhub", "--kube-version=1.34.0", "-f-"],
        input=yaml.safe_dump(values), text=True, capture_output=True, check=True, timeout=60,
    )  # fmt: skip
    return by_name(done.stdout)


def by_name(text: str) -> dict[str, Any]:
    return {
        f"{one['kind']}/{one['metadata']['name']}": one
        for one in yaml.safe_load_all(text)
        if one and one["kind"] in KINDS
    }


def contract(one: Any) -> Any:
    """What of an object the stand-in has to have alike."""
    kind, spec = one["kind"], one.get("spec", {})
    labels = {key: value for key, value in one["metadata"]["labels"].items() if key not in OTHERS}
    if kind == "Service":
        return labels, spec["selector"], spec["ports"], spec.get("type", "ClusterIP")
    if kind == "Deployment":
        pod = spec["template"]
        facts = {key: spec[key] for key in ("replicas", "selector", "strategy")}
        inside = pod["spec"]
        facts["pod"] = {
            key: inside.get(key) for key in ("terminationGracePeriodSeconds", "serviceAccountName")
        }
        if labels["component"] == "proxy":
            facts["volumes"] = inside.get("volumes")
        containers = [container(each) for each in inside["containers"]]
        return labels, facts, pod["metadata"]["labels"], containers
    if kind == "Ingress":
        return labels, spec
    return labels, one.get("type", "Opaque")


def container(one: Any) -> Any:
    facts = {key: one.get(key) for key in ("name", "image", "command", "args", "ports")}
    facts["env"] = sorted((each["name"], str(each.get("valueFrom"))) for each in one["env"])
    facts["readinessProbe"] = {"scheme": "HTTP"} | one["readinessProbe"]["httpGet"]
    if one["name"] == "chp":
        facts["volumeMounts"] = one.get("volumeMounts")
    user = ("runAsUser", "runAsGroup", "allowPrivilegeEscalation", "capabilities")
    facts["securityContext"] = {key: one["securityContext"][key] for key in user}
    return facts


NAMES = [
    "Deployment/hub", "Deployment/proxy", "Service/hub", "Service/proxy-api",
    "Service/proxy-public", "Secret/hub", "PersistentVolumeClaim/hub-db-dir",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_the_stand_in_renders_what_z2jh_does(name: str) -> None:
    assert contract(ours(VALUES)[name]) == contract(theirs()[name])


#: what the admin's values are for each way of serving that was rendered
WAYS: dict[str, dict[str, Any]] = {
    "https-manual": {"https": {"enabled": True, "manual": {"cert": "c", "key": "k"}}},
    "https-secret": {"https": {"enabled": True, "type": "secret", "secret": {"name": "hub-tls"}}},
    "https-offload": {"https": {"enabled": True, "type": "offload"}},
    "ingress": {"service": {"type": "ClusterIP"}},
}


@pytest.mark.parametrize("way", WAYS)
def test_the_stand_in_serves_each_way_as_z2jh_does(way: str) -> None:
    more = {"enabled": way == "ingress", "hosts": ["hub.example.org"]}
    mine = ours(merged(VALUES, {"proxy": WAYS[way], "ingress": more}))
    z2jhs = theirs(way)
    names = ["Deployment/proxy", "Service/proxy-public"]
    names += ["Ingress/jupyterhub"] if way == "ingress" else []
    names += ["Secret/proxy-public-manual-tls"] if way == "https-manual" else []
    for name in names:
        assert contract(mine[name]) == contract(z2jhs[name])


def test_chps_probes_are_z2jhs_to_the_second() -> None:
    inside = [
        each["Deployment/proxy"]["spec"]["template"]["spec"]["containers"][0]
        for each in (ours(VALUES), theirs())
    ]
    for probe in ("livenessProbe", "readinessProbe"):
        mine, z2jhs = (one[probe] for one in inside)
        assert mine == z2jhs | {"httpGet": {"scheme": "HTTP"} | z2jhs["httpGet"]}


@pytest.mark.parametrize("preset", ["prepare", "takeover", "rollback"])
def test_the_stand_in_takes_what_a_preset_sets(preset: str) -> None:
    values = yaml.safe_load((ROOT / "chart" / "presets" / f"{preset}.yaml").read_text())
    rendered = ours(merged(VALUES, values))
    hub = rendered["Deployment/hub"]["spec"]["template"]
    proxy = rendered["Deployment/proxy"]["spec"]["template"]
    assert hub["metadata"]["labels"].items() >= values["hub"]["labels"].items()
    mine = hub["spec"]["containers"][0]
    assert {one["name"] for one in mine["env"]} >= set(values["hub"]["extraEnv"])
    assert "/etc/junction/preset.yaml" in [one["mountPath"] for one in mine["volumeMounts"]]
    chp = values["proxy"]["chp"]
    labels = values["proxy"].get("labels", {})
    assert proxy["metadata"]["labels"].items() >= labels.items()
    inside = proxy["spec"]["containers"][0]
    if image := chp.get("image"):
        assert inside["image"] == f"{image['name']}:{image['tag']}"
    assert {one["name"] for one in inside["env"]} >= set(chp.get("extraEnv", {}))
    assert ("--storage-backend=etcd" in inside["args"]) is ("extraCommandLineFlags" in chp)
    assert proxy["spec"].get("initContainers") == chp.get("extraPodSpec", {}).get("initContainers")
