"""What TensorBoard shows of training: loss per level, and pictures of what the network makes of a label map."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import Any

import torch
from ignite.engine import Engine, Events
from monai.engines import Evaluator
from torch import nn
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from gnsm_monai.noise import NoiseSchedule
from gnsm_monai.report.strips import COLUMNS, captioned, level_pictures

__all__ = ["TrainingLog", "level_table", "relative_distance", "write_result"]


class TrainingLog:
    """Writes a run to one TensorBoard writer, and logs a line per epoch.

    Every epoch: training loss, learning rate, gradient norm, distance of the averaged weights, throughput. Every
    validation: loss and calibration error per level, the mean loss, and pictures of fixed cases (mask, noisy, denoised,
    posterior, misfit per level), so that they can be followed over the epochs. Attach it to the trainer after the
    ``ValidationHandler``. The writer stays open for what follows training.

    Args:
        writer: of the run.
        evaluator: MONAI evaluator whose metrics hold ``val_loss`` and ``val_loss_per_level``, and
            ``val_calibration_per_level`` for logits that are a posterior.
        schedule: the noise.
        interval: epochs between validations.
        pictures: how many levels to draw; 0 for none (logits that are no posterior).
        cases: how many cases to draw.
        averaged: the averaged network, whose distance from the trained one is written.
    """

    def __init__(
        self,
        writer: SummaryWriter,
        evaluator: Evaluator,
        schedule: NoiseSchedule,
        interval: int = 1,
        pictures: int = 4,
        cases: int = 2,
        averaged: nn.Module | None = None,
    ) -> None:
        self.writer, self.evaluator, self.schedule = writer, evaluator, schedule
        self.interval, self.pictures, self.cases, self.averaged = interval, pictures, cases, averaged
        self.logger = logging.getLogger(__name__)
        self._outputs: dict[int, Any] = {}
        self._start_epoch()

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.EPOCH_STARTED, self._start_epoch)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._add)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._epoch)
        engine.add_event_handler(Events.EPOCH_COMPLETED(every=self.interval), self._validated)
        engine.add_event_handler(Events.COMPLETED, self._completed)
        self.evaluator.add_event_handler(Events.ITERATION_COMPLETED, self._keep)

    def _start_epoch(self) -> None:
        self._loss_sum, self._samples, self._seconds = 0.0, 0, 0.0
        self._start = time.monotonic()

    def _add(self, engine: Engine) -> None:
        output: Any = engine.state.output
        self._loss_sum += output["loss"].item()
        self._samples += len(output["pred"])
        self._seconds = time.monotonic() - self._start  # what comes after the last step is no training

    def _keep(self, engine: Engine) -> None:
        if self.pictures and engine.state.iteration <= self.cases:
            self._outputs[engine.state.iteration] = engine.state.output

    def _epoch(self, engine: Engine) -> None:
        epoch, state = engine.state.epoch, engine.state
        loss = self._loss_sum / (state.epoch_length or 1)
        rate = engine.optimizer.param_groups[0]["lr"]  # type: ignore[attr-defined]
        self.writer.add_scalar("train/loss", loss, epoch)
        self.writer.add_scalar("train/learning_rate", rate, epoch)
        if hasattr(state, "gradient_norm"):
            self.writer.add_scalar("train/gradient_norm", float(state.gradient_norm), epoch)
        if self.averaged is not None:
            distance = relative_distance(engine.network, self.averaged)  # type: ignore[attr-defined]
            self.writer.add_scalar("train/ema_distance", distance, epoch)
        if self._seconds > 0:
            self.writer.add_scalar("train/maps_per_second", self._samples / self._seconds, epoch)
        self.logger.info("epoch %d/%s: loss %.5f, learning rate %.2e", epoch, state.max_epochs, loss, rate)

    def _validated(self, engine: Engine) -> None:
        epoch, metrics = engine.state.epoch, self.evaluator.state.metrics
        self.writer.add_scalar("validation/loss", metrics["val_loss"], epoch)
        for metric, name in (("val_loss_per_level", "loss"), ("val_calibration_per_level", "calibration_error")):
            for level, value in enumerate(metrics[metric].tolist() if metric in metrics else []):
                self.writer.add_scalar(f"validation_{name}_per_level/level_{level:02d}", value, epoch)
        levels = torch.linspace(0, self.schedule.num_levels - 1, max(self.pictures, 1)).round().int().unique().tolist()
        for number, output in sorted(self._outputs.items()):
            strip = level_pictures(output["pred"], output["label"], levels)
            rows = [f"level {level}\nβ {self.schedule.betas[level]:.3f}" for level in levels]
            picture, tag = captioned(strip, COLUMNS, rows), f"validation_pictures/held_out_reference_{number}"
            self.writer.add_image(tag, picture, epoch, dataformats="HWC")
        self._outputs.clear()
        self.logger.info("epoch %d: validation loss %.5f", epoch, metrics["val_loss"])

    def _completed(self, engine: Engine) -> None:
        self.writer.flush()


def relative_distance(network: nn.Module, averaged: nn.Module) -> float:
    """``||w - a|| / ||a||`` of two sets of weights: how far the averaged ones lag behind."""
    weights_of = getattr(network, "module", network)
    with torch.no_grad():
        pairs = list(zip(weights_of.parameters(), averaged.parameters(), strict=True))
        apart = sum(((w - a).double() ** 2).sum() for w, a in pairs)
        size = sum((a.double() ** 2).sum() for _, a in pairs)
        return float(torch.as_tensor(apart / size).sqrt())


def write_result(
    writer: SummaryWriter, settings: Mapping[str, Any], metrics: Mapping[str, float], table: Mapping[str, list[str]]
) -> None:
    """What a training came to: settings with final metrics for the HPARAMS tab, the table per level as text.

    They go to the run's own writer. ``SummaryWriter.add_hparams`` would open another one in a folder of its own.
    """
    plain = {k: v if isinstance(v, (bool, int, float, str)) else str(v) for k, v in settings.items()}
    named = {f"final/{name}": float(value) for name, value in metrics.items()}
    for summary in hparams(plain, named):
        writer._get_file_writer().add_summary(summary)
    for name, value in named.items():
        writer.add_scalar(name, value, 0)
    for number, names in enumerate(_column_groups(list(table)), start=1):
        columns = [table[name] for name in names]
        lines = [names, ["---"] * len(names), *zip(*columns, strict=True)]
        writer.add_text(f"levels/table_{number}", "\n".join("| " + " | ".join(line) + " |" for line in lines), 0)
    writer.flush()


def _column_groups(names: list[str], width: int = 7) -> list[list[str]]:
    """Columns of tables that fit the tab, each with the first column: wider ones would break their numbers."""
    first, rest = names[:1], names[1:]
    return [first + rest[start : start + width - 1] for start in range(0, len(rest), width - 1)]


def level_table(columns: dict[str, list[str]]) -> str:
    """Columns of equal length as a plain table, right-aligned, for logs and terminals."""
    widths = [max(map(len, [name, *values])) for name, values in columns.items()]
    rows = [list(columns), *map(list, zip(*columns.values(), strict=True))]
    return "\n".join("  ".join(text.rjust(width) for text, width in zip(row, widths, strict=True)) for row in rows)
