"""How far a score can be trusted: what it did on failures of held-out references, and how much its errors vary."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from gnsm_monai.rules.anomaly import AnomalyModel
from gnsm_monai.rules.calibration import Calibration
from gnsm_monai.rules.choice import false_and_other, strength, weakest_within
from gnsm_monai.rules.levels import stored_levels
from gnsm_monai.rules.predictors import MIN_FAILURES, DicePredictor

__all__ = ["MIN_KINDS", "Basis", "HeldOut"]

MIN_KINDS = 5
"""Fewest kinds of failures from which it is told how much the error of a whole folder varies."""


@dataclass(frozen=True)
class HeldOut:
    """What training found out about the score on failures made from references that the network had not learnt from.

    Args:
        spearman: correlation of the score with Dice on the failures that the rule was chosen on, -1 is best; see
            ``apart`` for references of which some are empty.
        failures: number of these.
        residuals: true minus predicted Dice of the calibration failures in units of the predictor's spread, ``(n,)``:
            of copies too where there are masks of networks. Those are all of one small network, and would have errors
            of segmenters vary less than they do.
        kinds: number of the kind of each of them, ``(n,)``.
        apart: whether ``spearman`` is the weaker of two, on failures by false structures and on others, each with the
            references that hold structures as right masks, and ``failures`` the smaller number. They are of calibration
            references, on which nothing was chosen: where some references are empty few of the others choose.
    """

    spearman: float
    failures: int
    residuals: np.ndarray
    kinds: np.ndarray
    apart: bool = False

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> HeldOut:
        """From those of a model's file, also where version 0.2 wrote it."""
        model = AnomalyModel.from_arrays(arrays)
        of_networks = arrays["failure_of_networks"]
        empty = arrays.get("calibration_failure_empty", np.array(False))
        scores = model.score(stored_levels(arrays, "calibration_failures"), empty)
        predictor = DicePredictor.from_arrays(arrays, "predicted_dice")
        dice, kinds = arrays["calibration_failure_dice"], arrays["calibration_failure_kinds"]
        residuals = predictor.residuals_of(scores, dice)
        numbers = np.unique(kinds, return_inverse=True)[1]
        if "fit_empty" in arrays:  # some references are empty
            right = arrays["calibration_scores"][~arrays["calibration_empty"]]
            spearman, count = _weaker_part(scores[~empty], dice[~empty], kinds[~empty], right)
            return cls(spearman, count, residuals, numbers, apart=True)
        spearman = float(model.comparison.get(model.rule, np.nan))
        return cls(spearman, int(np.count_nonzero(of_networks) or len(of_networks)), residuals, numbers)

    @property
    def strength(self) -> str:
        """In a word; see :func:`strength`."""
        return strength(self.spearman, self.failures)

    @property
    def kind_errors(self) -> np.ndarray:
        """Mean residual of each kind of failure, ``(K,)``."""
        return np.asarray(np.bincount(self.kinds, self.residuals) / np.bincount(self.kinds))

    @property
    def follows_dice(self) -> bool:
        """Whether a mean over masks can be told from their scores. Where it is weak the answer would be that of the
        failures that happened to be made."""
        return self.strength not in ("weak", "none")

    @property
    def judges_folders(self) -> bool:
        """Whether there are enough failures, of enough kinds, for an interval of what is estimated of a folder."""
        return len(self.residuals) >= MIN_FAILURES and len(np.unique(self.kinds)) >= MIN_KINDS


def _weaker_part(scores: np.ndarray, dice: np.ndarray, kinds: np.ndarray, right: np.ndarray) -> tuple[float, int]:
    """Correlation with Dice in the part of :func:`false_and_other` where it is weaker, and failures of the smaller one.

    Args:
        scores, dice, kinds: of failures, ``(M,)``.
        right: scores of references that hold structures, ``(n,)``.
    """
    of_right = np.arange(len(scores) + len(right)) >= len(scores)
    dice = np.concatenate([dice, np.ones(len(right))])
    parts = false_and_other(dice, np.append(kinds, [""] * len(right)), of_right)
    if len(parts) < 2:
        return np.nan, 0
    failures = min(int((part & ~of_right).sum()) for part in parts)
    return weakest_within(np.concatenate([scores, right]), dice, parts), failures


@dataclass(frozen=True)
class Basis:
    """What verdicts on folders rest on, of a trained model.

    Args:
        calibration: of its scores.
        held_out: how well these did on failures of held-out references.
    """

    calibration: Calibration
    held_out: HeldOut
