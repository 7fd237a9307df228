"""From statistics of a row's features at all noise levels to one number: the anomaly score of tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from gnsm_monai.errors import InputError
from gnsm_monai.scoring.density import DENSITIES

__all__ = ["MOST_REFERENCES", "ROW_RULES", "RowAnomalyModel"]

ROW_RULES: dict[str, tuple[str, str]] = {
    "context_misfit": ("context_misfit", "sum"),
    "context_misfit_scaled": ("context_misfit", "scaled"),
    "misfit": ("misfit", "sum"),
    "score_norm_gmm": ("score_norm", "gmm"),
    "score_norm_knn": ("score_norm", "knn"),
}
"""Each rule: the statistic of features that it reads, and how it makes one number of them.

``sum``: over features, and the weighted mean over levels. Of the contextual misfit that is an estimate of the row's
``-log p`` in nats: with ``b`` the share of the other features that the noise hides, ``-log p(y) =
sum_f int_0^1 E[-log p(y_f | what is left of the others)] db`` holds exactly for a uniform order of revelation
(Uria et al., ICML 2014; arXiv 1310.1757), from the pseudo-likelihood at no noise to the marginals at full noise.
``scaled``: the same with each feature in units of its spread over training rows. ``gmm``, ``knn``: density of the norm
over all features per level among training rows, the published score.
"""

MOST_REFERENCES = 5000
"""Rows that rules are fitted to: more would make no other density, and the nearest neighbours slow."""


@dataclass(frozen=True)
class RowAnomalyModel:
    """One rule, fitted to rows that are taken for normal.

    Args:
        rule: name in :data:`ROW_RULES`.
        level_weights: ``(L,)``, summing to 1.
        feature_weights: ``(F,)``, what one unit of a feature's statistic counts.
        arrays: of the density, plain arrays; empty for sums.
    """

    rule: str
    level_weights: np.ndarray
    feature_weights: np.ndarray
    arrays: Mapping[str, np.ndarray]

    @classmethod
    def fit(
        cls,
        statistics: np.ndarray,
        rule: str = "context_misfit",
        level_weights: np.ndarray | None = None,
        seed: int = 0,
    ) -> RowAnomalyModel:
        """Fits a rule to statistics ``(N, L, F)`` of normal rows; levels count equally by default.

        Raises:
            InputError: unknown rule.
        """
        if rule not in ROW_RULES:
            raise InputError(f"anomaly_score: '{rule}' is not one of {', '.join(ROW_RULES)}")
        levels, features = statistics.shape[1:]
        weights = np.ones(levels) if level_weights is None else np.asarray(level_weights, dtype=np.float64)
        weights = weights / weights.sum()
        combine = ROW_RULES[rule][1]
        scale = np.ones(features)
        if combine == "scaled":
            spread = np.einsum("nlf,l->nf", statistics, weights).std(0)
            # A feature that hardly varies would otherwise drown all others as soon as it does.
            scale = 1 / np.maximum(spread, 0.1 * max(float(spread.mean()), 1e-12))
        arrays: dict[str, np.ndarray] = {}
        if combine in DENSITIES:
            chosen = np.random.default_rng(seed).permutation(len(statistics))[:MOST_REFERENCES]
            arrays = DENSITIES[combine].fit(_norms(statistics[np.sort(chosen)]), seed)
        return cls(rule, weights, scale, arrays)

    def score(self, statistics: np.ndarray) -> np.ndarray:
        """Anomaly scores ``(N,)`` float64 of statistics ``(N, L, F)``; higher = worse."""
        combine = ROW_RULES[self.rule][1]
        if combine in DENSITIES:
            density: np.ndarray = DENSITIES[combine].anomaly(_norms(statistics), self.arrays)
            return density
        total: np.ndarray = self.contributions(statistics).sum(1)
        return total

    def contributions(self, statistics: np.ndarray) -> np.ndarray:
        """What each feature adds to the score, ``(N, F)`` float64; higher = worse.

        For sums they add up to the score. Densities are of norms over all features: there it is the feature's share
        of the mean squared norm, between 0 and 1.
        """
        statistics = np.asarray(statistics, dtype=np.float64)
        if ROW_RULES[self.rule][1] in DENSITIES:
            squares = np.einsum("nlf,l->nf", statistics**2, self.level_weights)
            total = squares.sum(1, keepdims=True)
            shares: np.ndarray = np.divide(squares, total, out=np.zeros_like(squares), where=total > 0)
            return shares
        parts: np.ndarray = np.einsum("nlf,l->nf", statistics, self.level_weights) * self.feature_weights
        return parts

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Plain arrays for an npz file; :meth:`from_arrays` reads them back."""
        head = {"rule": np.array(self.rule), "level_weights": self.level_weights}
        own = {f"rule_{name}": value for name, value in self.arrays.items()}
        return {**head, "feature_weights": self.feature_weights, **own}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> RowAnomalyModel:
        rule = str(arrays["rule"])
        if rule not in ROW_RULES:
            raise InputError(f"the model's anomaly score '{rule}' is not known to this version")
        own = {name.removeprefix("rule_"): value for name, value in arrays.items() if name.startswith("rule_")}
        return cls(rule, arrays["level_weights"], arrays["feature_weights"], own)


def _norms(statistics: np.ndarray) -> np.ndarray:
    """Norm over all features per level, ``(N, L)``."""
    norms: np.ndarray = np.linalg.norm(np.asarray(statistics, dtype=np.float64), axis=2)
    return norms
