"""Density models of level statistics: how unusual is a feature vector among those of held-out references?

All arithmetic is float64. A fitted model is a dict of plain arrays, so that it can be kept in an npz without pickle.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from sklearn.covariance import LedoitWolf, MinCovDet
from sklearn.mixture import GaussianMixture

__all__ = ["DENSITIES", "GaussianMixtureDensity", "MahalanobisDistance", "NearestNeighbourDensity"]

Arrays = Mapping[str, np.ndarray]


def _standardise(features: np.ndarray, fitted: Arrays) -> np.ndarray:
    z: np.ndarray = (np.asarray(features, dtype=np.float64) - fitted["mean"]) / fitted["scale"]
    return z


def _scaler(features: np.ndarray) -> dict[str, np.ndarray]:
    scale = features.std(axis=0)
    return {"mean": features.mean(axis=0), "scale": np.where(scale > 0, scale, 1.0)}


class GaussianMixtureDensity:
    """``-log density`` of a Gaussian mixture on standardised features (published choice, arXiv 2304.03220).

    The number of components, at most the published five, is the one of least BIC: with a few dozen references five
    full covariances in ten dimensions would only remember them.
    """

    MAX_COMPONENTS = 5

    @staticmethod
    def fit(features: np.ndarray, seed: int = 0) -> dict[str, np.ndarray]:
        """Arrays of a mixture fitted to ``(N, F)`` features."""
        scaler = _scaler(features)
        z = _standardise(features, scaler)
        most = max(1, min(GaussianMixtureDensity.MAX_COMPONENTS, len(z) // 8))
        # 1e-3 of a unit variance keeps covariances regular where levels are nearly collinear.
        models = [GaussianMixture(n, reg_covar=1e-3, n_init=3, random_state=seed).fit(z) for n in range(1, most + 1)]
        best = min(models, key=lambda model: model.bic(z))
        return {**scaler, "weights": best.weights_, "means": best.means_, "precisions": best.precisions_cholesky_}

    @staticmethod
    def anomaly(features: np.ndarray, fitted: Arrays) -> np.ndarray:
        """``-log density`` in nats of ``(N, F)`` features, ``(N,)``; higher = worse."""
        mixture = GaussianMixture(len(fitted["weights"]))
        mixture.weights_, mixture.means_ = fitted["weights"], fitted["means"]
        mixture.precisions_cholesky_ = fitted["precisions"]
        values: np.ndarray = -mixture.score_samples(_standardise(features, fitted))
        return values


class NearestNeighbourDensity:
    """Mean Euclidean distance to the five nearest references, on standardised features."""

    NEIGHBOURS = 5

    @staticmethod
    def fit(features: np.ndarray, seed: int = 0) -> dict[str, np.ndarray]:
        """Arrays of a model of ``(N, F)`` features; ``seed`` is not used."""
        scaler = _scaler(features)
        return {**scaler, "points": _standardise(features, scaler)}

    @staticmethod
    def anomaly(features: np.ndarray, fitted: Arrays) -> np.ndarray:
        """Mean distance of ``(N, F)`` features to their neighbours, ``(N,)``; higher = worse."""
        z = _standardise(features, fitted)
        distances = np.linalg.norm(z[:, None] - fitted["points"][None], axis=2)
        k = min(NearestNeighbourDensity.NEIGHBOURS, distances.shape[1])
        values: np.ndarray = np.sort(distances, axis=1)[:, :k].mean(axis=1)
        return values


class MahalanobisDistance:
    """Distance from the centre of the references in units of their spread, in any direction, on standardised features.

    Centre and covariance are those of the half of least determinant, reweighted (minimum covariance determinant,
    Rousseeuw and Van Driessen, Technometrics 1999): references that are themselves in error neither move the centre
    nor widen the spread. Of fewer than three references per feature, or features of less than full rank, there is no
    such half to find: there all are used, their covariance shrunk towards a sphere (Ledoit and Wolf, J. Multivariate
    Analysis 2004).
    """

    REFERENCES_PER_FEATURE = 3

    @staticmethod
    def fit(features: np.ndarray, seed: int = 0) -> dict[str, np.ndarray]:
        """Arrays of a model of ``(N, F)`` features; ``seed`` starts the search for the half."""
        scaler = _scaler(features)
        z = _standardise(features, scaler)
        num, size = z.shape
        if num < MahalanobisDistance.REFERENCES_PER_FEATURE * size or np.linalg.matrix_rank(z - z.mean(axis=0)) < size:
            return {**scaler, "precision": LedoitWolf(assume_centered=True).fit(z).precision_}
        robust = MinCovDet(random_state=seed).fit(z)
        return {**scaler, "mean": scaler["mean"] + robust.location_ * scaler["scale"], "precision": robust.precision_}

    @staticmethod
    def anomaly(features: np.ndarray, fitted: Arrays) -> np.ndarray:
        """Distance of ``(N, F)`` features, ``(N,)``; higher = worse."""
        z = _standardise(features, fitted)
        distance: np.ndarray = np.sqrt(np.einsum("nf,fg,ng->n", z, fitted["precision"], z))
        return distance


DENSITIES: dict[str, type[GaussianMixtureDensity | MahalanobisDistance | NearestNeighbourDensity]] = {
    "gmm": GaussianMixtureDensity,
    "knn": NearestNeighbourDensity,
    "mahalanobis": MahalanobisDistance,
}
