"""What stands around a proxy: a hub that is just enough of one, certificates, a directory."""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import logging
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from ..ports import free_port
from .backend import Backend, Exchange
from .implementation import Options

__all__ = [
    "DOMAIN",
    "Surroundings",
    "error_page",
    "fake_service",
    "fake_spawner",
    "fake_user",
    "free_port",
    "surroundings",
]

DOMAIN = "hub.localhost"
"""The domain that the hub has in host routing."""


def error_page(status: int) -> str:
    """The hub's page for a status."""
    return f"<html><body><h1>The hub's page for {status}</h1></body></html>\n"


async def _hub(exchange: Exchange) -> None:
    """Answer as a hub does: an error page at ``/hub/error/<status>``, itself elsewhere.

    JupyterHub answers the error page with 200: the status is the proxy's to set.
    """
    await exchange.body()
    path = exchange.seen.target.partition("?")[0]
    _, found, status = path.partition("/hub/error/")
    if found and status.isdigit():
        page = error_page(int(status)).encode()
        await exchange.reply(200, [("Content-Type", "text/html")], page)
    else:
        await exchange.reply(200, [("Content-Type", "text/plain")], b"hub\n")


@dataclass
class Surroundings:
    """What an implementation gets to start with.

    Attributes:
        options: how the proxy is to be set up.
        directory: a directory of its own.
        server: the hub's recording backend.
        app: the attributes of ``JupyterHub`` that proxies use.
        public_url: where the proxy is to listen, if it needs only one address.
        client_tls: for clients of the public address.
        server_tls: for user servers under internal SSL.
    """

    options: Options
    directory: Path
    server: Backend
    app: Any
    public_url: str
    client_tls: ssl.SSLContext | None = None
    server_tls: ssl.SSLContext | None = None
    ssl_key: str = ""
    ssl_cert: str = ""
    internal: dict[str, str] = field(default_factory=dict)

    @property
    def hub(self) -> Any:
        """The hub, as ``JupyterHub`` hands it to its proxy."""
        return self.app.hub

    def url(self, port: int) -> str:
        """A public URL with this port and the right scheme."""
        return f"{'https' if self.options.tls else 'http'}://127.0.0.1:{port}"

    def proxy_arguments(self, public_url: str | None = None) -> dict[str, Any]:
        """What ``JupyterHub`` passes when it makes its proxy object."""
        return {
            "app": self.app,
            "hub": self.app.hub,
            "public_url": (public_url or self.public_url) + self.options.base_url,
            "ssl_key": self.ssl_key,
            "ssl_cert": self.ssl_cert,
            "host_routing": self.options.host_routing,
            "log": logging.getLogger("conformance.proxy"),
        }


