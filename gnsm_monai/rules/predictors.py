"""What a mask would have if its reference were there, predicted from an anomaly score: Dice, and surface distance."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["CONFIDENCE", "MIN_FAILURES", "DicePredictor", "DistancePredictor", "Predictor"]

CONFIDENCE = 0.9
"""Nominal coverage of the interval of a prediction."""

MIN_FAILURES = 19
"""Fewest calibration failures that an interval is given from: of ``n + 1`` exchangeable errors a share of
``2 / (n + 1)`` lies outside of the range of ``n``, and up to 18 this is more than the 10 % that may."""

NEIGHBOURS, MIN_SPREAD = 20, 0.01
"""How many failures of the nearest scores give the spread by their mean error, and the least spread (Dice, or mm)."""


@dataclass(frozen=True)
class Predictor:
    """A measure of a mask's quality, predicted from its anomaly score alone.

    Isotonic regression (a higher score never predicts a better mask) on failures of references, degraded copies and
    masks of a small network, with a locally weighted split-conformal interval from failures of other references (Lei
    et al. 2018, section 5.2): narrow where the score tells much, wide where it does not. The interval is only as good
    as these failures resemble those of the segmenter: on one that fails in other ways its coverage is not guaranteed.

    Args:
        scores: knots of the regression, rising, ``(m,)``.
        values: predicted at the knots, ``(m,)``.
        spread: typical size of an error at the knots, ``(m,)``.
        residuals: true minus predicted value of the calibration failures in units of the spread, rising, ``(n,)``.
    """

    scores: np.ndarray
    values: np.ndarray
    spread: np.ndarray
    residuals: np.ndarray

    rising: ClassVar[bool]
    """Whether a worse mask has a higher value."""
    most: ClassVar[float]
    """The highest value that there is; the lowest is 0."""

    @classmethod
    def fit(
        cls, scores: np.ndarray, values: np.ndarray, calibration_scores: np.ndarray, calibration_values: np.ndarray
    ) -> Self:
        """Fits scores ``(N,)`` of known values, and calibrates on others ``(n,)`` of references not seen so far."""
        from sklearn.isotonic import IsotonicRegression  # half a second, which no ranking need wait for
        from sklearn.neighbors import KNeighborsRegressor

        highest = cls.most if np.isfinite(cls.most) else None
        regression = IsotonicRegression(increasing=cls.rising, y_min=0.0, y_max=highest, out_of_bounds="clip")
        regression.fit(scores, values)
        knots = np.unique(scores)
        errors = np.abs(values - regression.predict(scores))
        local = KNeighborsRegressor(min(NEIGHBOURS, len(scores))).fit(scores[:, None], errors)
        spread = np.maximum(local.predict(knots[:, None]), MIN_SPREAD)
        fitted = cls(knots, regression.predict(knots), spread, np.empty(0))
        return replace(fitted, residuals=np.sort(fitted.residuals_of(calibration_scores, calibration_values)))

    def at(self, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Predicted value and spread ``(N,)`` of anomaly scores ``(N,)``."""
        scores = np.asarray(scores, dtype=np.float64)
        return np.interp(scores, self.scores, self.values), np.interp(scores, self.scores, self.spread)

    def residuals_of(self, scores: np.ndarray, values: np.ndarray) -> np.ndarray:
        """True minus predicted values in units of the spread, ``(N,)``."""
        predicted, spread = self.at(scores)
        return np.asarray((values - predicted) / spread)

    def predict(self, scores: np.ndarray) -> np.ndarray:
        """Predicted value and the ends of its interval, ``(N, 3)``, of anomaly scores ``(N,)``.

        The ends are NaN where fewer than :data:`MIN_FAILURES` failures calibrate them, all where the score is NaN.
        """
        predicted, spread = self.at(scores)
        n = len(self.residuals)
        low = high = np.nan
        if n >= MIN_FAILURES:
            # The quantiles of finite samples: at least this share of n + 1 exchangeable residuals lies between them.
            outside = int(round((1 - CONFIDENCE) / 2 * (n + 1), 9))
            low, high = min(self.residuals[outside - 1], 0.0), max(self.residuals[n - outside], 0.0)
        return np.stack([predicted, predicted + low * spread, predicted + high * spread], axis=-1).clip(0, self.most)

    def to_arrays(self, prefix: str) -> dict[str, np.ndarray]:
        """Plain arrays for an npz file; :meth:`from_arrays` reads them back."""
        names = {field.name: f"{prefix}_{field.name}" for field in fields(self)} | {"values": prefix}
        return {key: getattr(self, name) for name, key in names.items()}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray], prefix: str) -> Self:
        names = {field.name: f"{prefix}_{field.name}" for field in fields(cls)} | {"values": prefix}
        return cls(**{name: arrays[key] for name, key in names.items()})


class DicePredictor(Predictor):
    """Predicts Dice, in [0, 1], higher = better."""

    rising, most = False, 1.0

    def failure_probability(self, scores: np.ndarray, limit: float) -> np.ndarray:
        """Probability ``(N,)`` of a Dice below ``limit``, for anomaly scores ``(N,)``.

        The share of calibration errors that would bring Dice below the limit, smoothed as ``(1 + #) / (n + 2)``: a few
        failures must not make anything certain.
        """
        predicted, spread = self.at(scores)
        below = np.searchsorted(self.residuals, (limit - predicted) / spread, side="left")
        return np.asarray((1 + below) / (len(self.residuals) + 2), dtype=np.float64)


class DistancePredictor(Predictor):
    """Predicts the mean surface distance in mm, lower = better.

    It is fitted to ``log(1 + mm)``: a few far islands make distances of many centimetres, and would move the mean of
    all failures of a similar score.
    """

    rising, most = True, np.inf

    @classmethod
    def fit(
        cls, scores: np.ndarray, values: np.ndarray, calibration_scores: np.ndarray, calibration_values: np.ndarray
    ) -> Self:
        return super().fit(scores, np.log1p(values), calibration_scores, np.log1p(calibration_values))

    def predict(self, scores: np.ndarray) -> np.ndarray:
        return np.asarray(np.expm1(super().predict(scores)))
