"""How rules make one number of level statistics, a class each way, and the rules, the simplest first."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from gnsm_monai.rules.choice import best_level, level_held_out, weakest_level
from gnsm_monai.rules.density import (
    Density,
    DiceRegression,
    GaussianMixtureDensity,
    LargestDeviation,
    NearestNeighbourDensity,
    robust_scale,
)
from gnsm_monai.rules.fit_data import FitData
from gnsm_monai.rules.levels import LevelStatistics
from gnsm_monai.rules.rule import Rule
from gnsm_monai.rules.statistics import statistic_named

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["RULES", "Combined", "LargestDeviationRule"]

USUAL = 0.9
"""Quantile of the doubt about references' images up to which nothing is excused: below 1, as some may be damaged."""

MAX_EXCUSED = 0.99
"""Keeps the divisor above 0, so that scores can still be told apart."""


MIN_SCALE = 0.01
"""Least deviation that counts as one: some statistics are 0 for nearly every reference."""


class BestLevel(Rule):
    """The statistic at the one level at which it follows Dice on the failures best.

    If it asks the network, structures and maps are asked at that level alone, too.
    """

    def chosen_level(self, values: np.ndarray, dice: np.ndarray, patients: np.ndarray) -> int:
        """That of ``(M, L)`` values, by Dice and patient ``(M,)`` of the failures."""
        return best_level(values, dice)

    @property
    def level_weights(self) -> np.ndarray:
        if not self.asks_network:
            return self.weights
        return np.asarray(np.eye(len(self.weights))[int(self.arrays["level"])])

    @property
    def levels_read(self) -> np.ndarray:
        return np.asarray(np.arange(len(self.weights)) == int(self.arrays["level"]))

    def fit(self, data: FitData) -> Self:
        judges = data.judges
        level = self.chosen_level(self.flat(data.failures)[judges], data.dice[judges], data.source_patients[judges])
        return replace(self, weights=data.weights, arrays={"level": np.array(level)})

    def anomaly(self, levels: LevelStatistics) -> np.ndarray:
        return self.flat(levels)[:, int(self.arrays["level"])]

    def held_out(self, data: FitData) -> np.ndarray:
        masks = data.compared
        return level_held_out(self.flat(masks.levels), masks.dice, masks.patients, masks.failures, self.chosen_level)


class WeakestLevel(BestLevel):
    """A statistic of the mask alone at the weakest noise at which it follows Dice on the failures clearly no worse.

    Strong noise hides most of the mask, and leaves how far it is from the average. Crude failures are told by that as
    well as by the mask itself; failures of a good network are not.
    """

    def chosen_level(self, values: np.ndarray, dice: np.ndarray, patients: np.ndarray) -> int:
        return weakest_level(values, dice, patients)


class EqualLevels(Rule):
    """Mean over all levels, each as it is: it fits nothing."""

    def fit(self, data: FitData) -> Self:
        return replace(self, weights=np.full(len(data.weights), 1 / len(data.weights)))

    def anomaly(self, levels: LevelStatistics) -> np.ndarray:
        return np.asarray(self.flat(levels).mean(1))


class BeyondDoubt(EqualLevels):
    """The mean disagreement ``d``; what the network cannot read in a poor image is held against the mask less.

    It is ``d`` where the network can read an image as well as nearly all of the held-out references', and
    ``(d - b) / (1 - b)`` elsewhere, with ``b`` by how much its doubt exceeds the :data:`USUAL` quantile of theirs. As
    no mask disagrees less than the network doubts, none scores below that quantile there.
    """

    def fit(self, data: FitData) -> Self:
        usual = np.quantile(self.select(data.references)[:, 1].mean(1), USUAL)
        return replace(super().fit(data), arrays={"usual": np.array(usual)})

    def anomaly(self, levels: LevelStatistics) -> np.ndarray:
        disagrees, doubts = self.select(levels).mean(2).T
        beyond = np.clip(doubts - self.arrays["usual"], 0, MAX_EXCUSED)
        return np.asarray((disagrees - beyond) / (1 - beyond))


class MeanOverLevels(Rule):
    """Mean over statistics and weighted mean over levels, each in units of its spread over references and failures."""

    @property
    def levels_read(self) -> np.ndarray:
        return self.weights > 0

    def fit(self, data: FitData) -> Self:
        spread = self.select(data.everything).std(0)
        return replace(self, weights=data.weights, arrays={"spread": np.where(spread > 0, spread, 1.0)})

    def anomaly(self, levels: LevelStatistics) -> np.ndarray:
        return np.asarray((self.selected(levels) / self.arrays["spread"]).mean(1) @ self.weights)


class Combined(MeanOverLevels):
    """A mean over statistics of different kinds: what is never far from the best where nothing tells which one is."""


