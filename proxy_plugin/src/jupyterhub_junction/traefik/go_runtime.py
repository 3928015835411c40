"""How Traefik's Go runtime collects garbage: seldom, and within the container's memory.

An apply builds a new table beside the old one, so much of its cost is the collector's, and what
it leaves is most of Traefik's memory.  ``GOGC=125`` instead of Go's 100 makes a collection come
less often, at some 300 MB for 10,000 servers (200 takes 40 to 70 more); and ``GOMEMLIMIT`` makes
it come more often again where a container's memory would run out (https://go.dev/doc/gc-guide).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

__all__ = ["GOGC", "MEMORY_SHARE", "go_environment"]

GOGC = 125
#: Of a container's memory, what Traefik's heap may take before the collector works harder; the
#: rest is for the agent, the supervisor, and what is no heap.
MEMORY_SHARE = 0.6

# version 2 of Linux' control groups, and version 1
_LIMITS = ("memory.max", "memory/memory.limit_in_bytes")
_NONE = 1 << 50  # version 1 says "no limit" as a number near 2**63


def go_environment(
    environment: Mapping[str, str], groups: Path = Path("/sys/fs/cgroup")
) -> dict[str, str]:
    """The environment for Traefik.

    Args:
        environment: the caller's own; what it says of GOGC and GOMEMLIMIT stands.
        groups: where Linux shows the control group of a container.
    """
    found = {"GOGC": str(GOGC)}
    limit = _memory_limit(groups)
    if limit:
        found["GOMEMLIMIT"] = str(int(limit * MEMORY_SHARE))
    return {**found, **environment}


def _memory_limit(groups: Path) -> int:
    """Bytes that all processes of this container may use together; 0 if nothing says so."""
    for name in _LIMITS:
        try:
            limit = int((groups / name).read_text())
        except (OSError, ValueError):  # no such file, or "max"
            continue
        if limit < _NONE:
            return limit
    return 0
