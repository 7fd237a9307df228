"""From anomaly to decision: conformal p-values, and a predicted Dice with its interval."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from sklearn.isotonic import IsotonicRegression
from sklearn.neighbors import KNeighborsRegressor

__all__ = ["Calibration", "DicePredictor", "p_values", "smallest_p_value"]

CONFIDENCE = 0.9
"""Nominal coverage of the interval of a predicted Dice."""

NEIGHBOURS, MIN_SPREAD = 20, 0.01
"""How many failures of the nearest scores give the spread by their mean error, and the least spread (a Dice)."""


def p_values(scores: np.ndarray, calibration: np.ndarray) -> np.ndarray:
    """Conformal p-values ``(N,)`` of anomaly scores ``(N,)`` against those of ``n`` unseen references, ``(n,)``.

    ``p = (1 + #{i : a_i >= a}) / (n + 1)`` (Vovk et al. 2005). For a mask that is exchangeable with the references,
    flagging at ``p <= alpha`` raises a false alarm with probability ``alpha`` at most, whatever the score. NaN if the
    score is NaN, or if there is no reference to compare it with. NaN among the references (a structure that one lacks)
    is left out.
    """
    scores, references = np.asarray(scores, dtype=np.float64), np.sort(calibration[np.isfinite(calibration)])
    if not len(references):
        return np.full(scores.shape, np.nan)
    at_least = len(references) - np.searchsorted(references, scores, side="left")
    return np.where(np.isnan(scores), np.nan, (1 + at_least) / (len(references) + 1))


def smallest_p_value(calibration: np.ndarray) -> float:
    """The p-value of a mask that is worse than all references, the lowest that there is; NaN without references."""
    return float(p_values(np.array([np.inf]), calibration)[0])


@dataclass(frozen=True)
class DicePredictor:
    """Dice of a mask, predicted from its anomaly score alone.

    Isotonic regression (a higher score never predicts a higher Dice) on failures of references, degraded copies and
    masks of a small network, with a locally weighted split-conformal interval from failures of other references (Lei
    et al. 2018, section 5.2): narrow where the score tells much of Dice, wide where it does not. The interval is only
    as good as these failures resemble those of the segmenter: on one that fails in other ways its coverage is not
    guaranteed.

    Args:
        scores: knots of the regression, rising, ``(m,)``.
        dice: predicted Dice at the knots, falling, ``(m,)``.
        spread: typical size of an error at the knots, ``(m,)``.
        residuals: true minus predicted Dice of the calibration failures in units of the spread, rising, ``(n,)``.
    """

    scores: np.ndarray
    dice: np.ndarray
    spread: np.ndarray
    residuals: np.ndarray

    @classmethod
    def fit(
        cls, scores: np.ndarray, dice: np.ndarray, calibration_scores: np.ndarray, calibration_dice: np.ndarray
    ) -> DicePredictor:
        """Fits scores ``(N,)`` with known Dice, and calibrates on others ``(n,)`` of references not seen so far."""
        regression = IsotonicRegression(increasing=False, y_min=0.0, y_max=1.0, out_of_bounds="clip").fit(scores, dice)
        knots = np.unique(scores)
        errors = np.abs(dice - regression.predict(scores))
        local = KNeighborsRegressor(min(NEIGHBOURS, len(scores))).fit(scores[:, None], errors)
        spread = np.maximum(local.predict(knots[:, None]), MIN_SPREAD)
        fitted = cls(knots, regression.predict(knots), spread, np.empty(0))
        residuals = (calibration_dice - fitted._at(calibration_scores)[0]) / fitted._at(calibration_scores)[1]
        return replace(fitted, residuals=np.sort(residuals))

    def _at(self, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Predicted Dice and spread."""
        return np.interp(scores, self.scores, self.dice), np.interp(scores, self.scores, self.spread)

    def predict(self, scores: np.ndarray) -> np.ndarray:
        """Predicted Dice and the ends of its interval, ``(N, 3)``, each in [0, 1], of anomaly scores ``(N,)``."""
        predicted, spread = self._at(np.asarray(scores, dtype=np.float64))
        n = len(self.residuals)
        # The quantiles of finite samples: at least this share of n + 1 exchangeable residuals lies between them.
        outside = int(round((1 - CONFIDENCE) / 2 * (n + 1), 9))
        low, high = self.residuals[max(0, outside - 1)], self.residuals[min(n - 1, n - outside)]
        ends = [predicted, predicted + min(low, 0.0) * spread, predicted + max(high, 0.0) * spread]
        return np.stack(ends, axis=-1).clip(0, 1)

    def failure_probability(self, scores: np.ndarray, limit: float) -> np.ndarray:
        """Probability ``(N,)`` of a Dice below ``limit``, for anomaly scores ``(N,)``.

        The share of calibration errors that would bring Dice below the limit, smoothed as ``(1 + #) / (n + 2)``: a few
        failures must not make anything certain.
        """
        predicted, spread = self._at(np.asarray(scores, dtype=np.float64))
        below = np.searchsorted(self.residuals, (limit - predicted) / spread, side="left")
        return np.asarray((1 + below) / (len(self.residuals) + 2), dtype=np.float64)


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
        return np.array(
            [p_values(score, references) for score, references in zip(scores, self.structures.T, strict=True)]
        )

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Plain arrays for an npz file; :meth:`from_arrays` reads them back."""
        return {
            "calibration_scores": self.scores,
            "calibration_structures": self.structures,
            "predicted_dice_scores": self.dice.scores,
            "predicted_dice": self.dice.dice,
            "predicted_dice_spread": self.dice.spread,
            "predicted_dice_residuals": self.dice.residuals,
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> Calibration:
        keys = ("predicted_dice_scores", "predicted_dice", "predicted_dice_spread", "predicted_dice_residuals")
        predictor = DicePredictor(*(arrays[key] for key in keys))
        return cls(arrays["calibration_scores"], arrays["calibration_structures"], predictor)
