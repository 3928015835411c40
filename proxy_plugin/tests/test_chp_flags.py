"""Each flag of configurable-http-proxy has a fate, and one that is honoured is honoured right."""

from __future__ import annotations

import os
import re
import shutil
import subprocess

import pytest

from jupyterhub_junction import chp_command, cli
from jupyterhub_junction.commands.chp_flags import FLAGS, FlagRefused, translate
from jupyterhub_junction.commands.replica import REFUSED

# As Zero to JupyterHub starts it, HUB_SERVICE_PORT filled in by Kubernetes.
Z2JH = [
    "--ip=", "--api-ip=", "--api-port=8001", "--default-target=http://hub:8081",
    "--error-target=http://hub:8081/hub/error",
]  # fmt: skip
TLS = ["--ssl-key=/etc/chp/tls/tls.key", "--ssl-cert=/etc/chp/tls/tls.crt"]


def arguments(*words: str) -> list[str]:
    """What it is in ``junction replica``, without what is always there."""
    always = {"--accept-grace=15", "--grace=30", "--health-path=/_chp_healthz", "--listen=:8000"}
    return [word for word in translate(words).arguments if word not in always]


def test_the_arguments_of_z2jh_without_tls() -> None:
    asked = translate([*Z2JH, "--port=8000"])
    assert asked.arguments == [
        "--listen=:8000",
        "--error-target=http://hub:8081/hub/error",
        "--health-path=/_chp_healthz",
        "--accept-grace=15",
        "--grace=30",
    ]
    assert asked.without_effect == {
        "there is no REST API: routes come from etcd": ["--api-ip", "--api-port"],
        "the hub's own route comes from etcd, as all routes do": ["--default-target"],
    }


def test_the_arguments_of_z2jh_with_tls() -> None:
    redirect = ["--redirect-port=8000", "--redirect-to=443"]
    asked = translate([*Z2JH, "--port=8443", *redirect, *TLS])
    assert asked.arguments[:5] == [
        "--listen=:8443",
        "--ssl-cert=/etc/chp/tls/tls.crt",
        "--ssl-key=/etc/chp/tls/tls.key",
        "--redirect=:8000",
        "--redirect-to=443",
    ]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--timeout=30000"], ["--answer-timeout=30"]),
        (["--proxy-timeout", "1500"], ["--answer-timeout=1.5"]),
        (["--timeout=9000", "--proxy-timeout=4000"], ["--answer-timeout=4"]),
        (["--timeout=0"], []),
        (["--keep-alive-timeout=61000"], ["--idle-timeout=61"]),
        (["--metrics-port=8002"], ["--status=:8002"]),
        (["--metrics-ip=::1", "--metrics-port=8002"], ["--status=[::1]:8002"]),
        (["--metrics-ip=::1"], []),
        (["--log-level=warn"], ["--log-level=WARNING"]),
        (["--custom-header", " X-A : b:c "], ["--request-header=X-A:b:c"]),
        (
            ["--client-ssl-ca=a", "--client-ssl-cert=b", "--client-ssl-key=c"],
            ["--target-key=c", "--target-cert=b", "--target-ca=a"],
        ),
        (["--host-routing"], []),
        (["--ip=::1", "--port=9"], ["--listen=[::1]:9"]),
    ],
)
def test_a_flag_with_a_counterpart(words: list[str], expected: list[str]) -> None:
    assert arguments(*words) == expected


def test_the_pid_goes_to_a_file() -> None:
    assert translate(["--pid-file=/run/x"]).pid_file == "/run/x"


