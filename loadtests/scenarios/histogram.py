"""Times counted in buckets: small to send, exact to add up, percentiles true to 1 %.  Pure.

Invariant: a bucket's bounds are the same in every process and version, so that counts of many
generators and seconds can be added.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

__all__ = ["Histogram"]

#: milliseconds of the first bucket's lower bound; what is less is counted in it
LEAST = 0.01
#: each bucket's upper bound, as a multiple of its lower one
STEP = 1.02
_LOG = math.log(STEP)


@dataclass
class Histogram:
    """Counts by bucket."""

    counts: dict[int, int] = field(default_factory=dict)

    def add(self, milliseconds: float) -> None:
        """Count one time."""
        bucket = max(0, math.floor(math.log(max(milliseconds, LEAST) / LEAST) / _LOG))
        self.counts[bucket] = self.counts.get(bucket, 0) + 1

    def merge(self, other: Histogram) -> None:
        """Count what the other has counted."""
        for bucket, count in other.counts.items():
            self.counts[bucket] = self.counts.get(bucket, 0) + count

    @property
    def count(self) -> int:
        """How many times there are."""
        return sum(self.counts.values())

    def percentile(self, share: float) -> float:
        """The time (ms) that ``share`` (0 to 1) of all do not exceed, by nearest rank.

        Raises:
            ValueError: there are none, or the share is not between 0 and 1.
        """
        if not self.counts:
            raise ValueError("no values")
        if not 0 <= share <= 1:
            raise ValueError(f"share {share} is not between 0 and 1")
        left = max(1, math.ceil(share * self.count))
        for bucket in sorted(self.counts):
            left -= self.counts[bucket]
            if left <= 0:
                return float(LEAST * STEP ** (bucket + 0.5))
        raise AssertionError("counts changed meanwhile")

    def plain(self) -> dict[str, int]:
        """As JSON has it."""
        return {str(bucket): count for bucket, count in sorted(self.counts.items())}

    @classmethod
    def of(cls, plain: Mapping[str, int]) -> Histogram:
        """From JSON."""
        return cls({int(bucket): count for bucket, count in plain.items()})

    @classmethod
    def total(cls, many: Iterable[Histogram]) -> Histogram:
        """All of them together."""
        found = cls()
        for one in many:
            found.merge(one)
        return found
