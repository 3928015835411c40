"""A CA with a server's and a client's certificate, for programs on loopback."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import trustme  # imported where it is used: the load tests' image has no need of it


@dataclass(frozen=True)
class Certificates:
    """PEM files."""

    ca: Path
    server_cert: Path
    server_key: Path
    client_cert: Path
    client_key: Path


def make_certificates(directory: Path) -> Certificates:
    """Make a CA, and certificates for 127.0.0.1 and localhost.

    The certificates have no common name: etcd's gateway connects to its own member with the
    server's certificate, and would be taken for the user of that name.
    """
    directory.mkdir(parents=True, exist_ok=True)
    made = Certificates(
        ca=directory / "ca.pem",
        server_cert=directory / "server.pem",
        server_key=directory / "server-key.pem",
        client_cert=directory / "client.pem",
        client_key=directory / "client-key.pem",
    )
    ca = _new_ca()
    ca.cert_pem.write_to_path(made.ca)
    _issue(ca, made.server_cert, made.server_key)
    _issue(ca, made.client_cert, made.client_key)
    return made


def make_expired(directory: Path) -> None:
    """Make ``ca.crt``, ``tls.crt`` and ``tls.key``, of a certificate that ended a minute ago."""
    ca = _new_ca()
    ca.cert_pem.write_to_path(directory / "ca.crt")
    ended = datetime.datetime.now(datetime.UTC) - datetime.timedelta(minutes=1)
    _issue(ca, directory / "tls.crt", directory / "tls.key", ended)


def _new_ca() -> trustme.CA:
    import trustme

    return trustme.CA()


def _issue(
    ca: trustme.CA, certificate: Path, key: Path, ends: datetime.datetime | None = None
) -> None:
    """Write a certificate, good for servers and clients, and its key."""
    issued = ca.issue_cert("localhost", "127.0.0.1", not_after=ends)
    (chain,) = issued.cert_chain_pems
    chain.write_to_path(certificate)
    issued.private_key_pem.write_to_path(key)
