"""Passwords and certificates: made once, kept, renewed, and in no argument."""

from __future__ import annotations

import base64
import contextlib
import datetime
import itertools
import json
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID
from fake_cluster import Cluster, cluster
from options import GROUPS
from rendering import EXISTING, FULL, Object, at, containers, merged, nested, pods, render, template

AUTH, SERVER, CLIENT, CA, ACCESS, HUB = (
    f"Secret/{FULL}-etcd-{suffix}"
    for suffix in ("auth", "server-tls", "client-tls", "ca", "access", "hub-access")
)


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Cluster]:
    with cluster(tmp_path) as running:
        yield running


def plain(secret: Object) -> dict[str, str]:
    return {key: base64.b64decode(value).decode() for key, value in secret["data"].items()}


def test_the_secrets_hold_what_their_readers_expect() -> None:
    objects = render()
    passwords = plain(objects[AUTH])
    assert set(passwords) == {"root-password", "hub-password", "agent-password"}
    assert len(set(passwords.values())) == 3
    assert all(len(one) == 32 and one.isalnum() for one in passwords.values())
    client = plain(objects[CLIENT])
    for name, user in ((ACCESS, "agent"), (HUB, "hub")):
        assert plain(objects[name]) == {
            "JUNCTION_ETCD": ",".join(
                f"https://{FULL}-etcd-{n}.{FULL}-etcd.ns.svc.cluster.local:2379" for n in range(3)
            ),
            "JUNCTION_ETCD_PREFIX": "/junction/",
            "JUNCTION_ETCD_USERNAME": user,
            "JUNCTION_ETCD_PASSWORD": passwords[f"{user}-password"],
            "JUNCTION_ETCD_CA": client["ca.crt"],
            "JUNCTION_ETCD_CERT": client["tls.crt"],
            "JUNCTION_ETCD_KEY": client["tls.key"],
        }


def test_only_secrets_hold_secrets() -> None:
    objects = render()
    values = {
        text
        for secret in (AUTH, SERVER, CLIENT, CA)
        for key, text in plain(objects[secret]).items()
        if "password" in key or key == "tls.key"
    }
    values |= {base64.b64encode(text.encode()).decode() for text in values}
    assert len(values) == 12
    for name, thing in objects.items():
        if thing["kind"] != "Secret":
            text = json.dumps(thing)
            assert not [one for one in values if one in text], name


def test_each_pod_has_the_passwords_that_it_needs_and_no_ca_key() -> None:
    objects = render()
    wanted = {
        f"Deployment/{FULL}-replica": {"agent-password"},
        f"Pod/{FULL}-test": {"hub-password"},
    }
    for name, pod in pods(objects):
        volumes = pod["spec"]["volumes"]
        assert CA.partition("/")[2] not in json.dumps(pod)
        if name in wanted:
            secret = at(volumes, "name=etcd-auth/secret")
            assert {item["key"] for item in secret["items"]} == wanted[name]
    # etcd itself reads none
    etcd = at(objects[f"StatefulSet/{FULL}-etcd"], "spec/template/spec/containers/name=etcd")
    assert {mount["name"] for mount in etcd["volumeMounts"]} == {"data", "config", "tls"}


Contexts = tuple[ssl.SSLContext, ssl.SSLContext]


def contexts(server: dict[str, str], client: dict[str, str], folder: Path) -> Contexts:
    """TLS contexts of a member and of a client, from their Secrets' files."""
    made = []
    for side, files in enumerate((server, client)):
        for name, text in files.items():
            (folder / f"{side}-{name}").write_text(text)
        context = ssl.SSLContext((ssl.PROTOCOL_TLS_SERVER, ssl.PROTOCOL_TLS_CLIENT)[side])
        context.load_verify_locations(folder / f"{side}-ca.crt")
        context.load_cert_chain(folder / f"{side}-tls.crt", folder / f"{side}-tls.key")
        context.verify_mode = ssl.CERT_REQUIRED
        # what Python 3.13 and later ask for
        context.verify_flags |= ssl.VERIFY_X509_STRICT | ssl.VERIFY_X509_PARTIAL_CHAIN
        made.append(context)
    return made[0], made[1]