class CombinedTails(Combined):
    """Sum of ``sign(z) log(1 + |z|)``, with ``z`` the robust deviation of each statistic from the references' own.

    The logarithm of a tail that falls as ``1 / z``. What is far off in one respect counts, and what is further off than
    that counts little more, whatever the failures are like that were made.
    """

    learns_references = True

    def fit(self, data: FitData) -> Self:
        columns = [robust_scale(column) for column in (self.select(data.references) @ data.weights).T]
        centre, scale = (np.array(values) for values in zip(*columns, strict=True))
        return replace(self, weights=data.weights, arrays={"centre": centre, "scale": np.maximum(scale, MIN_SCALE)})

    def anomaly(self, levels: LevelStatistics) -> np.ndarray:
        z = (self.selected(levels) @ self.weights - self.arrays["centre"]) / self.arrays["scale"]
        return np.asarray((np.sign(z) * np.log1p(np.abs(z))).sum(1))


@dataclass(frozen=True)
class DensityRule(Rule):
    """Density of the statistics at all levels among held-out references; of ``score_norm`` the published score."""

    learns_references = True

    density: type[Density] = GaussianMixtureDensity

    def min_references(self, num_levels: int) -> int:
        return self.density.min_points(len(self.reads) * num_levels)

    def fit(self, data: FitData) -> Self:
        arrays = self.density.fit(self.flat(data.references), data.seed)
        return replace(self, weights=data.weights, arrays=arrays)

    def anomaly(self, levels: LevelStatistics) -> np.ndarray:
        return self.density.anomaly(self.flat(levels), self.arrays)


class LargestDeviationRule(Rule):
    """How far the most unusual statistic lies from the held-out references', each a weighted mean over levels.

    The unit is a robust deviation of theirs (:class:`gnsm_monai.rules.density.LargestDeviation`), the same by every
    model. The rule asks how unusual a mask is, even by agreeing too well, and not how low its Dice may be.
    """

    learns_references = True

    @property
    def levels_read(self) -> np.ndarray:
        return self.weights > 0

    def statistics_of(self, levels: LevelStatistics) -> tuple[str, ...]:
        if np.isnan(levels["shape"]).all():  # a model without position knows no shapes
            return tuple(name for name in self.reads if not statistic_named(name).of_mask)
        return self.reads

    def fit(self, data: FitData) -> Self:
        arrays = LargestDeviation.fit(self.select(data.references) @ data.weights, data.seed)
        return replace(self, weights=data.weights, arrays=arrays)

    def anomaly(self, levels: LevelStatistics) -> np.ndarray:
        return LargestDeviation.anomaly(self.selected(levels) @ self.weights, self.arrays)

    def most_unusual(self, levels: LevelStatistics) -> tuple[str, float]:
        deviations = LargestDeviation.each(self.selected(levels) @ self.weights, self.arrays)[0]
        place = int(deviations.argmax())
        return self.statistics_of(levels)[place], float(deviations[place])


class RidgeOnDice(Rule):
    """A regression of Dice on all that it reads, fitted to the failures; see :class:`DiceRegression`."""

    learns_dice = True

    def fit(self, data: FitData) -> Self:
        arrays = DiceRegression.fit(self.flat(data.failures), data.dice, self.flat(data.everything))
        return replace(self, weights=data.weights, arrays=arrays)

    def anomaly(self, levels: LevelStatistics) -> np.ndarray:
        return DiceRegression.anomaly(self.flat(levels), self.arrays)

    def fair_scores(self, data: FitData) -> np.ndarray:
        met = self.flat(data.everything)
        return DiceRegression.held_out(self.flat(data.failures), data.dice, data.source_patients, met)


UNUSUAL_IN = (
    "score_norm", "misfit", "misfit_inside", "misfit_rest", "disagreement", "uncertainty", "peak", "shape", "size",
)  # fmt: skip

OF_MASK = ("shape", "form", "form_centred", "average", "place", "extent", "parts")

RULES: tuple[Rule, ...] = (
    Combined("combined", (*OF_MASK, "disagreement")),
    CombinedTails("combined_tails", (*OF_MASK, "disagreement")),
    Combined("mask", OF_MASK),
    CombinedTails("mask_tails", OF_MASK),
    WeakestLevel("shape", ("shape",)),
    EqualLevels("disagreement_equal", ("disagreement",)),
    BeyondDoubt("disagreement_beyond_doubt", ("disagreement", "doubt")),
    BestLevel("disagreement_level", ("disagreement",)),
    MeanOverLevels("disagreement", ("disagreement",)),
    MeanOverLevels("misfit", ("misfit",)),
    MeanOverLevels("misfit_inside", ("misfit_inside",)),
    MeanOverLevels("misfit+disagreement", ("misfit", "disagreement")),
    MeanOverLevels("misfit_inside+disagreement", ("misfit_inside", "disagreement")),
    DensityRule("misfit_gmm", ("misfit",)),
    DensityRule("misfit_knn", ("misfit",), density=NearestNeighbourDensity),
    DensityRule("score_norm_gmm", ("score_norm",)),
    DensityRule("score_norm_knn", ("score_norm",), density=NearestNeighbourDensity),
    LargestDeviationRule("deviation", UNUSUAL_IN),
    RidgeOnDice("regression", ("shape", "disagreement", "misfit_inside", "misfit", "uncertainty")),
)
"""Each rule, not yet fitted, and the statistics that it reads at all levels; combinations, then the simplest first."""
