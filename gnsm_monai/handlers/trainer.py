"""Seeds, bounded gradients, averaged weights, an end where the loss is no number, and the progress of a run."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Mapping
from typing import Any, NoReturn, TypeVar

import ignite.distributed as idist
import torch
from ignite.engine import Engine, Events, RemovableEventHandle
from ignite.handlers import EMAHandler
from monai.data import Dataset
from monai.engines.utils import IterationEvents
from monai.transforms import Randomizable
from monai.utils import set_determinism
from tqdm import tqdm

from gnsm_monai.time_limit import NO_LIMIT, TimeLimit

__all__ = ["EndInTime", "EpochSeed", "GradientClip", "StopOnNan", "TerminalProgress", "WarmUpEMA", "existing"]


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


class EndInTime:
    """Ends the epoch of an engine with the step in which a limit is over; its metrics are then of the steps so far.

    Args:
        limit: see :class:`gnsm_monai.time_limit.TimeLimit`.

    Attributes:
        cut: whether the last run was ended so.
        seconds: that the last run took that was not, 0 before there is one.
    """

    def __init__(self, limit: TimeLimit) -> None:
        self.limit, self.cut, self.seconds = limit, False, 0.0
        self._handles: list[RemovableEventHandle] = []

    def attach(self, engine: Engine) -> EndInTime:
        """Returns itself."""
        if self.limit.limited:
            handlers = {
                Events.STARTED: self._started,
                Events.ITERATION_COMPLETED: self._step,
                Events.COMPLETED: self._end,
            }
            self._handles = [engine.add_event_handler(event, handler) for event, handler in handlers.items()]
        return self

    def detach(self) -> None:
        """The engine runs without a limit again."""
        for handle in self._handles:
            handle.remove()

    def _started(self, engine: Engine) -> None:
        self.cut, self._start = False, self.limit.clock()

    def _step(self, engine: Engine) -> None:
        length = engine.state.epoch_length
        if self.limit.over and length and engine.state.iteration % length:
            self.cut = True
            engine.terminate_epoch()

    def _end(self, engine: Engine) -> None:
        if not self.cut:
            self.seconds = self.limit.clock() - self._start


LOG_SECONDS = 30
"""Least time between two lines about the progress of a part of a training."""

BAR = "{desc} [{n_fmt}/{total_fmt}] {percentage:3.0f}%|{bar}| {rate_fmt}{postfix}"
"""tqdm's own format has a remaining time that knows of no limit."""


class TerminalProgress:
    """A bar with rate and remaining time on a terminal; log lines where the output is a file or a log.

    Args:
        desc: words before the bar.
        log_seconds: least time between two log lines; ``None`` for none.
        limit: of the time; no more than it leaves is said to remain.
    """

    def __init__(self, desc: str, log_seconds: float | None = None, limit: TimeLimit = NO_LIMIT) -> None:
        self.desc, self.log_seconds, self.limit = desc, log_seconds, limit
        self.logger = logging.getLogger(__name__)
        self._bar: tqdm[NoReturn] | None = None

    def attach(self, engine: Engine) -> None:
        if idist.get_rank() != 0:
            return
        engine.add_event_handler(Events.STARTED, self._started)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._step)
        engine.add_event_handler(Events.COMPLETED, self._end)

    def _started(self, engine: Engine) -> None:
        self._start = self._logged = time.monotonic()
        self._before = engine.state.iteration
        self._total = (engine.state.epoch_length or 0) * (engine.state.max_epochs or 1)
        if sys.stderr.isatty():
            self._bar = tqdm(desc=self.desc, total=self._total, initial=self._before, leave=False, bar_format=BAR)

    def _step(self, engine: Engine) -> None:
        now, done = time.monotonic(), engine.state.iteration
        pace = (now - self._start) / max(done - self._before, 1)
        left = min(pace * (self._total - done), self.limit.left)
        if self._bar is not None:
            self._bar.set_postfix_str(f"{tqdm.format_interval(int(left))} left", refresh=False)
            self._bar.update()
        elif self.log_seconds is not None and now - self._logged >= self.log_seconds:
            self._logged = now
            self.logger.info("%s: %d of %d, %.2g s each, %.0f s left", self.desc, done, self._total, pace, left)

    def _end(self, engine: Engine) -> None:
        if self._bar is not None:
            self._bar.close()
