"""Density models of level statistics: how unusual is a feature vector among those of held-out references?

All arithmetic is float64. A fitted model is a dict of plain arrays, so that it can be kept in an npz without pickle.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

import numpy as np
from sklearn.mixture import GaussianMixture

__all__ = ["Density", "GaussianMixtureDensity", "LargestDeviation", "NearestNeighbourDensity", "robust_scale"]

Arrays = Mapping[str, np.ndarray]


def _standardise(features: np.ndarray, fitted: Arrays) -> np.ndarray:
    z: np.ndarray = (np.asarray(features, dtype=np.float64) - fitted["mean"]) / fitted["scale"]
    return z


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


class GaussianMixtureDensity(Density):
    """``-log density`` in nats of a Gaussian mixture on standardised features (published choice, arXiv 2304.03220).

    The number of components, at most the published five, is the one of least BIC: with a few dozen references five
    full covariances in ten dimensions would only remember them.
    """

    MAX_COMPONENTS = 5

    @staticmethod
    def fit(features: np.ndarray, seed: int = 0) -> dict[str, np.ndarray]:
        scaler = _scaler(features)
        z = _standardise(features, scaler)
        most = max(1, min(GaussianMixtureDensity.MAX_COMPONENTS, len(z) // 8))
        # 1e-3 of a unit variance keeps covariances regular where levels are nearly collinear.
        models = [GaussianMixture(n, reg_covar=1e-3, n_init=3, random_state=seed).fit(z) for n in range(1, most + 1)]
        best = min(models, key=lambda model: model.bic(z))
        return {**scaler, "weights": best.weights_, "means": best.means_, "precisions": best.precisions_cholesky_}

    @staticmethod
    def anomaly(features: np.ndarray, fitted: Arrays) -> np.ndarray:
        mixture = GaussianMixture(len(fitted["weights"]))
        mixture.weights_, mixture.means_ = fitted["weights"], fitted["means"]
        mixture.precisions_cholesky_ = fitted["precisions"]
        values: np.ndarray = -mixture.score_samples(_standardise(features, fitted))
        return values


class NearestNeighbourDensity(Density):
    """Mean Euclidean distance to the five nearest references, on standardised features."""

    NEIGHBOURS = 5

    @staticmethod
    def fit(features: np.ndarray, seed: int = 0) -> dict[str, np.ndarray]:
        scaler = _scaler(features)
        return {**scaler, "points": _standardise(features, scaler)}

    @staticmethod
    def anomaly(features: np.ndarray, fitted: Arrays) -> np.ndarray:
        z = _standardise(features, fitted)
        distances = np.linalg.norm(z[:, None] - fitted["points"][None], axis=2)
        k = min(NearestNeighbourDensity.NEIGHBOURS, distances.shape[1])
        values: np.ndarray = np.sort(distances, axis=1)[:, :k].mean(axis=1)
        return values


class LargestDeviation(Density):
    """Distance from the usual value of the feature in which a point is most unusual, in robust deviations of it.

    ``max_f |x_f - median_f| / (1.4826 MAD_f)``: what is wrong in one respect alone is not diluted by all that is right,
    references that are themselves in error hardly move median and MAD, and a few dozen references are enough, where a
    covariance would need many.
    """

    @staticmethod
    def fit(features: np.ndarray, seed: int = 0) -> dict[str, np.ndarray]:
        columns = [robust_scale(column) for column in np.asarray(features, dtype=np.float64).T]
        return {"mean": np.array([centre for centre, _ in columns]), "scale": np.array([own for _, own in columns])}

    @staticmethod
    def anomaly(features: np.ndarray, fitted: Arrays) -> np.ndarray:
        largest: np.ndarray = LargestDeviation.each(features, fitted).max(axis=1)
        return largest

    @staticmethod
    def each(features: np.ndarray, fitted: Arrays) -> np.ndarray:
        """Deviation of every one of ``(N, F)`` features, not negative, ``(N, F)``."""
        deviations: np.ndarray = np.abs(_standardise(features, fitted))
        return deviations


ROUNDING = 1e-9
"""Relative difference below which two values count as equal."""


def robust_scale(values: np.ndarray) -> tuple[float, float]:
    """Median of ``(n,)`` values and 1.4826 times their median absolute deviation from it.

    Where most are alike but for rounding their standard deviation stands in, and 1 where all are.
    """
    median = float(np.median(values))
    spreads = (1.4826 * float(np.median(np.abs(values - median))), float(np.std(values)))
    return median, next((spread for spread in spreads if spread > ROUNDING * abs(median)), 1.0)
