"""The umbrella chart in the ways in which Zero to JupyterHub serves, each with users' servers.

Two releases stand for all of them, as each costs a minute; they have one name, in two namespaces.
"""

from __future__ import annotations

import json
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from ipaddress import ip_network
from pathlib import Path
from typing import Any
from urllib.parse import quote

import cluster
import pytest
from cluster.certificates import Authority

from e2e.culling import Socket
from e2e.figures import note
from e2e.kube import Kube, until
from e2e.move import RESTART
from e2e.site import TOKEN, new_namespace
from e2e.ways import (
    INGRESS,
    REPLICA_IMAGE,
    WITHOUT_SYNC,
    AskingFor,
    Release,
    acme,
    is_standin,
    umbrella,
)

#: what users may make up of themselves
FORGED = {
    "X-Forwarded-For": "203.0.113.9",
    "X-Forwarded-Proto": "gopher",
    "X-Forwarded-Host": "evil.example.org",
    "X-Real-Ip": "203.0.113.9",
    "Forwarded": "for=203.0.113.9;proto=gopher",
}
#: seconds without data after which a server is culled: replicas tell of it once a minute
IDLE = 130
TEST_IDLE = {"enabled": True, "timeout": IDLE, "every": 5}


@pytest.fixture(scope="module")
def chart(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return umbrella(tmp_path_factory.mktemp("umbrella"))


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def context(authority: Authority) -> ssl.SSLContext:
    """Trusts what the authority signed."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.load_verify_locations(authority.certificate)
    return made


@dataclass
class Both:
    """Two releases, and the sockets of the users of the first who are, and are not, idle."""

    manual: Release
    offload: Release
    talking: Socket
    silent: Socket


@pytest.fixture(scope="module")
def both(
    access: cluster.Access, chart: Path, authority: Authority, context: ssl.SSLContext
) -> Iterator[Both]:
    """One with HTTPS below a base URL at a NodePort, one at a ClusterIP behind an ingress."""
    with (
        new_namespace(access.kubeconfig) as one,
        new_namespace(access.kubeconfig) as two,
        ExitStack() as sockets,
        ThreadPoolExecutor() as pool,
    ):
        first = pool.submit(with_certificate, one, chart, authority, context)
        second = pool.submit(behind_an_ingress, two, chart)
        manual, offload = first.result(), second.result()
        # the one that goes on comes first: it would be culled first
        users = {"talking": 1.0, "silent": None, "idle": None}
        opened = {}
        for user, pause in users.items():
            manual.hub.start_server(user)
            if user != "idle":
                url = f"{manual.url}/user/{user}/api/events/subscribe"
                opened[user] = sockets.enter_context(Socket(url, TOKEN, context, pause))
        yield Both(manual, offload, opened["talking"], opened["silent"])


def with_certificate(
    kube: Kube, chart: Path, authority: Authority, context: ssl.SSLContext
) -> Release:
    values = {
        "proxy": {"https": manual_https(authority, "first", kube)},
        "hub": {
            "baseUrl": "/jhub/",
            "allowNamedServers": True,
            "config": {"JupyterHub": {"last_activity_interval": 5}},
        },
        "cull": TEST_IDLE,
    }
    release = Release(
        kube, chart, values, {"replica": {"tls": {"secretName": "proxy-public-manual-tls"}}}
    )
    release.helm("install")
    release.context = context
    release.url = f"{kube.node_port('proxy-public', 'https')}/jhub"
    release.ready()
    return release


def manual_https(authority: Authority, name: str, kube: Kube) -> dict[str, Any]:
    certificate, key = authority.pair(name, name, hosts=[kube.node_address()])
    return {
        "enabled": True,
        "type": "manual",
        "manual": {"cert": certificate.read_text(), "key": key.read_text()},
    }


def behind_an_ingress(kube: Kube, chart: Path) -> Release:
    manifest = INGRESS.replace("IMAGE", REPLICA_IMAGE).replace("NAMESPACE", kube.namespace)
    kube.kubectl("apply", "-f-", stdin=manifest)
    (controller,) = kube.ready("app=ingress", 1)
    trusted = f"{controller.status.pod_ip}/32"
    values = {
        "proxy": {
            "service": {"type": "ClusterIP"},
            "https": {"enabled": True, "type": "offload"},
            "chp": {"extraEnv": {"JUNCTION_TRUST": trusted}},
        },
        "ingress": {"enabled": True},
    }
    release = Release(
        kube, chart, values,
        {"replica": {"replicas": 1, "trust": [trusted]}, "etcd": {"replicas": 1}},
    )  # fmt: skip
    release.helm("install")
    # the controller's own certificate, which is nothing of ours
    release.context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    release.context.check_hostname = False
    release.context.verify_mode = ssl.CERT_NONE
    release.url = kube.node_port("ingress", "https")
    release.ready()
    return release


def uses_a_lab(release: Release, name: str) -> None:
    """Somebody signs in and gets a JupyterLab; its WebSockets open."""
    person = release.person(name)
    person.sign_in()
    release.hub.start_server(name)
    where, page = person.fetch(f"/user/{name}/lab")
    assert where == f"{release.url}/user/{quote(name)}/lab"
    assert "jupyter-config-data" in page
    assert person.cookie("jupyterhub-hub-login").secure
    with release.load([name]) as load:
        load.more(100)
    assert not load.counted.failed + load.counted.refused, load.counted


def test_manual_https_below_a_base_url(both: Both) -> None:
    uses_a_lab(both.manual, "ada")


def test_plain_http_is_led_to_https(both: Both) -> None:
    class Stay(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, *_: object) -> None:
            return None

    plain = both.manual.kube.node_port("proxy-public", "http")
    with pytest.raises(urllib.error.HTTPError) as led:
        urllib.request.build_opener(Stay).open(f"{plain}/jhub/hub/login", timeout=30)
    led.value.close()
    assert led.value.code in (301, 302, 307, 308)
    # z2jh says 443, whatever its Service's NodePort is
    address = both.manual.kube.node_address()
    assert led.value.headers["Location"] == f"https://{address}/jhub/hub/login"


def test_helm_test_asks_each_replica_by_https(both: Both) -> None:
    said = both.manual.kube.helm("test", "hub", wait=120)
    assert said.count("added, served, deleted, gone") == 2, said


def test_a_named_server_beside_the_unnamed_one(both: Both) -> None:
    hub = both.manual.hub
    hub.start_server("ada")
    hub.start_server("ada", name="second")
    with both.manual.load(["ada", "ada/second"], websockets=2) as load:
        load.more(50)
    assert not load.counted.failed + load.counted.refused, load.counted
    assert {"/jhub/user/ada/", "/jhub/user/ada/second/"} <= set(hub.routes())


def test_a_service_of_the_hub_is_told_nothing_that_a_user_made_up(both: Both) -> None:
    for _ in range(6):  # some at each replica
        heard = both.manual.heard(FORGED)
        assert heard["x-forwarded-proto"] == "https"
        nothing_forged(heard)


def nothing_forged(heard: dict[str, str]) -> None:
    made_up = [value for value in heard.values() if "203.0.113.9" in value or "evil" in value]
    assert not made_up, heard
    assert "gopher" not in str(heard)


def test_an_ingress_in_front_is_believed_and_nobody_else(both: Both) -> None:
    release = both.offload
    uses_a_lab(release, "béla")
    for _ in range(4):
        heard = release.heard(FORGED)
        assert heard["x-forwarded-proto"] == "https", heard
        nothing_forged(heard)
        # who asks, as the ingress saw them, and then the ingress
        assert len(heard["x-forwarded-for"].split(",")) == 2, heard
        inside = release.heard_inside("http://proxy-public/services/echo/", FORGED)
        assert inside["x-forwarded-proto"] == "http", inside
        nothing_forged(inside)


def test_two_releases_of_one_name_do_not_see_each_other(both: Both) -> None:
    both.offload.hub.start_server("béla")
    here, there = both.manual.hub.routes(), both.offload.hub.routes()
    assert not set(here) & set(there)
    # each in the other's form
    for release, path in ((both.manual, "/user/béla/"), (both.offload, "/user/talking/")):
        where, _ = release.person("nobody").fetch(f"{path}lab")
        assert where.startswith(f"{release.url}/hub/login"), where


def test_letsencrypt_puts_autohttps_in_front(both: Both, authority: Authority) -> None:
    if is_standin():
        pytest.skip("the stand-in has no autohttps: name a chart of z2jh in Z2JH_CHART")
    release, kube = both.offload, both.offload.kube
    # the network of pods: autohttps gets an address in it
    (controller,) = kube.ready("app=ingress", 1)
    pods = [str(ip_network(f"{controller.status.pod_ip}/16", strict=False))]
    image, _, tag = REPLICA_IMAGE.rpartition(":")
    host = "hub.example.org"
    https = {
        "type": "letsencrypt",
        "hosts": [host],
        # nobody answers: it goes on with the certificate that it has got before
        "letsencrypt": {"contactEmail": "me@example.org", "acmeServer": "https://127.0.0.1:9/"},
    }
    release.set(
        {
            "proxy": {
                "service": {"type": "NodePort"},
                "https": https,
                "traefik": {"image": {"name": image, "tag": tag}, "command": ["traefik"]},
                "chp": {"extraEnv": {"JUNCTION_TRUST": ",".join(pods)}},
            },
            "ingress": {"enabled": False},
        },
        {"replica": {"trust": pods}},
    )
    certificate, key = authority.pair("letsencrypt", "letsencrypt", hosts=[host])
    kept = f"--from-literal=acme.json={acme(host, certificate, key)}"
    kube.kubectl("create", "secret", "generic", "kept", kept)
    release.helm("upgrade", wait=0)
    kube.kubectl(
        "patch", "deployment", "autohttps", "--type=json", f"-p={json.dumps(WITHOUT_SYNC)}"
    )
    kube.ready("app=jupyterhub,component=autohttps", 1)
    for name in ("proxy", "hub", "junction-replica"):
        kube.kubectl("rollout", "status", f"deployment/{name}", "--timeout=120s")
    release.url = kube.node_port("proxy-public", "https")
    release.context = AskingFor(host, authority.certificate)
    release.ready()
    uses_a_lab(release, "béla")
    heard = release.heard(FORGED)
    assert heard["x-forwarded-proto"] == "https", heard
    nothing_forged(heard)


def test_who_is_idle_is_culled_and_who_talks_is_not(both: Both) -> None:
    hub = both.manual.hub
    until(lambda: not hub.is_running("idle"), "the idle server to be culled", IDLE + 60)
    until(
        lambda: not hub.is_running("silent"),
        "the server with an idle open WebSocket to be culled",
        60,
    )
    assert hub.is_running("talking")
    assert both.talking.is_open
    both.silent.closed.wait(60)
    assert not both.silent.is_open


def test_an_upgrade_that_changes_the_certificate_fails_no_request(
    both: Both, authority: Authority
) -> None:
    """And z2jh's way of a Secret, under the load of users."""
    release, kube = both.manual, both.manual.kube
    certificate, key = authority.pair("second", "second", hosts=[kube.node_address()])
    kube.kubectl("create", "secret", "tls", "mine", f"--cert={certificate}", f"--key={key}")
    release.hub.start_server("ada")
    https = {"type": "secret", "secret": {"name": "mine"}}
    release.set(RESTART, {"replica": {"tls": {"secretName": "mine"}}})
    release.set({"proxy": {"https": https}}, {})
    with release.load(["ada"]) as load:
        release.helm("upgrade")
        release.ready()
        load.more(100)
    note("z2jh's upgrade under Junction, with another certificate", load.counted)
    assert not load.counted.failed + load.counted.refused, load.counted
    assert shown(release) == {"second"}


def shown(release: Release) -> set[str]:
    """Names in the certificates that replicas show; some connections come to each."""
    from cryptography import x509

    host, port = release.url.split("/")[2].split(":")
    found = set()
    for _ in range(8):
        pem = ssl.get_server_certificate((host, int(port)), timeout=30)
        subject = x509.load_pem_x509_certificate(pem.encode()).subject
        found.add(str(subject.rdns[-1].rfc4514_string().removeprefix("CN=")))
    return found
