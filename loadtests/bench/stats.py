"""Summaries of measured times.  Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Times", "percentile", "summary"]


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that ``share`` (0 to 1) of all values do not exceed (nearest rank).

    Raises:
        ValueError: there are no values, or the share is not between 0 and 1.
    """
    if not values:
        raise ValueError("no values")
    if not 0 <= share <= 1:
        raise ValueError(f"share {share} is not between 0 and 1")
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


@dataclass(frozen=True, slots=True)
class Times:
    """Times in milliseconds.  Of fewer than 100, the p99 is the greatest."""

    count: int
    median: float
    p99: float
    max: float


def summary(seconds: Sequence[float]) -> Times:
    """Times that were measured in seconds."""
    return Times(
        len(seconds),
        *(round(1000 * percentile(seconds, share), 3) for share in (0.5, 0.99, 1.0)),
    )
