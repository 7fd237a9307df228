"""The rules, a class each, and in :data:`RULES` the simplest first."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from gnsm_monai.rules.choice import best_level, level_held_out
from gnsm_monai.rules.density import Density, GaussianMixtureDensity, LargestDeviation, NearestNeighbourDensity
from gnsm_monai.rules.levels import LevelStatistics
from gnsm_monai.rules.regression import DiceRegression
from gnsm_monai.rules.rule import FitData, Rule
from gnsm_monai.rules.statistics import statistic_named

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["RULES", "Deviation"]

USUAL = 0.9
"""Quantile of the doubt about held-out references' images up to which nothing is excused: some may be damaged, too."""

MAX_EXCUSED = 0.99
"""So that what is left can be told apart."""


class BestLevel(Rule):
    """The statistic at the one level at which it follows Dice on the failures best."""

    @classmethod
    def fit(cls, data: FitData) -> Self:
        level = best_level(cls.flat(data.failures)[data.judges], data.dice[data.judges])
        return cls(data.weights, {"level": np.array(level)})

    def anomaly(self, levels: LevelStatistics) -> np.ndarray:
        return self.flat(levels)[:, int(self.arrays["level"])]

    def held_out(self, data: FitData) -> np.ndarray:
        return level_held_out(self.flat(data.failures), data.dice, data.sources, data.judges)


class MeanOverLevels(Rule):
    """Mean over statistics and weighted mean over levels, each in units of its spread over references and failures."""

    @classmethod
    def fit(cls, data: FitData) -> Self:
        spread = cls.select(data.everything).std(0)
        return cls(data.weights, {"spread": np.where(spread > 0, spread, 1.0)})

    def anomaly(self, levels: LevelStatistics) -> np.ndarray:
        mean: np.ndarray = (self.select(levels) / self.arrays["spread"]).mean(1) @ self.weights
        return mean


class EqualLevels(Rule):
    """Mean over all levels, each as it is: it fits nothing."""

    @classmethod
    def fit(cls, data: FitData) -> Self:
        return cls(np.full(len(data.weights), 1 / len(data.weights)))

    def anomaly(self, levels: LevelStatistics) -> np.ndarray:
        mean: np.ndarray = self.flat(levels).mean(1)
        return mean


class DensityRule(Rule):
    """Density of the statistics at all levels among held-out references."""

    density: ClassVar[type[Density]]

    @classmethod
    def fit(cls, data: FitData) -> Self:
        return cls(data.weights, cls.density.fit(cls.flat(data.references), data.seed))

    def anomaly(self, levels: LevelStatistics) -> np.ndarray:
        return self.density.anomaly(self.flat(levels), self.arrays)


class Shape(BestLevel):
    """How little of the mask models of the references' shapes can keep."""

    name, reads = "shape", ("shape",)
    asks_network = False


class DisagreementEqual(EqualLevels):
    name, reads = "disagreement_equal", ("disagreement",)


class DisagreementBeyondDoubt(EqualLevels):
    """The mean disagreement ``d``; what the network cannot read in a poor image is held against the mask less.

    It is ``d`` where the network can read an image as well as nearly all of the held-out references', and
    ``(d - b) / (1 - b)`` elsewhere, with ``b`` by how much its doubt exceeds the :data:`USUAL` quantile of theirs. As
    no mask disagrees less than the network doubts, none scores below that quantile there.
    """

    name, reads = "disagreement_beyond_doubt", ("disagreement", "doubt")
    needs_images = True

    @classmethod
    def fit(cls, data: FitData) -> Self:
        usual = np.quantile(cls.select(data.references)[:, 1].mean(1), USUAL)
        return cls(super().fit(data).weights, {"usual": np.array(usual)})

    def anomaly(self, levels: LevelStatistics) -> np.ndarray:
        disagrees, doubts = self.select(levels).mean(2).T
        beyond = np.clip(doubts - self.arrays["usual"], 0, MAX_EXCUSED)
        counted: np.ndarray = (disagrees - beyond) / (1 - beyond)
        return counted


