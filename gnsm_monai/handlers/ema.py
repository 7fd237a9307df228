"""Exponential moving average of the weights, from the first step on."""

from __future__ import annotations

from typing import Any

from ignite.engine import Engine, Events
from ignite.handlers import EMAHandler

__all__ = ["WarmUpEMA"]


class WarmUpEMA(EMAHandler):
    """ignite's EMA with a momentum that starts high: ``max(momentum, 9 / (10 + step))``.

    The average then holds little of the initial weights after a few dozen steps already, which short runs need. The
    momentum follows from the step alone, so that nothing has to be kept in a checkpoint but the averaged weights.
    """

    def attach(self, engine: Engine, name: str = "ema_momentum", *args: Any, **kwargs: Any) -> None:
        def warm_up(engine: Engine) -> None:
            setattr(engine.state, name, max(self.momentum, 9 / (10 + engine.state.iteration)))

        engine.add_event_handler(Events.ITERATION_COMPLETED, warm_up)
        super().attach(engine, name, *args, **kwargs)
