"""``junction migrate check``: what becomes of an admin's values."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from harness.z2jh import z2jh_schema
from migration_docs import made

from jupyterhub_junction.migrate.check import check, merge
from jupyterhub_junction.migrate.command import migrate
from jupyterhub_junction.migrate.options import FATES, OPTIONS, table

ROOT = Path(__file__).resolve().parents[2]


def run(tmp_path: Path, *contents: Any, words: tuple[str, ...] = ()) -> int:
    """The command on these values."""
    files = []
    for number, content in enumerate(contents):
        file = tmp_path / f"values-{number}.yaml"
        file.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
        files += ["-f", str(file)]
    return migrate(["check", *files, *words])


def fates(*contents: dict[str, Any]) -> dict[str, str]:
    found = check([(f"{number}.yaml", one) for number, one in enumerate(contents)])
    return {one.path: one.fate for one in found}


@pytest.mark.parametrize(
    ("values", "path", "fate"),
    [
        ({"proxy": {"service": {"type": "NodePort"}}}, "proxy.service", "same"),
        ({"proxy": {"https": {"type": "manual"}}}, "proxy.https.type", "step"),
        ({"proxy": {"https": {"type": "offload"}}}, "proxy.https.type", "step"),
        ({"proxy": {"https": {"secret": {"key": "my.key"}}}}, "proxy.https.secret.key", "none"),
        ({"proxy": {"https": {"secret": {"key": "tls.key"}}}}, "proxy.https.secret.key", "same"),
        ({"proxy": {"chp": {"defaultTarget": "http://x"}}}, "proxy.chp.defaultTarget", "none"),
        ({"proxy": {"chp": {"errorTarget": "http://x"}}}, "proxy.chp.errorTarget", "junction"),
        ({"proxy": {"chp": {"command": ["sh"]}}}, "proxy.chp.command", "none"),
        ({"proxy": {"chp": {"resources": {"limits": {}}}}}, "proxy.chp.resources", "junction"),
        ({"proxy": {"chp": {"pdb": {"enabled": True}}}}, "proxy.chp.pdb", "junction"),
        ({"proxy": {"chp": {"extraEnv": [{"name": "a"}]}}}, "proxy.chp.extraEnv", "step"),
        ({"proxy": {"chp": {"extraEnv": {"a": "b"}}}}, "proxy.chp.extraEnv", "same"),
        ({"hub": {"extraEnv": [{"name": "a"}]}}, "hub.extraEnv", "step"),
        ({"hub": {"extraEnv": {"a": "b"}}}, "hub.extraEnv", "same"),
        ({"hub": {"image": {"name": "mine", "tag": "1"}}}, "hub.image", "step"),
        ({"hub": {"image": {"pullPolicy": "Always"}}}, "hub.image", "same"),
        ({"hub": {"extraConfig": {"a": "c.JupyterHub.proxy_class = 'x'"}}}, "hub.extraConfig",
         "step"),
        ({"hub": {"extraConfig": {"a": "c.JupyterHub.port = 1"}}}, "hub.extraConfig", "same"),
        ({"hub": {"networkPolicy": {"egressAllowRules": {"privateIPs": False}}}},
         "hub.networkPolicy", "step"),
        ({"hub": {"networkPolicy": {"egress": [{}]}}}, "hub.networkPolicy", "same"),
        ({"hub": {"baseUrl": "/j/"}}, "hub.baseUrl", "same"),
        ({"hub": {"config": {"Authenticator": {"x": 1}}}}, "hub.config.Authenticator", "same"),
        ({"ingress": {"enabled": True}}, "ingress", "step"),
        ({"ingress": {"enabled": False}}, "ingress", "same"),
        ({"nameOverride": "x"}, "nameOverride", "none"),
        ({"fullnameOverride": "x"}, "fullnameOverride", "step"),
        ({"singleuser": {"memory": {"limit": "1G"}}}, "singleuser", "same"),
    ],
)  # fmt: skip
def test_each_value_has_its_fate(values: dict[str, Any], path: str, fate: str) -> None:
    found = fates(values)
    assert found[path] == fate
    assert fates({"jupyterhub": values}) == found, "as a dependency of another chart"


@pytest.mark.parametrize(
    ("flags", "fate"),
    [
        ([], "same"),
        (["--timeout=3000"], "step"),
        (["--storage-backend=x"], "step"),
        (["--insecure"], "none"),
        (["--timeout=1", "--no-x-forward"], "none"),
        (["--no-such-flag"], "none"),
    ],
)
def test_flags_of_chp_are_judged_one_by_one(flags: list[str], fate: str) -> None:
    values = {"proxy": {"chp": {"extraCommandLineFlags": flags}}}
    [one] = check([("a", values)])
    assert one.fate == fate
    for flag in flags:
        assert flag.partition("=")[0] in one.says


def test_https_without_a_type_is_z2jhs_default() -> None:
    hosts = ["hub.example"]
    on: dict[str, Any] = {"proxy": {"https": {"enabled": True, "hosts": hosts}}}
    manual: dict[str, Any] = {"proxy": {"https": {"type": "manual"}}}
    said = {one.path: one for one in check([("a", on)])}
    assert said["proxy.https.type"].fate == "step"
    assert "autohttps" in said["proxy.https.type"].says
    assert on == {"proxy": {"https": {"enabled": True, "hosts": hosts}}}
    for files in ((on, manual), (manual, on)):
        said = {one.path: one for one in check([("a", files[0]), ("b", files[1])])}
        assert "proxy-public-manual-tls" in said["proxy.https.type"].says
    # without hosts z2jh has no certificate to get, and nothing of HTTPS that is off counts
    assert fates({"proxy": {"https": {"enabled": True}}}) == {"proxy.https.enabled": "same"}
    off = {"enabled": False, "type": "manual", "secret": {"key": "my.key"}}
    assert fates({"proxy": {"https": off}}) == {"proxy.https.enabled": "same"}


def test_a_list_that_helm_drops_is_found() -> None:
    first = {"hub": {"extraVolumes": [{"name": "a"}], "extraContainers": [{"name": "c"}]}}
    second = {"hub": {"extraVolumes": [{"name": "b"}], "extraContainers": [{"name": "c"}]}}
    found = [one for one in check([("one", first), ("two", second)]) if one.fate == "step"]
    [one] = found
    assert one.path == "hub.extraVolumes"
    assert "helm replaces the one of one by that of two, and drops [{'name': 'a'}]" in one.says
    # a list beside the map of a preset is lost as well
    third = {"hub": {"extraEnv": {"X": "y"}}}
    lost = check([("own", {"hub": {"extraEnv": [{"name": "A"}]}}), ("preset", third)])
    assert [(one.path, one.fate) for one in lost if one.fate != "same"] == [
        ("hub.extraEnv", "step")
    ]


def test_values_are_merged_as_helm_does() -> None:
    one = {"a": {"b": 1, "c": [1]}, "d": 1}
    two = {"a": {"b": 2, "c": [2]}, "d": None}
    assert merge([one, two]) == {"a": {"b": 2, "c": [2]}}
    assert one == {"a": {"b": 1, "c": [1]}, "d": 1}


def test_exit_codes_and_forms(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fine = {"proxy": {"service": {"type": "NodePort"}}, "hub": {"image": {"name": "a", "tag": "b"}}}
    assert run(tmp_path, fine) == 0
    said = capsys.readouterr().out
    assert "hub.image: needs a step: build it" in said
    assert "proxy.service" not in said
    assert said.endswith("1 stays as it is, 1 needs a step\n")
    assert run(tmp_path, fine, words=("--all",)) == 0
    assert "proxy.service: stays as it is" in capsys.readouterr().out
    bad = {"proxy": {"chp": {"defaultTarget": "http://x"}}}
    assert run(tmp_path, fine, bad, words=("--json",)) == 1
    document = json.loads(capsys.readouterr().out)
    assert document["ok"] is False
    assert {one["path"]: one["fate"] for one in document["values"]} == {
        "proxy.service": "same", "hub.image": "step", "proxy.chp.defaultTarget": "none",
    }  # fmt: skip
    assert run(tmp_path, "") == 0
    assert capsys.readouterr().out == "nothing is set\n"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("a: [", "line 1 is no YAML"),
        ("- 1", "holds no map of values, but list"),
        ({"proxy": {"chpp": {}}}, "proxy.chpp is no value of z2jh"),
        ({"prxy": {}}, "prxy is no value of z2jh"),
        ({"hub": {"imgae": {}}}, "hub.imgae is no value of z2jh"),
        ({"proxy": {"chp": {"extraCommandLineFlags": "--x"}}},
         "proxy.chp.extraCommandLineFlags has to be a list, not '--x'"),
        ({"hub": []}, "hub has to be a map, not []"),
        ({"hub": {"extraEnv": "x"}}, "hub.extraEnv has to be a map or a list, not 'x'"),
        ({"hub": {"baseUrl": 7}}, "hub.baseUrl has to be a text, not 7"),
        ({"jupyterhub": 3}, "jupyterhub has to be a map"),
        ("\x00", "is no YAML"),
    ],
)  # fmt: skip
def test_bad_input_is_one_clear_line(
    content: Any, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path, content) == 2
    said = capsys.readouterr()
    assert says in said.err
    assert said.err.startswith("junction migrate check: ")
    assert "values-0.yaml" in said.err
    assert said.err.count("\n") == 1
    assert said.out == ""


def test_a_file_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert migrate(["check", "-f", str(tmp_path / "none.yaml")]) == 2
    assert "none.yaml cannot be read: No such file" in capsys.readouterr().err


@pytest.mark.parametrize("second", ["takeover", "rollback"])
def test_two_presets_are_refused(second: str, capsys: pytest.CaptureFixture[str]) -> None:
    files = [str(ROOT / "chart" / "presets" / f"{name}.yaml") for name in ("prepare", second)]
    assert migrate(["check", "-f", files[0], "-f", files[1]]) == 2
    assert "more than one of Junction's presets" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["prepare", "takeover", "rollback"])
def test_the_presets_themselves_pass(name: str) -> None:
    values = yaml.safe_load((ROOT / "chart" / "presets" / f"{name}.yaml").read_text())
    assert "none" not in fates(values).values()


def test_every_key_of_z2jh_has_a_row() -> None:
    schema = z2jh_schema()["properties"]
    paths = {option.path for option in OPTIONS}
    wanted = set(schema)
    wanted |= {f"hub.{key}" for key in schema["hub"]["properties"]}
    wanted |= {f"proxy.{key}" for key in schema["proxy"]["properties"]}
    wanted |= {f"proxy.chp.{key}" for key in schema["proxy"]["properties"]["chp"]["properties"]}
    assert not [p for p in sorted(wanted - paths) if not any(q.startswith(p + ".") for q in paths)]
    for path in paths:
        node: Any = {"properties": schema}
        for key in path.split("."):
            if "properties" not in node or node.get("additionalProperties") is True:
                break
            known = node["properties"]
            assert key in known or "patternProperties" in node, f"z2jh has no {path}"
            node = known.get(key, {})


def test_rows_are_sound() -> None:
    assert {option.fate for option in OPTIONS} == set(FATES)
    for option in OPTIONS:
        rows = [one for one in OPTIONS if one.path == option.path]
        assert all(one.when for one in rows[:-1]), f"{option.path}: a row that hides the next"
        assert not option.says.endswith(".")


def test_the_files_of_the_charts_are_what_make_chart_docs_writes() -> None:
    files = made(ROOT / "chart")
    assert len(files) == 5
    stale = [path.name for path, text in files.items() if path.read_text() != text]
    assert not stale, f"run `make chart-docs`: {stale}"
    assert table() in (ROOT / "chart" / "MIGRATION.md").read_text()
