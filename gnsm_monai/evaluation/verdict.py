"""What a ranking says of each folder of masks as a whole: its mean Dice, its failures, and whether it is unusual."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from gnsm_monai.rules.calibration import p_values, q_values, unlike_references
from gnsm_monai.rules.held_out import Basis
from gnsm_monai.rules.predictors import CONFIDENCE
from gnsm_monai.scoring.result import CaseResult, FailedCase, Result, by_folder, scored

__all__ = ["Estimate", "FolderVerdict", "flagged_by_rate", "folder_verdicts"]

SIMULATIONS, MAX_VALUES = 1000, 5_000_000
"""Folders that are drawn for an interval, and values drawn at a time."""


@dataclass(frozen=True)
class Estimate:
    """A value with its 90 % interval; the ends are None where there are too few failures for one."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class FolderVerdict:
    """What is said of one folder of masks, ``folder`` being empty where there is only one.

    Args:
        folder: its name.
        cases, scored, flagged: numbers of masks.
        mean_dice: estimated from the anomaly scores, never from references; None where no mask was scored, and where
            the score does not follow Dice on held-out failures.
        failure_share: share of masks below ``failure_dice``, likewise.
        failure_dice: limit of a failure.
        measured_dice: mean over the masks that have a measured Dice; None without any.
        unlike_references: p-value of :func:`gnsm_monai.rules.calibration.unlike_references`; None without references.
    """

    folder: str
    cases: int
    scored: int
    flagged: int
    mean_dice: Estimate | None
    failure_share: Estimate | None
    failure_dice: float
    measured_dice: float | None
    unlike_references: float | None

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


def flagged_by_rate(results: Sequence[Result], rate: float | None) -> list[Result]:
    """The results with their q-values, folder by folder, and flagged by these if there is a ``rate``.

    Args:
        results: in any order, which is kept.
        rate: of false discoveries among those that are flagged, in (0, 1); None leaves the flags as they are.
    """
    decided: dict[str, CaseResult] = {}
    for members in by_folder(scored(results)).values():
        for result, q in zip(members, q_values(np.array([r.decision.p_value for r in members])).tolist(), strict=True):
            flagged = result.decision.flagged if rate is None else q <= rate
            decided[result.case] = replace(result, decision=replace(result.decision, q_value=q, flagged=flagged))
    return [result if isinstance(result, FailedCase) else decided[result.case] for result in results]


def folder_verdicts(results: Sequence[Result], basis: Basis, failure_dice: float, seed: int = 0) -> list[FolderVerdict]:
    """One per folder, in the order in which they come.

    Args:
        results: all cases.
        basis: see :class:`Basis`.
        failure_dice: a mask below this Dice is a failure.
        seed: of the draws.
    """
    references = basis.calibration.scores
    verdicts = []
    for folder, members in by_folder(results).items():
        cases = scored(members)
        measured = [result.dice for result in cases if result.has_dice]
        mean_dice = failure_share = None
        if cases and basis.held_out.follows_dice:
            mean_dice, failure_share = _estimates(cases, basis, failure_dice, seed)
        p = np.array([result.decision.p_value for result in cases])
        if len(basis.calibration.empty):  # the p-values of masks may be among empty references, or others, alone
            p = p_values(np.array([result.decision.anomaly for result in cases]), references)
        unlike = unlike_references(p, int(np.isfinite(references).sum()), seed)
        verdicts.append(
            FolderVerdict(
                folder,
                len(members),
                len(cases),
                sum(result.decision.flagged for result in cases),
                mean_dice,
                failure_share,
                failure_dice,
                float(np.mean(np.array(measured, dtype=np.float64))) if measured else None,
                unlike if np.isfinite(unlike) else None,
            )
        )
    return verdicts


def _estimates(cases: Sequence[CaseResult], basis: Basis, failure_dice: float, seed: int) -> tuple[Estimate, Estimate]:
    """Mean Dice and share of failures of the masks of one segmenter.

    A folder is one more kind of failure: all its masks share an error of the prediction, which varies between kinds. It
    is drawn from the prediction interval of a new member of a normal family (Higgins, Thompson and Spiegelhalter 2009,
    equation 12, with the kinds' means, sampling error included, as the members), and each mask's own error from what is
    left of the failures' errors.
    """
    held_out, rng = basis.held_out, np.random.default_rng(seed)
    predicted, spread = basis.calibration.dice.at(np.array([result.decision.anomaly for result in cases]))
    errors = held_out.kind_errors
    left = held_out.residuals - errors[held_out.kinds]
    count = len(errors)
    shared = np.full(SIMULATIONS, errors.mean())
    if count > 1:
        shared += rng.standard_t(count - 1, SIMULATIONS) * errors.std(ddof=1) * np.sqrt(1 + 1 / count)
    means, shares = [], []
    for part in np.array_split(shared, int(np.ceil(SIMULATIONS * len(cases) / MAX_VALUES))):
        drawn = rng.choice(left, (len(part), len(cases)))
        dice = (predicted + (part[:, None] + drawn) * spread).clip(0, 1)
        means.append(dice.mean(1))
        shares.append((dice < failure_dice).mean(1))
    first, second = (_estimate(np.concatenate(values), held_out.judges_folders) for values in (means, shares))
    return first, second


def _estimate(draws: np.ndarray, with_interval: bool) -> Estimate:
    """Median and interval of what was drawn."""
    low, middle, high = np.quantile(draws, [(1 - CONFIDENCE) / 2, 0.5, (1 + CONFIDENCE) / 2]).tolist()
    return Estimate(middle, low, high) if with_interval else Estimate(middle)
