"""Resident memory of each process, with N routes, after the load of the measures before."""

from __future__ import annotations

from dataclasses import dataclass

from ..processes import memory
from ..results import Skipped
from .bench import Bench

__all__ = ["Memory", "measure"]


@dataclass
class Memory:
    """In MB (10^6 bytes).

    Attributes:
        by_process: each.
        traefik, agent: the greatest of that name.
        hub, etcd: the hub's side, and all members.
        proxies: all others.
        total: everything.
    """

    by_process: dict[str, float]
    traefik: float | None
    agent: float | None
    hub: float | None
    etcd: float | None
    proxies: float | None
    total: float


async def measure(bench: Bench) -> Memory:
    """As they are now."""
    found = memory(bench.subject.pids())
    if not found:
        raise Skipped("no process of its own")

    def greatest(part: str) -> float | None:
        return max((mb for role, mb in found.items() if role.split()[-1] == part), default=None)

    def together(part: str) -> float | None:
        named = [mb for role, mb in found.items() if _part(role) == part]
        return round(sum(named), 1) if named else None

    return Memory(
        found,
        greatest("traefik"),
        greatest("agent"),
        together("hub"),
        together("etcd"),
        together("proxies"),
        round(sum(found.values()), 1),
    )


def _part(role: str) -> str:
    if role.startswith("etcd"):
        return "etcd"
    return "hub" if role == "hub" else "proxies"
