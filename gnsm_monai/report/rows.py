"""The rows of a ranking's tables; results.json has the same fields by the same names."""

from __future__ import annotations

from typing import Any

import numpy as np

from gnsm_monai.scoring.decision import PredictedValue
from gnsm_monai.scoring.result import CaseResult, FailedCase, Result, StructureResult

__all__ = ["RANKING_COLUMNS", "SLICE_COLUMNS", "STRUCTURE_COLUMNS", "case_row", "slice_rows", "structure_fields"]

RANKING_COLUMNS = (
    "rank", "case", "status", "anomaly_score", "p_value", "flag", "predicted_dice", "predicted_dice_low",
    "predicted_dice_high", "worst_structure", "worst_slice_axis", "worst_slice", "dice", "message", "q_value",
    "predicted_distance_mm", "predicted_distance_mm_low", "predicted_distance_mm_high", "reason",
    "disagreement",
)  # fmt: skip
STRUCTURE_COLUMNS = (
    "case", "structure", "anomaly_score", "p_value", "volume_ml", "dice", "predicted_dice", "predicted_dice_low",
    "predicted_dice_high", "predicted_distance_mm", "predicted_distance_mm_low", "predicted_distance_mm_high",
    "contacts",
)  # fmt: skip
SLICE_COLUMNS = ("case", "axis", "slice", "anomaly_score")


def case_row(rank: int, result: Result) -> dict[str, Any]:
    """The line of a case in ranking.csv, by column; columns that do not apply are left out."""
    row = {"rank": rank, "case": result.case, "status": result.status}
    if isinstance(result, FailedCase):
        return {**row, "message": result.message}
    decision, place = result.decision, result.place
    return {
        **row,
        "anomaly_score": decision.anomaly,
        "p_value": decision.p_value,
        "flag": int(decision.flagged),
        "predicted_dice": decision.predicted_dice,
        "predicted_dice_low": decision.predicted_dice_low,
        "predicted_dice_high": decision.predicted_dice_high,
        "worst_structure": place.structure,
        "worst_slice_axis": place.slice_axis,
        "worst_slice": place.slice_index,
        "dice": result.dice,
        "message": result.note or None,
        "q_value": decision.q_value,
        **predicted_fields("predicted_distance_mm", decision.distance),
        "reason": result.reason,
        "disagreement": result.disagreement,
    }


def structure_fields(entry: StructureResult) -> dict[str, Any]:
    """What structures.csv and results.json say of a structure."""
    return {
        "structure": entry.name,
        "anomaly_score": entry.anomaly,
        "p_value": entry.p_value,
        "volume_ml": entry.volume_ml,
        "dice": entry.dice,
        **predicted_fields("predicted_dice", entry.predicted_dice),
        **predicted_fields("predicted_distance_mm", entry.distance),
        "contacts": entry.contacts,
    }


def predicted_fields(name: str, predicted: PredictedValue) -> dict[str, float]:
    return {name: predicted.value, f"{name}_low": predicted.low, f"{name}_high": predicted.high}


def slice_rows(result: CaseResult) -> list[dict[str, Any]]:
    """The slices of a case that hold something, in their order; none of a 2D mask."""
    slices = result.slices
    if slices is None:
        return []
    shown = np.flatnonzero(np.isfinite(slices.scores)).tolist()
    return [{"case": result.case, "axis": slices.axis, "slice": i, "anomaly_score": slices.scores[i]} for i in shown]
