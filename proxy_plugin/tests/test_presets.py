"""The presets: valid for z2jh, one at a time, and beside what admins have already."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from fake_cluster import cluster
from harness.z2jh import z2jh_schema

from jupyterhub_junction.migrate.check import merge
from jupyterhub_junction.migrate.command import migrate, rendered
from jupyterhub_junction.migrate.presets import ONE, PRESETS, BadPreset, Names, preset

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def z2jh() -> jsonschema.protocols.Validator:
    """z2jh's closed schema."""
    return jsonschema.Draft7Validator(z2jh_schema())


def refused(z2jh: jsonschema.protocols.Validator, values: Any) -> list[str]:
    """Where the schema refuses values; what the chart's own values say is not missing."""
    return [
        ".".join(map(str, error.path))
        for error in z2jh.iter_errors(values)
        if error.validator != "required" or "extraFiles" in error.path
    ]


OWN: dict[str, dict[str, Any]] = {
    "none": {},
    "maps": {
        "hub": {"extraEnv": {"A": "b"}, "extraConfig": {"x": "1"}, "labels": {"a": "b"}},
        "proxy": {"chp": {"extraEnv": {"C": {"value": "d"}}, "resources": {"limits": {}}}},
    },
    "lists": {
        "hub": {"extraEnv": [{"name": "A", "value": "b"}], "extraVolumes": [{"name": "v"}]},
        "proxy": {
            "chp": {
                "extraEnv": [{"name": "C", "value": "d"}],
                "extraCommandLineFlags": ["--timeout=3000", "--log-level={{ .Values.x }}"],
                "extraPodSpec": {"initContainers": [{"name": "mine", "image": "mine:1"}]},
            }
        },
    },
}


@pytest.mark.parametrize("own", OWN)
@pytest.mark.parametrize("name", PRESETS)
def test_z2jhs_schema_takes_a_preset_beside_an_admins_values(
    z2jh: jsonschema.protocols.Validator, name: str, own: str
) -> None:
    values = merge([OWN[own], preset(name, own=OWN[own])])
    assert refused(z2jh, values) == []
    assert refused(z2jh, values | {"hubb": 1}), "the schema is closed"


@pytest.mark.parametrize(("one", "two"), list(itertools.permutations(PRESETS, 2)))
def test_two_presets_at_once_are_refused_by_a_key_that_says_why(
    z2jh: jsonschema.protocols.Validator, one: str, two: str
) -> None:
    assert refused(z2jh, merge([preset(one), preset(two)])) == [f"hub.extraFiles.{ONE}"]


@pytest.mark.parametrize("name", PRESETS)
def test_the_files_are_what_the_command_writes(name: str, tmp_path: Path) -> None:
    assert migrate(["presets", "-o", str(tmp_path)]) == 0
    made = (tmp_path / f"{name}.yaml").read_text()
    file = ROOT / "chart" / "presets" / f"{name}.yaml"
    assert file.read_text() == made, "junction migrate presets -o chart/presets writes it anew"
    assert yaml.safe_load(made) == preset(name)


def test_prepare_leaves_chps_pod_as_it_is() -> None:
    assert preset("prepare")["proxy"] == {"chp": {"pdb": {"enabled": False}}}


def environment(values: Any) -> dict[str, Any]:
    if isinstance(values, list):
        return {one["name"]: one for one in values}
    return dict(values)


@pytest.mark.parametrize("own", ["maps", "lists"])
@pytest.mark.parametrize("name", PRESETS)
def test_nothing_of_the_admins_is_lost(name: str, own: str) -> None:
    values = merge([OWN[own], preset(name, own=OWN[own])])
    hub, chp = values["hub"], values["proxy"]["chp"]
    assert {"A", "JUNCTION_ETCD"} <= environment(hub["extraEnv"]).keys()
    assert "C" in environment(chp["extraEnv"])
    if own == "lists":
        assert hub["extraVolumes"] == [{"name": "v"}]
        flags = OWN["lists"]["proxy"]["chp"]["extraCommandLineFlags"]
        assert chp["extraCommandLineFlags"][: len(flags)] == flags
        containers = [one["name"] for one in chp["extraPodSpec"]["initContainers"]]
        assert containers == (["mine", "junction-fill"] if name == "rollback" else ["mine"])


