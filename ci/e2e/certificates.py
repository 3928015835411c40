"""Certificates of one's own, in Secrets, of the CA that the chart made."""

from __future__ import annotations

import base64
import datetime
from typing import Any

import trustme
from cryptography import x509
from kubernetes import client

from .kube import Kube

__all__ = ["expired"]


def expired(kube: Kube, ca: str, like: str, name: str) -> None:
    """Make a Secret with a certificate for the hosts of another one, that ended a minute ago.

    Args:
        ca: name of the Secret of the CA, key and all.
        like: name of the Secret with the certificate.
        name: of the Secret to make.
    """
    shown = _read(kube, ca, "tls.crt")
    issuer = trustme.CA.from_pem(shown, _read(kube, ca, "tls.key"))
    old = x509.load_pem_x509_certificate(_read(kube, like, "tls.crt"))
    names = old.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    ended = datetime.datetime.now(datetime.UTC) - datetime.timedelta(minutes=1)
    made = issuer.issue_cert(*(str(one.value) for one in names), not_after=ended)
    data = {
        "ca.crt": shown,
        "tls.crt": made.cert_chain_pems[0].bytes(),
        "tls.key": made.private_key_pem.bytes(),
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
