"""Seeds, bounded gradients, averaged weights, an end where the loss is no number, and the progress of a run."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Mapping
from typing import Any, TypeVar

import ignite.distributed as idist
import torch
from ignite.engine import Engine, Events
from ignite.handlers import EMAHandler, ProgressBar
from monai.data import Dataset
from monai.engines.utils import IterationEvents
from monai.transforms import Randomizable
from monai.utils import set_determinism

__all__ = ["EpochSeed", "GradientClip", "StopOnNan", "TerminalProgress", "WarmUpEMA", "existing"]


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


BAR = "{desc}[{n_fmt}/{total_fmt}] {percentage:3.0f}%|{bar}| {rate_fmt}, {remaining} left"
"""ignite's own format has no rate."""


class TerminalProgress:
    """ignite's progress bar with rate and remaining time on a terminal; log lines where the output is a file or a log.

    Args:
        desc: words before the bar.
        log_seconds: least time between two log lines; ``None`` for none.
    """

    def __init__(self, desc: str, log_seconds: float | None = None) -> None:
        self.desc, self.log_seconds = desc, log_seconds
        self.logger = logging.getLogger(__name__)

    def attach(self, engine: Engine) -> None:
        if idist.get_rank() != 0:
            return
        if sys.stderr.isatty():
            ProgressBar(persist=False, bar_format=BAR, desc=self.desc).attach(engine)
        elif self.log_seconds is not None:
            engine.add_event_handler(Events.EPOCH_STARTED, self._started)
            engine.add_event_handler(Events.ITERATION_COMPLETED, self._log)

    def _started(self, engine: Engine) -> None:
        self._start = self._logged = time.monotonic()
        self._before = engine.state.iteration

    def _log(self, engine: Engine) -> None:
        now = time.monotonic()
        assert self.log_seconds is not None
        if now - self._logged < self.log_seconds:
            return
        self._logged = now
        done, total = engine.state.iteration - self._before, engine.state.epoch_length or 0
        pace = (now - self._start) / done
        left = pace * (total - done)
        self.logger.info("%s: %d of %d, %.2g s each, %.0f s left", self.desc, done, total, pace, left)
