"""What of a mask a rule reads: all that must be measured to rank it."""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass

import numpy as np

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

    def at_its_levels(self, measured: Sequence[int], count: int, values: np.ndarray) -> np.ndarray:
        """Values ``(..., n)`` of the measured levels as ``(..., count)`` of all, NaN where they are not read."""
        spread = np.full((*values.shape[:-1], count), np.nan)
        spread[..., list(measured)] = values
        spread[..., [level for level in range(count) if level not in self.levels]] = np.nan
        return spread
