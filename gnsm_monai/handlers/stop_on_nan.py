"""Ends a run whose loss is no number any more."""

from __future__ import annotations

import logging
from typing import Any

import ignite.distributed as idist
import torch
from ignite.engine import Engine, Events

__all__ = ["StopOnNan"]


class StopOnNan:
    """ignite's ``TerminateOnNan`` for MONAI trainers, on several processes: all of them stop, or the others would wait
    for the one that did."""

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.ITERATION_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        output: Any = engine.state.output
        if idist.all_reduce(0.0 if torch.isfinite(output["loss"]) else 1.0, "MAX"):
            logging.getLogger(__name__).error("step %d: the loss is no number, training ends", engine.state.iteration)
            engine.terminate()
