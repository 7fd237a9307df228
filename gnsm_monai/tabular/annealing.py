"""How long a training lasts, and its learning rate: as long as the loss on held-out rows gains by it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from ignite.engine import Engine, Events

__all__ = ["Annealing", "steady_epochs"]

MIN_GAIN = 0.0005
"""Share of the held-out loss that a doubling of the steps must gain, or the rate falls."""

WARM_UP = 100
"""Steps in which the rate rises."""

FALL = 0.5
"""Epochs in which the rate falls for each in which it was steady."""


def steady_epochs(losses: Sequence[float], max_epochs: int) -> int | None:
    """After how many epochs the rate begins to fall, by the held-out loss after each epoch; None if it goes on.

    That is the first epoch whose loss is not lower by :data:`MIN_GAIN` than that at half its number, and at the latest
    the one after which there is just time for the fall.
    """
    last = max(1, math.floor(max_epochs / (1 + FALL)))
    for epoch in range(1, len(losses) + 1):
        now = losses[epoch - 1]
        if epoch >= last or (epoch > 1 and not losses[epoch // 2 - 1] - now >= MIN_GAIN * abs(now)):
            return epoch
    return None


class Annealing:
    """Learning rate that rises, is steady while the held-out loss gains, and falls to nothing along half a cosine.

    The average of the weights and the fall give at any moment what a plan of as many steps would have given (Hägele et
    al., NeurIPS 2024), so that nobody has to know the number of steps beforehand. The trainer is terminated after the
    fall. Attach it between the ``ValidationHandler`` and what saves checkpoints; it follows from the losses alone.

    Args:
        optimizer: its learning rate is the steady one.
        evaluator: has ``val_loss`` among its metrics after every epoch.
        max_epochs: the fall ends with it at the latest.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, evaluator: Engine, max_epochs: int) -> None:
        self.optimizer, self.evaluator, self.max_epochs = optimizer, evaluator, max_epochs
        self.rates = [group["lr"] for group in optimizer.param_groups]
        self.losses: list[float] = []

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.EPOCH_STARTED, self._end)  # of a finished run that is continued
        engine.add_event_handler(Events.ITERATION_STARTED, self._set_rate)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._judge)

    def state_dict(self) -> dict[str, Any]:
        return {"losses": list(self.losses)}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        self.losses = list(state_dict["losses"])

    @property
    def epochs(self) -> float:
        """Epochs of the whole training, infinite while that is open."""
        steady = steady_epochs(self.losses, self.max_epochs)
        return math.inf if steady is None else min(self.max_epochs, steady + math.ceil(FALL * steady))

    def _set_rate(self, engine: Engine) -> None:
        steps, step = int(engine.state.epoch_length or 1), engine.state.iteration
        factor = min(1.0, step / WARM_UP)
        if (steady := steady_epochs(self.losses, self.max_epochs)) is not None:
            begin, end = steady * steps, self.epochs * steps
            factor *= 0.5 + 0.5 * math.cos(math.pi * (step - begin) / max(1, end - begin + 1))
        for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = rate * factor

    def _judge(self, engine: Engine) -> None:
        self.losses.append(float(self.evaluator.state.metrics["val_loss"]))
        if engine.state.epoch >= self.epochs:
            engine.terminate()

    def _end(self, engine: Engine) -> None:
        if engine.state.epoch > self.epochs:
            engine.terminate()
