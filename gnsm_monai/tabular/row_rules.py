"""Rules that make one number of the statistics of a row's features at all noise levels."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from gnsm_monai.rules.density import Density, GaussianMixtureDensity, NearestNeighbourDensity
from gnsm_monai.rules.rule import FittedRule, rule_named
from gnsm_monai.tabular.rows import ROW_STATISTICS

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["MAX_REFERENCES", "ROW_RULES", "RowRule", "choose_rule", "row_rules"]

MAX_REFERENCES = 5000
"""Rows that rules are fitted to: more would make no other density, and the nearest neighbours slow."""


@dataclass(frozen=True)
class RowRule(FittedRule):
    """A rule that reads one statistic, fitted to rows that are taken for normal.

    Args:
        feature_weights: what one unit of a feature's statistic counts, ``(F,)``.
    """

    feature_weights: np.ndarray = field(default_factory=lambda: np.empty(0))

    @property
    def statistic(self) -> str:
        return self.reads[0]

    def fit(self, statistics: np.ndarray, seed: int = 0) -> Self:
        """This rule, fitted to statistics ``(N, L, F)`` of normal rows; levels count equally."""
        levels, features = statistics.shape[1:]
        return replace(self, weights=np.ones(levels) / levels, feature_weights=np.ones(features))

    @abstractmethod
    def score(self, statistics: np.ndarray) -> np.ndarray:
        """Anomaly scores ``(N,)`` float64 of statistics ``(N, L, F)``; higher = worse."""

    @abstractmethod
    def contributions(self, statistics: np.ndarray) -> np.ndarray:
        """What each feature adds to the score, ``(N, F)`` float64 of statistics ``(N, L, F)``; higher = worse."""

    def to_arrays(self) -> dict[str, np.ndarray]:
        return {**super().to_arrays(), "feature_weights": self.feature_weights}

    def from_arrays(self, arrays: Mapping[str, np.ndarray]) -> Self:
        return replace(super().from_arrays(arrays), feature_weights=arrays["feature_weights"])


class SumOverFeatures(RowRule):
    """Sum over features of the weighted mean over levels, to which contributions add up.

    For ``context_misfit`` it is an estimate of the row's ``-log p`` in nats: with ``b`` the share of the other
    features that the noise hides, ``-log p(y) = sum_f int_0^1 E[-log p(y_f | what is left of the others)] db`` holds
    exactly for a uniform order of revelation (Uria et al., ICML 2014; arXiv 1310.1757), from the pseudo-likelihood at
    no noise to the marginals at full noise.
    """

    def score(self, statistics: np.ndarray) -> np.ndarray:
        return np.asarray(self.contributions(statistics).sum(1))

    def contributions(self, statistics: np.ndarray) -> np.ndarray:
        statistics = np.asarray(statistics, dtype=np.float64)
        parts: np.ndarray = np.einsum("nlf,l->nf", statistics, self.weights) * self.feature_weights
        return parts


class ScaledSum(SumOverFeatures):
    """The same with each feature in units of its spread over normal rows."""

    def fit(self, statistics: np.ndarray, seed: int = 0) -> Self:
        fitted = super().fit(statistics)
        spread = np.einsum("nlf,l->nf", statistics, fitted.weights).std(0)
        # A feature that hardly varies would otherwise drown all others as soon as it does.
        return replace(fitted, feature_weights=1 / np.maximum(spread, 0.1 * max(float(spread.mean()), 1e-12)))


@dataclass(frozen=True)
class DensityOfNorms(RowRule):
    """Density of the norm over all features per level among normal rows, the published score.

    A contribution is the feature's share of the mean squared norm, between 0 and 1.
    """

    density: type[Density] = GaussianMixtureDensity

    def fit(self, statistics: np.ndarray, seed: int = 0) -> Self:
        rows = np.random.default_rng(seed).permutation(len(statistics))[:MAX_REFERENCES]
        arrays = self.density.fit(_norms(statistics[np.sort(rows)]), seed)
        return replace(super().fit(statistics), arrays=arrays)

    def score(self, statistics: np.ndarray) -> np.ndarray:
        return self.density.anomaly(_norms(statistics), self.arrays)

    def contributions(self, statistics: np.ndarray) -> np.ndarray:
        squares = np.einsum("nlf,l->nf", np.asarray(statistics, dtype=np.float64) ** 2, self.weights)
        total = squares.sum(1, keepdims=True)
        shares: np.ndarray = np.divide(squares, total, out=np.zeros_like(squares), where=total > 0)
        return shares


ROW_RULES: tuple[RowRule, ...] = (
    SumOverFeatures("context_misfit", ("context_misfit",)),
    ScaledSum("context_misfit_scaled", ("context_misfit",)),
    SumOverFeatures("misfit", ("misfit",)),
    DensityOfNorms("score_norm_gmm", ("score_norm",)),
    DensityOfNorms("score_norm_knn", ("score_norm",), density=NearestNeighbourDensity),
)
"""Each rule, not yet fitted, and the statistic that it reads."""


def row_rules(parametrisation: str) -> list[RowRule]:
    """Rules whose statistic a network of that parametrisation gives, the one to be preferred first."""
    return [rule for rule in ROW_RULES if ROW_STATISTICS[rule.statistic] in ("", parametrisation)]


def choose_rule(anomaly_score: str, parametrisation: str) -> RowRule:
    """The rule of that name; for ``auto`` the parametrisation's first.

    That is ``context_misfit`` for a posterior, and the published ``score_norm_gmm`` for the direct parametrisation.
    """
    rules = row_rules(parametrisation)
    return rules[0] if anomaly_score == "auto" else rule_named(anomaly_score, rules)


def _norms(statistics: np.ndarray) -> np.ndarray:
    """Norm over all features per level, ``(N, L)``."""
    return np.asarray(np.linalg.norm(np.asarray(statistics, dtype=np.float64), axis=2))
