"""What helm makes of the chart, as objects; each set of values is rendered once."""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "chart" / "junction"
RELEASE, NAMESPACE = "rel", "ns"
FULL = "rel-junction"

#: in C where there is one, which is ten times as fast
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
Object = dict[str, Any]
#: deterministic, as all that the chart would make up is somebody else's
EXISTING = {
    "auth": {"existingSecret": "my-auth"},
    "certificates": {
        "source": "existing",
        "existing": {"serverSecret": "my-server", "clientSecret": "my-client"},
    },
}
EXTERNAL = {"etcd": {"enabled": False, "external": {"endpoints": ["https://e1:2379"]}}}


class Refused(Exception):
    """helm did not render; what it said."""


def merged(*layers: Mapping[str, Any]) -> Object:
    """Values of several layers, the last one first."""
    result: Object = {}
    for layer in layers:
        for key, value in layer.items():
            old = result.get(key)
            if isinstance(value, Mapping) and isinstance(old, Mapping):
                value = merged(old, value)
            result[key] = value
    return result


def nested(path: str, value: Any) -> Object:
    """Values with one key set, given by its path with dots."""
    first, _, rest = path.partition(".")
    return {first: nested(rest, value) if rest else value}


def at(thing: Any, path: str) -> Any:
    """What is there at a path with dots; numbers count in lists, ``name=x`` looks there.

    None where there is nothing.
    """
    for key in filter(None, path.split("/")):
        if isinstance(thing, list):
            if "=" in key:
                name, _, wanted = key.partition("=")
                thing = next((one for one in thing if str(one.get(name)) == wanted), None)
            else:
                thing = thing[int(key)] if int(key) < len(thing) else None
        elif isinstance(thing, Mapping):
            thing = thing.get(key)
        else:
            return None
    return thing


def helm() -> str:
    """The helm program."""
    found = os.environ.get("JUNCTION_HELM") or shutil.which("helm")
    assert found, "helm is not on PATH: run `ci/setup venv helm -- pytest`"
    return found


def run_helm(*words: str, stdin: str = "", env: Mapping[str, str] | None = None) -> str:
    """What helm prints.

    Raises:
        Refused: with what it says.
    """
    # no settings of whoever runs this, and no cluster of his
    clean = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "KUBECONFIG": "/dev/null"}
    done = subprocess.run(
        [helm(), *words],
        input=stdin,
        capture_output=True,
        text=True,
        env={**clean, **(env or {})},
        timeout=180,
    )
    if done.returncode:
        raise Refused(done.stderr)
    return done.stdout


def template(values: str, *words: str, chart: Path = CHART, **how: Any) -> str:
    """The chart's manifests, for values in JSON."""
    return run_helm(
        "template", RELEASE, str(chart), "--namespace", NAMESPACE, "--values", "-", *words,
        stdin=values, **how,
    )  # fmt: skip


def parse(text: str) -> dict[str, Object]:
    """Manifests as objects, named ``Kind/name``."""
    objects = [one for one in yaml.load_all(text, LOADER) if one]
    named = {f"{one['kind']}/{one['metadata']['name']}": one for one in objects}
    assert len(named) == len(objects), "two objects of one kind have one name"
    return named


@functools.cache
def _rendered(values: str, kube: str) -> dict[str, Object]:
    return parse(template(values, "--kube-version", kube))


def render(*layers: Mapping[str, Any], kube: str = "1.34.0") -> dict[str, Object]:
    """The chart's objects, by ``Kind/name``; not to be changed, as others get the same.

    Raises:
        Refused: with what helm says.
    """
    return _rendered(json.dumps(merged(*layers), sort_keys=True), kube)


def pod_of(thing: Object) -> Object | None:
    """The pod that an object is, or makes: metadata and spec."""
    if thing["kind"] == "Pod":
        return thing
    found = at(thing, "spec/template")
    return found if isinstance(found, dict) else None


def pods(objects: Mapping[str, Object]) -> Iterator[tuple[str, Object]]:
    """All pods, with the names of what makes them."""
    for name, thing in objects.items():
        if pod := pod_of(thing):
            yield name, pod


def containers(pod: Object) -> Iterator[Object]:
    """All containers of a pod."""
    yield from pod["spec"].get("initContainers", [])
    yield from pod["spec"]["containers"]
