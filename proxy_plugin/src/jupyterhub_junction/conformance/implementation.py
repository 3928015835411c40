"""What the suite has to know of a proxy: its name, what it claims, and how to start it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .surroundings import Surroundings

__all__ = ["FEATURES", "Implementation", "Options", "Running"]

FEATURES: Mapping[str, str] = {
    "activity": "get_all_routes tells when each server last had data",
    "activity-statuses": "answers of 300 and above do not count as activity",
    "error-page": "the hub's own page is shown for what the proxy itself fails on",
    "host-routing": "routes by host name",
    "hub-restart": "the proxy runs on while the hub restarts, and keeps its routes",
    "internal-ssl": "JupyterHub's internal SSL, with client certificates",
    "proxy-restart": "the proxy can be restarted while the hub runs",
    "refuses-bad-routes": "routes that cannot be served are refused with an error",
    "tls": "TLS on the public address",
    "unix-target": "targets that are Unix sockets",
}
"""What an implementation may leave out.  A behaviour that needs nothing is for everyone."""


@dataclass(frozen=True)
class Options:
    """How a proxy is set up; behaviours with the same options share one running proxy."""

    host_routing: bool = False
    tls: bool = False
    base_url: str = "/"
    internal_ssl: bool = False

    def __str__(self) -> str:
        parts = [name for name in ("host_routing", "tls", "internal_ssl") if getattr(self, name)]
        if self.base_url != "/":
            parts.append(f"base_url={self.base_url}")
        return ", ".join(parts) or "default"


@dataclass
class Running:
    """A proxy that runs.

    Attributes:
        proxy: the hub's side, a :class:`jupyterhub.proxy.Proxy`.
        urls: the public address of every replica, without a path.
        restart_hub: gives a new proxy object for the same running proxy, as a hub that was
            restarted has one (feature ``hub-restart``).
        restart_proxy: ends the proxy's processes and starts them again (``proxy-restart``).
        settled: waits until routes that are served are served as they will be from then on, where
            another part of the proxy serves them at first.
    """

    proxy: Any
    urls: tuple[str, ...]
    restart_hub: Callable[[], Awaitable[Any]] | None = None
    restart_proxy: Callable[[], Awaitable[None]] | None = None
    settled: Callable[[], Awaitable[None]] | None = None


@dataclass(frozen=True)
class Implementation:
    """One column of the table.

    Attributes:
        name: short, as it stands in the table.
        start: a context manager that starts the proxy in its surroundings and ends it.
        features: what it claims, of :data:`FEATURES`.
        known: behaviours it is known to fail, each with its reason.  One that passes after
            all is an error, so that the list stays true.
        missing: the reason why it cannot run here (a program that is not installed).
        version: what runs, for the report.
        reference: whether the others are measured against this one.
        unsteady: those of ``known`` that pass on some runs; they stay differences.
        themes: it is run through these only, where others have shown the rest; empty for all.
        judged: whether what it fails fails the run; somebody else's proxy is only recorded.
    """

    name: str
    start: Callable[[Surroundings], AbstractAsyncContextManager[Running]]
    features: frozenset[str] = frozenset()
    known: Mapping[str, str] = field(default_factory=dict)
    missing: Callable[[], str | None] = lambda: None
    version: Callable[[], str] = lambda: ""
    reference: bool = False
    judged: bool = True
    themes: frozenset[str] = frozenset()
    unsteady: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        unknown = self.features - FEATURES.keys()
        if unknown:
            raise ValueError(f"{self.name} claims features that do not exist: {sorted(unknown)}")
