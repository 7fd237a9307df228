"""Rules that make one number of the statistics of a row's features at all noise levels."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from gnsm_monai.rules.density import Density, GaussianMixtureDensity, NearestNeighbourDensity
from gnsm_monai.rules.rule import FittedRule, rule_named
from gnsm_monai.tabular.coupling import COUPLED
from gnsm_monai.tabular.rows import ROW_STATISTICS

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["MAX_REFERENCES", "ROW_RULES", "RowRule", "choose_rule", "row_rules"]

MAX_REFERENCES = 5000
"""Rows that rules are fitted to: more would make no other density, and the nearest neighbours slow."""

SMALLEST = 1e-12
"""Variance of coupled frequencies, in square nats, below which there are none."""


@dataclass(frozen=True)
class RowRule(FittedRule):
    """A rule that reads one statistic, fitted to rows that are taken for normal.

    Args:
        feature_weights: what one unit of a feature's statistic counts, ``(F,)``.
    """

    feature_weights: np.ndarray = field(default_factory=lambda: np.empty(0))

    couples: ClassVar[bool] = False
    """Whether it is fitted to coupled frequencies."""

    @property
    def statistic(self) -> str:
        return self.reads[0]

    @property
    def terms(self) -> tuple[str, ...]:
        """Names of what adds up to a contribution, in the order of :meth:`parts`."""
        return (self.statistic, COUPLED) if self.couples else (self.statistic,)

    def fit(self, statistics: np.ndarray, codes: np.ndarray, coupled: Sequence[np.ndarray] = (), seed: int = 0) -> Self:
        """This rule, fitted to normal rows; levels count equally.

        Args:
            statistics: of the rows, ``(N, L, F)``.
            codes: their category codes, ``(N, F)``.
            coupled: what :func:`gnsm_monai.tabular.coupling.coupled_frequencies` gives, if it :attr:`couples`.
            seed: of densities.
        """
        levels, features = statistics.shape[1:]
        return replace(self, weights=np.ones(levels) / levels, feature_weights=np.ones(features))

    def score(self, statistics: np.ndarray, codes: np.ndarray) -> np.ndarray:
        """Anomaly scores ``(N,)`` float64 of statistics ``(N, L, F)`` and codes ``(N, F)``; higher = worse."""
        return np.asarray(self.parts(statistics, codes).sum(1).sum(1))

    @abstractmethod
    def parts(self, statistics: np.ndarray, codes: np.ndarray) -> np.ndarray:
        """What each feature adds to each of the :attr:`terms`, ``(N, terms, F)`` float64; higher = worse.

        Of statistics ``(N, L, F)`` and codes ``(N, F)``.
        """

    def to_arrays(self) -> dict[str, np.ndarray]:
        return {**super().to_arrays(), "feature_weights": self.feature_weights}

    def from_arrays(self, arrays: Mapping[str, np.ndarray]) -> Self:
        return replace(super().from_arrays(arrays), feature_weights=arrays["feature_weights"])


class SumOverFeatures(RowRule):
    """Sum over features of the weighted mean over levels.

    For ``context_misfit`` it is an estimate of the row's ``-log p`` in nats: with ``b`` the share of the other
    features that the noise hides, ``-log p(y) = sum_f int_0^1 E[-log p(y_f | what is left of the others)] db`` holds
    exactly for a uniform order of revelation (Uria et al., ICML 2014; arXiv 1310.1757), from the pseudo-likelihood at
    no noise to the marginals at full noise.
    """

    def parts(self, statistics: np.ndarray, codes: np.ndarray) -> np.ndarray:
        statistics = np.asarray(statistics, dtype=np.float64)
        parts: np.ndarray = np.einsum("nlf,l->nf", statistics, self.weights) * self.feature_weights
        return parts[:, None]


class CoupledSum(SumOverFeatures):
    """The same, and what the company of a row's values lets expect of that sum.

    Added are the coupled frequencies of the row's categories, less their means over normal rows, times the slope of the
    regression of the sum on them over these rows: how much more surprising normal rows are whose values occur with
    rarer ones. Where the slope is not positive, company says nothing of surprise, and nothing is added. So normal rows
    alone decide how much the term counts.
    """

    couples = True

    def fit(self, statistics: np.ndarray, codes: np.ndarray, coupled: Sequence[np.ndarray] = (), seed: int = 0) -> Self:
        fitted = super().fit(statistics, codes)
        starts = np.cumsum([0, *map(len, coupled)])[:-1]
        values = np.concatenate(coupled)[starts + codes]
        company, misfit = values.sum(1), super(CoupledSum, fitted).parts(statistics, codes).sum((1, 2))
        spread = company.var()
        slope = max(0.0, float(np.mean((company - company.mean()) * misfit)) / spread) if spread > SMALLEST else 0.0
        terms = [slope * (term - mean) for term, mean in zip(coupled, values.mean(0), strict=True)]
        return replace(fitted, arrays={"coupled": np.concatenate(terms), "starts": starts})

    def parts(self, statistics: np.ndarray, codes: np.ndarray) -> np.ndarray:
        company = self.arrays["coupled"][self.arrays["starts"] + codes]
        return np.concatenate([super().parts(statistics, codes), company[:, None]], axis=1)


class ScaledSum(SumOverFeatures):
    """The same with each feature in units of its spread over normal rows."""

    def fit(self, statistics: np.ndarray, codes: np.ndarray, coupled: Sequence[np.ndarray] = (), seed: int = 0) -> Self:
        fitted = super().fit(statistics, codes)
        spread = np.einsum("nlf,l->nf", statistics, fitted.weights).std(0)
        # A feature that hardly varies would otherwise drown all others as soon as it does.
        return replace(fitted, feature_weights=1 / np.maximum(spread, 0.1 * max(float(spread.mean()), 1e-12)))


@dataclass(frozen=True)
class DensityOfNorms(RowRule):
    """Density of the norm over all features per level among normal rows, the published score.

    A part is the feature's share of the mean squared norm, between 0 and 1.
    """

    density: type[Density] = GaussianMixtureDensity

    def fit(self, statistics: np.ndarray, codes: np.ndarray, coupled: Sequence[np.ndarray] = (), seed: int = 0) -> Self:
        rows = np.random.default_rng(seed).permutation(len(statistics))[:MAX_REFERENCES]
        arrays = self.density.fit(_norms(statistics[np.sort(rows)]), seed)
        return replace(super().fit(statistics, codes), arrays=arrays)

    def score(self, statistics: np.ndarray, codes: np.ndarray) -> np.ndarray:
        return self.density.anomaly(_norms(statistics), self.arrays)

    def parts(self, statistics: np.ndarray, codes: np.ndarray) -> np.ndarray:
        squares = np.einsum("nlf,l->nf", np.asarray(statistics, dtype=np.float64) ** 2, self.weights)
        total = squares.sum(1, keepdims=True)
        shares: np.ndarray = np.divide(squares, total, out=np.zeros_like(squares), where=total > 0)
        return shares[:, None]


ROW_RULES: tuple[RowRule, ...] = (
    CoupledSum("coupled_misfit", ("context_misfit",)),
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

    That is ``coupled_misfit`` for a posterior, and the published ``score_norm_gmm`` for the direct parametrisation.
    """
    rules = row_rules(parametrisation)
    return rules[0] if anomaly_score == "auto" else rule_named(anomaly_score, rules)


def _norms(statistics: np.ndarray) -> np.ndarray:
    """Norm over all features per level, ``(N, L)``."""
    return np.asarray(np.linalg.norm(np.asarray(statistics, dtype=np.float64), axis=2))
