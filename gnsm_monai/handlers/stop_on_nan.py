"""Ends a run whose loss is no number any more."""

from __future__ import annotations

from ignite.engine import Engine, Events
from ignite.handlers import TerminateOnNan

__all__ = ["StopOnNan"]


class StopOnNan(TerminateOnNan):
    """ignite's ``TerminateOnNan`` on the loss of a MONAI trainer, attached as MONAI attaches handlers."""

    def __init__(self) -> None:
        super().__init__(output_transform=lambda output: output["loss"])

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.ITERATION_COMPLETED, self)
