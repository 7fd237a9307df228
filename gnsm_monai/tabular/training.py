"""Training of the score network of tables, which the bundle ``tabular_anomaly`` and the detector share."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from monai.engines import Evaluator, SupervisedEvaluator, SupervisedTrainer
from monai.handlers import ValidationHandler
from torch import nn

from gnsm_monai.engines import ChunkedInferer
from gnsm_monai.handlers import EpochSeed, GradientClip, LevelLoss, StopOnNan, TrainingCheckpoint, WarmUpEMA
from gnsm_monai.handlers.checkpoint import LEVEL_LOSS, kept_losses
from gnsm_monai.losses import LOSSES, TableScoreMatchingLoss
from gnsm_monai.model.files import load_weights
from gnsm_monai.networks import ScoreMLP
from gnsm_monai.noise import FeatureBlocks, NoiseSchedule
from gnsm_monai.tabular.annealing import Annealing
from gnsm_monai.tabular.batches import NoisyRowPrepareBatch, RowBatches, TrainingTable
from gnsm_monai.tabular.rows import one_thread

__all__ = ["TrainingPlan", "best_network", "build_evaluator", "build_network", "build_trainer", "train_network"]

VALIDATIONS = 12


@dataclass(frozen=True)
class TrainingPlan:
    """How a network is made and trained; the fields are those of :class:`gnsm_monai.tabular.GNSMDetector`."""

    objective: str = "posterior"
    width: int | None = None
    depth: int = 2
    dropout: float = 0.0
    batch_size: int = 512
    max_steps: int | None = None
    learning_rate: float = 0.005
    weight_decay: float = 0.05
    patience: int = 4
    device: str = "cpu"
    seed: int = 0


def category_frequencies(codes: np.ndarray, cardinalities: Sequence[int]) -> torch.Tensor:
    """Frequencies, flat ``(D,)``, with half a row added per category (Krichevsky and Trofimov 1981): none is 0."""
    blocks = FeatureBlocks(cardinalities)
    counts = torch.zeros(blocks.size)
    for piece in torch.from_numpy(codes).split(4096):
        counts += blocks.one_hot(piece).sum(0)
    return blocks.apply(lambda block: (block + 0.5) / (block + 0.5).sum(1, keepdim=True), counts[None])[0]


def build_network(
    table: TrainingTable,
    schedule: NoiseSchedule,
    objective: str = "posterior",
    width: int | None = None,
    depth: int = 2,
    dropout: float = 0.0,
) -> ScoreMLP:
    """The score network of a table; its prior is the frequency of the categories among the training rows.

    The objective is a name in :data:`gnsm_monai.losses.LOSSES`; without a width, the table gives it.
    """
    posterior, width = LOSSES[objective] == "posterior", width or table.default_width()
    network = ScoreMLP(table.cardinalities, schedule, width, depth, dropout, posterior)
    network.set_prior(category_frequencies(table.codes["train"], table.cardinalities))
    return network


def build_evaluator(network: ScoreMLP, loss_function: nn.Module, device: str, **arguments: Any) -> SupervisedEvaluator:
    """MONAI's evaluator, which shows every validation the same noise, at all levels.

    Its metrics are ``val_loss`` and, for each noise level, ``val_loss_per_level``, ``(L,)``, in nats per feature.
    ``arguments`` are others of ``SupervisedEvaluator``, such as ``val_data_loader``.
    """
    level_loss = LevelLoss(loss_function, network.schedule.num_levels, device=device)
    arguments = {"inferer": ChunkedInferer(4096), **arguments}
    return SupervisedEvaluator(
        device=torch.device(device),
        network=network,
        prepare_batch=NoisyRowPrepareBatch(network.schedule, network.blocks.cardinalities, fixed_seed=0),
        key_val_metric={"val_loss": level_loss.nanmean()},
        additional_metrics={"val_loss_per_level": level_loss},
        metric_cmp_fn=lambda current, best: current < best,
        decollate=False,
        **arguments,
    )


def build_trainer(
    network: ScoreMLP,
    optimizer: torch.optim.Optimizer,
    train_data_loader: RowBatches,
    max_epochs: int,
    ema: WarmUpEMA,
    validator: Evaluator,
    checkpoint: Mapping[str, Any],
    seed: int = 0,
    train_handlers: Sequence[Any] = (),
    **arguments: Any,
) -> SupervisedTrainer:
    """MONAI's trainer with what every training of a table needs.

    Each epoch has a seed of its own, the norm of gradients is at most 1, the weights are averaged, and after each epoch
    these are validated and the best of them kept. The learning rate and the end follow the held-out loss
    (:class:`gnsm_monai.tabular.annealing.Annealing`).

    Args:
        optimizer: its learning rate is the highest one.
        train_data_loader: as many batches as an epoch has steps.
        ema, validator: average of the network's weights, and its evaluator.
        checkpoint: ``save_dir`` and other arguments of :class:`gnsm_monai.handlers.TrainingCheckpoint`.
        seed: of rows, noise levels and noise.
        train_handlers: more handlers; they come last.
        arguments: others of ``SupervisedTrainer``, such as ``device`` and ``loss_function``.
    """
    steps, epoch_seed = len(train_data_loader), EpochSeed(seed)
    annealing = Annealing(optimizer, validator, max_epochs)
    state = {"network": network, "ema": ema.ema_model, "optimizer": optimizer}
    state |= {"lr_scheduler": annealing, "rng": epoch_seed}
    needed = [
        epoch_seed,
        GradientClip(max_norm=1.0),
        ema,
        StopOnNan(),
        ValidationHandler(1, validator),
        annealing,
        TrainingCheckpoint(objects=state, evaluator=validator, **checkpoint),
    ]
    return SupervisedTrainer(
        network=network,
        optimizer=optimizer,
        train_data_loader=train_data_loader,
        max_epochs=max_epochs,
        epoch_length=steps,
        prepare_batch=NoisyRowPrepareBatch(network.schedule, network.blocks.cardinalities),
        train_handlers=[*needed, *train_handlers],
        decollate=False,
        **arguments,
    )


def best_network(evaluator: Evaluator, save_dir: str | Path) -> tuple[ScoreMLP, np.ndarray]:
    """The evaluator's network with the weights that were kept, in eval mode, and its validation loss per level."""
    network = load_weights(cast(ScoreMLP, evaluator.network), save_dir)  # type: ignore[attr-defined]
    losses = kept_losses(evaluator)
    if losses is None:
        evaluator.run()
        losses = evaluator.state.metrics[LEVEL_LOSS].cpu().numpy()
    return network.eval(), losses


