"""The chart of one install: z2jh with everything that the preset takeover sets."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from harness.z2jh import z2jh_schema

from jupyterhub_junction import __version__
from jupyterhub_junction.migrate.check import merge
from jupyterhub_junction.migrate.presets import ONE, preset

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "chart" / "jupyterhub-junction"


def values() -> Any:
    return yaml.safe_load((CHART / "values.yaml").read_text())


def test_z2jh_gets_what_the_preset_takeover_sets() -> None:
    wanted = preset("takeover")
    del wanted["hub"]["extraFiles"][ONE]
    del wanted["hub"]["extraFiles"]
    del wanted["proxy"]["chp"]["extraCommandLineFlags"]  # nothing is taken over
    assert values()["jupyterhub"] == wanted
    assert values()["junction"]["fullnameOverride"] == "junction"


@pytest.mark.parametrize(
    "own",
    [{}, {"hub": {"extraEnv": {"A": "b"}, "config": {"JupyterHub": {"admin_access": True}}}}],
    ids=["none", "some"],
)
def test_z2jhs_schema_takes_it_with_an_admins_own(own: dict[str, Any]) -> None:
    merged = merge([values()["jupyterhub"], own])
    errors = [
        error.message
        for error in jsonschema.Draft7Validator(z2jh_schema()).iter_errors(merged)
        if error.validator != "required"
    ]
    assert errors == []


def test_versions_are_the_packages() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["version"] == chart["appVersion"] == __version__
    versions = {one["name"]: one["version"] for one in chart["dependencies"]}
    assert versions["junction"] == __version__
    assert set(versions) == {"jupyterhub", "junction"}


def render(
    tmp_path: Path, own: dict[str, Any], z2jh: str = "4.4.0"
) -> subprocess.CompletedProcess[str]:
    """Rendered with stand-ins of both charts that show the values they get."""
    program = os.environ.get("JUNCTION_HELM") or shutil.which("helm")
    if program is None:
        pytest.skip("helm is not on PATH, and JUNCTION_HELM does not name it")
    folder = tmp_path / "chart"
    shutil.copytree(CHART, folder)
    for name, version in (("jupyterhub", z2jh), ("junction", __version__)):
        (folder / "charts" / name / "templates").mkdir(parents=True)
        (folder / "charts" / name / "Chart.yaml").write_text(
            f"apiVersion: v2\nname: {name}\nversion: {version}\n"
        )
        (folder / "charts" / name / "templates" / "shown.yaml").write_text(
            "kind: Shown\nmetadata: {name: {{ .Chart.Name }}}\nvalues:\n"
            "  {{- toYaml .Values | nindent 2 }}\n"
        )
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(own))
    clean = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "KUBECONFIG": "/dev/null"}
    return subprocess.run(
        [program, "template", "hub", str(folder), "-f", str(tmp_path / "own.yaml"),
         "--kube-version", "1.34.0"],
        capture_output=True, text=True, env=clean, timeout=180,
    )  # fmt: skip


def test_an_admins_values_of_z2jh_go_under_jupyterhub_unchanged(tmp_path: Path) -> None:
    own = {"hub": {"extraEnv": {"A": "b"}}, "proxy": {"service": {"type": "NodePort"}}}
    done = render(tmp_path, {"jupyterhub": own})
    assert done.returncode == 0, done.stderr
    documents = yaml.safe_load_all(done.stdout)
    shown = {one["metadata"]["name"]: one["values"] for one in documents if one}
    z2jh = shown["jupyterhub"]
    assert z2jh["hub"]["extraEnv"].keys() > {"A", "JUNCTION_ETCD"}
    assert z2jh["proxy"]["service"] == {"type": "NodePort"}
    assert z2jh["hub"]["config"]["JupyterHub"]["proxy_class"] == "junction"
    assert shown["junction"]["jupyterhub"]["enabled"] is True


@pytest.mark.parametrize(
    ("own", "says"),
    [
        ({"jupyterhub": {"hub": {"extraEnv": [{"name": "A"}]}}}, "hub.extraEnv is a list"),
        (
            {"jupyterhub": {"proxy": {"chp": {"extraEnv": [{"name": "A"}]}}}},
            "proxy.chp.extraEnv is a list",
        ),
        (
            {"jupyterhub": {"hub": {"config": {"JupyterHub": {"proxy_class": "x"}}}}},
            "proxy_class has to be junction",
        ),
        ({"junction": {"fullnameOverride": "x"}}, "fullnameOverride has to be junction"),
    ],
)
def test_what_would_cut_the_hub_off_is_refused(
    own: dict[str, Any], says: str, tmp_path: Path
) -> None:
    done = render(tmp_path, own)
    assert done.returncode
    assert says in done.stderr


@pytest.mark.parametrize("version", ["3.3.8", "5.0.0"])
def test_a_z2jh_out_of_range_is_refused(version: str, tmp_path: Path) -> None:
    done = render(tmp_path, {}, version)
    assert done.returncode
    assert f"this chart needs Zero to JupyterHub 4.x, charts/ has {version}" in done.stderr


@pytest.mark.parametrize("version", ["4.0.0", "4.4.1-0.dev", "0.0.1-set.by.chartpress"])
def test_a_z2jh_in_range_or_in_its_checkout_is_taken(version: str, tmp_path: Path) -> None:
    done = render(tmp_path, {}, version)
    assert done.returncode == 0, done.stderr
