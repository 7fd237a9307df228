"""Results of scoring, made up."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields
from typing import Any

import numpy as np

from gnsm_monai.rules.statistics import STATISTICS
from gnsm_monai.scoring.decision import Decision
from gnsm_monai.scoring.result import CaseResult, Place, Result, scored

DECISION = {field.name for field in fields(Decision)}


def case_result(case: str = "a", **values: Any) -> CaseResult:
    """A scored case; ``values`` are fields of the result, or of its decision."""
    decision: dict[str, Any] = {
        "anomaly": 0.5, "p_value": 0.5, "flagged": False, "predicted_dice": 0.8, "predicted_dice_low": 0.7,
        "predicted_dice_high": 0.9, "failure_probability": 0.2, "empty": False,
    }  # fmt: skip
    decision |= {name: values.pop(name) for name in DECISION & set(values)}
    result: dict[str, Any] = {"folder": "", "structures": (), "place": Place(), "reason": ""}
    result["levels"] = {name: np.ones(2) for name in STATISTICS}
    return CaseResult(case, decision=Decision(**decision), **{**result, **values})


def anomalies(results: Iterable[Result]) -> list[float]:
    """Scores of those that were scored, in their order."""
    return [result.decision.anomaly for result in scored(results)]
