"""Which cluster tests work on: the one that KUBECONFIG names, else the one made here."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from .settings import folder

__all__ = ["Access", "given"]


@dataclass(frozen=True, slots=True)
class Access:
    """A cluster to work on.

    Attributes:
        kubeconfig: its file.
        owned: it is the one made here, so its nodes can be killed and images loaded.
    """

    kubeconfig: Path
    owned: bool


def given() -> Access:
    """The cluster that KUBECONFIG names, or the one that ``up`` makes; whether it is up is not
    looked at."""
    own = folder() / "kubeconfig"
    named = os.environ.get("KUBECONFIG")
    if not named or Path(named).absolute() == own:
        return Access(own, owned=True)
    return Access(Path(named), owned=False)