@pytest.mark.parametrize("flag", FLAGS, ids=lambda flag: str(flag.name))
def test_each_flag_comes_to_its_fate(flag: object) -> None:
    values = {"--custom-header": "a:b", "--log-level": "info", "--error-target": "http://a"}
    values |= dict.fromkeys(["--ip", "--metrics-ip"], "::1")
    assert isinstance(flag, type(FLAGS[0]))
    words = [flag.name]
    if flag.takes:
        words.append(values.get(flag.name, "1"))
    if flag.name in ("--ssl-key", "--ssl-cert", "--redirect-port", "--redirect-to"):
        words += [tls for tls in TLS if not tls.startswith(flag.name)]
    if flag.fate == "refused":
        with pytest.raises(FlagRefused, match=f"^{flag.name} has no counterpart here: "):
            translate(words)
    elif flag.fate == "no effect":
        asked = translate(words)
        assert asked.without_effect == {flag.says: [flag.name]}
        assert asked.arguments == translate([]).arguments
    else:
        assert not translate(words).without_effect


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--portt=1"], "--portt=1 is no flag of configurable-http-proxy"),
        (["8000"], "8000 is no flag"),
        (["--port=http"], "--port 'http' is no number"),
        (["--port=70000"], "--port '70000' is no number"),
        (["--timeout=-1"], "--timeout '-1' is no number"),
        (["--port"], "--port: expected one argument"),
        (["--ssl-key=a"], "--ssl-key and --ssl-cert go together"),
        (["--redirect-port=80"], "--redirect-port leads to HTTPS"),
        (["--log-level=loud"], "--log-level 'loud' is none"),
        (["--custom-header=x"], "--custom-header 'x' is no header"),
        (["--error-target=unix:/x"], "--error-target 'unix:/x' is no URL"),
        (["--insecure"], "name their CA with --client-ssl-ca"),
    ],
)
def test_what_is_refused_is_refused_in_one_line(
    capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    assert chp_command.main(words) == REFUSED
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert said in lines[0]
    assert lines[0].startswith("configurable-http-proxy: ")


def test_without_an_etcd_it_says_so(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("JUNCTION_ETCD", raising=False)
    assert chp_command.main([*Z2JH, "--port=0"]) == REFUSED
    said = capsys.readouterr().err
    assert "the environment has no JUNCTION_ETCD" in said
    assert len(said.splitlines()) == 1
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    assert chp_command.main([*Z2JH, "--port=0"]) == REFUSED
    assert "has it from the Secret <release>-etcd-access" in capsys.readouterr().err


def test_times_of_the_environment_come_first() -> None:
    given = translate([], is_set=lambda name: name == "JUNCTION_GRACE").arguments
    assert "--accept-grace=15" in given
    assert not [word for word in given if word.startswith("--grace")]


def test_junction_replica_takes_whatever_comes_out(monkeypatch: pytest.MonkeyPatch) -> None:
    words = [
        *Z2JH, "--port=8443", *TLS, "--redirect-port=8000", "--redirect-to=443", "--timeout=1",
        "--keep-alive-timeout=1", "--metrics-port=1", "--log-level=warn", "--custom-header=a:b",
        "--client-ssl-ca=a", "--client-ssl-cert=b", "--client-ssl-key=c",
    ]  # fmt: skip
    asked = cli._parser().parse_args(["replica", *translate(words).arguments])
    assert (asked.listen, asked.redirect, asked.redirect_to) == (":8443", ":8000", 443)
    assert (asked.answer_timeout, asked.idle_timeout) == (0.001, 0.001)
    assert asked.request_header == ["a:b"]


@pytest.mark.needs_programs
def test_every_flag_of_the_real_one_is_in_the_table() -> None:
    program = os.environ.get("JUNCTION_CHP")
    assert program, "run through ci/setup"
    assert shutil.which(program)
    shown = subprocess.run([program, "--help"], capture_output=True, text=True, check=True).stdout
    options = re.findall(r"^  (?:-\w, )?(--[a-z0-9-]+)( <)?", shown, re.MULTILINE)
    real = {name: bool(value) for name, value in options if name not in ("--version", "--help")}
    assert len(real) > 40
    assert real == {flag.name: flag.takes for flag in FLAGS}