def handshake(server: ssl.SSLContext, client: ssl.SSLContext, name: str) -> None:
    """One in memory.

    Raises:
        ssl.SSLError: one side refuses the other.
    """
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        server.wrap_bio(up, down, server_side=True),
        client.wrap_bio(down, up, server_hostname=name),
    ]
    waiting = set(ends)
    for end in itertools.islice(itertools.cycle(ends), 20):
        try:
            end.do_handshake()
            waiting.discard(end)
        except ssl.SSLWantReadError:
            pass
    # in TLS 1.3 the server refuses only afterwards
    for end in reversed(ends):
        with contextlib.suppress(ssl.SSLWantReadError):
            end.read(1)
    assert not waiting


@pytest.mark.parametrize(
    "name",
    [
        f"{FULL}-etcd-0.{FULL}-etcd.ns.svc.cluster.local",
        f"{FULL}-etcd-client",
        f"{FULL}-etcd-client.ns.svc",
        "localhost",
        "127.0.0.1",
    ],
)
def test_members_and_clients_trust_each_other(name: str, tmp_path: Path) -> None:
    objects = render()
    server, client = plain(objects[SERVER]), plain(objects[CLIENT])
    handshake(*contexts(server, client, tmp_path), name)
    # members are each other's clients
    handshake(*contexts(server, server, tmp_path), name)


def test_strangers_are_refused(tmp_path: Path) -> None:
    ours, theirs = render(), render(nested("replica.replicas", 3))
    server, stranger = plain(ours[SERVER]), plain(theirs[CLIENT])
    with pytest.raises(ssl.SSLError):
        handshake(*contexts(server, stranger, tmp_path), "localhost")
    member, client = contexts(server, {**stranger, "ca.crt": server["ca.crt"]}, tmp_path)
    with pytest.raises(ssl.SSLError):
        handshake(member, client, "localhost")
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(*contexts(server, plain(ours[CLIENT]), tmp_path), "etcd.example")


@pytest.mark.parametrize("secret", [SERVER, CLIENT])
def test_certificates_have_no_common_name_and_both_usages(secret: str) -> None:
    certificate = x509.load_pem_x509_certificate(plain(render()[secret])["tls.crt"].encode())
    assert list(certificate.subject) == [], "etcd takes a common name for a user"
    usages = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert set(usages) == {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH}
    left = certificate.not_valid_after_utc - datetime.datetime.now(datetime.UTC)
    assert 3648 < left.days < 3651


def data(objects: dict[str, Object], *names: str) -> list[Object]:
    return [objects[name]["data"] for name in names]


def test_an_upgrade_keeps_them(here: Cluster) -> None:
    first = here.install({})
    second = here.install(nested("replica.replicas", 4))
    everything = (AUTH, CA, SERVER, CLIENT, ACCESS, HUB)
    assert data(first, *everything) == data(second, *everything)
    third = here.install({})
    assert first == third, "an upgrade that changes nothing changes nothing"


def test_what_is_missing_is_made_anew_and_no_more(here: Cluster) -> None:
    first = here.install({})
    del here.secrets[f"{FULL}-etcd-client-tls"]
    del here.secrets[f"{FULL}-etcd-auth"]["data"]["hub-password"]
    second = here.install({})
    assert data(first, CA, SERVER) == data(second, CA, SERVER)
    assert data(first, CLIENT) != data(second, CLIENT)
    old, new = plain(first[AUTH]), plain(second[AUTH])
    assert {key for key in old if old[key] == new[key]} == {"root-password", "agent-password"}
    assert plain(second[HUB])["JUNCTION_ETCD_PASSWORD"] == new["hub-password"]


@pytest.mark.parametrize(
    ("annotation", "value"),
    [("renew-after", "1000000000"), ("renew-after", None), ("names", "*.old.example")],
)
def test_a_certificate_is_renewed_in_time(here: Cluster, annotation: str, value: str) -> None:
    first = here.install({})
    notes = here.secrets[f"{FULL}-etcd-server-tls"]["metadata"]["annotations"]
    notes[f"junction.jupyter.org/{annotation}"] = value
    second = here.install({})
    assert data(first, CA, CLIENT) == data(second, CA, CLIENT)
    assert data(first, SERVER) != data(second, SERVER)
    assert plain(first[SERVER])["ca.crt"] == plain(second[SERVER])["ca.crt"]


