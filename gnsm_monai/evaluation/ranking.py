"""What a ranking is: its order, worst first, the content of summary.json, and the worth of every noise level."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import monai
import numpy as np
import torch

import gnsm_monai
from gnsm_monai.data.case_names import without_folder
from gnsm_monai.data.patients import patients_of
from gnsm_monai.evaluation.budget import review_budget
from gnsm_monai.evaluation.summary import correlation_summary, level_correlations
from gnsm_monai.rules.levels import stack_levels
from gnsm_monai.scoring.result import CaseResult, FailedCase, Result, by_folder, scored

__all__ = ["LEVEL_COLUMNS", "Ranking", "levels_table", "ranked", "ranking_summary"]


@dataclass(frozen=True)
class Ranking:
    """What a run of scoring found.

    Args:
        results: one per case, in the order of :func:`ranked`.
        summary: content of summary.json; empty on a process that wrote no files.
    """

    results: Sequence[Result]
    summary: Mapping[str, Any]

    @property
    def num_failed(self) -> int:
        """Cases that could not be scored."""
        return sum(isinstance(result, FailedCase) for result in self.results)


def ranked(results: Iterable[Result]) -> list[Result]:
    """Worst first, failed cases last; equal ones in the order of their ids. Empty masks have the highest score."""
    results = list(results)
    worst_first = sorted(scored(results), key=lambda result: (-result.decision.severity, result.case))
    highest = max((result.decision.anomaly for result in worst_first), default=0.0)
    failed = sorted((r for r in results if isinstance(r, FailedCase)), key=lambda result: result.case)
    return [*(replace(r, decision=r.decision.among(highest)) for r in worst_first), *failed]


LEVEL_COLUMNS = ("masks", "statistic", "level", "spearman", "pearson")


def ranking_summary(
    results: Sequence[Result],
    settings: Mapping[str, Any],
    seconds_per_case: float,
    failure_dice: Sequence[float] = (0.5, 0.7),
    seed: int = 0,
) -> dict[str, Any]:
    """The content of summary.json: counts, settings, versions, the review budget, and metrics where Dice is known.

    Args:
        results: all cases.
        settings: which model scored what, plain values.
        seconds_per_case: s.
        failure_dice: limits of Dice below which a mask is a failure; the review budget is for the last one.
        seed: of the bootstrap.
    """
    cases = scored(results)
    measured = [result for result in cases if result.has_dice]
    soft = [result.case for result in cases if result.soft]
    correct_empty = sum(result.correct_empty for result in cases)
    summary: dict[str, Any] = {
        "cases": len(results),
        "scored": len(cases),
        "failed": len(results) - len(cases),
        "flagged": sum(result.decision.flagged for result in cases),
        "with_reference": len(measured),
        **({"correct_empty": correct_empty} if correct_empty else {}),
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
    if cases and (len(measured) + correct_empty == len(cases) or _foreseen(cases)):
        summary["review_budget"] = review_budget(cases, failure_dice[-1])
    if measured:
        summary["metrics"] = _metrics(measured, failure_dice, seed)
        summary["metrics_per_folder"] = {
            folder: _metrics(members, failure_dice, seed) for folder, members in by_folder(measured).items()
        }
    return summary


def _foreseen(results: Sequence[CaseResult]) -> bool:
    """Whether the failure of each mask has a probability; a ranking without a model gives none."""
    return bool(np.isfinite([result.decision.failure_probability for result in results]).all())


def levels_table(results: Sequence[CaseResult]) -> list[dict[str, Any]]:
    """Correlation with Dice of every statistic at every level, pooled and per folder; rows of ``LEVEL_COLUMNS``.

    Args:
        results: cases with a measured Dice.
    """
    folders = by_folder(results)
    table = []
    for name, members in {"pooled": results, **(folders if len(folders) > 1 else {})}.items():
        dice = np.array([result.dice for result in members], dtype=np.float64)
        levels = stack_levels([result.levels for result in members])
        table += [{"masks": name, **entry} for entry in level_correlations(levels, dice)]
    return table


def _metrics(results: Sequence[CaseResult], failure_dice: Sequence[float], seed: int) -> dict[str, Any]:
    """Metrics against Dice. The bootstrap draws patients, who may have several cases, and masks in several folders."""
    patients = patients_of([without_folder(result.case) for result in results])
    scores = [result.decision.anomaly for result in results]
    dice = np.array([result.dice for result in results], dtype=np.float64)
    return correlation_summary(scores, dice, failure_dice, seed=seed, groups=patients)
