"""What the bundles' configs call: each function is one step whose user errors end in one line and exit code 2."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import numpy as np
import torch
from monai.data import CacheDataset, Dataset
from monai.engines import Evaluator, Trainer
from monai.networks.layers import GaussianFilter
from monai.transforms import Compose

from gnsm_monai.data.compare import CompareToReference
from gnsm_monai.data.constants import SOFT
from gnsm_monai.data.datalist import find_predictions
from gnsm_monai.data.dimensions import find_spatial_dims
from gnsm_monai.data.nnunet import LabelScheme, check_same_labels
from gnsm_monai.data.nnunet_summary import add_summary_dice
from gnsm_monai.data.phantoms import write_phantom_dataset
from gnsm_monai.data.references import References, read_references
from gnsm_monai.data.transforms import CaughtErrors, FitToGridd, encode_labels, load_case, resample
from gnsm_monai.engines import single_case
from gnsm_monai.errors import SCORING_FAILED, InputError, exit_on_input_error
from gnsm_monai.handlers.level_loss import LevelLoss
from gnsm_monai.handlers.ranking import RankingWriter
from gnsm_monai.handlers.training_log import level_table
from gnsm_monai.losses import LOSSES, ScoreMatchingLoss
from gnsm_monai.model_bundle import write_model_bundle
from gnsm_monai.networks import ScoreUNet
from gnsm_monai.noise import NoiseSchedule, build_schedule
from gnsm_monai.scoring.anomaly import RULES, AnomalyModel, context_weights
from gnsm_monai.scoring.calibration import Calibration
from gnsm_monai.scoring.model_files import load_anomaly_model, load_calibration, load_settings, load_weights
from gnsm_monai.scoring.reference_fit import ReferenceFit

__all__ = [
    "SCORING_FAILED",
    "case_keys",
    "check_output_dir",
    "check_scoring_options",
    "check_training_options",
    "finish_training",
    "join_processes",
    "label_scheme",
    "load_decisions",
    "load_model",
    "load_scores",
    "load_trained",
    "noise_schedule",
    "phantoms_if_none",
    "predictions",
    "process_device",
    "ranking_settings",
    "reference_dataset",
    "references",
    "references_dir",
    "scoring_dataset",
    "single_case",
    "spatial_dims",
    "stop_if_failed",
    "train",
    "training_settings",
    "validation_interval",
    "with_prior",
]

logger = logging.getLogger(__name__)


@exit_on_input_error()
def noise_schedule(noise: str | Mapping[str, Any]) -> NoiseSchedule:
    """See :func:`gnsm_monai.noise.build_schedule`."""
    return build_schedule(noise)


@exit_on_input_error()
def check_training_options(loss: str, anomaly_score: str, device: str, **positive: float) -> None:
    """Refuses option values that would fail in the middle of a training, before anything is read or written."""
    if loss not in LOSSES:
        raise InputError(f"loss: '{loss}' is not one of {', '.join(LOSSES)}")
    known = ["auto", *(name for name, rule in RULES.items() if loss == "posterior" or rule[0] == ("score_norm",))]
    if anomaly_score not in known:
        raise InputError(f"anomaly_score: '{anomaly_score}' is not one of {', '.join(known)} (with loss {loss})")
    for name, value in positive.items():
        if isinstance(value, bool) or not isinstance(value, (int, float)) or value <= 0:
            raise InputError(f"{name}: must be a positive number, got {value!r}")
    check_device(device)


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
def check_output_dir(output_dir: str) -> None:
    """Refuses a folder that cannot be written to, without making it."""
    path = Path(output_dir).absolute()
    nearest = next(folder for folder in (path, *path.parents) if folder.exists() or folder.is_symlink())
    if not nearest.is_dir():
        raise InputError(f"{output_dir}: no folder can be made here: {nearest} is a file")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise InputError(f"{output_dir}: cannot be written to")


def check_device(device: str) -> None:
    """Raises InputError where torch has no such device."""
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"device: '{device}' cannot be used: {str(error).splitlines()[0]}") from error


def process_device() -> str:
    """GPU of this process, where there is one; by LOCAL_RANK, as ignite knows no ranks before processes join."""
    return f"cuda:{os.environ.get('LOCAL_RANK', '0')}" if torch.cuda.is_available() else "cpu"


def join_processes(device: str) -> None:
    """Joins the processes that torchrun started: nccl between GPUs, gloo between CPU processes.

    The time-out is long: the others wait while the first one scores the held-out references.
    """
    cuda = str(device).startswith("cuda")
    if cuda:
        torch.cuda.set_device(torch.device(device))
    torch.distributed.init_process_group("nccl" if cuda else "gloo", timeout=timedelta(hours=12))


@exit_on_input_error()
def train(trainer: Trainer) -> None:
    """Runs MONAI's trainer; a checkpoint that cannot be continued ends in one line."""
    trainer.run()