def test_days_of_validity_and_when_it_is_renewed(here: Cluster) -> None:
    objects = here.install(nested("certificates.validDays", 30))
    certificate = x509.load_pem_x509_certificate(plain(objects[SERVER])["tls.crt"].encode())
    notes = objects[SERVER]["metadata"]["annotations"]
    renewal = float(notes["junction.jupyter.org/renew-after"])
    begun, ended = (
        moment.timestamp()
        for moment in (certificate.not_valid_before_utc, certificate.not_valid_after_utc)
    )
    assert ended - begun == 30 * 86400
    assert abs((renewal - begun) / (ended - begun) - 2 / 3) < 0.01
    ca = x509.load_pem_x509_certificate(plain(objects[CA])["tls.crt"].encode())
    assert ca.not_valid_after_utc.timestamp() > ended


def test_new_names_make_a_new_certificate(here: Cluster) -> None:
    here.install({})
    objects = here.install(nested("clusterDomain", "other.example"))
    certificate = x509.load_pem_x509_certificate(plain(objects[SERVER])["tls.crt"].encode())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    dns = names.get_values_for_type(x509.DNSName)
    assert f"*.{FULL}-etcd.ns.svc.other.example" in dns


def templates(objects: dict[str, Object]) -> dict[str, Object]:
    return {
        name: pod for name, pod in pods(objects) if not name.startswith("Pod/")
    }  # a test's pod is made each time


def test_new_secrets_roll_no_pod(here: Cluster) -> None:
    """All who read them read them again when they change."""
    first = here.install({})
    here.secrets.clear()
    second = here.install({})
    for name in (AUTH, CA, SERVER, CLIENT):
        assert first[name]["data"] != second[name]["data"]
    assert templates(first) == templates(second)
    for pod in templates(second).values():
        readers = [v for c in containers(pod) for v in c.get("env", []) if "valueFrom" in v]
        assert not [v for v in readers if "secretKeyRef" in v["valueFrom"]], "read once only"
        mounts = [m for c in containers(pod) for m in c.get("volumeMounts", ())]
        assert not [m for m in mounts if "subPath" in m], "never updated"


def test_with_secrets_of_ones_own_the_manifests_are_the_same_each_time() -> None:
    for values in (EXISTING, GROUPS["cert-manager"], GROUPS["external"]):
        once, again = (template(json.dumps(values), "--kube-version=1.34.0") for _ in range(2))
        assert once == again
        assert "PRIVATE KEY" not in once
    once, again = (template("{}", "--kube-version=1.34.0") for _ in range(2))
    assert once != again, "then this test cannot fail"


def test_cert_manager_makes_what_the_chart_would() -> None:
    objects = render(GROUPS["cert-manager"])
    for which in ("server", "client"):
        spec = objects[f"Certificate/{FULL}-etcd-{which}"]["spec"]
        assert spec["secretName"] == f"{FULL}-etcd-{which}-tls"
        assert "commonName" not in spec
        assert {"server auth", "client auth"} <= set(spec["usages"])
        assert f"Issuer/{spec['issuerRef']['name']}" in objects
        assert f"Secret/{spec['secretName']}" not in objects
    theirs = x509.load_pem_x509_certificate(plain(render()[SERVER])["tls.crt"].encode())
    names = theirs.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    spec = objects[f"Certificate/{FULL}-etcd-server"]["spec"]
    assert spec["dnsNames"] == names.get_values_for_type(x509.DNSName)
    assert spec["ipAddresses"] == [str(ip) for ip in names.get_values_for_type(x509.IPAddress)]
    issuer = objects[f"Issuer/{FULL}-etcd"]["spec"]
    ca = objects[f"Certificate/{FULL}-etcd-ca"]["spec"]
    assert issuer["ca"]["secretName"] == ca["secretName"]


def test_passwords_outlive_the_release_where_the_volumes_do() -> None:
    keep = "helm.sh/resource-policy"
    kept = render(nested("etcd.persistence.whenDeleted", "Retain"))
    assert kept[AUTH]["metadata"]["annotations"] == {keep: "keep"}
    assert "annotations" not in render()[AUTH]["metadata"]


def test_an_access_secret_has_what_the_chart_knows() -> None:
    known = {"JUNCTION_ETCD", "JUNCTION_ETCD_PREFIX", "JUNCTION_ETCD_USERNAME"}
    assert set(render(EXISTING)[HUB]["data"]) == known
    without_users = merged(GROUPS["external"], nested("etcd.external.authSecret", ""))
    assert set(render(without_users)[HUB]["data"]) == known - {"JUNCTION_ETCD_USERNAME"}
