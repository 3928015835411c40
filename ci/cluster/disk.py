"""The nodes' disk: a file system in one sparse file, which forgets faster than the machine's own.

Images are some ten thousand files on each node.  A machine's file system waits for the disk when
one is synced, and may tell the disk of each that is deleted (mount option ``discard``: 130 s for
what is gone in one here).  This one has no journal and no barriers, and goes as a whole.
Where there are no loop devices, the nodes' files are in the folder itself.
"""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path

from .processes import run
from .settings import ClusterError, folder

__all__ = ["make", "remove"]

LARGEST_BYTES = 64 << 30
#: of what is free now: the file is sparse, and the disk is not the cluster's alone
SHARE = 0.8
OPTIONS = "loop,nobarrier,noatime,noinit_itable"


def where() -> Path:
    return folder() / "nodes"


def make() -> None:
    """Make the disk and mount it for the nodes, unless that was done."""
    at, file = where(), folder() / "disk.img"
    at.mkdir(parents=True, exist_ok=True)
    if at.is_mount() or any(at.iterdir()):
        return
    if not Path("/dev/loop-control").exists() or not shutil.which("mkfs.ext4", path="/sbin:/usr/sbin"):
        return
    free = shutil.disk_usage(folder()).free
    with file.open("wb") as image:
        os.truncate(image.fileno(), min(LARGEST_BYTES, int(free * SHARE)))
    quick = "lazy_itable_init=1,lazy_journal_init=1,nodiscard,root_owner=0:0"
    run("mkfs.ext4", "-q", "-F", "-m", "0", "-O", "^has_journal", "-E", quick, file)
    with suppress(ClusterError):  # no device is to be had in this container: do without
        run("mount", "-o", OPTIONS, file, at)


def remove() -> None:
    """Unmount it; its file is removed with the folder."""
    if where().is_mount():
        # lazy: the kernel is done with the nodes' own mounts some time after their last process
        run("umount", "--lazy", where())
