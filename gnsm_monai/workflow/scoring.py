"""Steps of evaluate.yaml and inference.yaml: a model's parts, the cases, and what their ranking is made from."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from monai.data import Dataset
from monai.engines import Evaluator
from monai.transforms import Compose

from gnsm_monai.data.alignment import AlignToReferencesd
from gnsm_monai.data.compare import CompareToReference
from gnsm_monai.data.constants import SOFT
from gnsm_monai.data.datalist import find_predictions
from gnsm_monai.data.field_of_view import FieldsOfView
from gnsm_monai.data.nnunet import LabelScheme, check_same_labels
from gnsm_monai.data.nnunet_summary import add_summary_dice
from gnsm_monai.data.transforms import CaughtErrors, FitToGridd, load_case, resample
from gnsm_monai.errors import SCORING_FAILED, InputError, exit_on_input_error
from gnsm_monai.evaluation.order import Ranking
from gnsm_monai.files import check_folder
from gnsm_monai.handlers.ranking import RankingCollector
from gnsm_monai.networks import ScoreUNet
from gnsm_monai.rules.anomaly import AnomalyModel
from gnsm_monai.rules.calibration import Calibration
from gnsm_monai.scoring.model_files import (
    load_anomaly_model,
    load_calibration,
    load_images,
    load_settings,
    load_shapes,
    load_weights,
)
from gnsm_monai.scoring.reference_images import ReferenceImages
from gnsm_monai.scoring.reference_shapes import ReferenceShapes
from gnsm_monai.workflow.options import score_soft
from gnsm_monai.workflow.training import case_keys

__all__ = [
    "dice_source",
    "label_scheme",
    "load_decisions",
    "load_model",
    "load_reference_images",
    "load_reference_shapes",
    "load_scores",
    "load_trained",
    "predictions",
    "ranking_settings",
    "references_dir",
    "score",
    "scoring_dataset",
    "stop_if_failed",
]

logger = logging.getLogger("gnsm_monai.workflow")


@exit_on_input_error()
def references_dir(references_dir: str | None, dataset_dir: str | None) -> str | None:
    """``references_dir``, or ``dataset_dir/labelsTs`` where that exists and no other folder is given."""
    default = Path(dataset_dir) / "labelsTs" if dataset_dir else None
    return references_dir or (str(default) if default and default.is_dir() else None)


@exit_on_input_error()
def load_model(model_dir: str) -> dict[str, Any]:
    """Settings of a trained model, plain data. See :func:`gnsm_monai.scoring.model_files.load_settings`."""
    return load_settings(model_dir)


@exit_on_input_error()
def load_scores(model_dir: str) -> AnomalyModel:
    """See :func:`gnsm_monai.scoring.model_files.load_anomaly_model`."""
    return load_anomaly_model(model_dir)


@exit_on_input_error()
def load_decisions(model_dir: str) -> Calibration:
    """See :func:`gnsm_monai.scoring.model_files.load_calibration`."""
    return load_calibration(model_dir)


@exit_on_input_error()
def load_reference_shapes(model_dir: str) -> ReferenceShapes:
    """See :func:`gnsm_monai.scoring.model_files.load_shapes`."""
    return load_shapes(model_dir)


@exit_on_input_error()
def load_reference_images(model_dir: str) -> ReferenceImages | None:
    """See :func:`gnsm_monai.scoring.model_files.load_images`."""
    return load_images(model_dir)


@exit_on_input_error()
def load_trained(network: torch.nn.Module, model_dir: str) -> torch.nn.Module:
    """See :func:`gnsm_monai.scoring.model_files.load_weights`."""
    return load_weights(network, model_dir)


@exit_on_input_error()
def predictions(
    predictions_dir: str | Sequence[str] | None,
    references_dir: str | None,
    images_dir: str | None,
    settings: Mapping[str, Any],
    soft: str | bool = "auto",
    only_cases: Sequence[str] | None = None,
) -> list[dict[str, Any]]:
    """Cases to score, all or those named, with the Dice of nnU-Net's own summary.json where no references are given.

    Raises:
        InputError: a folder or a named case is missing, masks are made for other labels than the model, or the model
            needs images and none are given.
    """
    if not predictions_dir:
        raise InputError("predictions_dir: name the folder of predicted masks, or a list of folders")
    named = predictions_dir if isinstance(predictions_dir, (list, tuple)) else [predictions_dir]
    for name in [*named, *(folder for folder in (references_dir, images_dir) if folder)]:
        if not isinstance(name, (str, Path)):  # on MONAI's command line 7 is a number
            raise InputError(f"the name of a folder is needed, got {name!r}: write it as ./{name}")
    needs_images = settings["network"]["image_channels"] > 0
    if needs_images and not images_dir:
        raise InputError("images_dir: this model is conditioned on images: name the folder of the cases' images")
    if images_dir and not needs_images:
        check_folder(images_dir)
        logger.info("%s: not looked at, as this model was trained without images", images_dir)
    images = images_dir if needs_images else None
    only_cases = [only_cases] if isinstance(only_cases, str) else only_cases
    found = find_predictions(predictions_dir, references_dir or None, images, score_soft(soft))
    if only_cases is not None:
        if missing := sorted(set(only_cases) - {case["case"] for case in found}):
            raise InputError(f"only_cases: {predictions_dir} has no case '{missing[0]}'")
        found = [case for case in found if case["case"] in set(only_cases)]
        if not found:
            raise InputError("only_cases: no case is named")
    scheme = label_scheme(settings)
    for folder in dict.fromkeys(case["label"].parent for case in found):
        check_same_labels(folder, scheme)
    found = found if references_dir else add_summary_dice(found, scheme)
    counts = [sum(key in case for case in found) for key in ("reference", "dice", SOFT)]
    text = "%d predicted masks: %d with a reference, %d with a Dice of nnU-Net, %d with probabilities"
    logger.info(text, len(found), *counts)
    return found


def label_scheme(settings: Mapping[str, Any]) -> LabelScheme:
    """Classes and structures of a trained model."""
    return LabelScheme.from_dict(settings["labels"])


def scoring_dataset(
    cases: Sequence[Mapping[str, Any]], settings: Mapping[str, Any], network: ScoreUNet | None = None
) -> Dataset:
    """Predicted masks on the model's grid, compared with their references on the way; bad ones carry a message.

    ``network`` is the trained one: its prior tells where a mask of an unusual field of view lies. Without it, all are
    taken to lie where they lie in their own.
    """
    scheme = label_scheme(settings)
    keys = [*case_keys(settings["network"]["image_channels"] > 0), SOFT]
    align = []
    if network is not None and network.position_size is not None:
        align = [AlignToReferencesd(keys, network.log_prior.cpu().numpy(), FieldsOfView(**settings["fields_of_view"]))]
    steps = Compose(
        [
            *load_case(scheme, settings["spatial_dims"], [*keys, "reference"]).transforms,
            CompareToReference(scheme.num_classes, scheme.members),
            *resample(settings["voxel_size"], keys).transforms,
            *align,
            FitToGridd(settings["spatial_size"], grow=True, keys=keys),
        ]
    )
    return Dataset(list(cases), CaughtErrors(steps))


def dice_source(cases: Sequence[Mapping[str, Any]]) -> str | None:
    """Where the Dice of cases comes from: ``references``, ``nnU-Net summary.json``, or nowhere."""
    if any("reference" in case for case in cases):
        return "references"
    return "nnU-Net summary.json" if any("dice" in case for case in cases) else None


def ranking_settings(
    settings: Mapping[str, Any],
    model_dir: str,
    predictions_dir: Any,
    references_dir: str | None,
    cases: Sequence[Mapping[str, Any]],
    alpha: float,
) -> dict[str, Any]:
    """What a summary says of how its scores came about."""
    folders = [predictions_dir] if isinstance(predictions_dir, (str, Path)) else list(predictions_dir)
    return {
        "model_dir": str(model_dir),
        "weights_sha256": settings["weights_sha256"],
        "anomaly_score": settings["anomaly_score"],
        "alpha": alpha,
        "predictions_dir": [str(folder) for folder in folders],
        "references_dir": None if references_dir is None else str(references_dir),
        "dice_source": dice_source(cases),
        "structures": list(label_scheme(settings).structures),
        "noise": settings["network"]["noise"],
    }


@exit_on_input_error()
def score(evaluator: Evaluator, collector: RankingCollector | None = None) -> Ranking | None:
    """Runs MONAI's evaluator; a full disk ends in one line, and the journal keeps what was scored.

    Returns:
        what ``collector``, one of the evaluator's handlers, found.
    """
    evaluator.run()
    return None if collector is None else collector.ranking


def stop_if_failed(collector: RankingCollector) -> None:
    """Raises SystemExit with code 3 where some cases could not be scored; their messages are in ranking.csv."""
    if collector.ranking.num_failed:
        raise SystemExit(SCORING_FAILED)
