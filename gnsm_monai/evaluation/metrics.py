"""How well an anomaly score agrees with Dice, where ground truth exists.

Scores are anomalies (higher = worse), Dice lies in [0, 1], both are 1D with one entry per mask, and everything is
computed in float64. A metric that the data leave undefined, such as a correlation with a constant, is NaN here;
`gnsm_monai.evaluation.summary` says in words why.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy  # its parts are imported when they are first used

__all__ = [
    "augrc", "aurc", "aurc_optimum", "auroc", "average_precision", "e_aurc", "kendall", "norm_aurc", "pearson",
    "risk_coverage_curve", "spearman",
]  # fmt: skip

_Floats = npt.NDArray[np.float64]


def pearson(score: npt.ArrayLike, dice: npt.ArrayLike) -> float:
    """Linear correlation of anomaly with Dice, in [-1, 1], -1 is best; NaN when either is constant.

    Raises:
        ValueError: when an input is not 1D, is empty, is not finite, differs in length, or Dice leaves [0, 1].
    """
    return _correlation(scipy.stats.pearsonr, score, dice)


def spearman(score: npt.ArrayLike, dice: npt.ArrayLike) -> float:
    """Rank correlation of anomaly with Dice, ties at mid-ranks, in [-1, 1], -1 is best. NaN, Raises: see `pearson`."""
    return _correlation(scipy.stats.spearmanr, score, dice)


def kendall(score: npt.ArrayLike, dice: npt.ArrayLike) -> float:
    """Kendall's tau-b of anomaly with Dice, in [-1, 1], -1 is best. NaN, Raises: see `pearson`."""
    # The p-value is unused; asymptotic spares the exact one, which is slow. Of two masks scipy divides by zero for it.
    method = "asymptotic" if np.size(score) > 2 else "exact"
    return _correlation(partial(scipy.stats.kendalltau, method=method), score, dice)


def auroc(score: npt.ArrayLike, failed: npt.ArrayLike) -> float:
    """Probability that a failed mask scores above a sound one, ties counting one half; in [0, 1], 1 is best.

    Args:
        score: anomaly per mask, shape (n,), higher = worse.
        failed: boolean, shape (n,).

    Returns:
        The Mann-Whitney statistic from mid-ranks; NaN when no mask or every mask failed.

    Raises:
        ValueError: when an input is not 1D, is empty, is not finite, differs in length, or `failed` is not boolean.
    """
    anomaly, positive = _score_and_failed(score, failed)
    positives = int(positive.sum())
    negatives = positive.size - positives
    if positives == 0 or negatives == 0:
        return math.nan
    rank_sum = float(scipy.stats.rankdata(anomaly)[positive].sum())
    return (rank_sum - positives * (positives + 1) / 2) / (positives * negatives)


def average_precision(score: npt.ArrayLike, failed: npt.ArrayLike) -> float:
    """Area under the precision-recall curve as a step function over distinct scores; in [0, 1], 1 is best.

    The same number as scikit-learn's `average_precision_score`, except that it is NaN when every mask failed: any score
    would then reach 1. NaN too when none failed. Args and Raises: see `auroc`.
    """
    anomaly, positive = _score_and_failed(score, failed)
    positives = int(positive.sum())
    if positives in (0, positive.size):
        return math.nan
    order = np.argsort(-anomaly, kind="stable")
    # One step per distinct score: masks of equal score enter together.
    last_of_tie = np.append(np.flatnonzero(np.diff(anomaly[order])), positive.size - 1)
    hits = np.cumsum(positive[order])[last_of_tie]
    return float(np.sum(np.diff(hits, prepend=0) * hits / (last_of_tie + 1)) / positives)


def risk_coverage_curve(score: npt.ArrayLike, risk: npt.ArrayLike) -> tuple[_Floats, _Floats]:
    """Mean risk of the k most confident masks, for k = 1 ... n. Masks of equal score each count with their mean risk.

    Args:
        score: anomaly per mask, shape (n,), higher = worse; confidence is its negative.
        risk: loss per mask, shape (n,), for instance 1 - Dice.

    Returns:
        (coverage, selective risk), both of shape (n,): coverage is k / n.

    Raises:
        ValueError: when an input is not 1D, is empty, is not finite, or differs in length.
    """
    anomaly, loss = _vector(score, "score"), _vector(risk, "risk")
    _same_length(anomaly, loss, "risk")
    order = np.argsort(anomaly, kind="stable")
    tie = np.cumsum(np.diff(anomaly[order], prepend=anomaly[order[0]]) > 0)
    accepted = (np.bincount(tie, weights=loss[order]) / np.bincount(tie))[tie]
    k = np.arange(1, anomaly.size + 1)
    return k / anomaly.size, np.cumsum(accepted) / k


