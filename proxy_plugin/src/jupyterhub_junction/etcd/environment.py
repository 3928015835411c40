"""The environment variables that say how to reach etcd, for pods that can have no files mounted.

They are the defaults of the command line's flags and of ``TraefikEtcdProxy``'s settings.
``JUNCTION_ETCD_CA``, ``_CERT`` and ``_KEY`` are paths, or the PEM text itself.
"""

from __future__ import annotations

import os

__all__ = ["ETCD", "endpoints", "mend", "value"]

#: URLs of etcd's members, with commas between them.
ETCD = "JUNCTION_ETCD"


def value(name: str, default: str = "") -> str:
    """What the environment says of one setting, such as ``etcd_ca`` for ``JUNCTION_ETCD_CA``."""
    return os.environ.get(f"JUNCTION_{name.upper()}") or default


def mend(user: str) -> str:
    """What to do where ``JUNCTION_ETCD`` is not set.

    Args:
        user: of etcd, by its name in the chart: ``hub`` or ``agent``.
    """
    if "KUBERNETES_SERVICE_HOST" not in os.environ:
        return "set it to the URLs of etcd's members"
    secret = {"hub": "etcd-hub-access", "agent": "etcd-access"}[user]
    return (
        f"the pod has it from the Secret <release>-{secret}, or junction-{secret}, of the chart"
        " junction: install that, then start the pod anew, as it reads a Secret at its start"
    )


def endpoints(text: str) -> list[str]:
    """URLs from a text with commas between them."""
    return [url.strip() for url in text.split(",") if url.strip()]
