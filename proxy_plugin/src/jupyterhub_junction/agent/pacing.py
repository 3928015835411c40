"""How long changes wait for an apply.  Pure.

Applies take a bounded share of the time, however many changes there are.  For changes that are not
in effect before, it is a leaky bucket of waiting: each apply adds a multiple of what it cost, time
without an apply drains it, and up to :attr:`Pacing.burst` it holds nobody up.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

__all__ = ["Pacing"]


@dataclass(frozen=True, slots=True)
class Pacing:
    """How long changes wait, as multiples of what applies cost in seconds.

    Attributes:
        covered: of the last apply's cost, for changes that are in effect without an apply: from
            the last one on; and, for an added route, from its addition on.
        uncovered: of recent applies' costs, for changes that are not.
        most_covered, most_uncovered: seconds that they wait at most, whatever applies cost.
        most_young: seconds that an added route has to stand at most, to get into a document.
        burst: seconds of waiting that are let off: a few deletes from a small table, where an
            apply costs little, do not wait for each other.
    """

    covered: float = 10.0
    uncovered: float = 3.0
    most_covered: float = 60.0
    most_uncovered: float = 5.0
    most_young: float = 10.0
    burst: float = 1.0

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if not 0 <= value < float("inf"):
                raise ValueError(f"pacing: {name} is {value:g}, it must be 0 or more")

    def covered_wait(self, cost: float) -> float:
        """Seconds that covered changes wait after an apply that took ``cost`` seconds."""
        return min(self.covered * cost, self.most_covered)

    def young_for(self, cost: float) -> float:
        """Seconds that an added route has to stand, if the last apply took ``cost`` seconds."""
        return min(self.covered_wait(cost), self.most_young)

    def uncovered_wait(self, debt: float) -> float:
        """Seconds that uncovered changes wait after an apply that left this :meth:`debt`."""
        return max(debt - self.burst, 0.0)

    def debt(self, before: float, idle: float, cost: float) -> float:
        """Seconds of waiting that an apply leaves behind.

        Args:
            before: the same of the apply before it, after which ``idle`` seconds passed.
            cost: seconds that it took.
        """
        debt = max(before - idle, 0.0) + self.uncovered * cost
        return min(debt, self.burst + self.most_uncovered)
