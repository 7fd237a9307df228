"""From anomaly to decision: conformal p-values, and a predicted Dice with its interval."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from sklearn.isotonic import IsotonicRegression

__all__ = ["Calibration", "DicePredictor", "p_values"]

CONFIDENCE = 0.9
"""Nominal coverage of the interval of a predicted Dice."""


def p_values(scores: np.ndarray, calibration: np.ndarray) -> np.ndarray:
    """Conformal p-values ``(N,)`` of anomaly scores ``(N,)`` against those of ``n`` unseen references, ``(n,)``.

    ``p = (1 + #{i : a_i >= a}) / (n + 1)`` (Vovk et al. 2005). For a mask that is exchangeable with the references,
    flagging at ``p <= alpha`` raises a false alarm with probability ``alpha`` at most, whatever the score. NaN where
    the score is NaN or nothing is there to compare it with; NaN among the references (a structure that they lack) is
    left out.
    """
    scores, known = np.asarray(scores, dtype=np.float64), np.sort(calibration[np.isfinite(calibration)])
    if not len(known):
        return np.full(scores.shape, np.nan)
    at_least = len(known) - np.searchsorted(known, scores, side="left")
    return np.where(np.isnan(scores), np.nan, (1 + at_least) / (len(known) + 1))


@dataclass(frozen=True)
class DicePredictor:
    """Dice of a mask, predicted from its anomaly score alone.

    Isotonic regression (a higher score never predicts a higher Dice) on degraded copies of references, with a
    split-conformal interval from copies of other references (Lei et al. 2018). The interval is as good as the copies
    are like the failures that are met: its coverage is no guarantee on a segmenter that fails in other ways.

    Args:
        scores: knots of the regression, rising, ``(m,)``.
        dice: predicted Dice at the knots, falling, ``(m,)``.
        residuals: true minus predicted Dice of the calibration copies, ``(n,)``.
    """

    scores: np.ndarray
    dice: np.ndarray
    residuals: np.ndarray

    @classmethod
    def fit(
        cls, scores: np.ndarray, dice: np.ndarray, calibration_scores: np.ndarray, calibration_dice: np.ndarray
    ) -> DicePredictor:
        """Fits scores ``(N,)`` with known Dice, and calibrates on others ``(n,)`` of references not seen so far."""
        regression = IsotonicRegression(increasing=False, y_min=0.0, y_max=1.0, out_of_bounds="clip").fit(scores, dice)
        knots, values = regression.X_thresholds_, regression.y_thresholds_
        predicted = np.interp(calibration_scores, knots, values)
        return cls(np.asarray(knots), np.asarray(values), np.sort(calibration_dice - predicted))

    def predict(self, scores: np.ndarray) -> np.ndarray:
        """Predicted Dice and the ends of its interval, ``(N, 3)``, each in [0, 1], of anomaly scores ``(N,)``."""
        predicted = np.interp(scores, self.scores, self.dice)
        n = len(self.residuals)
        # The quantiles of finite samples: at least this share of n + 1 exchangeable residuals lies between them.
        tail = (1 - CONFIDENCE) / 2
        low = self.residuals[max(0, int(np.floor(tail * (n + 1))) - 1)]
        high = self.residuals[min(n - 1, int(np.ceil((1 - tail) * (n + 1))) - 1)]
        ends = [predicted, predicted + min(low, 0.0), predicted + max(high, 0.0)]
        return np.stack(ends, axis=-1).clip(0, 1)


@dataclass(frozen=True)
class Calibration:
    """What a model knows of references that were used for nothing else.

    Args:
        scores: their anomaly scores, ``(n,)``.
        structures: their anomaly per structure, ``(n, structures)``; NaN where a structure is absent.
        dice: predicts Dice.
    """

    scores: np.ndarray
    structures: np.ndarray
    dice: DicePredictor

    def structure_p_values(self, scores: np.ndarray) -> np.ndarray:
        """p-value ``(structures,)`` of each structure's anomaly in one mask."""
        return np.array([p_values(score, known) for score, known in zip(scores, self.structures.T, strict=True)])

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Plain arrays for an npz file; :meth:`from_arrays` reads them back."""
        return {
            "calibration_scores": self.scores,
            "calibration_structures": self.structures,
            "predicted_dice_scores": self.dice.scores,
            "predicted_dice": self.dice.dice,
            "predicted_dice_residuals": self.dice.residuals,
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> Calibration:
        predictor = DicePredictor(
            arrays["predicted_dice_scores"], arrays["predicted_dice"], arrays["predicted_dice_residuals"]
        )
        return cls(arrays["calibration_scores"], arrays["calibration_structures"], predictor)
