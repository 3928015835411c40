"""Certificates of one's own, in Secrets, of the CA that the chart made."""

from __future__ import annotations

import base64
import datetime
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID
from kubernetes import client

from .kube import Kube

__all__ = ["expired"]


def expired(kube: Kube, ca: str, like: str, name: str) -> None:
    """Make a Secret with the certificate of another one, whose time ended a minute ago.

    Args:
        ca: name of the Secret of the CA, key and all.
        like: name of the Secret with the certificate.
        name: of the Secret to make.
    """
    issuer = x509.load_pem_x509_certificate(_read(kube, ca, "tls.crt"))
    issuer_key = serialization.load_pem_private_key(_read(kube, ca, "tls.key"), None)
    assert isinstance(issuer_key, ec.EllipticCurvePrivateKey)
    old = x509.load_pem_x509_certificate(_read(kube, like, "tls.crt"))
    names = old.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(old.subject)
        .issuer_name(issuer.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now - datetime.timedelta(minutes=1))
        .add_extension(names.value, names.critical)
        .add_extension(
            x509.ExtendedKeyUsage(
                [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
            ),
            critical=False,
        )
        .sign(issuer_key, hashes.SHA256())
    )
    data = {
        "ca.crt": issuer.public_bytes(serialization.Encoding.PEM),
        "tls.crt": certificate.public_bytes(serialization.Encoding.PEM),
        "tls.key": key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
    }
    body = client.V1Secret(
        metadata=client.V1ObjectMeta(name=name),
        type="kubernetes.io/tls",
        data={file: base64.b64encode(text).decode() for file, text in data.items()},
    )
    kube.core.create_namespaced_secret(kube.namespace, body)


def _read(kube: Kube, secret: str, key: str) -> bytes:
    found: Any = kube.core.read_namespaced_secret(secret, kube.namespace)
    return base64.b64decode(found.data[key])
