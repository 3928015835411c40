"""Resident memory of each process, with N routes, after the load of the measures before."""

from __future__ import annotations

from dataclasses import dataclass

from ..processes import memory
from ..results import Skipped
from .bench import Bench

__all__ = ["Memory", "measure"]


@dataclass
class Memory:
    """MB (10^6 bytes) by process; the greatest of all Traefiks, of all agents, and the sum."""

    by_process: dict[str, float]
    traefik: float | None
    agent: float | None
    total: float


async def measure(bench: Bench) -> Memory:
    """As they are now."""
    found = memory(bench.subject.pids())
    if not found:
        raise Skipped("no process of its own")

    def greatest(part: str) -> float | None:
        return max((mb for role, mb in found.items() if role.split()[-1] == part), default=None)

    return Memory(found, greatest("traefik"), greatest("agent"), round(sum(found.values()), 1))
