"""The etcd that runs beside its keeper, in a pod whose containers share their processes."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

__all__ = ["end_etcd", "is_etcd_of"]


def is_etcd_of(config: Path, words: Sequence[str]) -> bool:
    """Whether a command line is that of an etcd with this file, and of no other."""
    return Path(words[0]).name == "etcd" and f"--config-file={config}" in words[1:]


def end_etcd(config: Path) -> bool:
    """SIGTERM to the etcd of this file, which is started again by whoever started it.

    Returns:
        False if there is none that this process may see and end.
    """
    ended = False
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with suppress(OSError, ValueError):
            words = (entry / "cmdline").read_bytes().decode().split("\0")
            if is_etcd_of(config, words):
                os.kill(int(entry.name), signal.SIGTERM)
                ended = True
    return ended
