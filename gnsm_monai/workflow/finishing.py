"""The last step of train.yaml: the score that is fitted after training, and what is said of it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import ignite.distributed as idist
import numpy as np
import torch
from monai.engines import Evaluator
from monai.inferers import Inferer
from torch.utils.tensorboard import SummaryWriter

from gnsm_monai.errors import exit_on_input_error
from gnsm_monai.fitting.reference_fit import ReferenceFit
from gnsm_monai.handlers.checkpoint import LEVEL_LOSS, kept_losses
from gnsm_monai.handlers.trainer import EndInTime
from gnsm_monai.handlers.training_log import level_table, write_result
from gnsm_monai.locks import unlock_folder
from gnsm_monai.losses import ScoreMatchingLoss
from gnsm_monai.model.bundle import write_model_bundle
from gnsm_monai.networks import ScoreUNet
from gnsm_monai.networks.precision import with_amp
from gnsm_monai.noise import NoiseSchedule
from gnsm_monai.rules.anomaly import uncertainty_weights
from gnsm_monai.time_limit import NO_LIMIT, TimeLimit

__all__ = ["finish_training"]

logger = logging.getLogger("gnsm_monai.workflow")


@exit_on_input_error()
def finish_training(
    fit: ReferenceFit,
    evaluator: Evaluator,
    schedule: NoiseSchedule,
    loss: ScoreMatchingLoss,
    writer: SummaryWriter | None = None,
    run_settings: Mapping[str, Any] | None = None,
    limit: TimeLimit = NO_LIMIT,
) -> None:
    """Fits the anomaly score on held-out references, logs the validation table per level, and completes the bundle.

    All processes validate the weights that were kept; then rank 0 continues alone, and frees the model's folder for
    other runs. The table, the run's settings and its final metrics also go to ``writer``, if there is one. ``limit`` is
    of the time: a part that gets less than it needs says so in a line.
    """
    idist.barrier()  # rank 0 writes the weights that all of them read now
    losses = _losses_of_kept_weights(fit, evaluator, limit.part("validation"))
    if idist.get_rank() == 0:
        # Only the cross-entropy is an uncertainty; the published losses are not.
        weights = uncertainty_weights(losses["val_loss"]) if loss.kind == "posterior" else None
        with_amp(fit.network, False)  # as scoring runs it, unless it is asked for less
        model, figures, settings = fit.run(weights, losses, limit)
        columns = _level_columns(schedule, fit.references.scheme.num_classes, losses, weights, figures)
        logger.info(
            "validation per noise level (loss on held-out references, and of voxels that know nothing of each other; "
            "weight in means over levels, by uncertainty; Spearman of each statistic with the Dice of failures of "
            "references, -1 is best):\n%s",
            level_table(columns),
        )
        write_model_bundle(fit.model_dir, settings, model.comparison, columns)
        if writer is not None:
            metrics = {
                "validation_loss": float(np.nanmean(losses["val_loss"])),
                "spearman_on_failures": model.comparison[model.rule],
            }
            compared = {**_hyperparameters(run_settings or {}), "anomaly_score": model.rule}
            write_result(writer, compared, metrics, columns)
            writer.close()
        logger.info("model: %s", fit.model_dir)
    unlock_folder(fit.model_dir)
    idist.barrier()


def _level_columns(
    schedule: NoiseSchedule,
    num_classes: int,
    losses: Mapping[str, np.ndarray],
    weights: np.ndarray | None,
    figures: Mapping[str, np.ndarray],
) -> dict[str, list[str]]:
    """The validation table: a column of texts per name, one text per noise level."""
    columns = {
        "level": (range(schedule.num_levels), "d"),
        "beta": (schedule.betas, ".4f"),
        "tau": (schedule.temperatures, ".2f"),
        "flip rate": (schedule.flip_rates(num_classes).tolist(), ".4f"),
        "val loss": (losses["val_loss"], ".5f"),
        "no context": (losses.get("no_context_loss"), ".5f"),
        "weight": (weights, ".3f"),
        **{name: (values, ".3f") for name, values in figures.items()},
    }
    return {name: [format(x, kind) for x in values] for name, (values, kind) in columns.items() if values is not None}


def _hyperparameters(run_settings: Mapping[str, Any]) -> dict[str, Any]:
    """Values that are worth comparing between runs; the network and the cases are given by their size."""
    network = run_settings.get("network", {})
    plain = {key: value for key, value in run_settings.items() if isinstance(value, (bool, int, float, str))}
    return {
        **plain,
        "channels": str(network.get("channels", "")),
        "levels": len(network.get("noise", {}).get("betas", [])),
        "sees_images": bool(network.get("image_channels", 0)),
        "training_cases": len(run_settings.get("cases", [])),
    }


def _losses_of_kept_weights(fit: ReferenceFit, evaluator: Evaluator, limit: TimeLimit) -> dict[str, np.ndarray]:
    """Losses per level of ``model.pt`` on held-out references, ``(L,)`` each.

    ``val_loss``, measured again only where no validation of this run was of the kept weights; and where the logits
    allow it ``no_context_loss``: of voxels that know nothing of each other.
    """
    network: ScoreUNet = evaluator.network  # type: ignore[attr-defined]
    fit.load_weights(network)
    in_time, cut_at = EndInTime(limit).attach(evaluator), list[int]()

    def validated() -> np.ndarray:
        evaluator.run()
        if in_time.cut:
            cut_at.append(evaluator.state.iteration)
        losses: torch.Tensor = evaluator.state.metrics[LEVEL_LOSS]
        return losses.cpu().numpy()

    measured = kept_losses(evaluator)
    losses = {"val_loss": validated() if measured is None else measured}
    if network.posterior:
        evaluator.inferer = _IndependentVoxels()  # type: ignore[attr-defined]
        losses["no_context_loss"] = validated()
    in_time.detach()
    if cut_at:
        text = "validation per noise level: on %d of %d references, as time allowed"
        logger.info(text, min(cut_at), evaluator.state.epoch_length)
    return losses


class _IndependentVoxels(Inferer):
    """The network's logits of voxels that know nothing of each other."""

    def __call__(self, inputs: torch.Tensor, network: Any, *args: Any, **_: Any) -> torch.Tensor:
        logits: torch.Tensor = network.independent_logits(inputs, args[0])
        return logits
