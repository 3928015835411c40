"""Running a program as a user with no capability that matters to it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

#: nobody, by number
USER = 65534

# The one that is left lets it read its interpreter, which may be in a home of root's.
_CAPABILITIES = "-all,+dac_read_search"


def unprivileged() -> list[str]:
    """What a command is to begin with; nothing, if the tests run without privileges anyway.

    Skips the test if there is no ``setpriv``.
    """
    if os.geteuid() != 0:
        return []
    if shutil.which("setpriv") is None:
        pytest.skip("no setpriv on this machine")
    return [
        "setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups", "--no-new-privs",
        # else access() would know nothing of the one that is left
        "--securebits=+no_setuid_fixup", f"--inh-caps={_CAPABILITIES}",
        f"--ambient-caps={_CAPABILITIES}", f"--bounding-set={_CAPABILITIES}",
    ]  # fmt: skip


def own(folder: Path) -> None:
    """Make a folder for a command that begins so."""
    folder.mkdir(mode=0o700)
    if os.geteuid() == 0:
        os.chown(folder, USER, USER)
