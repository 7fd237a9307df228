"""Failures of held-out references as plain numbers, and what is learnt from them of structures and distances."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import TypeVar

import numpy as np
from scipy.stats import spearmanr

from gnsm_monai.rules.predictors import MIN_FAILURES, DicePredictor, DistancePredictor, Predictor

__all__ = ["FailureTable", "PartPredictors"]

MIN_CORRELATION = 0.5
"""Least Spearman correlation of a score with distances of calibration failures for these to be predicted from it."""


@dataclass(frozen=True)
class FailureTable:
    """Failures made from the references of one use.

    Args:
        scores: anomaly scores, none of them by a rule that was fitted to the failure's own Dice, ``(M,)``.
        dice: mean over structures, ``(M,)``.
        kinds: of the failures, ``(M,)`` text.
        structure_scores: anomaly per structure, ``(M, S)``; NaN where a structure is absent.
        structure_dice: ``(M, S)``; NaN where a structure is in neither map.
        distances: mean surface distance per structure in mm, ``(M, S)``; NaN where not both maps have it.
    """

    scores: np.ndarray
    dice: np.ndarray
    kinds: np.ndarray
    structure_scores: np.ndarray
    structure_dice: np.ndarray
    distances: np.ndarray

    @property
    def distance(self) -> np.ndarray:
        """Mean surface distance of each failure in mm, over the structures that have one, ``(M,)``; NaN without any."""
        counts = np.isfinite(self.distances).sum(1)
        return np.asarray(np.nansum(self.distances, axis=1) / np.where(counts > 0, counts, np.nan))

    def to_arrays(self, prefix: str) -> dict[str, np.ndarray]:
        """Plain arrays for an npz file; :meth:`from_arrays` reads them back."""
        return {prefix + field.name: getattr(self, field.name) for field in fields(self)}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray], prefix: str) -> FailureTable:
        return cls(**{field.name: arrays[prefix + field.name] for field in fields(cls)})


@dataclass(frozen=True)
class PartPredictors:
    """Predicts the surface distance of a mask, and Dice and distance of its structures, each from its own score.

    Args:
        selection: failures of the references that the rule was selected on: predictions are fitted to these.
        calibration: failures of the calibration references, for their intervals.
    """

    selection: FailureTable
    calibration: FailureTable

    @cached_property
    def distance(self) -> DistancePredictor | None:
        """Of the mean surface distance in mm; None where the score does not follow it on calibration failures."""
        tables = self.selection, self.calibration
        return _distance([table.scores for table in tables], [table.distance for table in tables])

    @cached_property
    def structure_dice(self) -> list[DicePredictor | None]:
        """Of each structure's Dice; None where too few failures have it."""
        return [_fitted(DicePredictor, self._scores(i), self._column("structure_dice", i)) for i in range(self.count)]

    @cached_property
    def structure_distances(self) -> list[DistancePredictor | None]:
        """Of each structure's mean surface distance in mm, as :attr:`distance`."""
        return [_distance(self._scores(i), self._column("distances", i)) for i in range(self.count)]

    @property
    def count(self) -> int:
        """``S``, of the structures."""
        return int(self.selection.structure_scores.shape[1])

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Plain arrays for an npz file; :meth:`from_arrays` reads them back."""
        return {**self.selection.to_arrays("failure_"), **self.calibration.to_arrays("calibration_failure_")}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> PartPredictors | None:
        """None for a model of version 0.2, which did not keep structures and distances of its failures."""
        if "failure_structure_scores" not in arrays:
            return None
        return cls(*(FailureTable.from_arrays(arrays, prefix) for prefix in ("failure_", "calibration_failure_")))

    def _scores(self, structure: int) -> list[np.ndarray]:
        return self._column("structure_scores", structure)

    def _column(self, name: str, structure: int) -> list[np.ndarray]:
        """What both tables hold of one structure."""
        return [getattr(table, name)[:, structure] for table in (self.selection, self.calibration)]


AnyPredictor = TypeVar("AnyPredictor", bound=Predictor)


def _fitted(
    kind: type[AnyPredictor], scores: Sequence[np.ndarray], values: Sequence[np.ndarray]
) -> AnyPredictor | None:
    """Fitted to the first scores and values, calibrated by the second; None of fewer than two of the first."""
    usable = [np.isfinite(s) & np.isfinite(v) for s, v in zip(scores, values, strict=True)]
    if usable[0].sum() < 2:
        return None
    first, second = ((s[k], v[k]) for s, v, k in zip(scores, values, usable, strict=True))
    return kind.fit(*first, *second)


def _distance(scores: Sequence[np.ndarray], values: Sequence[np.ndarray]) -> DistancePredictor | None:
    usable = np.isfinite(scores[1]) & np.isfinite(values[1])
    if usable.sum() < MIN_FAILURES or min(np.ptp(scores[1][usable]), np.ptp(values[1][usable])) == 0:
        return None
    supported = spearmanr(scores[1][usable], values[1][usable]).statistic >= MIN_CORRELATION
    return _fitted(DistancePredictor, scores, values) if supported else None
