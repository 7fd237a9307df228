"""What attaches to a trainer: seeds, bounded gradients, averaged weights, an end where the loss is no number."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, TypeVar

import ignite.distributed as idist
import torch
from ignite.engine import Engine, Events
from ignite.handlers import EMAHandler
from monai.data import Dataset
from monai.engines.utils import IterationEvents
from monai.transforms import Randomizable
from monai.utils import set_determinism

__all__ = ["EpochSeed", "GradientClip", "StopOnNan", "WarmUpEMA", "existing"]


class EpochSeed:
    """Seeds every generator at the start of each epoch from ``(seed, epoch, rank)`` and restarts the data loader.

    All random draws of an epoch (order of cases, augmentation, noise levels, noise) then follow from the seed and the
    number of the epoch. That is the whole RNG state of a checkpoint: a run that is resumed after epoch ``n`` continues
    exactly as if it had not been stopped.

    Args:
        seed: of the run.
        dataset: training data, whose random transforms are seeded as well.
        rank: of this process; each one draws its own noise.
    """

    def __init__(self, seed: int, dataset: Dataset | None = None, rank: int = 0) -> None:
        self.seed, self.dataset, self.rank = seed, dataset, rank

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.EPOCH_STARTED, self)

    def __call__(self, engine: Engine) -> None:
        seed = (self.seed + 1_000_003 * engine.state.epoch + 7_919 * self.rank) % (2**32)
        set_determinism(seed, use_deterministic_algorithms=None)
        transform = getattr(self.dataset, "transform", None)
        if isinstance(transform, Randomizable):
            transform.set_random_state(seed)
        # A fresh pass over the data: the place within the last one is no part of a checkpoint.
        engine.set_data(engine.data_loader)  # type: ignore[attr-defined]

    def state_dict(self) -> dict[str, Any]:
        return {"seed": self.seed}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Continues with the seed of the checkpoint."""
        self.seed = int(state_dict["seed"])


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


Handler = TypeVar("Handler")


def existing(handler: Handler) -> Handler:
    """Returns ``handler``.

    MONAI's property check reads every entry of a handler list as a mapping with ``_target_``; a bare reference
    (``"@ema"``) would break it.
    """
    return handler
