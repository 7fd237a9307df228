"""In which statistic a mask differs most from what is usual, where nothing else tells why it is flagged."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np

from gnsm_monai.rules.density import robust_scale
from gnsm_monai.rules.levels import LevelStatistics, stored_levels
from gnsm_monai.rules.statistics import statistic_named

__all__ = ["UsualStatistics"]

LEAST = 3
"""References that tell what is usual, at least."""


@dataclass(frozen=True)
class UsualStatistics:
    """Median and robust deviation of statistics of calibration references, means over all levels.

    Args:
        centre, scale: by name.
    """

    centre: Mapping[str, float]
    scale: Mapping[str, float]

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> UsualStatistics:
        """From those of a model's file; statistics that it does not have, or not of enough references, are left out."""
        means = {name: values.mean(1) for name, values in stored_levels(arrays, "calibration").items()}
        usual = {name: robust_scale(of) for name, of in means.items() if len(of) >= LEAST and np.isfinite(of).all()}
        return cls({name: pair[0] for name, pair in usual.items()}, {name: pair[1] for name, pair in usual.items()})

    def most_unusual(self, levels: LevelStatistics, among: Collection[str]) -> tuple[str, float] | None:
        """The statistic that lies highest above the median, and by how many deviations; None where none is above.

        Args:
            levels: of one mask, ``(L,)`` each.
            among: names of the statistics that count, such as those that a rule reads.
        """
        deviations = {
            name: (float(levels[name].mean()) - self.centre[name]) / self.scale[name]
            for name in among
            if name in self.centre and statistic_named(name).higher_is_worse
        }
        above = {name: value for name, value in deviations.items() if value > 0}
        return max(above.items(), key=lambda item: item[1]) if above else None