def test_names_come_from_one_place() -> None:
    names = Names.of_release("east", z2jh="hub9", hub_image="mine/hub:3")
    text = json.dumps([preset(name, names) for name in PRESETS])
    assert "east-junction-etcd-access" in text
    assert '"junction-etcd' not in text
    assert '"name": "hub9-hub"' in text
    assert "mine/hub" in text
    assert Names.of_release("my-junction").junction == "my-junction"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--hub-image", "hub"], "image 'hub' has no tag: write NAME:TAG"),
        (["--hub-image", "host:5000/hub"], "has no tag"),
        (["-f", "FILE"], "--insecure has no counterpart"),
    ],
)
def test_bad_input_is_one_clear_line(
    words: list[str], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "own.yaml"
    file.write_text("proxy: {chp: {extraCommandLineFlags: [--insecure]}}")
    words = [str(file) if word == "FILE" else word for word in words]
    assert migrate(["presets", "-o", str(tmp_path), *words]) == 2
    said = capsys.readouterr().err
    assert says in said
    assert said.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["own.yaml"], "nothing is written"


def test_values_of_a_chart_that_depends_on_z2jh_are_kept_as_well(tmp_path: Path) -> None:
    file = tmp_path / "own.yaml"
    file.write_text(yaml.safe_dump({"jupyterhub": OWN["lists"]}))
    assert migrate(["presets", "-o", str(tmp_path), "-f", str(file)]) == 0
    written = yaml.safe_load((tmp_path / "takeover.yaml").read_text())
    assert written == preset("takeover", own=OWN["lists"])


def test_trusted_addresses_reach_z2jhs_proxy(tmp_path: Path) -> None:
    trust = ["--trust", "10.0.0.0/8", "--trust", "192.168.1.4"]
    assert migrate(["presets", "-o", str(tmp_path), *trust]) == 0
    values = yaml.safe_load((tmp_path / "takeover.yaml").read_text())
    assert values["proxy"]["chp"]["extraEnv"]["JUNCTION_TRUST"] == "10.0.0.0/8,192.168.1.4/32"
    listed = preset("takeover", own=OWN["lists"], trust=["10.0.0.0/8"])
    assert listed["proxy"]["chp"]["extraEnv"][-1]["name"] == "JUNCTION_TRUST"


@pytest.mark.parametrize("name", PRESETS)
def test_etcd_may_be_reached_where_private_addresses_may_not(name: str) -> None:
    rule = {"to": [{"ipBlock": {"cidr": "10.1.2.3/32"}}]}
    closed = {"egressAllowRules": {"privateIPs": False}, "egress": [rule]}
    own: dict[str, Any] = {"hub": {"networkPolicy": closed}, "proxy": {"chp": {}}}
    values = preset(name, own=own)
    first, etcd = values["hub"]["networkPolicy"]["egress"]
    assert first == rule
    assert etcd["ports"] == [{"port": 2379, "protocol": "TCP"}]
    assert "networkPolicy" not in values["proxy"]["chp"]
    own["proxy"]["chp"]["networkPolicy"] = closed
    assert ("networkPolicy" in preset(name, own=own)["proxy"]["chp"]) == (name != "prepare")


def references(values: Any) -> set[tuple[str, str]]:
    """The Secrets and keys that values refer to."""
    if isinstance(values, list):
        return set().union(*map(references, values))
    if not isinstance(values, dict):
        return set()
    found = set().union(*map(references, values.values()))
    if "secretKeyRef" in values:
        found.add((values["secretKeyRef"]["name"], values["secretKeyRef"]["key"]))
    return found


@pytest.mark.parametrize("release", ["junction", "east", "my-junction-2"])
def test_the_chart_makes_what_the_presets_refer_to(release: str) -> None:
    done = helm("template", release, str(ROOT / "chart" / "junction"), "--kube-version", "1.34.0")
    assert done.returncode == 0, done.stderr
    objects = [one for one in yaml.safe_load_all(done.stdout) if one]
    made = {
        (one["metadata"]["name"], key)
        for one in objects
        if one["kind"] == "Secret"
        for key in {**one.get("data", {}), **one.get("stringData", {})}
    }
    names = Names.of_release(release)
    wanted = set().union(*(references(preset(name, names)) for name in PRESETS))
    z2jhs = {("hub", "hub.config.ConfigurableHTTPProxy.auth_token")}
    assert wanted - z2jhs <= made
    assert len(wanted) == 15
    deployments = [one["metadata"]["name"] for one in objects if one["kind"] == "Deployment"]
    assert deployments == [f"{names.junction}-replica"], "which the guard looks for"


def test_a_flag_refused_by_a_replica_is_refused_here() -> None:
    own = {"proxy": {"chp": {"extraCommandLineFlags": ["--no-such-flag"]}}}
    with pytest.raises(BadPreset, match=r"extraCommandLineFlags: --no-such-flag is no flag"):
        preset("takeover", own=own)


# --- rendered by helm ------------------------------------------------------------------------

CHART = {
    "Chart.yaml": "apiVersion: v2\nname: jupyterhub\nversion: {version}\n",
    "templates/proxy.yaml": """\
apiVersion: apps/v1
kind: Deployment
metadata: {{name: proxy}}
spec:
  template:
    spec:
      containers:
      - name: chp
        image: {{{{ .Values.proxy.chp.image.name }}}}:{{{{ .Values.proxy.chp.image.tag }}}}
        args:
        {{{{- range .Values.proxy.chp.extraCommandLineFlags }}}}
        - {{{{ tpl . $ }}}}
        {{{{- end }}}}
""",
}


def chart(folder: Path, version: str, schema: Any = None) -> Path:
    """As much of z2jh's chart as renders its flags."""
    for name, text in CHART.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text.format(version=version))
    (folder / "values.yaml").write_text("proxy: {chp: {image: {name: chp, tag: '5'}}}\n")
    if schema is not None:
        schema.pop("required", None)
        (folder / "values.schema.json").write_text(json.dumps(schema))
    return folder


