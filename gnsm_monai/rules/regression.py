"""Dice as a linear function of all level statistics."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import GroupKFold

__all__ = ["DiceRegression"]

ALPHAS = np.logspace(-2, 4, 13)
FOLDS = 5


class DiceRegression:
    """Ridge regression of Dice on standardised features; the anomaly is 1 - the Dice that it predicts.

    One statistic at one noise level mixes how bad a mask is with how much can be known of it. Levels and statistics
    together tell the two apart: the same misfit weighs more where the network is sure. Features are clipped to the
    range of the fit: a mask beyond this range scores like the worst of it, and not arbitrarily.
    """

    @staticmethod
    def fit(features: np.ndarray, dice: np.ndarray, met: np.ndarray | None = None) -> dict[str, np.ndarray]:
        """Plain arrays of a regression of ``(N,)`` Dice on ``(N, F)`` features; the penalty goes by leave-one-out.

        Args:
            met: features ``(M, F)`` that set the range for clipping; by default those of the regression.
        """
        scale = features.std(axis=0)
        met = features if met is None else met
        fitted = {
            "mean": features.mean(axis=0),
            "scale": np.where(scale > 0, scale, 1.0),
            "low": met.min(axis=0),
            "high": met.max(axis=0),
        }
        ridge = RidgeCV(ALPHAS).fit((features - fitted["mean"]) / fitted["scale"], dice)
        return {**fitted, "coefficients": ridge.coef_, "intercept": np.asarray(ridge.intercept_)}

    @staticmethod
    def anomaly(features: np.ndarray, fitted: Mapping[str, np.ndarray]) -> np.ndarray:
        """1 - predicted Dice ``(N,)`` of ``(N, F)`` features; higher = worse, not confined to [0, 1]."""
        z = (np.clip(features, fitted["low"], fitted["high"]) - fitted["mean"]) / fitted["scale"]
        anomaly: np.ndarray = 1 - (z @ fitted["coefficients"] + fitted["intercept"])
        return anomaly

    @staticmethod
    def held_out(
        features: np.ndarray, dice: np.ndarray, groups: np.ndarray, met: np.ndarray | None = None
    ) -> np.ndarray:
        """Anomaly ``(N,)`` of each mask, by a regression that was fitted without its group: fair to compare with
        others.

        Args:
            groups: the reference that each degraded copy was made from, ``(N,)``.
        """
        anomaly = np.empty(len(dice))
        folds = min(FOLDS, len(np.unique(groups)))
        if folds < 2:
            return DiceRegression.anomaly(features, DiceRegression.fit(features, dice, met))
        for seen, unseen in GroupKFold(folds).split(features, dice, groups):
            fitted = DiceRegression.fit(features[seen], dice[seen], met)
            anomaly[unseen] = DiceRegression.anomaly(features[unseen], fitted)
        return anomaly
