"""What TensorBoard shows of training: loss per level, and pictures of what the network makes of a label map."""

from __future__ import annotations

import logging
from typing import Any

import torch
from ignite.engine import Engine, Events
from monai.engines import Evaluator
from torch.utils.tensorboard import SummaryWriter

from gnsm_monai.handlers.pictures import level_pictures
from gnsm_monai.noise import NoiseSchedule

__all__ = ["TrainingLog", "level_table"]


class TrainingLog:
    """Writes a run to one TensorBoard writer, and logs a line per epoch.

    Every epoch: training loss, learning rate, gradient norm. Every validation: loss per level, their mean, and
    pictures of one fixed case (mask, noisy, denoised, posterior, misfit per level), so that it can be followed over
    the epochs. Attach it to the trainer after the ``ValidationHandler``.

    Args:
        writer: of the run.
        evaluator: MONAI evaluator whose metrics hold ``val_loss`` and ``val_loss_per_level``.
        schedule: the noise.
        interval: epochs between validations.
        pictures: how many levels to draw; 0 for none (logits that are no posterior).
    """

    def __init__(
        self,
        writer: SummaryWriter,
        evaluator: Evaluator,
        schedule: NoiseSchedule,
        interval: int = 1,
        pictures: int = 4,
    ) -> None:
        self.writer, self.evaluator, self.schedule = writer, evaluator, schedule
        self.interval, self.pictures = interval, pictures
        self.logger = logging.getLogger(__name__)
        self._first_output: Any = None
        self._loss_sum = 0.0

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.EPOCH_STARTED, self._reset)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._add)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._epoch)
        engine.add_event_handler(Events.EPOCH_COMPLETED(every=self.interval), self._validated)
        engine.add_event_handler(Events.COMPLETED, self._completed)
        self.evaluator.add_event_handler(Events.ITERATION_COMPLETED(once=1), self._keep)

    def _reset(self, engine: Engine) -> None:
        self._loss_sum = 0.0

    def _add(self, engine: Engine) -> None:
        output: Any = engine.state.output
        self._loss_sum += output["loss"].item()

    def _keep(self, engine: Engine) -> None:
        self._first_output = engine.state.output

    def _epoch(self, engine: Engine) -> None:
        epoch, state = engine.state.epoch, engine.state
        loss = self._loss_sum / (state.epoch_length or 1)
        rate = engine.optimizer.param_groups[0]["lr"]  # type: ignore[attr-defined]
        self.writer.add_scalar("train/loss", loss, epoch)
        self.writer.add_scalar("train/learning_rate", rate, epoch)
        if hasattr(state, "gradient_norm"):
            self.writer.add_scalar("train/gradient_norm", float(state.gradient_norm), epoch)
        self.logger.info("epoch %d/%s: loss %.5f, learning rate %.2e", epoch, state.max_epochs, loss, rate)

    def _validated(self, engine: Engine) -> None:
        epoch, metrics = engine.state.epoch, self.evaluator.state.metrics
        self.writer.add_scalar("validation/loss", metrics["val_loss"], epoch)
        for level, loss in enumerate(metrics["val_loss_per_level"].tolist()):
            self.writer.add_scalar(f"validation_loss_per_level/level_{level:02d}", loss, epoch)
        if self.pictures and self._first_output is not None:
            chosen = torch.linspace(0, self.schedule.num_levels - 1, self.pictures).round().int().unique().tolist()
            strip = level_pictures(self._first_output["pred"], self._first_output["label"], chosen)
            self.writer.add_image("validation/mask_noisy_denoised_posterior_misfit", strip, epoch, dataformats="HWC")
        self.logger.info("epoch %d: validation loss %.5f", epoch, metrics["val_loss"])

    def _completed(self, engine: Engine) -> None:
        self.writer.close()


def level_table(columns: dict[str, list[str]]) -> str:
    """Columns of equal length as a plain table, right-aligned, for logs and terminals."""
    widths = [max(map(len, [name, *values])) for name, values in columns.items()]
    rows = [list(columns), *map(list, zip(*columns.values(), strict=True))]
    return "\n".join("  ".join(text.rjust(width) for text, width in zip(row, widths, strict=True)) for row in rows)
