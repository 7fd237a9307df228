"""What ``results.json`` says of each case, as the datastore of MONAI Label holds it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

__all__ = ["KEY", "NO_PREDICTION", "load_results", "record_of_cases", "say_of"]

Record = Mapping[str, Any]

KEY = "gnsm"
"""Name of a case's record in the information that the datastore holds of its image."""

NO_PREDICTION = "no prediction"
"""Status of a case that has no predicted label; others have the status of ``results.json``, ``ok`` or ``failed``."""

FIELDS = (
    "status", "rank", "anomaly_score", "p_value", "flag", "predicted_dice", "predicted_dice_low", "predicted_dice_high",
    "worst_structure", "worst_slice_axis", "worst_slice", "reason", "message",
)  # fmt: skip


def load_results(path: str | Path) -> dict[str, Any]:
    """The content of ``results.json``; one without cases where there is no such file yet."""
    path = Path(path)
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {"cases": []}
    return content


def record_of_cases(results: Mapping[str, Any], images: Iterable[str]) -> dict[str, dict[str, Any]]:
    """The record of every image of a datastore; one without a mask has the status :data:`NO_PREDICTION`."""
    cases = {case["case"]: {field: case.get(field) for field in FIELDS} for case in results["cases"]}
    return {image: cases.get(image, {"status": NO_PREDICTION}) for image in images}


def say_of(record: Record | None) -> str:
    """One sentence on a case that is given to an annotator."""
    if not record:
        return "not scored yet: POST /scoring/gnsm scores all predicted labels"
    if record["status"] == NO_PREDICTION:
        return "no predicted label"
    if record["status"] != "ok":
        return f"cannot be scored: {record['message']}"
    dice = record["predicted_dice"]
    estimate = "" if dice is None else f", predicted Dice {dice:.2f}"
    reason = f": {record['reason']}" if record["reason"] else ""
    return f"rank {record['rank']}{estimate}{reason}"
