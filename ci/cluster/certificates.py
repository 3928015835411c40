"""The cluster's certificate authority, what it signs, and the kubeconfig files made of that.

Made once for the life of a cluster: an ``up`` that finds them takes them as they are.
"""

from __future__ import annotations

import base64
import datetime
import ipaddress
from collections.abc import Sequence
from pathlib import Path

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from .settings import write

__all__ = ["Authority"]

LIFE = datetime.timedelta(days=365)
PEM = serialization.Encoding.PEM


class Authority:
    """Signs, and keeps all it made in one folder."""

    def __init__(self, at: Path) -> None:
        self.at = at
        self.certificate = at / "ca.crt"
        self.key = at / "ca.key"
        at.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not self.certificate.exists():
            self._issue("ca", x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "junction-ca")]))
        self.pair("service-accounts", "service-accounts")

    def pair(
        self, name: str, user: str, groups: Sequence[str] = (), hosts: Sequence[str] = ()
    ) -> tuple[Path, Path]:
        """The files of a certificate and its key, for a user of these groups or for hosts."""
        certificate, key = self.at / f"{name}.crt", self.at / f"{name}.key"
        if not certificate.exists():
            parts = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in groups]
            parts.append(x509.NameAttribute(NameOID.COMMON_NAME, user))
            self._issue(name, x509.Name(parts), hosts)
        return certificate, key

    def _issue(self, name: str, subject: x509.Name, hosts: Sequence[str] = ()) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        own = name == "ca"
        now = datetime.datetime.now(datetime.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + LIFE)
            .add_extension(x509.BasicConstraints(ca=own, path_length=None), critical=True)
        )
        if own:
            issuer, signer = subject, key
        else:
            ca = x509.load_pem_x509_certificate(self.certificate.read_bytes())
            issuer = ca.subject
            loaded = serialization.load_pem_private_key(self.key.read_bytes(), None)
            assert isinstance(loaded, ec.EllipticCurvePrivateKey)
            signer = loaded
            uses = [ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]
            builder = builder.add_extension(x509.ExtendedKeyUsage(uses), critical=False)
        if hosts:
            names = x509.SubjectAlternativeName([alternative(host) for host in hosts])
            builder = builder.add_extension(names, critical=False)
        signed = builder.issuer_name(issuer).sign(signer, hashes.SHA256())
        secret = key.private_bytes(
            PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        public = key.public_key().public_bytes(PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        file = self.at / f"{name}.key"
        file.touch(mode=0o600)
        file.write_bytes(secret)
        (self.at / f"{name}.pub").write_bytes(public)
        # last: it says that all of them are there
        (self.at / f"{name}.crt").write_bytes(signed.public_bytes(PEM))

    def kubeconfig(self, file: Path, server: str, user: str, groups: Sequence[str] = ()) -> Path:
        """Write a kubeconfig for a user; return its file."""
        certificate, key = self.pair(f"user-{user.replace(':', '-')}", user, groups)

        def data(path: Path) -> str:
            return base64.b64encode(path.read_bytes()).decode()

        cluster = {"server": server, "certificate-authority-data": data(self.certificate)}
        login = {"client-certificate-data": data(certificate), "client-key-data": data(key)}
        name = "junction"
        whole = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": name,
            "clusters": [{"name": name, "cluster": cluster}],
            "contexts": [{"name": name, "context": {"cluster": name, "user": user}}],
            "users": [{"name": user, "user": login}],
        }
        return write(file, yaml.safe_dump(whole), 0o600)


def alternative(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)