def _certificate(directory: Path, name: str) -> tuple[str, str]:
    """A self-signed certificate for this machine; the paths of its key and itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    key_path, cert_path = directory / f"{name}.key", directory / f"{name}.crt"
    key_path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    cert_path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    return str(key_path), str(cert_path)


def _internal_ssl(app: Any, directory: Path) -> tuple[ssl.SSLContext, dict[str, str]]:
    """Certificates as ``JupyterHub.init_internal_ssl`` makes them.

    Returns the context for user servers and the hub, which ask for a client certificate,
    and the paths of the hub's own key, certificate and trust bundle.
    """
    from certipy import Certipy  # type: ignore[import-untyped]

    certipy = Certipy(store_dir=str(directory / "internal-ssl"))
    graph = {
        "hub-ca": ["hub-ca", "proxy-api-ca", "proxy-client-ca", "notebooks-ca", "services-ca"],
        "proxy-api-ca": ["hub-ca", "services-ca", "notebooks-ca"],
        "proxy-client-ca": ["hub-ca", "notebooks-ca"],
        "notebooks-ca": ["hub-ca", "proxy-client-ca"],
        "services-ca": ["hub-ca", "proxy-api-ca"],
    }
    app.internal_trust_bundles = certipy.trust_from_graph(graph)
    names = ["IP:127.0.0.1", "DNS:localhost"]
    pairs = {
        "hub-internal": "hub-ca",
        "proxy-api": "proxy-api-ca",
        "proxy-client": "proxy-client-ca",
        "user-server": "notebooks-ca",
    }
    files: dict[str, dict[str, str]] = {}
    for component, authority in pairs.items():
        files[component] = certipy.create_signed_pair(component, authority, alt_names=names)[
            "files"
        ]
    app.internal_proxy_certs = {
        name: {
            "keyfile": files[name]["key"],
            "certfile": files[name]["cert"],
            "cafile": files[name]["cert"],
        }
        for name in ("proxy-api", "proxy-client")
    }
    context = ssl.create_default_context(
        ssl.Purpose.CLIENT_AUTH, cafile=app.internal_trust_bundles["notebooks-ca"]
    )
    context.load_cert_chain(files["user-server"]["cert"], files["user-server"]["key"])
    context.verify_mode = ssl.CERT_REQUIRED
    return context, {
        "keyfile": files["hub-internal"]["key"],
        "certfile": files["hub-internal"]["cert"],
        "cafile": app.internal_trust_bundles["hub-ca"],
    }


@contextlib.asynccontextmanager
async def surroundings(options: Options, directory: Path) -> AsyncIterator[Surroundings]:
    """Everything but the proxy, running."""
    base = options.base_url
    app = SimpleNamespace(
        subdomain_host=f"http://{DOMAIN}" if options.host_routing else "",
        base_url=base,
        internal_ssl=options.internal_ssl,
        internal_proxy_certs={},
        internal_trust_bundles={},
        users={},
        _service_map={},
        config={},
        log=logging.getLogger("conformance.app"),
    )
    server_tls: ssl.SSLContext | None = None
    internal: dict[str, str] = {}
    if options.internal_ssl:
        server_tls, internal = _internal_ssl(app, directory)
    server = await Backend("hub", _hub).start(tls=server_tls)
    app.hub = SimpleNamespace(
        url=f"{server.url}{base}hub/",
        api_url=f"{server.url}{base}hub/api",
        host=server.url,
        base_url=f"{base}hub/",
        routespec="/" if options.host_routing else base,
    )
    public_url = f"{'https' if options.tls else 'http'}://127.0.0.1:{free_port()}"
    around = Surroundings(options, directory, server, app, public_url)
    around.server_tls, around.internal = server_tls, internal
    if options.tls:
        around.ssl_key, around.ssl_cert = _certificate(directory, "public")
        around.client_tls = ssl.create_default_context(cafile=around.ssl_cert)
    try:
        yield around
    finally:
        await server.stop()


def fake_spawner(spec: str, host: str, *, ready: bool = True, pending: str | None = None) -> Any:
    """What ``check_routes`` asks of a spawner."""
    return SimpleNamespace(
        ready=ready,
        pending=pending,
        active=ready or bool(pending),
        proxy_spec=spec,
        server=SimpleNamespace(host=host),
        _log_name=spec,
    )


def fake_user(name: str, options: Options) -> Any:
    """A user without servers; its routespec is made as JupyterHub makes it."""
    escaped = quote(name, safe="@~")
    path = f"{options.base_url}user/{escaped}/"
    if options.host_routing:
        label = quote(name, safe="").replace("%", "_").lower()
        path = f"{label}.{DOMAIN}{path}"
    return SimpleNamespace(name=name, proxy_spec=path, spawners={})


def fake_service(name: str, host: str, options: Options) -> Any:
    """What ``check_routes`` asks of a service."""
    spec = f"{options.base_url}services/{name}/"
    if options.host_routing:
        spec = f"services.{DOMAIN}{spec}"
    return SimpleNamespace(name=name, proxy_spec=spec, server=SimpleNamespace(host=host))
