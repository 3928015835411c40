"""The passwords of etcd's users, from files that may be renewed while a keeper runs."""

from __future__ import annotations

from pathlib import Path

from ..store import StoreRefused

__all__ = ["Passwords"]


class Passwords:
    """The users' passwords, from files that may change.

    Attributes:
        root: the one that root signs in with now, which may be older than its file.
    """

    def __init__(self, root: Path, hub: tuple[str, Path], agent: tuple[str, Path]) -> None:
        self._files = {"root": root, hub[0]: hub[1], agent[0]: agent[1]}
        self.hub_name, self.agent_name = hub[0], agent[0]
        self.root = self.read()["root"]

    def read(self) -> dict[str, str]:
        """All passwords by user, as the files are now; raises StoreRefused."""
        found = {}
        for name, file in self._files.items():
            try:
                found[name] = file.read_text().strip("\r\n")
            except (OSError, ValueError) as error:
                why = getattr(error, "strerror", None) or "not text"
                raise StoreRefused(f"{name}'s password file {file} cannot be read: {why}") from None
            if not found[name]:
                raise StoreRefused(f"{name}'s password file {file} is empty")
        return found
