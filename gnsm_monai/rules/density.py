"""Models of level statistics: how unusual they are among those of held-out references, and what Dice they predict.

All arithmetic is float64. A fitted model is a dict of plain arrays, so that it can be kept in an npz without pickle.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

import numpy as np

__all__ = [
    "Density", "DiceRegression", "GaussianMixtureDensity", "LargestDeviation", "NearestNeighbourDensity",
    "robust_scale",
]  # fmt: skip

Arrays = Mapping[str, np.ndarray]


def _standardise(features: np.ndarray, fitted: Arrays) -> np.ndarray:
    return np.asarray((np.asarray(features, dtype=np.float64) - fitted["mean"]) / fitted["scale"])


def _scaler(features: np.ndarray) -> dict[str, np.ndarray]:
    scale = features.std(axis=0)
    return {"mean": features.mean(axis=0), "scale": np.where(scale > 0, scale, 1.0)}


class Density(ABC):
    """How unusual features are among those of references."""

    @staticmethod
    @abstractmethod
    def fit(features: np.ndarray, seed: int = 0) -> dict[str, np.ndarray]:
        """Arrays of a model of ``(N, F)`` features."""

    @staticmethod
    @abstractmethod
    def anomaly(features: np.ndarray, fitted: Arrays) -> np.ndarray:
        """Anomaly of ``(N, F)`` features, ``(N,)``; higher = worse."""

    @staticmethod
    def min_points(num_features: int) -> int:
        """Fewest points that so many features can be learnt from."""
        return 1


class GaussianMixtureDensity(Density):
    """``-log density`` in nats of a Gaussian mixture on standardised features (published choice, arXiv 2304.03220).

    The number of components, at most the published five, is the one of least BIC: with a few dozen references five
    full covariances in ten dimensions would only remember them.
    """

    MAX_COMPONENTS = 5

    @staticmethod
    def min_points(num_features: int) -> int:
        return 2 * num_features  # a covariance of hardly more points than features is that of these points alone

    @staticmethod
    def fit(features: np.ndarray, seed: int = 0) -> dict[str, np.ndarray]:
        from sklearn.mixture import GaussianMixture  # half a second, which most rankings need not wait for

        scaler = _scaler(features)
        z = _standardise(features, scaler)
        most = max(1, min(GaussianMixtureDensity.MAX_COMPONENTS, len(z) // 8))
        # 1e-3 of a unit variance keeps covariances regular where levels are nearly collinear.
        models = [GaussianMixture(n, reg_covar=1e-3, n_init=3, random_state=seed).fit(z) for n in range(1, most + 1)]
        best = min(models, key=lambda model: model.bic(z))
        return {**scaler, "weights": best.weights_, "means": best.means_, "precisions": best.precisions_cholesky_}

    @staticmethod
    def anomaly(features: np.ndarray, fitted: Arrays) -> np.ndarray:
        from sklearn.mixture import GaussianMixture

        mixture = GaussianMixture(len(fitted["weights"]))
        mixture.weights_, mixture.means_ = fitted["weights"], fitted["means"]
        mixture.precisions_cholesky_ = fitted["precisions"]
        return np.asarray(-mixture.score_samples(_standardise(features, fitted)))


class NearestNeighbourDensity(Density):
    """Mean Euclidean distance to the five nearest references, on standardised features."""

    NEIGHBOURS = 5

    @staticmethod
    def min_points(num_features: int) -> int:
        return NearestNeighbourDensity.NEIGHBOURS + 1

    @staticmethod
    def fit(features: np.ndarray, seed: int = 0) -> dict[str, np.ndarray]:
        scaler = _scaler(features)
        return {**scaler, "points": _standardise(features, scaler)}

    @staticmethod
    def anomaly(features: np.ndarray, fitted: Arrays) -> np.ndarray:
        z = _standardise(features, fitted)
        distances = np.linalg.norm(z[:, None] - fitted["points"][None], axis=2)
        k = min(NearestNeighbourDensity.NEIGHBOURS, distances.shape[1])
        return np.asarray(np.sort(distances, axis=1)[:, :k].mean(axis=1))


class LargestDeviation(Density):
    """Distance from the usual value of the feature in which a point is most unusual, in robust deviations of it.

    ``max_f |x_f - median_f| / (1.4826 MAD_f)``: what is wrong in one respect alone is not diluted by all that is right,
    references that are themselves in error hardly move median and MAD, and a few dozen references are enough, where a
    covariance would need many.
    """

    @staticmethod
    def fit(features: np.ndarray, seed: int = 0) -> dict[str, np.ndarray]:
        columns = [robust_scale(column) for column in np.asarray(features, dtype=np.float64).T]
        return {
            "mean": np.array([centre for centre, _ in columns]),
            "scale": np.array([spread for _, spread in columns]),
        }

    @staticmethod
    def anomaly(features: np.ndarray, fitted: Arrays) -> np.ndarray:
        return np.asarray(LargestDeviation.each(features, fitted).max(axis=1))

    @staticmethod
    def each(features: np.ndarray, fitted: Arrays) -> np.ndarray:
        """Deviation of every one of ``(N, F)`` features, not negative, ``(N, F)``."""
        return np.asarray(np.abs(_standardise(features, fitted)))


ROUNDING = 1e-9
"""Relative difference below which two values count as equal."""


def robust_scale(values: np.ndarray) -> tuple[float, float]:
    """Median of ``(n,)`` values and 1.4826 times their median absolute deviation from it.

    Where most are alike but for rounding their standard deviation stands in, and 1 where all are.
    """
    median = float(np.median(values))
    spreads = (1.4826 * float(np.median(np.abs(values - median))), float(np.std(values)))
    return median, next((spread for spread in spreads if spread > ROUNDING * abs(median)), 1.0)


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
        from sklearn.linear_model import RidgeCV

        met = features if met is None else met
        fitted = {**_scaler(features), "low": met.min(axis=0), "high": met.max(axis=0)}
        ridge = RidgeCV(ALPHAS).fit(_standardise(features, fitted), dice)
        return {**fitted, "coefficients": ridge.coef_, "intercept": np.asarray(ridge.intercept_)}

    @staticmethod
    def anomaly(features: np.ndarray, fitted: Arrays) -> np.ndarray:
        """1 - predicted Dice ``(N,)`` of ``(N, F)`` features; higher = worse, not confined to [0, 1]."""
        z = _standardise(np.clip(features, fitted["low"], fitted["high"]), fitted)
        return np.asarray(1 - (z @ fitted["coefficients"] + fitted["intercept"]))

    @staticmethod
    def held_out(
        features: np.ndarray, dice: np.ndarray, groups: np.ndarray, met: np.ndarray | None = None
    ) -> np.ndarray:
        """Anomaly ``(N,)`` of each mask, by a regression that was fitted without its group: fair to compare.

        Args:
            groups: the patient whose reference each failure was made from, ``(N,)``.
        """
        from sklearn.model_selection import GroupKFold

        anomaly = np.empty(len(dice))
        folds = min(FOLDS, len(np.unique(groups)))
        if folds < 2:
            return DiceRegression.anomaly(features, DiceRegression.fit(features, dice, met))
        for seen, unseen in GroupKFold(folds).split(features, dice, groups):
            fitted = DiceRegression.fit(features[seen], dice[seen], met)
            anomaly[unseen] = DiceRegression.anomaly(features[unseen], fitted)
        return anomaly