def helm(*words: str) -> subprocess.CompletedProcess[str]:
    program = os.environ.get("JUNCTION_HELM") or shutil.which("helm")
    if program is None:
        pytest.skip("helm is not on PATH, and JUNCTION_HELM does not name it")
    environment = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "KUBECONFIG": "/dev/null"}
    return subprocess.run(
        [program, *words], capture_output=True, text=True, env=environment, timeout=180
    )


def template(
    folder: Path,
    *names: str,
    version: str = "4.4.0",
    schema: Any = None,
    words: Sequence[str] = (),
) -> subprocess.CompletedProcess[str]:
    files = []
    for name in names:
        file = folder / f"{name}.yaml"
        file.write_text(rendered(name, preset(name)))
        files += ["-f", str(file)]
    return helm("template", "hub", str(chart(folder / "z2jh", version, schema)), *files, *words)


def test_the_guard_renders_to_a_flag_that_a_replica_takes(tmp_path: Path) -> None:
    from jupyterhub_junction.commands.chp_flags import translate

    done = template(tmp_path, "takeover")
    assert done.returncode == 0, done.stderr
    [container] = yaml.safe_load(done.stdout)["spec"]["template"]["spec"]["containers"]
    assert container["args"] == ["--storage-backend=etcd"]
    translate(container["args"])


@pytest.mark.parametrize("version", ["3.3.8", "4.4.0", "0.0.1-set.by.chartpress", "4.4.1-0.dev"])
def test_an_old_z2jh_is_refused(tmp_path: Path, version: str) -> None:
    done = template(tmp_path, "takeover", version=version)
    if version == "3.3.8":
        assert done.returncode
        assert "Junction needs z2jh 4.0.0 or later, this is 3.3.8" in done.stderr
    else:
        assert done.returncode == 0, done.stderr


def test_helm_refuses_two_presets_by_their_key(tmp_path: Path) -> None:
    done = template(tmp_path, "prepare", "takeover", schema=z2jh_schema())
    assert done.returncode
    assert ONE in done.stderr


