"""The configuration file of an etcd member.  Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from .membership import Node

__all__ = ["MemberOptions", "etcd_yaml"]


@dataclass(frozen=True, slots=True)
class MemberOptions:
    """What is the same at every start of a member.

    Attributes:
        data_dir: for its data.
        tls_dir: folder with ``ca.crt``, ``tls.crt`` and ``tls.key``.
        listen_host: address that it listens at; empty: only the ones of its URLs.
        metrics: ``host:port`` for ``/health`` and ``/metrics``, without TLS.
        quota_bytes: size of the database at which etcd takes no more writes.
    """

    data_dir: Path
    tls_dir: Path
    listen_host: str = "0.0.0.0"  # noqa: S104
    metrics: str = "0.0.0.0:2381"
    quota_bytes: int = 1024**3


def etcd_yaml(
    me: Node,
    options: MemberOptions,
    *,
    state: str,
    cluster: Mapping[str, str],
    hosts: Iterable[str],
    token: str,
) -> str:
    """The file (JSON, which is YAML).

    Args:
        state: ``new`` or ``existing``; etcd looks at it, and at the rest, only without data.
        cluster: the members' peer URLs by name.
        hosts: names of which a member's certificate must be for one.
        token: the cluster's ids are made of it when it is founded.
    """
    tls = {
        "cert-file": str(options.tls_dir / "tls.crt"),
        "key-file": str(options.tls_dir / "tls.key"),
        "trusted-ca-file": str(options.tls_dir / "ca.crt"),
        "client-cert-auth": True,
        # etcd would look up the name of each address that connects, which a pod has only some time
        # after its start, and not with every DNS
        "skip-client-san-verification": True,
    }
    # so hub's and agents' certificates, of the same CA, open no connection between members
    peer_tls = tls | {"allowed-hostname": sorted(hosts)}
    settings = {
        "name": me.name,
        "data-dir": str(options.data_dir),
        "listen-peer-urls": _listen(me.peer_url, options.listen_host),
        "listen-client-urls": _listen(me.client_url, options.listen_host),
        "listen-metrics-urls": f"http://{options.metrics}",
        "initial-advertise-peer-urls": me.peer_url,
        "advertise-client-urls": me.client_url,
        "initial-cluster": ",".join(f"{name}={url}" for name, url in cluster.items()),
        "initial-cluster-state": state,
        "initial-cluster-token": token,
        "client-transport-security": tls,
        "peer-transport-security": peer_tls,
        "strict-reconfig-check": True,
        "enable-grpc-gateway": True,
        # Agents and hub read all anew when a session begins, and watch from there: history has to
        # last no longer than that read, and ten minutes also bridge a watch that stands still.
        # One write a minute for the activity of each of 10,000 routes leaves ~30 MB of it.
        "auto-compaction-mode": "periodic",
        "auto-compaction-retention": "10m",
        "quota-backend-bytes": options.quota_bytes,
        # etcd holds as many log entries in memory, of up to 128 operations each; its own 10,000
        # are for stores of many GB, ours is sent whole in a second
        "snapshot-count": 2000,
        "snapshot-catchup-entries": 1000,
        # Tokens of random bytes that the members tell each other: no signing key to keep and to
        # renew as with JWT, and a client that signs in again notices nothing.
        "auth-token": "simple",
        "logger": "zap",
        "log-level": "warn",
        "log-outputs": ["stderr"],
    }
    return json.dumps(settings, indent=1) + "\n"


def _listen(url: str, host: str) -> str:
    parts = urlsplit(url)
    shown = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{shown or parts.hostname}:{parts.port}"
