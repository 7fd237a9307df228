"""Gradient norm: bounded, and kept for the log."""

from __future__ import annotations

import torch
from ignite.engine import Engine
from monai.engines.utils import IterationEvents

__all__ = ["GradientClip"]


class GradientClip:
    """Scales the gradients of a MONAI trainer to a norm of at most ``max_norm`` before the optimiser's step.

    The norm before clipping is left in ``engine.state.gradient_norm``.
    """

    def __init__(self, max_norm: float = 1.0) -> None:
        self.max_norm = max_norm

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(IterationEvents.BACKWARD_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        if engine.scaler is not None:  # type: ignore[attr-defined]
            engine.scaler.unscale_(engine.optimizer)  # type: ignore[attr-defined]
        parameters = engine.network.parameters()  # type: ignore[attr-defined]
        setattr(engine.state, "gradient_norm", torch.nn.utils.clip_grad_norm_(parameters, self.max_norm))  # noqa: B010
