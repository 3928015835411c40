"""The etcd that runs beside its keeper, in a pod whose containers share their processes."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path

__all__ = ["end_etcd"]


def end_etcd(config: Path) -> bool:
    """SIGTERM to the etcd of this file, which is started again by whoever started it.

    Returns:
        False if there is none that this process may see and end.
    """
    ended = False
    wanted = f"--config-file={config}"
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with suppress(OSError, ValueError):
            words = (entry / "cmdline").read_bytes().decode().split("\0")
            if Path(words[0]).name == "etcd" and wanted in words:
                os.kill(int(entry.name), signal.SIGTERM)
                ended = True
    return ended
