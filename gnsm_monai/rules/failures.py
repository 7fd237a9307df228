"""Failures of held-out references as plain numbers, and what is learnt from them of structures and distances."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import TypeVar

import numpy as np
import scipy  # its parts are imported when they are first used

from gnsm_monai.rules.predictors import MIN_FAILURES, DicePredictor, DistancePredictor, Predictor

__all__ = ["FailureTable", "PartPredictors"]

MIN_CORRELATION = 0.5
"""Least Spearman correlation of a score with distances of held-out failures for these to be predicted from it."""

MIN_FITTED = 2
"""Fewest failures that a prediction is fitted to."""


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
        """Of the mean surface distance in mm; None where the score does not follow it on both tables' failures."""
        return _followed([(table.scores, table.distance) for table in self._tables])

    @cached_property
    def structure_dice(self) -> list[DicePredictor | None]:
        """Of each structure's Dice; None where too few failures have it."""
        return [_fitted(DicePredictor, self._columns("structure_dice", i)) for i in range(self.count)]

    @cached_property
    def structure_distances(self) -> list[DistancePredictor | None]:
        """Of each structure's mean surface distance in mm; None where its score does not follow it."""
        return [_followed(self._columns("distances", i)) for i in range(self.count)]

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

    @property
    def _tables(self) -> tuple[FailureTable, FailureTable]:
        return self.selection, self.calibration

    def _columns(self, name: str, structure: int) -> list[tuple[np.ndarray, np.ndarray]]:
        """Scores and values of one structure in both tables, ``(M,)`` each."""
        return [(table.structure_scores[:, structure], getattr(table, name)[:, structure]) for table in self._tables]


AnyPredictor = TypeVar("AnyPredictor", bound=Predictor)


def _fitted(kind: type[AnyPredictor], tables: Sequence[tuple[np.ndarray, np.ndarray]]) -> AnyPredictor | None:
    """Fitted to scores and values of the first table, calibrated by the second; None of too few of the first."""
    (scores, values), others = (_finite(*columns) for columns in tables)
    return kind.fit(scores, values, *others) if len(values) >= MIN_FITTED else None


def _followed(tables: Sequence[tuple[np.ndarray, np.ndarray]]) -> DistancePredictor | None:
    """Fitted where the score follows the distances of both tables."""
    return _fitted(DistancePredictor, tables) if all(_follows(*_finite(*columns)) for columns in tables) else None


def _follows(scores: np.ndarray, values: np.ndarray) -> bool:
    if len(values) < MIN_FAILURES or min(np.ptp(scores), np.ptp(values)) == 0:
        return False
    return bool(scipy.stats.spearmanr(scores, values).statistic >= MIN_CORRELATION)


def _finite(scores: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Without the failures in which one of both is NaN."""
    usable = np.isfinite(scores) & np.isfinite(values)
    return scores[usable], values[usable]