@exit_on_input_error()
def spatial_dims(dataset_dir: str | None, labels_dir: str | None) -> int:
    """2 or 3, from the label files; 3 for phantoms."""
    folder = labels_dir or dataset_dir
    if not folder or not Path(folder).is_dir():  # what is missing is named where references are read
        return 3
    labels = Path(folder) if labels_dir else Path(folder) / "labelsTr"
    return find_spatial_dims(labels) if labels.is_dir() else 3


@exit_on_input_error()
def phantoms_if_none(
    dataset_dir: str | None, data_dir: str, spatial_dims: int, labels_dir: str | None = None, seed: int = 0
) -> str:
    """``dataset_dir`` or ``labels_dir``, or the built-in phantoms where none is given: made once, in ``data_dir``."""
    if dataset_dir and labels_dir:
        raise InputError("dataset_dir, labels_dir: give one of them")
    if dataset_dir or labels_dir:
        return str(dataset_dir or labels_dir)
    if idist.get_local_rank() > 0:
        idist.barrier()
    folder = str(write_phantom_dataset(Path(data_dir), spatial_dims, seed=seed))
    if idist.get_world_size() > 1 and idist.get_local_rank() == 0:
        idist.barrier()
    return folder


@exit_on_input_error()
def references(
    dataset_dir: str,
    spatial_dims: int,
    with_images: bool,
    max_voxels: int,
    seed: int,
    bare: bool = False,
    exclude: Sequence[str] = (),
) -> References:
    """See :func:`gnsm_monai.data.references.read_references`."""
    found = read_references(dataset_dir, spatial_dims, with_images, max_voxels, seed, bare=bare, exclude=exclude)
    logger.info(
        "%s: %d references (%d to train, %d to fit the score, %d to calibrate), %s, grid of %s voxels of %s mm",
        dataset_dir,
        len(found.cases),
        *(len(found.used_for(use)) for use in ("train", "fit", "calibration")),
        ", ".join(found.labels.structures),
        "x".join(map(str, found.spatial_size)),
        "x".join(f"{mm:.3g}" for mm in found.voxel_size),
    )
    return found


