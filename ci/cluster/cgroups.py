"""Control groups (version 1): they tell what the cluster started from all else.

Invariant: every process of the cluster is in a group below ``junction`` of the ``pids`` hierarchy
from before its program begins, and so are its children.  What is not there is never killed.
"""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from pathlib import Path

from .settings import ClusterError

__all__ = ["groups", "hierarchies", "kill", "make", "members", "procs", "remove"]

KILL_SECONDS = 20.0


def hierarchies(*kinds: str) -> list[Path]:
    """Where hierarchies are mounted: version 1's, or of these kinds."""
    mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    return [Path(words[1]) for words in mounts if words[2] in (kinds or ("cgroup",))]


def groups(group: str) -> list[Path]:
    """The group's folders, also in a hierarchy of version 2, where runc makes it as well."""
    return [at for root in hierarchies("cgroup", "cgroup2") if (at := root / group).exists()]


def owner(group: str) -> Path:
    """The group's folder in the hierarchy that says what belongs to it."""
    for root in hierarchies():
        if root.name.split(",")[0] == "pids":
            return root / group
    return Path("/sys/fs/cgroup/pids") / group


def procs(group: str) -> Path:
    """The file that a process writes 0 to, to join the group."""
    return owner(group) / "cgroup.procs"


def make(group: str) -> None:
    """Make a group in all hierarchies, fit for a kubelet to make more below it."""
    for root in hierarchies():
        at = root
        for part in Path(group).parts:
            above, at = at, at / part
            at.mkdir(exist_ok=True)
            if (at / "cpuset.cpus").exists():  # empty at first, and then it takes no process
                for name in ("cpuset.cpus", "cpuset.mems"):
                    if not (at / name).read_text().strip():
                        (at / name).write_text((above / name).read_text())


def members(group: str) -> set[int]:
    """The processes in a group and in all below it."""
    found: set[int] = set()
    for file in [procs(group), *owner(group).glob("**/cgroup.procs")]:
        with suppress(OSError):  # the group has gone in between
            found.update(int(word) for word in file.read_text().split())
    return found


def kill(group: str) -> None:
    """Kill every process of a group with SIGKILL; return when none is left.

    Raises:
        ClusterError: some are still there after 20 s.
    """
    deadline = time.monotonic() + KILL_SECONDS
    while found := members(group):
        for pid in found:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if time.monotonic() > deadline:
            names = ", ".join(map(str, sorted(found)))
            raise ClusterError(f"processes {names} do not end: see `ps` for what holds them")
        time.sleep(0.02)


def remove(group: str) -> None:
    """Remove a group and all below it, from every hierarchy.

    Raises:
        ClusterError: there are processes in it still.
    """
    deadline = time.monotonic() + KILL_SECONDS
    for top in groups(group):
        for at, _, _ in os.walk(top, topdown=False):
            while True:
                try:
                    os.rmdir(at)
                    break
                except FileNotFoundError:
                    break
                except OSError as error:  # its last process is being taken away
                    if time.monotonic() > deadline:
                        raise ClusterError(f"cannot remove {at}: {error.strerror}") from None
                    time.sleep(0.02)
