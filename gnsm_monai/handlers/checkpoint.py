"""Checkpoints that a killed run continues from, and the best weights."""

from __future__ import annotations

import io
import json
import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import numpy as np
import torch
from ignite.engine import Engine, Events
from ignite.handlers import EarlyStopping
from monai.engines import Evaluator
from monai.handlers import CheckpointLoader

from gnsm_monai.errors import InputError
from gnsm_monai.files import write_atomically
from gnsm_monai.handlers.trainer import EndInTime
from gnsm_monai.model.files import SETTINGS, STATISTICS_FILE, WEIGHTS
from gnsm_monai.time_limit import NO_LIMIT, TimeLimit

__all__ = ["CHECKPOINT", "KEPT_LOSSES", "LEVEL_LOSS", "TrainingCheckpoint", "kept_losses"]

CHECKPOINT, METRIC, LEVEL_LOSS, AVERAGED = "checkpoint.pt", "val_loss", "val_loss_per_level", "ema"

KEPT_LOSSES = "kept_losses"
"""Where the evaluator's state has what :func:`kept_losses` gives."""


def kept_losses(evaluator: Evaluator) -> np.ndarray | None:
    """Losses per level, ``(L,)``, of the weights in ``model.pt``; None unless this run validated all cases."""
    losses: np.ndarray | None = getattr(evaluator.state, KEPT_LOSSES, None)
    return losses


