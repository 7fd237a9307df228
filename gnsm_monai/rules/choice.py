"""Which rule, and which level, to keep: by how well each follows Dice on failures of held-out references."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import scipy  # its parts are imported when they are first used

from gnsm_monai.rules.predictors import MIN_FAILURES
from gnsm_monai.rules.resampling import draw_cases, rank_correlations

__all__ = [
    "FALSE", "STRENGTHS", "best_level", "false_and_other", "level_held_out", "places", "rank_correlation",
    "simplest_of_the_best", "steadiest", "strength", "weakest_level", "weakest_within",
]  # fmt: skip

FALSE = "false_structures"
"""Maker of failures by false structures."""

BOOTSTRAPS = 200

FEW = 5
"""Patients below which draws of them tell no standard error."""

STRENGTHS = (("strong", 0.8), ("fair", 0.5), ("weak", 0.2))
"""Least size of the Spearman correlation with Dice for each word; ``none`` below.

Of two failures drawn at random a share of ``1/2 + asin(2 sin(pi rho / 6)) / pi`` is in the right order where score and
Dice are jointly normal: four of five at .8, two of three at .5, and at .2 not six of ten, where chance has five.
"""

MIN_OF_MAKER = 10
"""Fewest failures of one maker from which a correlation is taken."""


def simplest_of_the_best(
    scores: Mapping[str, np.ndarray],
    dice: np.ndarray,
    seed: int = 0,
    groups: np.ndarray | None = None,
    parts: Sequence[np.ndarray] | None = None,
    strata: np.ndarray | None = None,
) -> str:
    """The first rule whose correlation with Dice is within one standard error of the best one's (Breiman et al. 1984).

    A few dozen failures of a few references cannot tell nearly equal rules apart. The most flexible rules, densities,
    gain most from chance and from artefacts of the failures.

    Args:
        scores: anomaly of the failures ``(M,)`` by each rule, the simplest rule first.
        dice: of the failures, ``(M,)``.
        seed: of the bootstrap that gives the standard error of the difference.
        groups: number of the patient whose reference each failure was made from, ``(M,)``. The bootstrap draws patients
            with all their failures: failures of one patient are alike, and counting them as independent would make the
            error too small. By default, and where all are of one patient, each failure is alone. Draws of fewer than
            :data:`FEW` patients scatter too little or too much by chance: the larger of both errors counts there.
        parts: within which the correlation is taken, ``(M,)`` bool each; the weakest counts. By default all are one.
        strata: number of the stratum of each, ``(M,)``: the bootstrap draws patients in each stratum apart. One
            stratum by default.
    """
    parts = [np.ones(len(dice), dtype=bool)] if parts is None else parts
    spearman = {name: weakest_within(values, dice, parts) for name, values in scores.items()}
    best = min(spearman, key=lambda name: spearman[name])
    groups = np.arange(len(dice)) if groups is None or len(np.unique(groups)) < 2 else groups
    draws = [_resampled(groups, seed, strata)]
    if len(np.unique(groups)) < FEW:
        draws.append(_resampled(np.arange(len(dice)), seed, strata))
    copies = {name: np.array([_in_draws(values, dice, parts, one) for one in draws]) for name, values in scores.items()}
    errors = {name: float((values - copies[best]).std(1, ddof=1).max()) for name, values in copies.items()}
    return next(name for name in scores if spearman[name] - spearman[best] <= errors[name])


def steadiest(
    scores: Mapping[str, np.ndarray], dice: np.ndarray, makers: np.ndarray, groups: np.ndarray, seed: int = 0
) -> tuple[str, float, np.ndarray]:
    """The rule whose worst maker of failures is best, its correlation with Dice there, and bootstrap copies of that.

    No maker fails as the networks do whose masks will come. A rule that follows the failures of each is preferred to
    one that follows most of them very well.

    Args:
        scores: anomaly of the failures ``(M,)`` by each rule.
        dice: of the failures, ``(M,)``.
        makers: of each failure, ``(M,)`` text. One with fewer than :data:`MIN_OF_MAKER` failures does not count; where
            all have fewer, the correlation is that of all failures together.
        groups: number of the patient whose reference each failure was made from, ``(M,)``: what the bootstrap draws.
        seed: of the bootstrap.
    """
    worst = {name: float(_worst(values, dice, makers, np.ones((1, len(dice))))[0]) for name, values in scores.items()}
    best = min(worst, key=lambda name: worst[name])
    return best, worst[best], _worst(scores[best], dice, makers, _resampled(groups, seed))


def _worst(values: np.ndarray, dice: np.ndarray, makers: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Correlation with Dice among the failures of the maker where it is weakest, ``(B,)``, in each draw.

    Args:
        values, dice, makers: of the failures, ``(M,)``.
        counts: how often each draw takes each of them, ``(B, M)``.
    """
    parts = [makers == maker for maker in np.unique(makers)]
    each = np.stack([rank_correlations(values[part], dice[part], counts[:, part]) for part in parts])
    enough = np.stack([counts[:, part].sum(1) >= MIN_OF_MAKER for part in parts])
    weakest = np.where(enough, each, -np.inf).max(0)
    return np.where(enough.any(0), weakest, rank_correlations(values, dice, counts))


