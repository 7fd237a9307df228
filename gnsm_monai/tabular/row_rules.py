"""Rules that make one number of the statistics of a row's features at all noise levels: a class each."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

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
    """A rule, fitted to rows that are taken for normal. A subclass gives its ``name`` and the ``statistic`` it reads.

    Args:
        feature_weights: what one unit of a feature's statistic counts, ``(F,)``.
    """

    statistic: ClassVar[str]
    feature_weights: np.ndarray = field(default_factory=lambda: np.empty(0))

    @classmethod
    def fit(cls, statistics: np.ndarray, level_weights: np.ndarray | None = None, seed: int = 0) -> Self:
        """Fits the rule to statistics ``(N, L, F)`` of normal rows; levels count equally by default."""
        levels, features = statistics.shape[1:]
        weights = np.ones(levels) if level_weights is None else np.asarray(level_weights, dtype=np.float64)
        return cls(weights / weights.sum(), {}, np.ones(features))

    @abstractmethod
    def score(self, statistics: np.ndarray) -> np.ndarray:
        """Anomaly scores ``(N,)`` float64 of statistics ``(N, L, F)``; higher = worse."""

    @abstractmethod
    def contributions(self, statistics: np.ndarray) -> np.ndarray:
        """What each feature adds to the score, ``(N, F)`` float64 of statistics ``(N, L, F)``; higher = worse."""

    def to_arrays(self) -> dict[str, np.ndarray]:
        return {**super().to_arrays(), "feature_weights": self.feature_weights}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> Self:
        stored = super().from_arrays(arrays)
        return cls(stored.weights, stored.arrays, arrays["feature_weights"])


class SumOverFeatures(RowRule):
    """Sum over features of the weighted mean over levels, to which contributions add up."""

    def score(self, statistics: np.ndarray) -> np.ndarray:
        total: np.ndarray = self.contributions(statistics).sum(1)
        return total

    def contributions(self, statistics: np.ndarray) -> np.ndarray:
        statistics = np.asarray(statistics, dtype=np.float64)
        parts: np.ndarray = np.einsum("nlf,l->nf", statistics, self.weights) * self.feature_weights
        return parts


class DensityOfNorms(RowRule):
    """Density of the norm over all features per level among normal rows, the published score.

    A contribution is the feature's share of the mean squared norm, between 0 and 1.
    """

    density: ClassVar[type[Density]]

    @classmethod
    def fit(cls, statistics: np.ndarray, level_weights: np.ndarray | None = None, seed: int = 0) -> Self:
        plain = super().fit(statistics, level_weights)
        rows = np.random.default_rng(seed).permutation(len(statistics))[:MAX_REFERENCES]
        arrays = cls.density.fit(_norms(statistics[np.sort(rows)]), seed)
        return cls(plain.weights, arrays, plain.feature_weights)

    def score(self, statistics: np.ndarray) -> np.ndarray:
        return self.density.anomaly(_norms(statistics), self.arrays)

    def contributions(self, statistics: np.ndarray) -> np.ndarray:
        squares = np.einsum("nlf,l->nf", np.asarray(statistics, dtype=np.float64) ** 2, self.weights)
        total = squares.sum(1, keepdims=True)
        shares: np.ndarray = np.divide(squares, total, out=np.zeros_like(squares), where=total > 0)
        return shares


class ContextMisfit(SumOverFeatures):
    """An estimate of the row's ``-log p`` in nats.

    With ``b`` the share of the other features that the noise hides, ``-log p(y) = sum_f int_0^1 E[-log p(y_f | what is
    left of the others)] db`` holds exactly for a uniform order of revelation (Uria et al., ICML 2014; arXiv 1310.1757),
    from the pseudo-likelihood at no noise to the marginals at full noise.
    """

    name, statistic = "context_misfit", "context_misfit"


class ContextMisfitScaled(SumOverFeatures):
    """The same with each feature in units of its spread over normal rows."""

    name, statistic = "context_misfit_scaled", "context_misfit"

    @classmethod
    def fit(cls, statistics: np.ndarray, level_weights: np.ndarray | None = None, seed: int = 0) -> Self:
        weights = super().fit(statistics, level_weights).weights
        spread = np.einsum("nlf,l->nf", statistics, weights).std(0)
        # A feature that hardly varies would otherwise drown all others as soon as it does.
        return cls(weights, {}, 1 / np.maximum(spread, 0.1 * max(float(spread.mean()), 1e-12)))


class Misfit(SumOverFeatures):
    name, statistic = "misfit", "misfit"


class ScoreNormMixture(DensityOfNorms):
    name, statistic, density = "score_norm_gmm", "score_norm", GaussianMixtureDensity


class ScoreNormNeighbours(DensityOfNorms):
    name, statistic, density = "score_norm_knn", "score_norm", NearestNeighbourDensity


ROW_RULES: tuple[type[RowRule], ...] = (
    ContextMisfit, ContextMisfitScaled, Misfit, ScoreNormMixture, ScoreNormNeighbours,
)  # fmt: skip


def row_rules(parametrisation: str) -> list[type[RowRule]]:
    """Rules whose statistic a network of that parametrisation gives, the one to be preferred first."""
    return [rule for rule in ROW_RULES if ROW_STATISTICS[rule.statistic] in ("", parametrisation)]


def choose_rule(anomaly_score: str, parametrisation: str) -> type[RowRule]:
    """The rule of that name; for ``auto`` the parametrisation's first.

    That is ``context_misfit`` for a posterior, and the published ``score_norm_gmm`` for the direct parametrisation.
    """
    rules = row_rules(parametrisation)
    return rules[0] if anomaly_score == "auto" else rule_named(anomaly_score, rules)


def _norms(statistics: np.ndarray) -> np.ndarray:
    """Norm over all features per level, ``(N, L)``."""
    norms: np.ndarray = np.linalg.norm(np.asarray(statistics, dtype=np.float64), axis=2)
    return norms
