"""Rules that make one number of level statistics: each by name, how it is fitted, and how it is applied."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from gnsm_monai.scoring.choice import best_level
from gnsm_monai.scoring.density import DENSITIES
from gnsm_monai.scoring.regression import DiceRegression
from gnsm_monai.scoring.statistics import STATISTICS

__all__ = ["RULES", "apply_rule", "density_features", "fit_rule", "flat", "measured"]

SHAPE, SIZE = STATISTICS.index("shape"), STATISTICS.index("size")
USUAL = 0.9
"""Quantile of the doubt about held-out references' images up to which nothing is excused: some may be damaged, too."""

MOST_EXCUSED = 0.99
"""So that what is left can be told apart."""

RULES: dict[str, tuple[tuple[str, ...], str]] = {
    "shape": (("shape",), "level"),
    "disagreement_equal": (("disagreement",), "equal"),
    "disagreement_beyond_doubt": (("disagreement", "doubt"), "beyond"),
    "disagreement_level": (("disagreement",), "level"),
    "disagreement": (("disagreement",), "mean"),
    "misfit": (("misfit",), "mean"),
    "misfit_inside": (("misfit_inside",), "mean"),
    "misfit+disagreement": (("misfit", "disagreement"), "mean"),
    "misfit_inside+disagreement": (("misfit_inside", "disagreement"), "mean"),
    "misfit_gmm": (("misfit",), "gmm"),
    "misfit_knn": (("misfit",), "knn"),
    "score_norm_gmm": (("score_norm",), "gmm"),
    "score_norm_knn": (("score_norm",), "knn"),
    "deviation": (STATISTICS[: SIZE + 1], "deviation"),
    "regression": (("shape", "disagreement", "misfit_inside", "misfit", "uncertainty"), "ridge"),
}
"""Each rule, the simplest first: the statistics it reads at all levels, and how it makes one number of them.

``mean``: mean over statistics and mean over levels, weighted by level, each in units of its spread over held-out
references and the failures. ``gmm``, ``knn``: density of the held-out references; on ``score_norm`` that is the
published score. ``equal``: mean over all levels, each as it is: it fits nothing. ``beyond``: that mean, ``d``, where
the network can read an image as well as nearly all of the held-out references', and else ``(d - b) / (1 - b)``, with
``b`` by how much its doubt exceeds the :data:`USUAL` quantile of theirs: what cannot be read is held against the mask
less. As no mask disagrees less than the network doubts, none scores below that quantile so. ``level``: the statistic
at the one level at which it follows Dice on the failures best. ``deviation``: of these statistics' weighted means
over levels, the one furthest from the held-out references', in robust deviations of theirs
(:class:`gnsm_monai.scoring.density.LargestDeviation`); it asks how unusual a mask is, be it in agreeing too well, and
not how low its Dice may be. ``ridge``: a regression of Dice on its statistics at all levels, fitted to the failures.
"""


def select(levels: np.ndarray, rule: str) -> np.ndarray:
    """Features of a rule, ``(N, statistics, L)``."""
    names = RULES[rule][0]
    if rule == "deviation" and np.isnan(levels[:, :, SHAPE]).all():  # a model without position knows no shapes
        names = names[:SHAPE]
    columns = [STATISTICS.index(name) for name in names]
    features: np.ndarray = np.asarray(levels, dtype=np.float64)[:, :, columns].transpose(0, 2, 1)
    return features


def measured(levels: np.ndarray, rule: str) -> bool:
    """Whether ``(N, L, S)`` level statistics, maybe of an earlier version, hold all that a rule reads."""
    known = max(STATISTICS.index(name) for name in RULES[rule][0]) < levels.shape[2]
    return known and bool(np.isfinite(select(levels, rule)).all())


def flat(levels: np.ndarray, rule: str) -> np.ndarray:
    """Every statistic of a rule at every level, ``(N, F)``."""
    features = select(levels, rule)
    return features.reshape(len(features), -1)


def density_features(levels: np.ndarray, rule: str, weights: np.ndarray) -> np.ndarray:
    """What a rule's density is of, ``(N, F)``: every level's statistics, or their weighted means over levels."""
    means: np.ndarray = select(levels, rule) @ weights
    return means if RULES[rule][1] == "deviation" else flat(levels, rule)


def fit_rule(
    rule: str,
    references: np.ndarray,
    failures: np.ndarray,
    dice: np.ndarray,
    seed: int,
    weights: np.ndarray,
    judges: np.ndarray,
) -> dict[str, np.ndarray]:
    combine, everything = RULES[rule][1], np.concatenate([references, failures])
    if combine == "level":
        return {"level": np.array(best_level(flat(failures, rule)[judges], dice[judges]))}
    if combine == "equal":
        return {}
    if combine == "beyond":
        return {"usual": np.array(np.quantile(select(references, rule)[:, 1].mean(1), USUAL))}
    if combine == "ridge":
        return DiceRegression.fit(flat(failures, rule), dice, flat(everything, rule))
    if combine in DENSITIES:
        return DENSITIES[combine].fit(density_features(references, rule, weights), seed)
    spread = select(everything, rule).std(0)
    return {"spread": np.where(spread > 0, spread, 1.0)}


def apply_rule(rule: str, arrays: Mapping[str, np.ndarray], levels: np.ndarray, weights: np.ndarray) -> np.ndarray:
    combine = RULES[rule][1]
    if combine == "level":
        return flat(levels, rule)[:, int(arrays["level"])]
    if combine == "equal":
        plain: np.ndarray = flat(levels, rule).mean(1)
        return plain
    if combine == "beyond":
        disagrees, doubts = select(levels, rule).mean(2).T
        beyond = np.clip(doubts - arrays["usual"], 0, MOST_EXCUSED)
        counted: np.ndarray = (disagrees - beyond) / (1 - beyond)
        return counted
    if combine == "ridge":
        return DiceRegression.anomaly(flat(levels, rule), arrays)
    if combine in DENSITIES:
        density: np.ndarray = DENSITIES[combine].anomaly(density_features(levels, rule, weights), arrays)
        return density
    features = select(levels, rule)
    mean: np.ndarray = (features / arrays["spread"]).mean(1) @ weights
    return mean
