"""Level statistics of held-out references and of failures made from them: what the score is fitted to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from gnsm_monai.fitting.reference_failures import Failure
from gnsm_monai.scoring.anomaly import AnomalyModel
from gnsm_monai.scoring.choice import rank_correlation
from gnsm_monai.scoring.statistics import STATISTICS

__all__ = ["ReferenceStatistics", "ScoredReference"]


@dataclass(frozen=True)
class ScoredReference:
    """One reference.

    Args:
        case: its id.
        levels: level statistics ``(L, S)``.
        structures: ``(structures, L)``.
        failures: made from it, without their maps, each with its level statistics.
    """

    case: str
    levels: np.ndarray
    structures: np.ndarray
    failures: list[tuple[Failure, np.ndarray]] = field(default_factory=list)


@dataclass(frozen=True)
class ReferenceStatistics:
    """The references of one use, and failures made from them.

    Args:
        cases: ids of the references.
        levels: of the references, ``(N, L, S)``.
        structures: ``(N, structures, L)``.
        failures: level statistics, ``(M, L, S)``.
        dice: of the failures, ``(M,)``.
        kinds: of the failures.
        of_networks: which failures are masks of networks, ``(M,)`` bool.
        groups: number of the reference that each failure was made from, ``(M,)``.
    """

    cases: list[str]
    levels: np.ndarray
    structures: np.ndarray
    failures: np.ndarray
    dice: np.ndarray
    kinds: list[str]
    of_networks: np.ndarray
    groups: np.ndarray

    @classmethod
    def of(cls, references: Sequence[ScoredReference]) -> ReferenceStatistics:
        """Of references that have a failure among them."""
        failures = [failure for reference in references for failure, _ in reference.failures]
        return cls(
            [reference.case for reference in references],
            np.stack([reference.levels for reference in references]),
            np.stack([reference.structures for reference in references]),
            np.stack([levels for reference in references for _, levels in reference.failures]),
            np.array([failure.dice for failure in failures]),
            [failure.kind for failure in failures],
            np.array([failure.of_network for failure in failures], dtype=bool),
            np.repeat(np.arange(len(references)), [len(reference.failures) for reference in references]),
        )

    def fit(self, rule: str, seed: int, level_weights: np.ndarray | None) -> AnomalyModel:
        """The score that follows Dice on these failures; see :meth:`gnsm_monai.scoring.AnomalyModel.fit`."""
        return AnomalyModel.fit(
            self.levels, self.failures, self.dice, rule, seed, level_weights, self.groups, self.of_networks
        )

    def level_figures(self) -> dict[str, np.ndarray]:
        """Spearman correlation with Dice of every statistic at every level, ``(L,)``, on references and failures."""
        everything = np.concatenate([self.levels, self.failures])
        quality = np.concatenate([np.ones(len(self.levels)), self.dice])
        return {
            name: np.array([rank_correlation(values, quality) for values in everything[:, :, s].T])
            for s, name in enumerate(STATISTICS)
            if np.isfinite(everything[:, :, s]).all()
        }

    def selection_arrays(self) -> dict[str, np.ndarray]:
        """Plain arrays for an npz file, of the references that the rule is selected on."""
        return {
            "fit": self.levels,
            "failures": self.failures,
            "failure_dice": self.dice,
            "failure_kinds": np.array(self.kinds),
            "failure_of_networks": self.of_networks,
            "failure_groups": self.groups,
        }

    def calibration_arrays(self) -> dict[str, np.ndarray]:
        """Plain arrays for an npz file, of the references kept for calibration."""
        return {
            "calibration": self.levels,
            "calibration_failures": self.failures,
            "calibration_failure_dice": self.dice,
            "calibration_failure_kinds": np.array(self.kinds),
        }
