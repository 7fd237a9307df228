"""Checks of the values that users set, before anything is read or written."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import torch
from torch import nn

from gnsm_monai.data.layouts import AUTO, LAYOUTS
from gnsm_monai.errors import InputError, exit_on_input_error
from gnsm_monai.fitting.reference_failures import SOURCES
from gnsm_monai.handlers.checkpoint import CHECKPOINT
from gnsm_monai.losses import LOSSES
from gnsm_monai.model.files import SETTINGS
from gnsm_monai.noise import NoiseSchedule, build_schedule
from gnsm_monai.rules.rule import rule_named
from gnsm_monai.rules.rules import RULES

__all__ = [
    "OPTIONS",
    "Option",
    "check_case_ids",
    "check_device",
    "check_folder_names",
    "check_loss",
    "check_model_dir",
    "check_options",
    "check_output_dir",
    "check_rule",
    "noise_schedule",
    "refuse",
    "score_soft",
]

MAX_WHOLE = 2**32 - 1
"""The largest seed that numpy takes, and more than any other whole number that is set can mean."""


@dataclass(frozen=True)
class Option:
    """What the value of an option may be.

    Args:
        kind: ``bool``, ``int`` or ``float``; a whole number is a ``float`` too. Ignored where there are ``choices``.
        minimum: the smallest whole number; other numbers must be greater.
        maximum: the largest number.
        below: whether a number must be less than ``maximum``.
        choices: the values, where they can be listed.
        optional: ``None`` is allowed; it stands for no limit, or for a default that is found later.
        several: a list of such values.
    """

    kind: type = int
    minimum: float = 0
    maximum: float = float("inf")
    below: bool = False
    choices: Sequence[Any] = ()
    optional: bool = False
    several: bool = False

    def refusal(self, value: Any) -> str:
        """Why an option may not have this value, in words; empty where it may."""
        if self.several:
            allowed = isinstance(value, (list, tuple)) and all(map(self._allows, value))
        else:
            allowed = (value is None and self.optional) or self._allows(value)
        if allowed:
            return ""
        if self.choices:
            return f"'{value}' is not one of {', '.join(name for name in self.choices if isinstance(name, str))}"
        if self.kind is bool:
            return f"True or False is needed, got {value!r}"
        if self.kind is int:
            high = isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= self.minimum
            end = f"most {min(self.maximum, MAX_WHOLE)}" if high else f"least {self.minimum}"
            return f"must be a whole number of at {end}, got {value!r}"
        what = "a list of numbers" if self.several else "a number"
        if self.maximum < float("inf"):
            what += f" in ({self.minimum:g}, {self.maximum:g}{')' if self.below else ']'}"
        return f"must be {what if self.maximum < float('inf') else 'a positive number'}, got {value!r}"

    def _allows(self, value: Any) -> bool:
        if self.choices:
            return any(value is choice or (isinstance(value, str) and value == choice) for choice in self.choices)
        if self.kind is bool or isinstance(value, bool):
            return self.kind is bool and isinstance(value, bool)
        if self.kind is int:
            return isinstance(value, Integral) and bool(self.minimum <= int(value) <= min(self.maximum, MAX_WHOLE))
        number = float(value) if isinstance(value, Real) else float("nan")
        return self.minimum < number <= self.maximum and not (self.below and number == self.maximum)


OPTIONS = {
    "all_statistics": Option(bool),
    "alpha": Option(float, maximum=1, below=True),
    "amp": Option(bool),
    "batch_size": Option(minimum=1),
    "chunk_size": Option(minimum=1),
    "condition_on_image": Option(bool),
    "cuda_graphs": Option(bool),
    "epochs": Option(minimum=1),
    "failure_dice": Option(float, maximum=1, several=True),
    "fdr": Option(float, maximum=1, below=True, optional=True),
    "failures": Option(choices=tuple(SOURCES)),
    "layout": Option(choices=(AUTO, *(layout.name for layout in LAYOUTS))),
    "learning_rate": Option(float),
    "lists": Option(bool),
    "max_minutes": Option(float, optional=True),
    "max_voxels": Option(float),
    "num_workers": Option(),
    "objective": Option(choices=tuple(LOSSES)),
    "patience": Option(minimum=1),
    "propose": Option(bool),
    "quick": Option(bool),
    "resume": Option(bool),
    "seed": Option(),
    "soft": Option(choices=("auto", "off", False)),  # YAML reads off as False
    "steps_per_epoch": Option(minimum=1),
    "strict": Option(bool),
    "write_maps": Option(bool),
}
"""What the options of the bundles may be, by their name; ``device`` is tried out instead."""


@exit_on_input_error()
def check_options(options: Mapping[str, Any], **more: Any) -> None:
    """Refuses values of options that would fail, or be misread, in the middle of a run: :data:`OPTIONS` and devices.

    Args:
        options: value by name.
        more: the same as keywords.
    """
    for name, value in {**options, **more}.items():
        if name == "device":
            check_device(value)
        elif refusal := OPTIONS[name].refusal(value):
            raise InputError(f"{name}: {refusal}")


@exit_on_input_error()
def check_rule(anomaly_score: str, objective: str, sees_images: bool) -> None:
    """Refuses a rule of the anomaly score that a network of this objective, with or without images, cannot have."""
    rules = ["auto", *(rule.name for rule in RULES if objective == "posterior" or not rule.needs_posterior)]
    if anomaly_score not in rules:
        raise InputError(f"anomaly_score: '{anomaly_score}' is not one of {', '.join(rules)} (with {objective})")
    if not sees_images and anomaly_score != "auto" and rule_named(anomaly_score, RULES).needs_images:
        raise InputError(f"anomaly_score: '{anomaly_score}' needs a network that sees images: condition_on_image")


@exit_on_input_error()
def check_loss(loss: Any) -> None:
    """Refuses the name of a loss where its module stands, as earlier versions had it."""
    if not isinstance(loss, nn.Module):
        raise InputError(
            f"loss: a module is needed, got {loss!r}: its name is the option objective: --objective {loss}"
        )


@exit_on_input_error()
def refuse(reason: str) -> None:
    """Ends the program with one line, for configs that do not fit together."""
    raise InputError(reason)


def check_scoring_options(*_: Any) -> None:
    """Refuses a config of an earlier version, which calls this first; such lie in the folders of models of theirs."""
    refuse("this config is of an earlier version of gnsm_monai: run gnsm rank, or the package's own inference.yaml")


def check_folder_names(**folders: Any) -> None:
    """Raises InputError for what cannot name a folder; on MONAI's command line 7 is a number."""
    for name, value in folders.items():
        if value and not isinstance(value, (str, Path)):
            raise InputError(f"{name}: the name of a folder is needed, got {value!r}: write it as ./{value}")


def check_case_ids(name: str, value: Any) -> None:
    """Raises InputError for what is no list of case ids."""
    if not isinstance(value, (list, tuple)) or not all(isinstance(case, str) for case in value):
        raise InputError(f"{name}: a list of case ids is needed, got {value!r}")


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
    check_folder_names(dataset_dir=dataset_dir, labels_dir=labels_dir)
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
    if refusal := OPTIONS["soft"].refusal(soft):
        raise InputError(f"soft: {refusal}")
    return soft == "auto"


@exit_on_input_error()
def noise_schedule(noise: str | Mapping[str, Any]) -> NoiseSchedule:
    """See :func:`gnsm_monai.noise.build_schedule`."""
    return build_schedule(noise)
