"""Users' certificates that are renewed on disk: read whole, judged, shown to new connections."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import ssl
from pathlib import Path

import pytest
from cryptography import x509
from harness.certificates import make_certificates
from harness.etcd_cluster import EtcdCluster
from harness.replicas import Replica
from harness.waiting import until

from jupyterhub_junction.keys import TableInfo, new_table_id
from jupyterhub_junction.store import Put
from jupyterhub_junction.traefik.user_certificate import UserCertificate


@pytest.fixture
def pairs(tmp_path: Path) -> list[tuple[Path, Path]]:
    """Two pairs."""
    made = [make_certificates(tmp_path / f"made-{n}") for n in range(2)]
    return [(one.server_cert, one.server_key) for one in made]


def put(pair: tuple[Path, Path], folder: Path) -> tuple[str, str]:
    """Put a pair where it is looked for; returns the files."""
    folder.mkdir(exist_ok=True)
    for source, name in zip(pair, ("tls.crt", "tls.key"), strict=True):
        new = folder / f".{name}"
        shutil.copy(source, new)
        os.replace(new, folder / name)
    return str(folder / "tls.crt"), str(folder / "tls.key")


def test_a_renewal_is_taken_whole(tmp_path: Path, pairs: list[tuple[Path, Path]]) -> None:
    files = put(pairs[0], tmp_path / "tls")
    found = UserCertificate(*files)
    assert found.look()
    assert not found.look()
    shutil.copy(pairs[1][0], files[0])  # the key is still the old one
    assert not found.look()
    assert f"{files[1]} is not the key of {files[0]}" in found.trouble
    assert found.pair is not None
    assert found.pair[0] == pairs[0][0].read_text()
    shutil.copy(pairs[1][1], files[1])
    assert found.look()
    assert found.pair == (pairs[1][0].read_text(), pairs[1][1].read_text())
    assert not found.trouble


@pytest.mark.parametrize("which", [0, 1])
def test_what_cannot_be_used_is_named(
    tmp_path: Path, pairs: list[tuple[Path, Path]], which: int
) -> None:
    files = put(pairs[0], tmp_path / "tls")
    found = UserCertificate(*files)
    found.look()
    for spoil in (lambda: Path(files[which]).write_text("x"), lambda: os.unlink(files[which])):
        spoil()
        assert not found.look()
        assert files[which] in found.trouble
        assert "the earlier one is used" in found.trouble
        assert found.pair is not None


def test_the_next_agent_has_the_last_good_one(
    tmp_path: Path, pairs: list[tuple[Path, Path]]
) -> None:
    files = put(pairs[0], tmp_path / "tls")
    saved = tmp_path / "certificate.json"
    UserCertificate(*files, saved).look()
    assert saved.stat().st_mode & 0o077 == 0
    os.unlink(files[0])
    found = UserCertificate(*files, saved)
    assert found.look()
    assert found.pair == (pairs[0][0].read_text(), pairs[0][1].read_text())
    assert files[0] in found.trouble
    nothing = UserCertificate(*files)
    assert not nothing.look()
    assert nothing.pair is None


@pytest.mark.needs_programs
async def test_new_connections_get_the_renewed_certificate(
    tmp_path: Path, pairs: list[tuple[Path, Path]]
) -> None:
    files = put(pairs[0], tmp_path / "tls")
    async with EtcdCluster(tmp_path / "etcd", members=1) as cluster:
        store = cluster.store()
        route = b'{"target":"http://127.0.0.1:1","data":{}}'
        await store.write(
            [Put("routes//", route), Put("table", TableInfo(new_table_id()).encode())]
        )
        await store.close()
        replica = Replica(
            "one", cluster, tmp_path, [f"--ssl-cert={files[0]}", f"--ssl-key={files[1]}"]
        )
        replica.start()
        try:
            await replica.ready()
            assert await shown(replica) == serial(pairs[0])
            put(pairs[1], tmp_path / "tls")

            async def renewed() -> bool:
                return await shown(replica) == serial(pairs[1])

            await until(renewed, "new connections get the new certificate")
            await asyncio.to_thread(Path(files[0]).write_text, "nothing")
            status = await replica.until("trouble", lambda s: s["warning"])
            assert files[0] in status["warning"]
            assert status["ready"]
            replica.signal_child("agent")
            await replica.ready()
            replica.signal_child("traefik")
            await until(renewed, "what was good is shown although agent and Traefik are new ones")
        finally:
            replica.stop()


def serial(pair: tuple[Path, Path]) -> int:
    return x509.load_pem_x509_certificate(pair[0].read_bytes()).serial_number


async def shown(replica: Replica) -> int:
    """The serial number of the certificate that a new connection is shown; 0 without one."""

    def ask() -> int:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        try:
            with (
                socket.create_connection(("127.0.0.1", replica.port), timeout=30) as plain,
                context.wrap_socket(plain) as tls,
            ):
                got = tls.getpeercert(binary_form=True)
        except OSError:
            return 0
        return x509.load_der_x509_certificate(got or b"").serial_number

    return await asyncio.to_thread(ask)
