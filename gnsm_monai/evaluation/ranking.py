"""What a ranking amounts to: the content of summary.json, and the table of every noise level's worth."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from typing import Any

import monai
import numpy as np
import torch

import gnsm_monai
from gnsm_monai.evaluation.budget import measured_budget, predicted_budget
from gnsm_monai.evaluation.summary import correlation_summary, level_correlations
from gnsm_monai.rules.levels import stack_levels

__all__ = ["LEVEL_COLUMNS", "has_dice", "levels_table", "ranking_summary"]

LEVEL_COLUMNS = ("masks", "statistic", "level", "spearman", "pearson")

Row = Mapping[str, Any]
"""A case as :class:`gnsm_monai.engines.ScoreStep` gives it."""


def has_dice(row: Row) -> bool:
    """Whether a case was scored and has a measured Dice."""
    dice = row.get("dice")
    return row["status"] == "ok" and dice is not None and not np.isnan(dice)


def ranking_summary(
    rows: Sequence[Row],
    settings: Mapping[str, Any],
    seconds_per_case: float,
    failure_dice: Sequence[float] = (0.5, 0.7),
    seed: int = 0,
) -> dict[str, Any]:
    """The content of summary.json: counts, settings, versions, the review budget, and metrics where Dice is known.

    Args:
        rows: all cases.
        settings: which model scored what, plain values.
        seconds_per_case: s.
        failure_dice: limits of Dice below which a mask is a failure; the review budget is for the last one.
        seed: of the bootstrap.
    """
    measured, scored = [row for row in rows if has_dice(row)], [row for row in rows if row["status"] == "ok"]
    soft = [row["case"] for row in rows if row.get("soft")]
    summary: dict[str, Any] = {
        "cases": len(rows),
        "scored": len(scored),
        "failed": len(rows) - len(scored),
        "flagged": sum(row.get("flag", 0) for row in scored),
        "with_reference": len(measured),
        "soft": {"cases": len(soft), "ids": soft},
        "seconds_per_case": seconds_per_case,
        "settings": {**settings, "failure_dice": list(failure_dice)},
        "versions": {
            "gnsm_monai": gnsm_monai.__version__,
            "monai": monai.__version__,
            "torch": torch.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
    }
    if scored:
        summary["review_budget"] = _budget(scored, measured, failure_dice[-1])
    if measured:
        summary["metrics"] = _metrics(measured, failure_dice, seed)
        summary["metrics_per_folder"] = {
            folder: _metrics(members, failure_dice, seed) for folder, members in _folders(measured).items()
        }
    return summary


def levels_table(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Correlation with Dice of every statistic at every level, pooled and per folder; rows of ``LEVEL_COLUMNS``."""
    folders = _folders(rows)
    table = []
    for name, members in {"pooled": rows, **(folders if len(folders) > 1 else {})}.items():
        levels, dice = stack_levels([row["levels"] for row in members]), np.array([row["dice"] for row in members])
        table += [{"masks": name, **entry} for entry in level_correlations(levels, dice)]
    return table


def _folders(rows: Sequence[Row]) -> dict[str, list[Row]]:
    folders: dict[str, list[Row]] = {}
    for row in rows:
        folders.setdefault(row["folder"], []).append(row)
    return folders


def _budget(scored: Sequence[Row], measured: Sequence[Row], limit: float) -> dict[str, Any]:
    """Measured where every mask has its reference; predicted for all of them otherwise."""
    if len(measured) == len(scored):
        return measured_budget([row["anomaly_score"] for row in scored], [row["dice"] for row in scored], limit)
    columns = ("anomaly_score", "failure_probability", "predicted_dice")
    scores, probabilities, dice = ([row[column] for row in scored] for column in columns)
    return predicted_budget(scores, probabilities, limit, predicted_dice=dice)


def _metrics(rows: Sequence[Row], failure_dice: Sequence[float], seed: int) -> dict[str, Any]:
    """Pooled over folders the same patient counts once in the bootstrap, however many masks of it there are."""
    patients = [row["case"].rsplit("/", 1)[-1] for row in rows]
    scores, dice = [row["anomaly_score"] for row in rows], [row["dice"] for row in rows]
    return correlation_summary(scores, dice, failure_dice, seed=seed, groups=patients)
