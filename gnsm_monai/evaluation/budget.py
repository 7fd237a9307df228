"""What a review of the worst masks finds: the share of failures, and the risk that remains in the others.

A failure is a mask of Dice below a limit. Where references exist the budget is measured; without them it is predicted
from each mask's probability of failure. Masks of equal score are reviewed in random order, and the mean over all
orders is given.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from gnsm_monai.evaluation.metrics import _dice, _same_length, _score_and_dice, _vector
from gnsm_monai.scoring.result import CaseResult

__all__ = ["BUDGETS", "measured_budget", "predicted_budget", "review_budget"]

_Floats = npt.NDArray[np.float64]

BUDGETS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5)
"""Shares of the masks that are reviewed."""


def review_budget(results: Sequence[CaseResult], failure_dice: float) -> dict[str, Any]:
    """Measured where the reference of every mask is known; predicted for all of them otherwise.

    A correct empty mask has no Dice and is no failure: it counts as a Dice of 1.

    Args:
        results: one at least.
        failure_dice: a mask below this Dice is a failure, and the limit that ``failure_probability`` is for.
    """
    scores = [result.decision.anomaly for result in results]
    dice = [1.0 if result.correct_empty else result.dice for result in results]
    measured = [value for value in dice if value is not None]
    if len(measured) == len(results):
        return measured_budget(scores, measured, failure_dice)
    probabilities = [result.decision.failure_probability for result in results]
    predicted = [result.decision.predicted_dice for result in results]
    return predicted_budget(scores, probabilities, failure_dice, predicted_dice=predicted)


def measured_budget(
    score: npt.ArrayLike, dice: npt.ArrayLike, failure_dice: float, budgets: Sequence[float] | None = None
) -> dict[str, Any]:
    """What a review of the k worst masks finds, counted against references; ready for JSON.

    Args:
        score: anomaly per mask, shape (n,), higher = worse.
        dice: Dice per mask, shape (n,), in [0, 1].
        failure_dice: a mask below this Dice is a failure; in (0, 1].
        budgets: shares of the masks that are reviewed, each in (0, 1]; default `BUDGETS`. The k of a share is rounded
            up; shares of equal k give one row.

    Returns:
        Keys failure_dice, source ("measured"), failures (their number) and budget, rows of rising k:
        reviewed (k), share_reviewed (k / n), share_found (of the failures, None where there is none), failures_left
        (not reviewed) and residual_risk (mean 1 - Dice of the masks that are not reviewed; 0 where all are).

    Raises:
        ValueError: as `pearson` of `gnsm_monai.evaluation.metrics` does, or a limit or budget is out of range.
    """
    anomaly, overlap = _score_and_dice(score, dice)
    failed = (overlap < _limit(failure_dice)).astype(np.float64)
    rows = _rows(anomaly, failed, 1 - overlap, budgets)
    return {"failure_dice": float(failure_dice), "source": "measured", "failures": int(failed.sum()), "budget": rows}


def predicted_budget(
    score: npt.ArrayLike,
    failure_probability: npt.ArrayLike,
    failure_dice: float,
    budgets: Sequence[float] | None = None,
    predicted_dice: npt.ArrayLike | None = None,
) -> dict[str, Any]:
    """What a review of the k worst masks is expected to find, without references; ready for JSON.

    Args:
        score: anomaly per mask, shape (n,), higher = worse.
        failure_probability: of a Dice below the limit, per mask, shape (n,), in [0, 1].
        failure_dice: the limit that these probabilities are for.
        budgets: see `measured_budget`.
        predicted_dice: expected Dice per mask, shape (n,), in [0, 1]; residual_risk is None without it.

    Returns:
        As `measured_budget`, with source "predicted" and expected values: failures is the expected number of failures,
        share_found the expected number found of it (None where it is 0). No independence between masks is assumed.

    Raises:
        ValueError: as `measured_budget`.
    """
    anomaly, probability = _vector(score, "score"), _vector(failure_probability, "failure_probability")
    _same_length(anomaly, probability, "failure_probability")
    if probability.min() < 0 or probability.max() > 1:
        raise ValueError("failure_probability must lie in [0, 1].")
    risk = None
    if predicted_dice is not None:
        risk = 1 - _dice(predicted_dice)
        _same_length(anomaly, risk, "predicted_dice")
    expected = {"failure_dice": _limit(failure_dice), "source": "predicted", "failures": float(probability.sum())}
    return {**expected, "budget": _rows(anomaly, probability, risk, budgets)}


def _rows(
    anomaly: _Floats, failed: _Floats, risk: _Floats | None, budgets: Sequence[float] | None
) -> list[dict[str, Any]]:
    """One row per number of reviewed masks; `failed` holds 0, 1 or a probability."""
    total = float(failed.sum())
    left, risk_left = _left(anomaly, failed), None if risk is None else _left(anomaly, risk)
    rows = []
    for k in _counts(BUDGETS if budgets is None else budgets, anomaly.size):
        unseen = anomaly.size - k
        rows.append(
            {
                "reviewed": k,
                "share_reviewed": k / anomaly.size,
                "share_found": 1 - float(left[k]) / total if total > 0 else None,
                "failures_left": float(left[k]),
                "residual_risk": None if risk_left is None else float(risk_left[k]) / unseen if unseen else 0.0,
            }
        )
    return rows


def _left(anomaly: _Floats, loss: _Floats) -> _Floats:
    """Sum of the loss over the masks that remain after the k worst, for k = 0..n; shape (n + 1,)."""
    order = np.argsort(anomaly, kind="stable")  # the best first: what remains is summed, not a difference of sums
    tie = np.cumsum(np.diff(anomaly[order], prepend=anomaly[order[0]]) > 0)
    expected = (np.bincount(tie, weights=loss[order]) / np.bincount(tie))[tie]  # equal scores, random order
    return np.concatenate([[0.0], np.cumsum(expected)])[::-1]


def _counts(budgets: Sequence[float], n: int) -> list[int]:
    if any(not 0 < share <= 1 for share in budgets):
        raise ValueError(f"budgets must lie in (0, 1], got {list(budgets)}.")
    return sorted({math.ceil(round(share * n, 9)) for share in budgets})  # 0.07 * 100 is a little more than 7


def _limit(failure_dice: float) -> float:
    if not 0 < failure_dice <= 1:
        raise ValueError(f"the limit of a failure must lie in (0, 1], got {failure_dice}.")
    return float(failure_dice)
