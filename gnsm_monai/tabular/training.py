"""Training of the score network of tables: MONAI's trainer with the handlers that label maps are trained with."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from monai.engines import SupervisedEvaluator, SupervisedTrainer
from monai.handlers import LrScheduleHandler, ValidationHandler

from gnsm_monai.engines import ChunkedInferer, NoisyRowPrepareBatch, RowBatches
from gnsm_monai.handlers import EpochSeed, GradientClip, LevelLoss, StopOnNan, TrainingCheckpoint, WarmUpEMA
from gnsm_monai.losses import LOSSES, TableScoreMatchingLoss
from gnsm_monai.model.files import load_weights
from gnsm_monai.networks import ScoreMLP
from gnsm_monai.noise import FeatureBlocks, NoiseSchedule

__all__ = [
    "TrainingPlan",
    "category_frequencies",
    "default_steps",
    "default_width",
    "own_random_numbers",
    "train_network",
]

LEAST_STEPS, MOST_STEPS, PASSES = 600, 3000, 60
NARROW, WIDE, MANY_ROWS = 128, 256, 5000
VALIDATION_ROWS = 2000
VALUES_AT_ONCE, VALUES_PER_STEP, VALIDATION_VALUES = 4_000_000, 2_000_000, 30_000_000
"""Bounds of memory and time where a table has thousands of categories: numbers in a batch of validation, in one of
training, and in all of a validation."""


@dataclass(frozen=True)
class TrainingPlan:
    """How a network is made and trained; the fields are those of :class:`gnsm_monai.tabular.GNSMDetector`."""

    loss: str = "posterior"
    width: int | None = None
    depth: int = 2
    dropout: float = 0.0
    batch_size: int = 512
    max_steps: int | None = None
    validations: int = 12
    learning_rate: float = 0.005
    weight_decay: float = 0.05
    patience: int = 4
    device: str = "cpu"
    seed: int = 0
    resume: bool = False
    handlers: Sequence[Any] = field(default_factory=tuple)


def default_steps(codes: np.ndarray, batch_size: int) -> int:
    """Steps that show every distinct row some sixty times; repeated rows teach nothing new."""
    return int(np.clip(PASSES * _distinct(codes) / batch_size, LEAST_STEPS, MOST_STEPS))


def default_width(codes: np.ndarray) -> int:
    """Units per layer: few distinct rows need fewer."""
    return WIDE if _distinct(codes) > MANY_ROWS else NARROW


def step_rows(batch_size: int, cardinalities: Sequence[int]) -> int:
    """Rows per step: ``batch_size``, or fewer where each has very many categories."""
    return max(16, min(batch_size, VALUES_PER_STEP // sum(cardinalities)))


def validation_batch(cardinalities: Sequence[int], num_levels: int) -> int:
    """Rows that a validation takes at once, each at all levels."""
    return max(1, VALUES_AT_ONCE // (num_levels * sum(cardinalities)))


def _distinct(codes: np.ndarray) -> int:
    return len(np.unique(codes, axis=0))


def category_frequencies(codes: np.ndarray, cardinalities: Sequence[int]) -> torch.Tensor:
    """Frequencies, flat ``(D,)``, with half a row added per category (Krichevsky and Trofimov 1981): none is 0."""
    blocks = FeatureBlocks(cardinalities)
    counts = torch.zeros(blocks.size)
    for piece in torch.from_numpy(codes).split(4096):
        counts += blocks.one_hot(piece).sum(0)
    return blocks.apply(lambda block: (block + 0.5) / (block + 0.5).sum(1, keepdim=True), counts[None])[0]


@contextmanager
def own_random_numbers() -> Iterator[None]:
    """What runs inside may seed all generators; those of the caller go on as if nothing had happened."""
    state, numpy_state = random.getstate(), np.random.get_state()
    flags = torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark
    try:
        with torch.random.fork_rng():
            yield
    finally:
        random.setstate(state)
        np.random.set_state(numpy_state)
        torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = flags


def train_network(
    codes: np.ndarray,
    held_out: np.ndarray,
    cardinalities: Sequence[int],
    schedule: NoiseSchedule,
    plan: TrainingPlan,
    save_dir: str | Path,
) -> tuple[ScoreMLP, np.ndarray]:
    """Trains a network on rows and keeps its averaged weights of the best validation.

    Args:
        codes: training rows ``(N, F)``.
        held_out: rows ``(M, F)`` that decide when to stop.
        cardinalities: categories per feature.
        schedule: the noise.
        plan: everything else.
        save_dir: folder of the checkpoint and of the best weights, ``model.pt``.

    Returns:
        The network in eval mode, and its loss per level ``(L,)`` on the held-out rows, in nats per feature.
    """
    torch.manual_seed(plan.seed)
    posterior = LOSSES[plan.loss] == "posterior"
    network = ScoreMLP(cardinalities, schedule, plan.width or default_width(codes), plan.depth, plan.dropout, posterior)
    network.set_prior(category_frequencies(codes, cardinalities))
    network.to(plan.device)
    loss = TableScoreMatchingLoss(plan.loss, schedule, cardinalities).to(plan.device)
    ema = WarmUpEMA(network, momentum=0.005)
    averaged = cast(ScoreMLP, ema.ema_model)
    evaluator = _evaluator(held_out, averaged, loss, schedule, plan)
    steps = plan.max_steps or default_steps(codes, plan.batch_size)
    length = max(1, steps // plan.validations)
    epochs = max(1, steps // length)
    optimizer = torch.optim.AdamW(network.parameters(), plan.learning_rate, weight_decay=plan.weight_decay)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, plan.learning_rate, total_steps=epochs * length + 1)
    epoch_seed = EpochSeed(plan.seed)
    objects = {"network": network, "ema": averaged, "optimizer": optimizer, "lr_scheduler": scheduler}
    checkpoint = TrainingCheckpoint(
        save_dir,
        {**objects, "rng": epoch_seed},
        averaged,
        evaluator,
        patience=plan.patience,
        resume=plan.resume,
        settings={"seed": plan.seed, "steps": steps, "network": network.settings, "rows": list(codes.shape)},
    )
    trainer = SupervisedTrainer(
        device=torch.device(plan.device),
        max_epochs=epochs,
        epoch_length=length,
        train_data_loader=RowBatches(torch.from_numpy(codes), step_rows(plan.batch_size, cardinalities), length),
        network=network,
        optimizer=optimizer,
        loss_function=loss,
        prepare_batch=NoisyRowPrepareBatch(schedule, cardinalities),
        train_handlers=[
            epoch_seed,
            GradientClip(max_norm=1.0),
            LrScheduleHandler(scheduler, epoch_level=False, print_lr=False),  # type: ignore[arg-type]
            ema,
            StopOnNan(),
            ValidationHandler(1, evaluator),
            checkpoint,
            *plan.handlers,
        ],
        decollate=False,
    )
    trainer.run()
    load_weights(averaged, save_dir)
    evaluator.run()
    losses: np.ndarray = evaluator.state.metrics["val_loss_per_level"].cpu().numpy()
    averaged.eval()
    return averaged, losses


def validation_rows(held_out: np.ndarray, seed: int, values_per_row: int) -> torch.Tensor:
    """Rows ``(M, F)`` that every validation sees: some of many; few of them several times, each under other noise."""
    most = max(16, min(VALIDATION_ROWS, VALIDATION_VALUES // values_per_row))
    chosen = np.random.default_rng(seed).permutation(len(held_out))[:most]
    rows = torch.from_numpy(held_out[np.sort(chosen)])
    return rows.repeat(max(1, min(500, most) // len(rows)), 1)


def _evaluator(
    held_out: np.ndarray, network: ScoreMLP, loss: TableScoreMatchingLoss, schedule: NoiseSchedule, plan: TrainingPlan
) -> SupervisedEvaluator:
    cardinalities, levels = network.blocks.cardinalities, schedule.num_levels
    rows = validation_rows(held_out, plan.seed, levels * sum(cardinalities))
    level_loss = LevelLoss(loss, schedule.num_levels, device=plan.device)
    return SupervisedEvaluator(
        device=torch.device(plan.device),
        val_data_loader=RowBatches(rows, validation_batch(cardinalities, levels)),
        network=network,
        inferer=ChunkedInferer(4096),
        prepare_batch=NoisyRowPrepareBatch(schedule, cardinalities, fixed_seed=0),
        key_val_metric={"val_loss": level_loss.nanmean()},
        additional_metrics={"val_loss_per_level": level_loss},
        metric_cmp_fn=lambda current, best: current < best,
        decollate=False,
    )
