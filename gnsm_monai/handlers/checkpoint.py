"""Checkpoints that a killed run continues from, and the best weights."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events
from ignite.handlers import DiskSaver, EarlyStopping
from monai.engines import Evaluator
from monai.handlers import CheckpointLoader
from torch import nn

__all__ = ["CHECKPOINT", "WEIGHTS", "TrainingCheckpoint"]

CHECKPOINT, WEIGHTS = "checkpoint.pt", "model.pt"


class TrainingCheckpoint:
    """Saves the state of training after every epoch, keeps the best weights, resumes, and stops early.

    ``checkpoint.pt`` holds all that the run needs to go on as if it had not been stopped; ``model.pt`` the averaged
    weights of the epoch with the lowest validation metric. Both are written to a temporary file first, by ignite's
    ``DiskSaver``, so that neither is ever half written. Attach it to the trainer after the ``ValidationHandler``.

    Args:
        save_dir: folder of the two files.
        objects: what to save besides the trainer: network (not wrapped for several GPUs), averaged network,
            optimiser, scheduler, seed.
        weights: module whose weights are kept in ``model.pt`` (the averaged network).
        evaluator: MONAI evaluator with the validation metric.
        metric: name of that metric, lower = better.
        interval: epochs between validations.
        patience: validations without a better metric after which training ends.
        resume: continue from ``checkpoint.pt`` where there is one.
    """

    def __init__(
        self,
        save_dir: str | Path,
        objects: Mapping[str, Any],
        weights: nn.Module,
        evaluator: Evaluator,
        metric: str = "val_loss",
        interval: int = 1,
        patience: int = 10,
        resume: bool = False,
    ) -> None:
        self.save_dir, self.objects, self.weights = Path(save_dir), dict(objects), weights
        self.evaluator, self.metric = evaluator, metric
        self.interval, self.patience, self.resume = interval, patience, resume
        self.best: float | None = None
        self.logger = logging.getLogger(__name__)

    def attach(self, engine: Engine) -> None:
        self._early_stop = EarlyStopping(self.patience, lambda _: -self._value(), engine)
        self.objects.update(trainer=engine, best=self, early_stop=self._early_stop)
        if self.resume:
            engine.add_event_handler(Events.STARTED, self._load)
        engine.add_event_handler(Events.EPOCH_COMPLETED(every=self.interval), self._validated)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._save)

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        self.best = state_dict["best"]

    def _value(self) -> float:
        return float(self.evaluator.state.metrics[self.metric])

    def _validated(self, engine: Engine) -> None:
        if self.best is None or self._value() < self.best:
            self.best = self._value()
            self._saver()({"model": self.weights.state_dict()}, WEIGHTS)
            self.logger.info("epoch %d: best %s so far, %.5f", engine.state.epoch, self.metric, self.best)
        self._early_stop(engine)

    def _save(self, engine: Engine) -> None:
        self._saver()({name: item.state_dict() for name, item in self.objects.items()}, CHECKPOINT)

    def _load(self, engine: Engine) -> None:
        path = self.save_dir / CHECKPOINT
        if not path.is_file():
            self.logger.info("%s: no checkpoint yet, training starts anew", path)
            return
        CheckpointLoader(str(path), self.objects, map_location=torch.device("cpu"))(engine)  # type: ignore[arg-type]
        self.logger.info("continues after epoch %d of %s", engine.state.epoch, engine.state.max_epochs)

    def _saver(self) -> DiskSaver:
        return DiskSaver(self.save_dir, atomic=True, require_empty=False)
