"""Level statistics of held-out references and of failures made from them: what the score is fitted to."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gnsm_monai.rules.anomaly import AnomalyModel
from gnsm_monai.rules.choice import rank_correlation
from gnsm_monai.rules.levels import LevelStatistics, to_array
from gnsm_monai.rules.rule import FitData
from gnsm_monai.rules.statistics import STATISTICS

__all__ = ["ReferenceStatistics"]


@dataclass(frozen=True)
class ReferenceStatistics:
    """The references of one use, and failures made from them.

    Args:
        cases: ids of the references.
        levels: of the references, ``(N, L)`` each.
        structures: ``(N, structures, L)``.
        failures: their level statistics, ``(M, L)`` each.
        dice: of the failures, ``(M,)``.
        kinds: of the failures.
        of_networks: which failures are masks of networks, ``(M,)`` bool.
        groups: number of the reference that each failure was made from, ``(M,)``.
    """

    cases: list[str]
    levels: LevelStatistics
    structures: np.ndarray
    failures: LevelStatistics
    dice: np.ndarray
    kinds: list[str]
    of_networks: np.ndarray
    groups: np.ndarray

    def fit(self, rule: str, seed: int, level_weights: np.ndarray | None) -> AnomalyModel:
        """The score that follows Dice on these failures; see :meth:`gnsm_monai.rules.anomaly.AnomalyModel.fit`."""
        data = FitData(self.levels, self.failures, self.dice, self.groups, self.of_networks, level_weights, seed)
        return AnomalyModel.fit(data, rule)

    def level_figures(self) -> dict[str, np.ndarray]:
        """Spearman correlation with Dice of every statistic at every level, ``(L,)``, on references and failures."""
        everything = {name: np.concatenate([values, self.failures[name]]) for name, values in self.levels.items()}
        quality = np.concatenate([np.ones(len(self.cases)), self.dice])
        return {
            name: np.array([rank_correlation(level, quality) for level in values.T])
            for name, values in everything.items()
            if np.isfinite(values).all()
        }

    def selection_arrays(self) -> dict[str, np.ndarray]:
        """Plain arrays for an npz file, of the references that the rule is selected on."""
        return {
            "statistic": np.array(STATISTICS),
            "fit": to_array(self.levels),
            "failures": to_array(self.failures),
            "failure_dice": self.dice,
            "failure_kinds": np.array(self.kinds),
            "failure_of_networks": self.of_networks,
            "failure_groups": self.groups,
        }

    def calibration_arrays(self) -> dict[str, np.ndarray]:
        """Plain arrays for an npz file, of the references kept for calibration."""
        return {
            "calibration": to_array(self.levels),
            "calibration_failures": to_array(self.failures),
            "calibration_failure_dice": self.dice,
            "calibration_failure_kinds": np.array(self.kinds),
        }
