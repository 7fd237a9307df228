"""Verdicts in words: how far the score can be trusted, what is estimated of a folder, and what cannot be said."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gnsm_monai.evaluation.verdict import FolderVerdict, folder_verdicts
from gnsm_monai.report.wording import MISSING, p_text, share
from gnsm_monai.rules.calibration import smallest_p_value
from gnsm_monai.rules.held_out import MIN_KINDS, Basis, HeldOut
from gnsm_monai.rules.predictors import MIN_FAILURES
from gnsm_monai.scoring.result import Result

__all__ = [
    "UNLIKE", "folder_lines", "folder_text", "limits_text", "overall_text", "score_text", "verdict_summary",
]  # fmt: skip

UNLIKE = 0.05
"""A folder is called unlike the references where its p-value is at most this."""

NO_ESTIMATE = "Mean Dice cannot be estimated: the score hardly follows Dice on held-out failures."

ADVICE = {
    "strong": "Of two such failures at least four times in five the worse one is ranked worse.",
    "fair": "Of two such failures two times in three the worse one is ranked worse: review further down the list.",
    "weak": "The order is little better than chance: do not stop reviewing where the ranking looks good. "
    "Train with more references, longer, or with images (--condition-on-image).",
    "none": "The order says nothing of Dice: do not use this ranking. "
    "Train with more references, longer, or with images (--condition-on-image).",
}
"""What each strength of a score means, and what to do."""


def verdict_summary(results: Sequence[Result], basis: Basis, failure_dice: float, seed: int) -> dict[str, Any]:
    """The part of summary.json on how far the score can be trusted, and on every folder as a whole."""
    verdicts = folder_verdicts(results, basis, failure_dice, seed)
    held_out = basis.held_out
    return {
        "score_on_failures": {
            "strength": held_out.strength,
            "spearman": held_out.spearman if math.isfinite(held_out.spearman) else None,
            "failures": held_out.failures,
            "text": score_text(held_out),
        },
        "verdict": overall_text(verdicts),
        "folders": [{**verdict.to_dict(), "text": folder_text(verdict)} for verdict in verdicts],
        "limits": limits_text(basis),
    }


def score_text(held_out: HeldOut) -> str:
    """How well the score did on held-out failures, and what to do."""
    if held_out.strength == "unknown":
        reason = f"{held_out.failures} failures of held-out references are too few to tell, {MIN_FAILURES} are needed"
        if held_out.failures >= MIN_FAILURES:
            reason = "this model does not tell"
        return f"unknown: {reason}. Compare some masks with references before you rely on the order."
    failures = f"on {held_out.failures} failures"
    if held_out.apart:
        failures = f"on false structures or on other failures, where it is weaker, {held_out.failures} or more of each"
    figure = f"Spearman correlation with Dice {held_out.spearman:.2f} {failures}, -1 is best"
    return f"{held_out.strength} ({figure}). {ADVICE[held_out.strength]}"


def folder_text(verdict: FolderVerdict) -> str:
    """What is estimated of a folder, in one line."""
    if not verdict.scored:
        return "No mask could be scored."
    text = _estimated(verdict)
    if verdict.unlike_references is not None:
        unlike = "unlike" if verdict.unlike_references <= UNLIKE else "not unlike"
        text += f" As a whole {unlike} the references (p = {p_text(verdict.unlike_references)})."
    return text


def _estimated(verdict: FolderVerdict) -> str:
    dice, failed = verdict.mean_dice, verdict.failure_share
    if dice is None or failed is None:
        return NO_ESTIMATE
    text = f"Estimated mean Dice {share(dice.value)}"
    text += "" if dice.low is None else f" (90 % interval {share(dice.low)} to {share(dice.high)})"
    text += f"; {100 * failed.value:.0f} % of the masks below {verdict.failure_dice:g}"
    if failed.low is not None and failed.high is not None:
        text += f" ({100 * failed.low:.0f} to {100 * failed.high:.0f} %)"
    few = "" if dice.low is not None else " There are too few held-out failures for an interval."
    return f"{text}.{few}"


def overall_text(verdicts: Sequence[FolderVerdict]) -> str:
    """One line for the whole ranking: that of its only folder, or the range of several."""
    if len(verdicts) == 1:
        return folder_text(verdicts[0])
    if not any(verdict.scored for verdict in verdicts):
        return "No mask could be scored."
    dice = [verdict.mean_dice.value for verdict in verdicts if verdict.mean_dice is not None]
    p_values = [verdict.unlike_references for verdict in verdicts if verdict.unlike_references is not None]
    estimated = f"estimated mean Dice {share(min(dice))} to {share(max(dice))}." if dice else NO_ESTIMATE
    text = f"{len(verdicts)} folders: {estimated}"
    if p_values:
        text += f" As a whole unlike the references: {sum(p <= UNLIKE for p in p_values)} of {len(p_values)}."
    return text


def limits_text(basis: Basis) -> list[str]:
    """What this model cannot say, a sentence each."""
    calibration, held_out = basis.calibration, basis.held_out
    sentences = []
    if (count := int(np.isfinite(calibration.scores).sum())) < MIN_FAILURES:
        sentences.append(
            f"{count} held-out references give no p-value below {smallest_p_value(calibration.scores):.3f}: "
            f"a flag at alpha 0.05 needs {MIN_FAILURES}."
        )
    if (count := len(calibration.dice.residuals)) < MIN_FAILURES:
        sentences.append(
            f"Predicted Dice has no interval: 90 % need {MIN_FAILURES} failures of calibration references, "
            f"there are {count}."
        )
    if not held_out.judges_folders:
        count, kinds = len(held_out.residuals), len(np.unique(held_out.kinds))
        sentences.append(
            f"What is estimated of a folder has no interval: this needs {MIN_FAILURES} failures of {MIN_KINDS} kinds, "
            f"there are {count} of {kinds}."
        )
    if calibration.parts is None:
        sentences.append(
            "Surface distances and the Dice of structures are not predicted: the model is of an earlier version."
        )
    elif calibration.parts.distance is None:
        sentences.append("Surface distances are not predicted: the score does not follow them on held-out failures.")
    return sentences


def folder_lines(folders: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """The folders of :func:`verdict_summary` as lines of a table."""
    return [
        {
            "folder": entry["folder"],
            "mean_dice": _cell(entry["mean_dice"], 1, 2),
            "failure_share": _cell(entry["failure_share"], 100, 0, " %"),
            "measured": share(entry["measured_dice"]),
            "p_value": p_text(entry["unlike_references"]),
        }
        for entry in folders
    ]


def _cell(estimate: Mapping[str, Any] | None, scale: float, decimals: int, unit: str = "") -> str:
    """Value and interval of an estimate, such as ``0.71 (0.65 to 0.79)``."""
    if estimate is None:
        return MISSING
    value, low, high = (
        "" if estimate[name] is None else f"{scale * estimate[name]:.{decimals}f}" for name in ("value", "low", "high")
    )
    return f"{value} ({low} to {high}){unit}" if low else value + unit
