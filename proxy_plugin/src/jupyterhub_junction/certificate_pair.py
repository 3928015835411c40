"""A certificate and its key, as PEM text: whether one is the other's.  Pure."""

from __future__ import annotations

from datetime import UTC, datetime

from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)

__all__ = ["judge_pair"]

_SUBJECT = PublicFormat.SubjectPublicKeyInfo


def judge_pair(certificate: str, key: str, file: str, key_file: str) -> tuple[str, datetime]:
    """What is wrong with a certificate and a key, in words; and when it expires."""
    never = datetime.max.replace(tzinfo=UTC)
    try:
        first = x509.load_pem_x509_certificates(certificate.encode())[0]
    except (ValueError, IndexError):
        return f"{file} holds no PEM certificate", never
    try:
        loaded = load_pem_private_key(key.encode(), None)
    except (ValueError, TypeError):
        return f"{key_file} holds no PEM key without a password", never
    own = first.public_key().public_bytes(Encoding.PEM, _SUBJECT)
    if own != loaded.public_key().public_bytes(Encoding.PEM, _SUBJECT):
        return f"{key_file} is not the key of {file}", never
    return "", first.not_valid_after_utc
