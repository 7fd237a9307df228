"""Failures of held-out references as plain numbers, and what is learnt from them of structures and distances."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property

import numpy as np
from scipy.stats import spearmanr

from gnsm_monai.rules.predictors import MIN_FAILURES, DicePredictor, DistancePredictor, Predictor

__all__ = ["FailureTable", "JointPredictor", "PartPredictors"]

MIN_CORRELATION = 0.5
"""Least Spearman correlation of a score with distances of calibration failures for these to be predicted from it."""

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
class JointPredictor:
    """Predicts a measure of a structure from two scores: the structure's own, and that of the whole mask.

    What each of them predicts alone is averaged, and what is meant by that average is learnt once more, with its
    interval. On held-out failures neither score alone is the better one everywhere.
    """

    of_structure: Predictor
    of_mask: Predictor
    joint: Predictor

    @classmethod
    def fit(cls, kind: type[Predictor], failures: Sequence[Sequence[np.ndarray]]) -> JointPredictor:
        """Fitted to scores of a structure, of its mask, and values, ``(3, N)``; calibrated by others ``(3, n)``."""
        (own, whole, values), (other_own, other_whole, other_values) = failures
        of_structure = kind.fit(own, values, other_own, other_values)
        of_mask = kind.fit(whole, values, other_whole, other_values)
        joint = cls(of_structure, of_mask, of_mask)
        scores, others = joint.score(own, whole), joint.score(other_own, other_whole)
        return cls(of_structure, of_mask, kind.fit(scores, values, others, other_values))

    def score(self, own: np.ndarray, whole: np.ndarray) -> np.ndarray:
        """The mean of both predictions, higher = worse, ``(N,)``."""
        mean = (self.of_structure.at(own)[0] + self.of_mask.at(whole)[0]) / 2
        return np.asarray(mean if self.joint.rising else -mean)

    def predict(self, own: np.ndarray, whole: np.ndarray) -> np.ndarray:
        """As :meth:`Predictor.predict`, ``(N, 3)``."""
        return self.joint.predict(self.score(own, whole))


@dataclass(frozen=True)
class PartPredictors:
    """Predicts the surface distance of a mask, and Dice and distance of its structures.

    Args:
        selection: failures of the references that the rule was selected on: predictions are fitted to these.
        calibration: failures of the calibration references, for their intervals.
    """

    selection: FailureTable
    calibration: FailureTable

    @cached_property
    def distance(self) -> DistancePredictor | None:
        """Of the mean surface distance in mm; None where the score does not follow it on calibration failures."""
        (scores, values), (other_scores, other_values) = (
            _finite([table.scores, table.distance]) for table in (self.selection, self.calibration)
        )
        if len(values) < MIN_FITTED or not _follows(other_scores, other_values):
            return None
        return DistancePredictor.fit(scores, values, other_scores, other_values)

    @cached_property
    def structure_dice(self) -> list[JointPredictor | None]:
        """Of each structure's Dice; None where too few failures have it."""
        return [self._joint(DicePredictor, "structure_dice", i) for i in range(self.count)]

    @cached_property
    def structure_distances(self) -> list[JointPredictor | None]:
        """Of each structure's mean surface distance in mm; None where its score does not follow it."""
        followed = [_follows(*_finite(self._columns(self.calibration, "distances", i)[::2])) for i in range(self.count)]
        return [
            self._joint(DistancePredictor, "distances", i) if follows else None for i, follows in enumerate(followed)
        ]

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

    def _joint(self, kind: type[Predictor], name: str, structure: int) -> JointPredictor | None:
        tables = self.selection, self.calibration
        failures = [_finite(self._columns(table, name, structure)) for table in tables]
        return JointPredictor.fit(kind, failures) if len(failures[0][0]) >= MIN_FITTED else None

    def _columns(self, table: FailureTable, name: str, structure: int) -> list[np.ndarray]:
        """Scores of a structure and of the mask, and values of the structure, ``(M,)`` each."""
        return [table.structure_scores[:, structure], table.scores, getattr(table, name)[:, structure]]


def _finite(columns: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The columns without the failures in which one of them is NaN."""
    usable = np.isfinite(np.stack(columns)).all(0)
    return [column[usable] for column in columns]


def _follows(scores: np.ndarray, values: np.ndarray) -> bool:
    """Whether calibration failures tell that distances follow a score."""
    if len(values) < MIN_FAILURES or min(np.ptp(scores), np.ptp(values)) == 0:
        return False
    return bool(spearmanr(scores, values).statistic >= MIN_CORRELATION)