def _in_draws(values: np.ndarray, dice: np.ndarray, parts: Sequence[np.ndarray], counts: np.ndarray) -> np.ndarray:
    """:func:`weakest_within` in each draw, ``(B,)``, that takes each failure so often, ``(B, M)``."""
    each = [rank_correlations(values[part], dice[part], counts[:, part]) for part in parts]
    return np.asarray(np.max(each, axis=0))


def _resampled(groups: np.ndarray, seed: int, strata: np.ndarray | None = None) -> np.ndarray:
    """How often each failure is drawn, ``(BOOTSTRAPS, M)``: groups with replacement, each stratum's apart."""
    rng, counts = np.random.default_rng(seed), np.zeros((BOOTSTRAPS, len(groups)))
    strata = np.zeros(len(groups)) if strata is None else strata
    for stratum in np.unique(strata):
        inside = strata == stratum
        counts[:, inside] = draw_cases(np.unique(groups[inside], return_inverse=True)[1], BOOTSTRAPS, rng)
    return counts


def false_and_other(dice: np.ndarray, makers: np.ndarray, right: np.ndarray) -> list[np.ndarray]:
    """Masks that are compared with each other where structures come in any number, ``(n,)`` bool for each part.

    Failures by false structures, among them what shares nothing with its reference, and other failures, each part with
    the right masks. Within both together a statistic that grows with what a mask holds would follow Dice: failures by
    false structures hold most and are the worst. Among other failures the same statistic may rank better masks worse.

    Args:
        dice: ``(n,)``.
        makers: ``(n,)`` text.
        right: which are references, of Dice 1, and no failures, ``(n,)`` bool.

    Returns:
        Of the two parts those that hold a failure.
    """
    false = (makers == FALSE) | (dice == 0)
    return [part | right for part in (false & ~right, ~false & ~right) if part.any()]


def weakest_within(values: np.ndarray, dice: np.ndarray, parts: Sequence[np.ndarray]) -> float:
    """Spearman correlation with Dice in the part, ``(n,)`` bool each, where it is weakest: -1 is best."""
    return max(rank_correlation(values[part], dice[part]) for part in parts)


def rank_correlation(values: np.ndarray, quality: np.ndarray) -> float:
    """Spearman correlation of ``(N,)`` values with Dice, -1 is best; 0 where all values are the same."""
    return (
        0.0 if np.ptp(values) == 0 or np.ptp(quality) == 0 else float(scipy.stats.spearmanr(values, quality).statistic)
    )


def best_level(values: np.ndarray, dice: np.ndarray) -> int:
    """The level at which ``(M, L)`` values follow Dice best."""
    return int(np.argmin([rank_correlation(level, dice) for level in values.T]))


def weakest_level(values: np.ndarray, dice: np.ndarray, groups: np.ndarray) -> int:
    """The level of the weakest noise at which ``(M, L)`` values follow Dice as well as at the best level.

    That is the first of :func:`simplest_of_the_best`: failures must tell levels apart to leave it.
    """
    return int(simplest_of_the_best({str(level): column for level, column in enumerate(values.T)}, dice, groups=groups))


def level_held_out(
    values: np.ndarray,
    dice: np.ndarray,
    groups: np.ndarray,
    judges: np.ndarray,
    choose: Callable[[np.ndarray, np.ndarray, np.ndarray], int],
) -> np.ndarray:
    """Place of each failure, ``(M,)``, at the level that is chosen on failures of other patients.

    The place, in [0, 1], is the share of those other failures that have a lower value at that level. Places can be
    compared where values cannot: levels differ in scale, and each patient may get another level.

    Args:
        values: of one statistic, ``(M, L)``.
        dice: ``(M,)``.
        groups: number of the patient of each failure, ``(M,)``.
        judges: which failures the level is chosen on, ``(M,)`` bool.
        choose: gives the level, of the values, Dice and patients of such failures.
    """
    shares = np.empty(len(dice))
    for group in np.unique(groups):
        held_out = groups == group
        others = judges & ~held_out
        if not others.any():  # one patient alone: nobody else can choose
            others = judges
        level = choose(values[others], dice[others], groups[others])
        shares[held_out] = places(values[held_out, level], values[others, level])
    return shares


def places(scores: np.ndarray, among: np.ndarray) -> np.ndarray:
    """Share of ``among`` that is lower than each of the scores, equal ones as halves; in [0, 1]."""
    return np.asarray(scipy.stats.percentileofscore(among, scores, kind="mean") / 100)


def strength(spearman: float, failures: int) -> str:
    """``strong``, ``fair``, ``weak`` or ``none`` for a correlation with Dice, -1 is best; ``unknown`` of too few."""
    if failures < MIN_FAILURES or not np.isfinite(spearman):
        return "unknown"
    return next((word for word, least in STRENGTHS if spearman <= -least), "none")