# --- what helm asks the cluster before it takes over -----------------------------------------


USERS = {"app": "jupyterhub", "component": "proxy", "release": "hub"}


def with_replicas(number: int, **labels: str) -> dict[str, Any]:
    return {
        "kind": "Deployment",
        "spec": {"template": {"metadata": {"labels": labels or USERS}}},
        "status": {"readyReplicas": number} if number else {},
    }


def proxied_by(image: str) -> dict[str, Any]:
    pod = {"spec": {"containers": [{"name": "chp", "image": image}]}}
    return {
        "kind": "Deployment",
        "spec": {"selector": {"matchLabels": USERS}, "template": pod},
    }


CHP, JUNCTION = (
    "quay.io/jupyterhub/configurable-http-proxy:5",
    "quay.io/jupyterhub-junction/replica:1",
)
SERVICE, SECRET = {"services/proxy-public": {}}, {"secrets/junction-etcd-access": {}}
CHP_SERVES = {**SERVICE, **SECRET, "deployments/proxy": proxied_by(CHP)}
NOT_LOADED = "no replica of Deployment junction-replica is ready"
LOST = "get no users, as they lack the label release=hub: set jupyterhub.enabled=true and"
NO_ACCESS = "Secret junction-etcd-access is not in namespace ns: install Junction's chart"


@pytest.mark.parametrize(
    ("objects", "says"),
    [
        ({}, ""),  # a first install
        ({**SERVICE, "deployments/proxy": proxied_by(CHP)}, NO_ACCESS),
        ({**SERVICE, **SECRET, "deployments/proxy": proxied_by(CHP)}, NOT_LOADED),
        ({**SERVICE, **SECRET, "deployments/junction-replica": with_replicas(0)}, NOT_LOADED),
        (
            {**CHP_SERVES, "deployments/junction-replica": with_replicas(1, release="other")},
            "lack the label app=jupyterhub: set jupyterhub.enabled=true",
        ),
        (
            {
                **CHP_SERVES,
                "deployments/junction-replica": with_replicas(1, **USERS | {"release": "other"}),
            },
            LOST,
        ),
        ({**CHP_SERVES, "deployments/junction-replica": with_replicas(1)}, ""),
        # taken over already: whatever is amiss, upgrades go on
        ({**SERVICE, "deployments/proxy": proxied_by(JUNCTION)}, ""),
    ],
    ids=[
        "install",
        "no-secret",
        "no-chart",
        "not-loaded",
        "not-joined",
        "other-release",
        "loaded",
        "taken-over",
    ],
)
def test_nothing_is_taken_over_before_replicas_serve(
    objects: dict[str, Any], says: str, tmp_path: Path
) -> None:
    kinds = {"Service": "services", "Secret": "secrets", "Deployment": "deployments"}

    def answer(path: str) -> dict[str, Any]:
        path = path.partition("?")[0]
        for group, names in (
            ("/api/v1", ("Service", "Secret")),
            ("/apis/apps/v1", ("Deployment",)),
        ):
            if path == group:
                resources = [
                    {"name": kinds[kind], "kind": kind, "namespaced": True, "verbs": ["get"]}
                    for kind in names
                ]
                return {
                    "kind": "APIResourceList",
                    "groupVersion": group.split("/", 2)[2],
                    "resources": resources,
                }
            found = objects.get(path.removeprefix(f"{group}/namespaces/ns/"))
            if found is not None:
                name = path.rpartition("/")[2]
                return {"kind": "Service", "apiVersion": "v1", "metadata": {"name": name}, **found}
        return {"kind": "Status", "status": "Failure", "reason": "NotFound", "code": 404}

    with cluster(tmp_path) as here:
        here.answer = answer  # type: ignore[method-assign]
        done = template(
            tmp_path,
            "takeover",
            words=("-n", "ns", "--dry-run=server", f"--kubeconfig={here.kubeconfig}"),
        )
    if says:
        assert done.returncode
        assert says in done.stderr
    else:
        assert done.returncode == 0, done.stderr
