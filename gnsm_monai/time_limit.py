"""A limited time, shared out over the parts of a command."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping

__all__ = ["NO_LIMIT", "PARTS", "TimeLimit"]

PARTS = {"training": 10, "validation": 1, "segmenter": 2, "shapes": 3, "images": 1, "selection": 4, "calibration": 4}
"""Parts of a training in their order, with their shares of the time that reading the references leaves.

The score network gets most: everything else judges by it. What a part does not need is left to those after it.
"""


class TimeLimit:
    """Counts from the moment when it is made, or from before.

    Args:
        minutes: until it is over; None for no limit.
        spent: seconds of them that passed before.
        parts: shares of the parts, in their order.
        clock: seconds, from any start.
    """

    def __init__(
        self,
        minutes: float | None = None,
        spent: float = 0,
        parts: Mapping[str, float] = PARTS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.minutes, self.parts, self.clock = minutes, dict(parts), clock
        self._end = math.inf if minutes is None else clock() + 60 * minutes - spent

    @property
    def limited(self) -> bool:
        """Whether there is a limit at all."""
        return self.minutes is not None

    @property
    def left(self) -> float:
        """Seconds until it is over, at least 0; infinite without a limit."""
        return max(0.0, self._end - self.clock()) if self.limited else math.inf

    @property
    def over(self) -> bool:
        return self.left <= 0

    def share(self, share: float) -> TimeLimit:
        """A limit that is over once this share, in [0, 1], of what is left now has passed."""
        return TimeLimit(self.left * share / 60 if self.limited else None, 0, self.parts, self.clock)

    def part(self, name: str) -> TimeLimit:
        """The share of a part that begins now, all parts before it being done. Raises KeyError where it is unknown."""
        shares = list(self.parts.values())
        first = [*self.parts].index(name) if name in self.parts else len(shares)
        return self.share(self.parts[name] / sum(shares[first:]))


NO_LIMIT = TimeLimit()
