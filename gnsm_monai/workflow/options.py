"""Values that users set: what is wrong with them is said before anything is read or written."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from gnsm_monai.errors import InputError, exit_on_input_error
from gnsm_monai.fitting.reference_failures import SOURCES
from gnsm_monai.handlers.checkpoint import CHECKPOINT
from gnsm_monai.losses import LOSSES
from gnsm_monai.noise import NoiseSchedule, build_schedule
from gnsm_monai.scoring.model_files import SETTINGS
from gnsm_monai.scoring.rules import RULES

__all__ = [
    "check_case_ids",
    "check_device",
    "check_folder_name",
    "check_model_dir",
    "check_output_dir",
    "check_scoring_options",
    "check_switches",
    "check_training_options",
    "check_whole_numbers",
    "noise_schedule",
    "score_soft",
]


MOST = 2**32 - 1
"""The largest seed that numpy takes, and more than any other whole number that is set can mean."""


@exit_on_input_error()
def check_training_options(
    loss: str, anomaly_score: str, failures: str, device: str, sees_images: bool = False, **positive: float
) -> None:
    """Refuses option values that would fail in the middle of a training, before anything is read or written."""
    if not isinstance(loss, str) or loss not in LOSSES:
        raise InputError(f"loss: '{loss}' is not one of {', '.join(LOSSES)}")
    known = ["auto", *(name for name, rule in RULES.items() if loss == "posterior" or rule[0] == ("score_norm",))]
    if anomaly_score not in known:
        raise InputError(f"anomaly_score: '{anomaly_score}' is not one of {', '.join(known)} (with loss {loss})")
    if not sees_images and anomaly_score != "auto" and "doubt" in RULES[anomaly_score][0]:
        raise InputError(f"anomaly_score: '{anomaly_score}' needs a network that sees images: condition_on_image")
    if failures not in SOURCES:
        raise InputError(f"failures: '{failures}' is not one of {', '.join(SOURCES)}")
    for name, value in positive.items():
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0:
            raise InputError(f"{name}: must be a positive number, got {value!r}")
    check_device(device)


@exit_on_input_error()
def check_whole_numbers(least: int, **values: Any) -> None:
    """Refuses option values that are no whole numbers, below ``least``, or above what a seed may be."""
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise InputError(f"{name}: must be a whole number of at least {least}, got {value!r}")
        if value > MOST:
            raise InputError(f"{name}: must be a whole number of at most {MOST}, got {value!r}")


def check_folder_name(name: str, value: Any) -> None:
    """Raises InputError for what cannot name a folder; on MONAI's command line 7 is a number."""
    if value and not isinstance(value, (str, Path)):
        raise InputError(f"{name}: the name of a folder is needed, got {value!r}: write it as ./{value}")


def check_case_ids(name: str, value: Any) -> None:
    """Raises InputError for what is no list of case ids."""
    if not isinstance(value, (list, tuple)) or not all(isinstance(case, str) for case in value):
        raise InputError(f"{name}: a list of case ids is needed, got {value!r}")


@exit_on_input_error()
def check_switches(**values: Any) -> None:
    """Refuses option values that are neither true nor false: any other word would count as true."""
    for name, value in values.items():
        if not isinstance(value, bool):
            raise InputError(f"{name}: True or False is needed, got {value!r}")


@exit_on_input_error()
def check_scoring_options(failure_dice: Sequence[float], alpha: float, soft: str | bool, device: str) -> None:
    """Refuses option values that would fail after all masks were scored."""
    values = failure_dice if isinstance(failure_dice, (list, tuple)) else [failure_dice]
    if not all(isinstance(value, (int, float)) and 0 < value <= 1 for value in values):
        raise InputError(f"failure_dice: a list of numbers in (0, 1] is needed, got {failure_dice!r}")
    if isinstance(alpha, bool) or not isinstance(alpha, (int, float)) or not 0 < alpha < 1:
        raise InputError(f"alpha: must be a number between 0 and 1, got {alpha!r}")
    score_soft(soft)
    check_device(device)


@exit_on_input_error()
def check_output_dir(output_dir: str | Path, *inputs: Any) -> None:
    """Refuses a folder that cannot be written to, or that is one of the inputs, without making it.

    Results beside predictions would replace the summary.json that nnU-Net wrote there.

    Args:
        output_dir: of the results.
        inputs: a folder, a list of folders or None each.
    """
    if not isinstance(output_dir, (str, Path)):  # on MONAI's command line 7 is a number
        raise InputError(f"output folder: a name is needed, got {output_dir!r}: write it as ./{output_dir}")
    path = Path(output_dir).absolute()
    for given in inputs:
        for folder in given if isinstance(given, (list, tuple)) else [given]:
            if isinstance(folder, (str, Path)) and Path(folder).resolve() == path.resolve():
                raise InputError(f"{output_dir}: holds what is to be read: name another folder for what is written")
    nearest = next(folder for folder in (path, *path.parents) if folder.exists() or folder.is_symlink())
    if not nearest.is_dir():
        raise InputError(f"{output_dir}: no folder can be made here: {nearest} is a file")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise InputError(f"{output_dir}: cannot be written to")


@exit_on_input_error()
def check_model_dir(model_dir: str | Path, dataset_dir: Any = None, labels_dir: Any = None) -> None:
    """:func:`check_output_dir` for a model, whose licence, docs and configs must not replace those of anything else."""
    check_folder_name("dataset_dir", dataset_dir)
    check_folder_name("labels_dir", labels_dir)
    dataset = [Path(dataset_dir) / part for part in ("", "labelsTr", "imagesTr")] if dataset_dir else []
    check_output_dir(model_dir, *dataset, labels_dir)
    folder = Path(model_dir)
    if not any((folder / name).exists() for name in (SETTINGS, CHECKPOINT)):
        for name in ("LICENSE", "configs", "docs"):
            if (folder / name).exists():
                raise InputError(f"{folder / name}: is of no model: name a new folder for the model, or an empty one")


def check_device(device: str) -> None:
    """Raises InputError where torch has no such device."""
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, TypeError, ValueError) as error:
        raise InputError(f"device: '{device}' cannot be used: {str(error).splitlines()[0]}") from error


def score_soft(soft: str | bool) -> bool:
    """Whether probabilities are scored where a network saved them: option ``soft``, whose ``off`` YAML reads as False.

    Raises:
        InputError: neither ``auto`` nor ``off``.
    """
    if soft is not False and soft not in ("auto", "off"):
        raise InputError(f"soft: 'auto' or 'off' is needed, got {soft!r}")
    return soft == "auto"


@exit_on_input_error()
def noise_schedule(noise: str | Mapping[str, Any]) -> NoiseSchedule:
    """See :func:`gnsm_monai.noise.build_schedule`."""
    return build_schedule(noise)
