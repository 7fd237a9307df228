"""What of a mask a rule reads: all that must be measured to rank it."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass

from gnsm_monai.rules.statistics import statistic_named

__all__ = ["Reading"]


@dataclass(frozen=True)
class Reading:
    """Some statistics, at some noise levels.

    Args:
        statistics: their names.
        levels: numbers of the levels at which they count, rising.
    """

    statistics: Set[str]
    levels: tuple[int, ...]

    @property
    def asks_network(self) -> bool:
        """Whether it is more than the mask alone tells."""
        return not all(statistic_named(name).of_mask for name in self.statistics)