def train_network(
    table: TrainingTable, schedule: NoiseSchedule, plan: TrainingPlan, save_dir: str | Path
) -> tuple[ScoreMLP, np.ndarray]:
    """The training of the bundle ``tabular_anomaly`` without its config, for callers from Python.

    Checkpoint and best weights, ``model.pt``, are written to ``save_dir``. Returns the averaged network of the best
    validation, in eval mode, and its loss per level ``(L,)`` on the validation rows, in nats per feature.
    """
    torch.manual_seed(plan.seed)
    device = plan.device
    network = build_network(table, schedule, plan.objective, plan.width, plan.depth, plan.dropout).to(device)
    loss = TableScoreMatchingLoss(plan.objective, schedule, table.cardinalities).to(device)
    optimizer = torch.optim.AdamW(network.parameters(), plan.learning_rate, weight_decay=plan.weight_decay, fused=True)
    ema = WarmUpEMA(network, momentum=0.005)
    rows = table.validation_batches(schedule.num_levels, plan.seed)
    evaluator = build_evaluator(cast(ScoreMLP, ema.ema_model), loss, device, val_data_loader=rows)
    steps = plan.max_steps or table.default_steps(plan.batch_size)
    epoch_length = max(1, steps // VALIDATIONS)
    trainer = build_trainer(
        network,
        optimizer,
        table.train_batches(plan.batch_size, epoch_length),
        max(1, steps // epoch_length),
        ema=ema,
        validator=evaluator,
        checkpoint={"save_dir": save_dir, "patience": plan.patience},
        seed=plan.seed,
        device=torch.device(device),
        loss_function=loss,
    )
    with one_thread():
        trainer.run()
        return best_network(evaluator, save_dir)


@contextmanager
def own_random_numbers() -> Iterator[None]:
    """What runs inside may seed all generators; those of the caller continue as if nothing had happened."""
    state, numpy_state = random.getstate(), np.random.get_state()
    flags = torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark
    try:
        with torch.random.fork_rng():
            yield
    finally:
        random.setstate(state)
        np.random.set_state(numpy_state)
        torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = flags
