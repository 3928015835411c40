"""Added routes that are served without an apply, and have not stood for long.

Pure.  A server that comes and goes need not cost an apply; only one that stays is worth a place in
a document.  So a route is young for at least one whole period, and for less than two: told of the
end of each period, this gives out those that were there at its beginning.
"""

from __future__ import annotations

from collections.abc import Iterator, Set

from ..routes import Key

__all__ = ["Young"]


class Young(Set[Key]):
    """The keys of routes that are young, in two generations; each call costs O(1)."""

    def __init__(self) -> None:
        self._newest: set[Key] = set()
        self._older: set[Key] = set()

    def __contains__(self, key: object) -> bool:
        return key in self._newest or key in self._older

    def __iter__(self) -> Iterator[Key]:
        yield from self._newest
        yield from self._older

    def __len__(self) -> int:
        return len(self._newest) + len(self._older)

    def add(self, key: Key) -> None:
        """Begin its time; one that is young already keeps its age."""
        if key not in self._older:
            self._newest.add(key)

    def discard(self, key: Key) -> None:
        """It is gone, or in a document."""
        self._newest.discard(key)
        self._older.discard(key)

    def grow(self) -> set[Key]:
        """A period has ended: those that have stood for all of it, which are young no more."""
        grown, self._older, self._newest = self._older, self._newest, set()
        return grown

    def clear(self) -> set[Key]:
        """All of them, which are young no more."""
        return self.grow() | self.grow()