class DisagreementLevel(BestLevel):
    """Structures and maps are then asked at that level, too."""

    name, reads = "disagreement_level", ("disagreement",)

    @property
    def level_weights(self) -> np.ndarray:
        only: np.ndarray = np.eye(len(self.weights))[int(self.arrays["level"])]
        return only


class DisagreementMean(MeanOverLevels):
    name, reads = "disagreement", ("disagreement",)


class MisfitMean(MeanOverLevels):
    name, reads = "misfit", ("misfit",)


class MisfitInsideMean(MeanOverLevels):
    name, reads = "misfit_inside", ("misfit_inside",)


class MisfitAndDisagreement(MeanOverLevels):
    name, reads = "misfit+disagreement", ("misfit", "disagreement")


class MisfitInsideAndDisagreement(MeanOverLevels):
    name, reads = "misfit_inside+disagreement", ("misfit_inside", "disagreement")


class MisfitMixture(DensityRule):
    name, reads, density = "misfit_gmm", ("misfit",), GaussianMixtureDensity


class MisfitNeighbours(DensityRule):
    name, reads, density = "misfit_knn", ("misfit",), NearestNeighbourDensity


class ScoreNormMixture(DensityRule):
    """The published score."""

    name, reads, density = "score_norm_gmm", ("score_norm",), GaussianMixtureDensity
    needs_posterior = False


class ScoreNormNeighbours(DensityRule):
    name, reads, density = "score_norm_knn", ("score_norm",), NearestNeighbourDensity
    needs_posterior = False


class Deviation(Rule):
    """Of the statistics' weighted means over levels, the one furthest from the held-out references'.

    In robust deviations of theirs (:class:`gnsm_monai.rules.density.LargestDeviation`), which are the same units by
    every model. It asks how unusual a mask is, be it in agreeing too well, and not how low its Dice may be.
    """

    name = "deviation"
    reads = (
        "score_norm", "misfit", "misfit_inside", "misfit_rest", "disagreement", "uncertainty", "peak", "shape", "size",
    )  # fmt: skip

    @classmethod
    def statistics_of(cls, levels: LevelStatistics) -> tuple[str, ...]:
        if np.isnan(levels["shape"]).all():  # a model without position knows no shapes
            return tuple(name for name in cls.reads if not statistic_named(name).of_mask)
        return cls.reads

    @classmethod
    def fit(cls, data: FitData) -> Self:
        return cls(data.weights, LargestDeviation.fit(cls.select(data.references) @ data.weights, data.seed))

    def anomaly(self, levels: LevelStatistics) -> np.ndarray:
        return LargestDeviation.anomaly(self.select(levels) @ self.weights, self.arrays)

    def most_unusual(self, levels: LevelStatistics) -> tuple[str, float]:
        deviations = LargestDeviation.each(self.select(levels) @ self.weights, self.arrays)[0]
        place = int(deviations.argmax())
        return self.statistics_of(levels)[place], float(deviations[place])


class Regression(Rule):
    """A regression of Dice on all that it reads, fitted to the failures; see :class:`DiceRegression`."""

    name, reads = "regression", ("shape", "disagreement", "misfit_inside", "misfit", "uncertainty")
    learns_dice = True

    @classmethod
    def fit(cls, data: FitData) -> Self:
        return cls(data.weights, DiceRegression.fit(cls.flat(data.failures), data.dice, cls.flat(data.everything)))

    def anomaly(self, levels: LevelStatistics) -> np.ndarray:
        return DiceRegression.anomaly(self.flat(levels), self.arrays)

    def fair_scores(self, data: FitData) -> np.ndarray:
        met = self.flat(data.everything)
        return DiceRegression.held_out(self.flat(data.failures), data.dice, data.sources, met)


RULES: tuple[type[Rule], ...] = (
    Shape, DisagreementEqual, DisagreementBeyondDoubt, DisagreementLevel, DisagreementMean, MisfitMean,
    MisfitInsideMean, MisfitAndDisagreement, MisfitInsideAndDisagreement, MisfitMixture, MisfitNeighbours,
    ScoreNormMixture, ScoreNormNeighbours, Deviation, Regression,
)  # fmt: skip
