"""Every value shows where it should, and everything that is rendered is valid and restricted."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from typing import Any

import kubernetes_validate  # type: ignore[import-untyped]
import pytest
from chart_docs import read_values
from options import GROUPS, OPTIONS, Option
from rendering import CHART, ROOT, Object, at, containers, merged, nested, pods, render

#: the oldest and the newest Kubernetes that the chart is checked for
VERSIONS = ("1.32", "1.34")
#: values that nothing is rendered from
SILENT = {"enabled", "certificates.validDays"}


def case(option: Option) -> Object:
    """The values that an option is rendered with: its own, and its group's unless it is alone."""
    given = GROUPS[option.group]
    together = [option] if option.alone else [
        one for one in OPTIONS if one.group == option.group and not one.alone
    ]  # fmt: skip
    return merged(given, *(merged(nested(one.path, one.value), one.needs) for one in together))


def look(objects: dict[str, Object], where: str) -> Any:
    name, _, path = where.partition(" ")
    return at(objects.get(name), path)


@pytest.mark.parametrize("option", OPTIONS, ids=lambda one: one.path)
def test_a_value_shows(option: Option) -> None:
    with_it, without = (
        look(render(values), option.where) for values in (case(option), GROUPS[option.group])
    )
    if option.within:
        assert option.shows in with_it
        assert option.shows not in (without or [])
    else:
        assert with_it == option.shows
        assert without != option.shows


def leaves() -> Iterator[str]:
    pending = read_values(CHART / "values.yaml")
    while pending:
        value = pending.pop()
        pending += value.children
        if not value.children:
            yield value.path


def test_every_value_has_its_case() -> None:
    tried = {option.path for option in OPTIONS}
    assert set(leaves()) - SILENT == tried


def renderings() -> dict[str, Object]:
    """Values of all sorts, each rendered once."""
    cases = {name: given for name, given in GROUPS.items()}
    for option in OPTIONS:
        cases[f"{option.path}" if option.alone else f"{option.group}, all"] = case(option)
    return cases


# it reads a megabyte of definitions for each object otherwise
_schemas = functools.cache(kubernetes_validate.utils.schema_contents)


@pytest.fixture(autouse=True)
def _schemas_are_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kubernetes_validate.utils, "schema_contents", _schemas)


@functools.cache
def _valid(text: str, version: str) -> str:
    kubernetes_validate.validate(json.loads(text), version, strict=True)
    return version


@pytest.mark.parametrize("name", renderings())
def test_it_is_valid_in_every_kubernetes(name: str) -> None:
    for thing in render(renderings()[name]).values():
        if thing["apiVersion"].startswith("cert-manager.io/"):
            continue  # not Kubernetes' own
        if thing["kind"] == "Secret":
            thing = {**thing, "data": dict.fromkeys(thing.get("data") or {}, "eA==")}
        for version in VERSIONS:
            assert _valid(json.dumps(thing), version) == version


def test_an_invalid_object_is_seen() -> None:
    service = next(iter(render(GROUPS["base"]).values()))
    with pytest.raises(kubernetes_validate.ValidationError):
        _valid(json.dumps(merged(service, {"spec": {"clusterIp": "None"}})), VERSIONS[0])


def breaches(pod: Object) -> Iterator[str]:
    """What the restricted Pod Security Standard (1.34) has against a pod, and what we add to it."""
    spec, own = pod["spec"], pod["spec"].get("securityContext") or {}
    for key in ("hostNetwork", "hostPID", "hostIPC"):
        if spec.get(key):
            yield key
    if spec.get("automountServiceAccountToken") is not False:
        yield "a token"
    kinds = {"name", "configMap", "csi", "downwardAPI", "emptyDir", "ephemeral"}
    kinds |= {"persistentVolumeClaim", "projected", "secret"}
    for volume in spec.get("volumes") or []:
        if set(volume) - kinds:
            yield f"volume {volume['name']}"
    for container in containers(pod):
        context = container.get("securityContext") or {}
        name = container["name"]
        if context.get("allowPrivilegeEscalation") is not False:
            yield f"{name}: allowPrivilegeEscalation"
        if context.get("privileged"):
            yield f"{name}: privileged"
        if "ALL" not in at(context, "capabilities/drop"):
            yield f"{name}: capabilities"
        if set(at(context, "capabilities/add") or []) - {"NET_BIND_SERVICE"}:
            yield f"{name}: more capabilities"
        if not context.get("runAsNonRoot", own.get("runAsNonRoot")):
            yield f"{name}: runAsNonRoot"
        if context.get("runAsUser", own.get("runAsUser")) == 0:
            yield f"{name}: root"
        profile = at(context, "seccompProfile/type") or at(own, "seccompProfile/type")
        if profile not in ("RuntimeDefault", "Localhost"):
            yield f"{name}: seccomp"
        if any(port.get("hostPort") for port in container.get("ports", [])):
            yield f"{name}: host port"
        if not context.get("readOnlyRootFilesystem"):
            yield f"{name}: writable root"
        if not container.get("resources") and name != "more":
            yield f"{name}: no resources"


@pytest.mark.parametrize("name", renderings())
def test_every_pod_is_restricted(name: str) -> None:
    seen = list(pods(render(renderings()[name])))
    assert seen
    for owner, pod in seen:
        assert not list(breaches(pod)), owner


@pytest.mark.parametrize(
    ("path", "value", "breach"),
    [
        ("spec/automountServiceAccountToken", None, "a token"),
        ("spec/hostNetwork", True, "hostNetwork"),
        ("spec/securityContext/runAsUser", 0, "replica: root"),
        ("spec/securityContext/seccompProfile", None, "replica: seccomp"),
        ("spec/securityContext/runAsNonRoot", False, "replica: runAsNonRoot"),
    ],
)
def test_a_breach_is_seen(path: str, value: Any, breach: str) -> None:
    pod = dict(pods(render(GROUPS["base"])))[f"Deployment/{'rel-junction'}-replica"]
    broken = merged(pod, nested(path.replace("/", "."), value))
    assert breach in list(breaches(broken))


def test_one_registry_is_every_image_s() -> None:
    objects = render(GROUPS["base"], nested("global.imageRegistry", "m.example:5000/x"))
    images = {one["image"] for _, pod in pods(objects) for one in containers(pod)}
    assert len(images) == 2
    assert all(image.startswith("m.example:5000/x/") for image in images), images


def test_the_chart_and_the_package_have_one_version() -> None:
    chart = (CHART / "Chart.yaml").read_text()
    package = (ROOT / "proxy_plugin" / "pyproject.toml").read_text()
    version = package.partition('\nversion = "')[2].partition('"')[0]
    assert f"\nappVersion: {version}\n" in chart