def validation_interval(epochs: int) -> int:
    """Epochs between validations: a divisor, so that one follows the last epoch, and at most a quarter of all."""
    return max(n for n in range(1, max(1, epochs // 4) + 1) if epochs % n == 0)


@exit_on_input_error()
def references_dir(references_dir: str | None, dataset_dir: str | None) -> str | None:
    """``references_dir``, or ``dataset_dir/labelsTs`` where that exists and no other folder is given."""
    default = Path(dataset_dir) / "labelsTs" if dataset_dir else None
    return references_dir or (str(default) if default and default.is_dir() else None)


def case_keys(with_images: bool) -> list[str]:
    """Keys of a case that hold maps."""
    return ["label", "image"] if with_images else ["label"]


def reference_dataset(
    references: References, use: str, transform: Sequence[Any] = (), cache_rate: float = 1.0
) -> CacheDataset:
    """Reference maps of one use on the model's grid, read once and kept in memory, then ``transform``."""
    keys = case_keys(references.image_channels > 0)
    load = load_case(references.labels, len(references.spatial_size), keys)
    place = FitToGridd(references.spatial_size, grow=False, keys=keys)
    steps = Compose([*load.transforms, *resample(references.voxel_size, keys).transforms, place, *transform])
    data = [{key: case[key] for key in keys} for case in references.used_for(use)]
    return CacheDataset(data, steps, cache_rate=cache_rate, progress=False)


def with_prior(network: ScoreUNet, references: References) -> ScoreUNet:
    """Gives the network the frequency of each class at each voxel of the training references, smoothed by a voxel."""
    if network.position_size is None:
        return network
    counts = torch.zeros_like(network.log_prior)
    cases = reference_dataset(references, "train", cache_rate=0.0)
    for number in range(len(cases)):
        counts += encode_labels(cases[number]["label"][None], network.num_classes)[0][0]
    smooth = GaussianFilter(len(references.spatial_size), sigma=1.0)(counts[None])[0]
    network.set_prior(smooth / smooth.sum(0, keepdim=True))
    return network


def training_settings(
    references: References, network: ScoreUNet, parametrisation: str, scoring: Mapping[str, Any]
) -> dict[str, Any]:
    """Plain values that scoring needs besides the weights: kept in the model's settings.json."""
    return {
        "format": 1,
        "dataset": references.name,
        "spatial_dims": len(references.spatial_size),
        "labels": references.labels.to_dict(),
        "always_present": references.always_present,
        "never_empty": references.never_empty,
        "voxel_size": references.voxel_size,
        "spatial_size": references.spatial_size,
        "parametrisation": parametrisation,
        "network": network.settings,
        "scoring": dict(scoring),
        "cases": {use: len(references.used_for(use)) for use in ("train", "fit", "calibration")},
    }


@exit_on_input_error()
def finish_training(fit: ReferenceFit, evaluator: Evaluator, schedule: NoiseSchedule, loss: ScoreMatchingLoss) -> None:
    """Fits the anomaly score on held-out references, logs the validation table per level, and completes the bundle.

    All processes validate the weights that were kept; then rank 0 goes on alone.
    """
    losses, independent = _validate_kept_weights(fit, evaluator, schedule, loss)
    if idist.get_rank() == 0:
        weights = None if independent is None else context_weights(independent, losses)
        arrays = fit.run(weights)
        num_classes = fit.references.labels.num_classes
        columns = {
            "level": [str(level) for level in range(schedule.num_levels)],
            "beta": [f"{beta:.4f}" for beta in schedule.betas],
            "tau": [f"{tau:.2f}" for tau in schedule.temperatures],
            "flip rate": [f"{rate:.4f}" for rate in schedule.flip_rates(num_classes).tolist()],
            "val loss": [f"{loss:.5f}" for loss in losses],
        }
        if independent is not None and weights is not None:
            columns["no context"] = [f"{loss:.5f}" for loss in independent]
            columns["weight"] = [f"{weight:.3f}" for weight in weights]
        for name, values in fit.level_figures(arrays).items():
            columns[name] = [f"{value:.3f}" for value in values]
        logger.info(
            "validation per noise level (loss on held-out references, and of voxels that know nothing of each other; "
            "weight in the score; Spearman of each statistic with the Dice of degraded references, -1 is best):\n%s",
            level_table(columns),
        )
        write_model_bundle(fit.model_dir, columns)
        logger.info("model: %s", fit.model_dir)
    if idist.get_world_size() > 1:
        idist.barrier()


def _validate_kept_weights(
    fit: ReferenceFit, evaluator: Evaluator, schedule: NoiseSchedule, loss: ScoreMatchingLoss
) -> tuple[np.ndarray, np.ndarray | None]:
    """Loss per level of ``model.pt`` on held-out references, and of independent voxels where the logits allow it."""
    network: ScoreUNet = evaluator.network  # type: ignore[attr-defined]
    fit.load_weights(network)

    def independent(output: Mapping[str, Any]) -> tuple[torch.Tensor, Mapping[str, torch.Tensor]]:
        target = output["label"]
        return network.independent_logits(target["x"], target["level"]), target

    if network.posterior:
        LevelLoss(loss, schedule.num_levels, independent, evaluator.state.device).attach(evaluator, "independent")
    evaluator.run()
    metrics = evaluator.state.metrics
    return metrics["val_loss_per_level"].cpu().numpy(), (
        metrics["independent"].cpu().numpy() if network.posterior else None
    )


@exit_on_input_error()
def load_model(model_dir: str) -> dict[str, Any]:
    """Settings of a trained model, plain data. See :func:`gnsm_monai.scoring.reference_fit.load_settings`."""
    return load_settings(model_dir)


@exit_on_input_error()
def load_scores(model_dir: str) -> AnomalyModel:
    """See :func:`gnsm_monai.scoring.reference_fit.load_anomaly_model`."""
    return load_anomaly_model(model_dir)


@exit_on_input_error()
def load_decisions(model_dir: str) -> Calibration:
    """See :func:`gnsm_monai.scoring.model_files.load_calibration`."""
    return load_calibration(model_dir)


@exit_on_input_error()
def load_trained(network: torch.nn.Module, model_dir: str) -> torch.nn.Module:
    """See :func:`gnsm_monai.scoring.reference_fit.load_weights`."""
    return load_weights(network, model_dir)


def score_soft(soft: str | bool) -> bool:
    """Whether probabilities are scored where a network saved them: option ``soft``, whose ``off`` YAML reads as False.

    Raises:
        InputError: neither ``auto`` nor ``off``.
    """
    if soft is not False and soft not in ("auto", "off"):
        raise InputError(f"soft: 'auto' or 'off' is needed, got {soft!r}")
    return soft == "auto"


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
    needs_images = settings["network"]["image_channels"] > 0
    if needs_images and not images_dir:
        raise InputError("images_dir: this model is conditioned on images: name the folder of the cases' images")
    images = images_dir if needs_images else None
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


def scoring_dataset(cases: Sequence[Mapping[str, Any]], settings: Mapping[str, Any]) -> Dataset:
    """Predicted masks on the model's grid, compared with their references on the way; bad ones carry a message."""
    scheme = label_scheme(settings)
    keys = [*case_keys(settings["network"]["image_channels"] > 0), SOFT]
    steps = Compose(
        [
            *load_case(scheme, settings["spatial_dims"], [*keys, "reference"]).transforms,
            CompareToReference(scheme.num_classes, scheme.members),
            *resample(settings["voxel_size"], keys).transforms,
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


def stop_if_failed(ranking: RankingWriter) -> None:
    """Raises SystemExit with code 3 where some cases could not be scored; their messages are in ranking.csv."""
    if ranking.num_failed:
        raise SystemExit(SCORING_FAILED)
