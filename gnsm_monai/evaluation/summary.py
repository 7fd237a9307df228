"""All metrics of a ranking at once, with bootstrap intervals, and the worth of every single level."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from gnsm_monai.evaluation.metrics import (
    _is_constant,
    _score_and_dice,
    augrc,
    aurc,
    auroc,
    average_precision,
    e_aurc,
    kendall,
    norm_aurc,
    pearson,
    spearman,
)
from gnsm_monai.evaluation.resamples import resampled_metrics
from gnsm_monai.rules.levels import LevelStatistics
from gnsm_monai.rules.resampling import draw_cases

__all__ = ["correlation_summary", "level_correlations"]

_Floats = npt.NDArray[np.float64]
_Metric = Callable[[_Floats, _Floats], float]
_MIN_CASES = 3


def correlation_summary(
    score: npt.ArrayLike,
    dice: npt.ArrayLike,
    failure_dice: Sequence[float] = (0.5, 0.7),
    n_bootstrap: int = 1000,
    seed: int = 0,
    confidence: float = 0.95,
    *,
    groups: npt.ArrayLike | None = None,
) -> dict[str, dict[str, Any]]:
    """Every metric of this module with a percentile bootstrap interval over cases; ready for JSON.

    Args:
        score: anomaly per mask, shape (n,), higher = worse.
        dice: Dice per mask, shape (n,), in [0, 1].
        failure_dice: a mask below this Dice counts as failed; one AUROC and one average precision per limit.
        n_bootstrap: resamples; all metrics see the same ones. Those on which a metric is undefined are left out of it.
        seed: of the resampling.
        confidence: of the interval, in (0, 1); names its key, `ci95` for 0.95.
        groups: case of each mask, shape (n,), when several masks belong to one case (the same patients segmented by
            several models). Whole cases are then drawn: intervals over masks would be too narrow.

    Returns:
        Keys pearson, spearman, kendall, auroc_0.5, average_precision_0.5, ... (one pair per limit), aurc, e_aurc,
        norm_aurc, augrc. Each is `{"value": float, "ci95": [low, high], "n": masks}`, the interval None in the rare
        event that no resample defines the metric, or `{"value": None, "reason": text}`.

    Raises:
        ValueError: as `pearson` does; also where `failure_dice`, `n_bootstrap`, `confidence` or `groups` is out of
            range.
    """
    anomaly, overlap = _score_and_dice(score, dice)
    case = _cases(groups, anomaly.size)
    if n_bootstrap < 1:
        raise ValueError(f"n_bootstrap must be at least 1, got {n_bootstrap}.")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie strictly between 0 and 1, got {confidence}.")
    metrics = _metrics(failure_dice)
    if case.max() + 1 < _MIN_CASES:
        return {name: {"value": None, "reason": f"fewer than {_MIN_CASES} cases"} for name in metrics}

    values = {name: metric(anomaly, overlap) for name, (metric, _) in metrics.items()}
    draws = resampled_metrics(anomaly, overlap, draw_cases(case, n_bootstrap, seed), failure_dice)
    summary: dict[str, dict[str, Any]] = {}
    for name, value in values.items():
        if not math.isnan(value):
            interval = _percentiles(draws[name], confidence)
            summary[name] = {"value": value, f"ci{100 * confidence:g}": interval, "n": anomaly.size}
        else:
            summary[name] = {"value": None, "reason": _why_undefined(overlap, metrics[name][1])}
    return summary


def _metrics(failure_dice: Sequence[float]) -> dict[str, tuple[_Metric, float | None]]:
    """Each metric of (score, Dice) by name, with the Dice below which it sees a failure, if it does."""
    table: dict[str, tuple[_Metric, float | None]] = {m.__name__: (m, None) for m in (pearson, spearman, kendall)}
    for limit in failure_dice:
        if not 0 < limit <= 1:
            raise ValueError(f"failure_dice must lie in (0, 1], got {limit}.")
        table[f"auroc_{limit:g}"] = (partial(_at_limit, auroc, limit), limit)
        table[f"average_precision_{limit:g}"] = (partial(_at_limit, average_precision, limit), limit)
    return table | {m.__name__: (m, None) for m in (aurc, e_aurc, norm_aurc, augrc)}


def _at_limit(metric: Callable[..., float], limit: float, score: _Floats, dice: _Floats) -> float:
    return metric(score, dice < limit)


def _why_undefined(dice: _Floats, limit: float | None) -> str:
    if limit is not None:
        return f"{'every' if (dice < limit).all() else 'no'} mask has Dice < {limit:g}"
    return f"{'Dice' if _is_constant(dice) else 'the anomaly score'} is the same for every mask"


def _cases(groups: npt.ArrayLike | None, n: int) -> npt.NDArray[np.intp]:
    """Number of the case of each mask, ``(n,)``."""
    cases = np.arange(n) if groups is None else np.asarray(groups)
    if cases.shape != (n,):
        raise ValueError(f"groups must have shape ({n},), got {cases.shape}.")
    return np.unique(cases, return_inverse=True)[1]


def _percentiles(values: _Floats, confidence: float) -> list[float] | None:
    defined = values[~np.isnan(values)]
    if not len(defined):
        return None
    return [float(bound) for bound in np.quantile(defined, [(1 - confidence) / 2, (1 + confidence) / 2])]


def level_correlations(levels: LevelStatistics, dice: npt.ArrayLike) -> list[dict[str, Any]]:
    """Spearman and Pearson correlation with Dice (-1 is best) of every statistic at every noise level.

    Args:
        levels: statistics of ``n`` masks.
        dice: Dice per mask, ``(n,)``.

    Returns:
        Rows ``statistic, level, spearman, pearson``, level ``mean`` being the mean over levels; statistics that the
        model does not have (NaN) are left out.
    """
    rows = []
    for name, values in levels.items():
        if not np.isfinite(values).all():
            continue
        columns = {**{str(level): values[:, level] for level in range(values.shape[1])}, "mean": values.mean(axis=1)}
        rows += [
            {"statistic": name, "level": level, "spearman": spearman(v, dice), "pearson": pearson(v, dice)}
            for level, v in columns.items()
        ]
    return rows
