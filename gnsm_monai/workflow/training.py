"""Steps of train.yaml: references, data, training, and the score that is fitted afterwards."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import numpy as np
import torch
from monai.data import CacheDataset
from monai.engines import Evaluator, Trainer
from monai.transforms import Compose
from torch.utils.tensorboard import SummaryWriter

from gnsm_monai.data.dimensions import find_spatial_dims
from gnsm_monai.data.phantoms import write_phantom_dataset
from gnsm_monai.data.references import References, read_references
from gnsm_monai.data.transforms import FitToGridd, encode_labels, load_case, resample
from gnsm_monai.errors import InputError, exit_on_input_error
from gnsm_monai.handlers.level_loss import LevelLoss
from gnsm_monai.handlers.training_log import level_table, write_result
from gnsm_monai.losses import ScoreMatchingLoss
from gnsm_monai.model.bundle import write_model_bundle
from gnsm_monai.model.files import FORMAT
from gnsm_monai.networks import ScoreUNet
from gnsm_monai.networks.separable import smooth
from gnsm_monai.noise import NoiseSchedule
from gnsm_monai.scoring.anomaly import uncertainty_weights
from gnsm_monai.scoring.reference_fit import ReferenceFit
from gnsm_monai.workflow.options import check_case_ids, check_folder_name

__all__ = [
    "case_keys",
    "finish_training",
    "phantoms_if_none",
    "reference_dataset",
    "references",
    "run_settings",
    "spatial_dims",
    "train",
    "training_settings",
    "validation_interval",
    "with_prior",
]

logger = logging.getLogger("gnsm_monai.workflow")


@exit_on_input_error()
def train(trainer: Trainer) -> None:
    """Runs MONAI's trainer; a checkpoint that cannot be continued ends in one line."""
    trainer.run()


@exit_on_input_error()
def spatial_dims(dataset_dir: str | None, labels_dir: str | None) -> int:
    """2 or 3, from the label files; 3 for phantoms."""
    check_folder_name("dataset_dir", dataset_dir)
    check_folder_name("labels_dir", labels_dir)
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
    check_folder_name("dataset_dir", dataset_dir)
    check_folder_name("labels_dir", labels_dir)
    if spatial_dims not in (2, 3) or isinstance(spatial_dims, bool):
        raise InputError(f"spatial_dims: 2 or 3 is needed, got {spatial_dims!r}")
    if dataset_dir and labels_dir:
        raise InputError("dataset_dir, labels_dir: give one of them")
    if dataset_dir or labels_dir:
        return str(dataset_dir or labels_dir)
    if idist.get_local_rank() > 0:
        idist.barrier()
    folder = str(write_phantom_dataset(Path(data_dir), spatial_dims, seed=seed))
    if idist.get_local_rank() == 0:
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
    check_case_ids("exclude_cases", exclude)
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
    frequencies = smooth(counts[None], sigma=1.0)[0]
    network.set_prior(frequencies / frequencies.sum(0, keepdim=True))
    return network


def training_settings(
    references: References, network: ScoreUNet, parametrisation: str, scoring: Mapping[str, Any]
) -> dict[str, Any]:
    """Plain values that scoring needs besides the weights: kept in the model's settings.json."""
    return {
        "format": FORMAT,
        "dataset": references.name,
        "spatial_dims": len(references.spatial_size),
        "labels": references.labels.to_dict(),
        "always_present": references.always_present,
        "never_empty": references.never_empty,
        "voxel_size": references.voxel_size,
        "spatial_size": references.spatial_size,
        "fields_of_view": references.fields_of_view.to_dict(),
        "parametrisation": parametrisation,
        "network": network.settings,
        "scoring": dict(scoring),
        "cases": {use: len(references.used_for(use)) for use in ("train", "fit", "calibration")},
    }


def run_settings(options: Mapping[str, Any], network: ScoreUNet, references: References) -> dict[str, Any]:
    """Plain values that decide what a training ends with: a continued one must share them with the one stopped."""
    kept = ("seed", "epochs", "steps_per_epoch", "batch_size", "learning_rate")
    return {
        **{name: options[name] for name in kept},
        "loss": options["objective"],
        "network": network.settings,
        "cases": [case["case"] for case in references.used_for("train")],
    }


@exit_on_input_error()
def finish_training(
    fit: ReferenceFit,
    evaluator: Evaluator,
    schedule: NoiseSchedule,
    loss: ScoreMatchingLoss,
    writer: SummaryWriter | None = None,
    run_settings: Mapping[str, Any] | None = None,
) -> None:
    """Fits the anomaly score on held-out references, logs the validation table per level, and completes the bundle.

    All processes validate the weights that were kept; then rank 0 goes on alone. The table, the run's settings and its
    final metrics also go to ``writer``, if there is one.
    """
    idist.barrier()  # rank 0 writes the weights that all of them read now
    losses, independent = _validate_kept_weights(fit, evaluator, schedule, loss)
    if idist.get_rank() == 0:
        # Only of the cross-entropy is the loss an uncertainty; those of the published losses are not.
        weights = uncertainty_weights(losses) if loss.kind == "posterior" else None
        kept = {"val_loss": losses} if independent is None else {"val_loss": losses, "no_context_loss": independent}
        arrays = fit.run(weights, kept)
        num_classes = fit.references.labels.num_classes
        columns = {
            "level": [str(level) for level in range(schedule.num_levels)],
            "beta": [f"{beta:.4f}" for beta in schedule.betas],
            "tau": [f"{tau:.2f}" for tau in schedule.temperatures],
            "flip rate": [f"{rate:.4f}" for rate in schedule.flip_rates(num_classes).tolist()],
            "val loss": [f"{loss:.5f}" for loss in losses],
        }
        if independent is not None:
            columns["no context"] = [f"{loss:.5f}" for loss in independent]
        if weights is not None:
            columns["weight"] = [f"{weight:.3f}" for weight in weights]
        for name, values in fit.level_figures(arrays).items():
            columns[name] = [f"{value:.3f}" for value in values]
        logger.info(
            "validation per noise level (loss on held-out references, and of voxels that know nothing of each other; "
            "weight in means over levels, by uncertainty; Spearman of each statistic with the Dice of failures of "
            "references, -1 is best):\n%s",
            level_table(columns),
        )
        assert fit.anomaly is not None
        model = fit.anomaly
        write_model_bundle(fit.model_dir, fit.settings, model.comparison, columns)
        if writer is not None:
            spearman = model.comparison[model.rule]
            metrics = {"validation_loss": float(np.nanmean(losses)), "spearman_on_failures": spearman}
            settings = {**_hyperparameters(run_settings or {}), "anomaly_score": model.rule}
            write_result(writer, settings, metrics, columns)
            writer.close()
        logger.info("model: %s", fit.model_dir)
    idist.barrier()


def _hyperparameters(run_settings: Mapping[str, Any]) -> dict[str, Any]:
    """What is worth comparing between runs; of the network and the cases only their size."""
    network = run_settings.get("network", {})
    plain = {key: value for key, value in run_settings.items() if isinstance(value, (bool, int, float, str))}
    return {
        **plain,
        "channels": str(network.get("channels", "")),
        "levels": len(network.get("noise", {}).get("betas", [])),
        "sees_images": bool(network.get("image_channels", 0)),
        "training_cases": len(run_settings.get("cases", [])),
    }


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