def aurc(score: npt.ArrayLike, dice: npt.ArrayLike) -> float:
    """Area under the risk-coverage curve of risk = 1 - Dice, in [0, 1], 0 is best; 0 for a single mask.

    With R_k the mean risk of the k most confident masks, AURC = (1/n) sum_{k=1}^{n-1} (R_k + R_{k+1}) / 2. The stretch
    below coverage 1/n carries no area, so constant risk r gives r (n - 1) / n.

    Raises:
        ValueError: see `pearson`.

    Source: Zenk et al. 2024, arXiv 2406.03323. Tied masks share their mean, so that file order does not matter.
    """
    anomaly, overlap = _score_and_dice(score, dice)
    coverage, risk = risk_coverage_curve(anomaly, 1 - overlap)
    return float(scipy.integrate.trapezoid(risk, coverage))


def aurc_optimum(dice: npt.ArrayLike) -> float:
    """Smallest AURC that any score can reach: the one whose confidence is Dice itself. Raises: see `pearson`."""
    overlap = _dice(dice)
    return aurc(-overlap, overlap)


def e_aurc(score: npt.ArrayLike, dice: npt.ArrayLike) -> float:
    """Excess of AURC over `aurc_optimum`, in [0, 1], 0 is best. Raises: see `pearson`."""
    return aurc(score, dice) - aurc_optimum(dice)


def norm_aurc(score: npt.ArrayLike, dice: npt.ArrayLike) -> float:
    """(random - AURC) / (random - optimum) with random = mean risk: 1 is best, about 0 for a score that knows nothing.

    A useless score lies above 0 by the order of 1/n, since AURC has no area below coverage 1/n (see `aurc`). NaN when
    Dice is constant. Raises: see `pearson`. Source: Zenk et al. 2024, arXiv 2406.03323.
    """
    anomaly, overlap = _score_and_dice(score, dice)
    if _is_constant(overlap):
        return math.nan
    random = float((1 - overlap).mean())
    return (random - aurc(anomaly, overlap)) / (random - aurc_optimum(overlap))


def augrc(score: npt.ArrayLike, dice: npt.ArrayLike) -> float:
    """Area under the generalised risk-coverage curve of risk = 1 - Dice, in [0, 1/2], 0 is best.

    The generalised risk G_k = (1/n) sum of the risk of the k most confident masks starts at G_0 = 0, and
    AUGRC = (1/n) sum_{k=0}^{n-1} (G_k + G_{k+1}) / 2. A useless score gives half the mean risk.

    Raises:
        ValueError: see `pearson`.

    Source: Traub et al., NeurIPS 2024, arXiv 2407.01032.
    """
    anomaly, overlap = _score_and_dice(score, dice)
    coverage, risk = risk_coverage_curve(anomaly, 1 - overlap)
    return float(scipy.integrate.trapezoid(np.append(0, coverage * risk), np.append(0, coverage)))


def _correlation(function: Callable[..., Any], score: npt.ArrayLike, dice: npt.ArrayLike) -> float:
    anomaly, overlap = _score_and_dice(score, dice)
    # scipy answers a constant with NaN too, but with a warning for each of a thousand resamples.
    if _is_constant(anomaly) or _is_constant(overlap):
        return math.nan
    return float(function(anomaly, overlap).statistic)


def _is_constant(values: _Floats) -> bool:
    return bool(values.min() == values.max())


def _vector(values: npt.ArrayLike, name: str) -> _Floats:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1:
        raise ValueError(f"{name} must be 1D, got shape {array.shape}.")
    if array.size == 0:
        raise ValueError(f"{name} is empty.")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} contains NaN or infinite values.")
    return array


def _same_length(score: _Floats, other: npt.NDArray[Any], name: str) -> None:
    if score.shape != other.shape:
        raise ValueError(f"score and {name} must have the same length, got {score.size} and {other.size}.")


def _dice(dice: npt.ArrayLike) -> _Floats:
    values = _vector(dice, "dice")
    if values.min() < 0 or values.max() > 1:
        raise ValueError(f"dice must lie in [0, 1], got values from {values.min():g} to {values.max():g}.")
    return values


def _score_and_dice(score: npt.ArrayLike, dice: npt.ArrayLike) -> tuple[_Floats, _Floats]:
    anomaly, overlap = _vector(score, "score"), _dice(dice)
    _same_length(anomaly, overlap, "dice")
    return anomaly, overlap


def _score_and_failed(score: npt.ArrayLike, failed: npt.ArrayLike) -> tuple[_Floats, npt.NDArray[np.bool_]]:
    anomaly, labels = _vector(score, "score"), np.asarray(failed)
    if labels.dtype != np.bool_:
        raise ValueError(f"failed must be boolean, got {labels.dtype}.")
    if labels.ndim != 1:
        raise ValueError(f"failed must be 1D, got shape {labels.shape}.")
    _same_length(anomaly, labels, "failed")
    return anomaly, labels