class TrainingCheckpoint:
    """Saves the state of training after every epoch, keeps the best weights, resumes, and stops early.

    ``checkpoint.pt`` holds all that the run needs to continue as if it had not been stopped. ``model.pt`` holds the
    averaged weights of the epoch with the lowest validation metric. Both are written to a temporary file first, so that
    neither is ever half written. Attach it to the trainer after the ``ValidationHandler``.

    Args:
        save_dir: folder of the two files.
        objects: what to save besides the trainer: network (not wrapped for several GPUs), optimiser, scheduler, seed,
            and as ``ema`` the averaged network, whose weights are kept in ``model.pt``.
        evaluator: MONAI evaluator with the metrics ``val_loss``, lower = better, and ``val_loss_per_level``.
        interval: epochs between validations.
        patience: validations without a better metric after which training ends.
        resume: continue from ``checkpoint.pt`` where there is one. Without it, what an earlier run left in the folder
            is removed when training starts, so that nothing of it is mistaken for this run's.
        limit: of the time; training ends with the step in which its part is over, early enough for a last validation.
            The weights are then validated, on as many cases as time allows, and the best are kept as usual. The
            learning rate follows the plan of all epochs, so that a run that continues later ends like one without a
            limit, except that one more epoch was validated. It continues after the last whole epoch.
        settings: plain values that a continued run must share with the one that was stopped.

    Raises:
        InputError: when a run is continued with other settings, or from a file that is no checkpoint of it.
    """

    def __init__(
        self,
        save_dir: str | Path,
        objects: Mapping[str, Any],
        evaluator: Evaluator,
        interval: int = 1,
        patience: int = 10,
        limit: TimeLimit = NO_LIMIT,
        resume: bool = False,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        self.save_dir, self.objects, self.evaluator = Path(save_dir), dict(objects), evaluator
        self.interval, self.patience, self.resume = interval, patience, resume
        self.limit = limit
        self.settings = json.loads(json.dumps(dict(settings or {})))
        self.best: float | None = None
        self.logger = logging.getLogger(__name__)

    def attach(self, engine: Engine) -> None:
        self._early_stop = EarlyStopping(self.patience, lambda _: self._goodness(), engine)
        self._early_stop.logger = self.logger  # its own one prints in a format of its own
        self.objects.update(trainer=engine, best=self, early_stop=self._early_stop)
        engine.add_event_handler(Events.STARTED, self._begin)
        engine.add_event_handler(Events.STARTED, self._load if self.resume else self._clear)
        engine.add_event_handler(Events.EPOCH_COMPLETED(every=self.interval), self._validated)
        if self.limit.limited:
            engine.add_event_handler(Events.ITERATION_COMPLETED, self._stop_in_time)
            engine.add_event_handler(Events.EPOCH_COMPLETED, self._stop_in_time)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._save)
        engine.add_event_handler(Events.COMPLETED, lambda _: self._in_time.detach())

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        self.best = state_dict["best"]

    def _value(self) -> float:
        return float(self.evaluator.state.metrics[METRIC])

    def _goodness(self) -> float:
        """Higher = better. No number is worse than all others: ignite would take it for the best one ever since."""
        value = self._value()
        return -value if math.isfinite(value) else -math.inf

    def _begin(self, engine: Engine) -> None:
        self._in_time = EndInTime(self.limit.part("training")).attach(self.evaluator)
        self._validated_epoch = 0

    def _validated(self, engine: Engine) -> None:
        self._validated_epoch = engine.state.epoch
        self._keep_if_best(engine)
        self._early_stop(engine)

    def _keep_if_best(self, engine: Engine) -> None:
        value = self._value()
        # A mean over fewer cases is not compared.
        if math.isfinite(value) and (self.best is None or (value < self.best and not self._in_time.cut)):
            self.best = value
            losses = self.evaluator.state.metrics[LEVEL_LOSS]
            setattr(self.evaluator.state, KEPT_LOSSES, None if self._in_time.cut else losses.cpu().numpy())
            self._write({"model": self.objects[AVERAGED].state_dict()}, WEIGHTS)
            self.logger.info("epoch %d: best %s so far, %.5f", engine.state.epoch, METRIC, self.best)

    def _stop_in_time(self, engine: Engine) -> None:
        state, limit = engine.state, self._in_time.limit
        step = state.iteration % state.epoch_length  # type: ignore[operator]
        ends_epoch = engine.last_event_name == Events.EPOCH_COMPLETED
        if not step and (not ends_epoch or state.epoch == state.max_epochs):
            return
        # All stop, or the others would wait for the one that did.
        if not idist.all_reduce(float(limit.left <= self._in_time.seconds), "MAX"):
            return
        if step or self._validated_epoch < state.epoch:
            self.evaluator.run(state.epoch)
            self._keep_if_best(engine)
        where = f"step {step} of {state.epoch_length}" if step else "its last step"
        text = "epoch %d, %s: training ends here, to be done in %.3g minutes"
        self.logger.info(text, state.epoch, where, self.limit.minutes)
        engine.terminate()

    def _save(self, engine: Engine) -> None:
        state = {name: item.state_dict() for name, item in self._all_objects(engine).items()}
        self._write({**state, "settings": json.dumps(self.settings)}, CHECKPOINT)

    def _all_objects(self, engine: Engine) -> dict[str, Any]:
        """With the gradient scaler of mixed precision, which MONAI makes when the run starts."""
        scaler = getattr(engine, "scaler", None)
        return self.objects if scaler is None else {**self.objects, "scaler": scaler}

    def _clear(self, engine: Engine) -> None:
        if idist.get_rank() == 0:
            for name in (CHECKPOINT, WEIGHTS, SETTINGS, STATISTICS_FILE):
                (self.save_dir / name).unlink(missing_ok=True)

    def _load(self, engine: Engine) -> None:
        path = self.save_dir / CHECKPOINT
        if not path.is_file():
            self.logger.info("%s: no checkpoint yet, training starts anew", path)
            return
        self._check(path)
        objects = self._all_objects(engine)
        CheckpointLoader(str(path), objects, map_location=torch.device("cpu"))(engine)  # type: ignore[arg-type]
        self.logger.info("continues after epoch %d of %s", engine.state.epoch, engine.state.max_epochs)
        if self._early_stop.counter >= self.patience:
            engine.terminate()

    def _check(self, path: Path) -> None:
        """Another seed would mix training and held-out cases; another length would break the learning rate's plan."""
        try:
            saved = json.loads(torch.load(path, map_location="cpu", weights_only=True)["settings"])
        except Exception as error:  # pickle, zip and JSON errors of many kinds
            raise InputError(f"{path}: no checkpoint of this version can be read from it") from error
        other = sorted(key for key in {*saved, *self.settings} if saved.get(key) != self.settings.get(key))
        if other:
            raise InputError(f"{path}: cannot be continued, its training had other settings: {', '.join(other)}")

    def _write(self, content: Mapping[str, Any], name: str) -> None:
        """From rank 0. To memory first: on a full disk torch raises an error that says neither what nor where."""
        if idist.get_rank() == 0:
            buffer = io.BytesIO()
            torch.save(content, buffer)
            write_atomically(self.save_dir / name, buffer.getvalue())
