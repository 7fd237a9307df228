"""``results.json``: a ranking for programs, all in one file of plain JSON; docs/results_json.md describes it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from gnsm_monai.report.rows import RANKING_COLUMNS, case_row, structure_fields
from gnsm_monai.scoring.result import CaseResult, Result

__all__ = ["RESULTS_VERSION", "results_content"]

RESULTS_VERSION = 1
"""Raised when a field changes its meaning or goes; new fields do not raise it."""

OF_MODEL = ("model_dir", "weights_sha256", "anomaly_score", "structures")
OF_RANKING = ("score_on_failures", "verdict", "limits", "folders")
"""What it shares with summary.json; null where the ranking has none."""


def results_content(results: Sequence[Result], summary: Mapping[str, Any]) -> dict[str, Any]:
    """The content of results.json: no NaN, and every case has the same fields.

    Args:
        results: in the order of :func:`gnsm_monai.evaluation.ranking.ranked`.
        summary: content of summary.json.
    """
    settings = summary["settings"]
    return {
        "version": RESULTS_VERSION,
        "gnsm_monai": summary["versions"]["gnsm_monai"],
        "model": {name: settings.get(name) for name in OF_MODEL},
        "alpha": settings.get("alpha"),
        "fdr": settings.get("fdr"),
        "failure_dice": settings["failure_dice"][-1],
        **{name: summary.get(name) for name in OF_RANKING},
        "folder_itself": settings.get("folder_itself"),
        "cases": [_case(rank, result) for rank, result in enumerate(results, start=1)],
    }


def _case(rank: int, result: Result) -> dict[str, Any]:
    """The fields of ranking.csv, and what that has no room for."""
    row = {**dict.fromkeys(RANKING_COLUMNS), **_plain(case_row(rank, result)), "folder": result.folder}
    if not isinstance(result, CaseResult):
        return {**row, "empty": None, "soft": None, "complete": None, "structures": []}
    decision, structures = result.decision, [_plain(structure_fields(entry)) for entry in result.structures]
    flags = {"flag": decision.flagged, "empty": decision.empty, "soft": result.soft, "complete": result.complete}
    return {**row, **flags, "structures": structures}


def _plain(fields: Mapping[str, Any]) -> dict[str, Any]:
    """JSON has no NaN and no infinity."""
    unusable = {name for name, value in fields.items() if isinstance(value, float) and not math.isfinite(value)}
    return {name: None if name in unusable else value for name, value in fields.items()}
