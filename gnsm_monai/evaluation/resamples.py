"""The metrics of :mod:`gnsm_monai.evaluation.metrics` on all resamples of a bootstrap at once.

A resample is how often it draws each mask. Masks stay in one order then, and sums over it give every rank and every
area, so that a thousand resamples take about as long as ten that are drawn mask by mask.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from gnsm_monai.rules.resampling import Floats, Ordered, correlation

__all__ = ["resampled_metrics"]

MAX_VALUES = 1_000_000
"""Resamples times masks that are looked at together: 8 MB, of which some dozen arrays exist at a time."""


def resampled_metrics(
    score: Floats, dice: Floats, counts: npt.NDArray[np.integer[Any]], failure_dice: Sequence[float] = ()
) -> dict[str, Floats]:
    """Every metric of each resample, ``(B,)``; NaN where a resample leaves one undefined.

    Names are those of :func:`gnsm_monai.evaluation.summary.correlation_summary`.

    Args:
        score: anomaly per mask, ``(n,)``, higher = worse.
        dice: Dice per mask, ``(n,)``, in [0, 1].
        counts: how often each resample draws each mask, ``(B, n)``.
        failure_dice: a mask below this Dice counts as failed.
    """
    size = max(1, MAX_VALUES // len(score))
    parts = [
        dict(_metrics(score, dice, counts[start : start + size].astype(np.float64), failure_dice))
        for start in range(0, len(counts), size)
    ]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _metrics(
    score: Floats, dice: Floats, counts: Floats, failure_dice: Sequence[float]
) -> Iterator[tuple[str, Floats]]:
    by_score, by_dice = Ordered(score, counts), Ordered(dice, counts)
    either = by_score.constant | by_dice.constant
    yield "pearson", np.where(either, np.nan, correlation(score, dice, counts))
    yield "spearman", np.where(either, np.nan, correlation(by_score.ranks, by_dice.ranks, counts))
    yield "kendall", np.where(either, np.nan, _kendall(score, dice, counts, by_score, by_dice))
    for limit in failure_dice:
        failed = counts * (dice < limit)
        yield f"auroc_{limit:g}", _auroc(by_score, failed, counts)
        yield f"average_precision_{limit:g}", _average_precision(by_score, failed, counts)
    total = counts.sum(1)
    risk = (counts * (1 - dice)).sum(1) / total
    area, least = (_aurc(one, counts * (1 - dice)) for one in (by_score, Ordered(-dice, counts)))
    with np.errstate(invalid="ignore", divide="ignore"):
        share = (risk - area) / (risk - least)
    yield "aurc", area
    yield "e_aurc", area - least
    yield "norm_aurc", np.where(by_dice.constant, np.nan, share)
    yield "augrc", _augrc(by_score, counts * (1 - dice))


def _kendall(x: Floats, y: Floats, counts: Floats, by_x: Ordered, by_y: Ordered) -> Floats:
    """tau-b: of the pairs that are tied in neither, those in the same order less those in the other."""
    agreeing, size = np.zeros(len(counts)), max(1, MAX_VALUES // len(x))
    drawn = counts.astype(np.float32)  # exact: sums of whole numbers far below 2^24
    for start in range(0, len(x), size):
        some = slice(start, start + size)
        signs = np.sign(np.subtract.outer(x, x[some])) * np.sign(np.subtract.outer(y, y[some]))
        agreeing += (counts[:, some] * (drawn @ signs.astype(np.float32))).sum(1) / 2
    total = counts.sum(1)
    pairs = total * (total - 1) / 2
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(agreeing / np.sqrt((pairs - by_x.tied_pairs) * (pairs - by_y.tied_pairs)))


def _auroc(by_score: Ordered, failed: Floats, counts: Floats) -> Floats:
    positives = failed.sum(1)
    negatives = counts.sum(1) - positives
    above = (failed * by_score.ranks).sum(1) - positives * (positives + 1) / 2
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where((positives > 0) & (negatives > 0), above / (positives * negatives), np.nan)


def _average_precision(by_score: Ordered, failed: Floats, counts: Floats) -> Floats:
    positives = failed.sum(1)
    hits = by_score.sums(failed)[:, ::-1]  # from the worst score on
    reviewed = np.cumsum(by_score.drawn[:, ::-1], axis=1)
    steps = (hits * np.cumsum(hits, axis=1) / np.maximum(reviewed, 1)).sum(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where((positives > 0) & (positives < counts.sum(1)), steps / positives, np.nan)


def _aurc(ordered: Ordered, risks: Floats) -> Floats:
    """Area under the curve of the mean risk ``R_k`` of the first ``k`` masks, equal ones with their mean risk.

    After ``K`` masks of risk ``A`` in all, ``m`` of mean risk ``r`` have ``R_{K+j} = r + (A - K r) / (K + j)``: their
    sum is ``m r + (A - K r) (H(K + m) - H(K))``, with harmonic numbers ``H``.
    """
    summed, total = ordered.sums(risks), ordered.until[:, -1]
    mean = summed / np.maximum(ordered.drawn, 1)
    behind = np.cumsum(summed, axis=1) - summed
    harmonic = np.concatenate([[0.0], np.cumsum(1 / np.arange(1, int(total.max()) + 1))])
    stretch = harmonic[ordered.until.astype(np.intp)] - harmonic[ordered.before.astype(np.intp)]
    curve = (summed + (behind - ordered.before * mean) * stretch).sum(1)
    first = mean[np.arange(len(mean)), (ordered.drawn > 0).argmax(1)]
    return np.asarray((curve - (first + summed.sum(1) / total) / 2) / total)


def _augrc(ordered: Ordered, risks: Floats) -> Floats:
    """Area under the curve of ``G_k``, the risk of the first ``k`` masks over the number of all, from ``G_0 = 0``."""
    summed, total = ordered.sums(risks), ordered.until[:, -1]
    behind, m = np.cumsum(summed, axis=1) - summed, ordered.drawn
    curve = (m * behind + summed * (m + 1) / 2).sum(1)
    return np.asarray((curve - summed.sum(1) / 2) / total**2)
