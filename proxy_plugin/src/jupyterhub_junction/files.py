"""Files of our own: where they can go, and how only their owner reads them."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

__all__ = ["scratch_folder", "write_private"]


def scratch_folder() -> str:
    """Where files for a while can go, also where all of the file system is read-only.

    Raises:
        OSError: there is no such place; the message says what to do.
    """
    try:
        return tempfile.gettempdir()
    except OSError:
        if os.access("/dev/shm", os.W_OK | os.X_OK):  # noqa: S108 (a folder of its own is made in it)
            return "/dev/shm"  # noqa: S108
        raise OSError(
            "no folder is writable, not even /dev/shm: name one with TMPDIR, or --runtime-dir"
        ) from None


def write_private(path: Path, text: str) -> None:
    """Write a new file that only this user can read, in place of one that was there."""
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "w") as file:
        file.write(text)
