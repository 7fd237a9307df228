"""The Dice that nnU-Net measured itself: summary.json of a folder of predictions."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path, PureWindowsPath
from typing import Any

import numpy as np

from gnsm_monai.data.case_names import case_id
from gnsm_monai.data.constants import LABEL
from gnsm_monai.data.datalist import Case
from gnsm_monai.data.nnunet import LabelScheme
from gnsm_monai.errors import InputError
from gnsm_monai.files import load_json

__all__ = ["add_summary_dice", "read_summary_dice"]

FILE = "summary.json"


def add_summary_dice(cases: Sequence[Case], scheme: LabelScheme) -> list[Case]:
    """The cases, each with the ``dice`` that the summary.json beside its mask gives, if there is one.

    Raises:
        InputError: see :func:`read_summary_dice`.
    """
    folders = {folder: read_summary_dice(folder, scheme) for folder in {case[LABEL].parent for case in cases}}
    with_dice = []
    for case in cases:
        dice = folders[case[LABEL].parent].get(case_id(case[LABEL]) or "")
        with_dice.append(case if dice is None else {**case, "dice": dice})
    return with_dice


def read_summary_dice(folder: str | Path, scheme: LabelScheme) -> dict[str, np.ndarray]:
    """Dice per structure, ``(S,)`` float64, of every case in ``folder/summary.json``; NaN where in neither mask.

    Empty without the file, or where it is no nnU-Net summary (other programs, this one too, write files of that name).

    Args:
        folder: of predictions, such as ``fold_0/validation``.
        scheme: whose structures the metrics are found for, by the label values that each consists of.

    Raises:
        InputError: the file is damaged, lacks a structure, or has a Dice outside [0, 1].
    """
    path = Path(folder) / FILE
    if not path.is_file():
        return {}
    cases = load_json(path).get("metric_per_case")
    if not isinstance(cases, list):
        return {}
    dice_of: dict[str, np.ndarray] = {}
    for entry in cases:
        file = entry.get("prediction_file") if isinstance(entry, dict) else None
        metrics = entry.get("metrics") if isinstance(entry, dict) else None
        if not isinstance(file, str) or not isinstance(metrics, dict):
            raise InputError(f"{path}: an entry of metric_per_case lacks its prediction_file or metrics")
        name = PureWindowsPath(file).name  # which splits at either kind of slash: the file may be from anywhere
        by_values = {_label_values(key, path): metric for key, metric in metrics.items()}
        dice_of[case_id(Path(name)) or name] = np.array([
            _dice(by_values.get(frozenset(scheme.values[c] for c in classes)), structure, path)
            for structure, classes in zip(scheme.structure_names, scheme.structure_classes, strict=True)
        ])  # fmt: skip
    return dice_of


def _label_values(key: str, path: Path) -> frozenset[int]:
    """The values of a label ("1") or region ("(1, 2)")."""
    if not re.fullmatch(r"\d+|\(\d+(, ?\d+)*,?\)", key):
        raise InputError(f"{path}: {key!r} is neither a label nor a region")
    return frozenset(int(number) for number in re.findall(r"\d+", key))


def _dice(metric: Any, structure: str, path: Path) -> float:
    if not isinstance(metric, Mapping) or "Dice" not in metric:
        raise InputError(f"{path}: no Dice of '{structure}': were the masks made for other labels?")
    value = math.nan if metric["Dice"] is None else metric["Dice"]
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value < 0 or value > 1:
        raise InputError(f"{path}: {value!r} is no Dice")
    return float(value)
