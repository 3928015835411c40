"""JupyterHub's internal SSL: the files that a proxy shows, and believes, towards user servers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ["InternalFiles", "internal_files"]


@dataclass(frozen=True, slots=True)
class InternalFiles:
    """Paths of PEM files.

    Attributes:
        ca: of the only authorities whose servers are believed.
        certificate, key: what the proxy shows to servers and the hub.
    """

    ca: str
    certificate: str
    key: str


def internal_files(app: Any) -> InternalFiles | None:
    """The files that ``JupyterHub`` made for its proxy; None without ``internal_ssl``."""
    if not getattr(app, "internal_ssl", False):
        return None
    pair = app.internal_proxy_certs["proxy-client"]
    return InternalFiles(
        ca=str(app.internal_trust_bundles["proxy-client-ca"]),
        certificate=str(pair["certfile"]),
        key=str(pair["keyfile"]),
    )
