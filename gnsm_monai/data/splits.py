"""Which references train the network, which select the score's rule, and which calibrate it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from gnsm_monai.data.datalist import Case
from gnsm_monai.data.patients import numbered
from gnsm_monai.errors import InputError

__all__ = ["check_enough", "split_references"]

ENOUGH = 19
"""Fewest held-out references with which a mask can be flagged at the usual ``alpha`` of 0.05: 1 / (19 + 1)."""


def check_enough(cases: Sequence[Case]) -> None:
    """Raises InputError for fewer than 8 references, which leave nothing to learn from."""
    if len(cases) < 8:
        folder = f"{Path(cases[0]['label']).parent}: " if cases else ""
        raise InputError(f"{folder}at least 8 reference label maps are needed, found {len(cases)}")


def split_references(
    cases: Sequence[Case],
    seed: int = 0,
    selection: float = 0.14,
    calibration: float = 0.26,
    structured: Sequence[bool] | None = None,
) -> list[Case]:
    """Gives every reference one ``use``: training of the network, selection of the score's rule, or its calibration.

    Those of selection and of calibration are held out from the score network, and both give p-values. Where half of the
    references make :data:`ENOUGH` of them, calibration takes as many as are lacking. The models of shapes
    (:mod:`gnsm_monai.fitting.shapes`) may learn from held-out references, but judge none that they have seen.
    References without a structure are dealt out in proportion, so that every part has some with structures: nothing can
    fail in an empty one.

    All references of a patient have the same use: one that has helped to train makes the others look better than those
    of a new patient.

    Args:
        cases: reference cases; those with a ``patient`` are dealt out together with all others of that patient.
        seed: of the shuffle.
        selection: share of the patients for validation in training, the choice and fit of the rule, and the predicted
            Dice.
        calibration: the same for the interval of the predicted Dice, and for p-values beside those of selection.
        structured: whether each case has a structure; all by default.

    Raises:
        InputError: fewer than 8 cases, or fewer than 3 patients with a structure, one for each use.
    """
    check_enough(cases)
    has_structure = np.ones(len(cases), dtype=bool) if structured is None else np.asarray(structured, dtype=bool)
    patient = numbered([str(case.get("patient", case["case"])) for case in cases])
    count = int(patient.max()) + 1
    filled = np.bincount(patient, has_structure, count) > 0
    if filled.sum() < 3:
        several = "label maps" if count == len(cases) else "patients"
        raise InputError(
            f"{Path(cases[0]['label']).parent}: structures are needed in at least 3 {several}, to train on, to select "
            f"the score on and to calibrate it on; found them in {filled.sum()}"
        )
    fewest = min(2, count // 3)
    total = np.array([max(fewest, round(share * count)) for share in (selection, calibration)])
    if len(cases) >= 2 * ENOUGH:
        total[1] = max(total[1], math.ceil(ENOUGH * count / len(cases)) - total[0])
    least = min(2, filled.sum() // 3)
    of_filled = np.maximum(least, np.rint(total * filled.mean()).astype(int))
    uses, rng = np.empty(count, dtype=object), np.random.default_rng(seed)
    for where, held_out in ((filled, of_filled), (~filled, total - of_filled)):
        dealt = np.repeat(["train", "selection", "calibration"], [where.sum() - held_out.sum(), *held_out])
        rng.shuffle(dealt)
        uses[where] = dealt
    return [{**case, "use": str(uses[number])} for case, number in zip(cases, patient, strict=True)]
