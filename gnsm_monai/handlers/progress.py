"""A progress bar on a terminal; a line now and then in a log."""

from __future__ import annotations

import logging
import sys
import time

import ignite.distributed as idist
from ignite.engine import Engine, Events
from ignite.handlers import ProgressBar

__all__ = ["TerminalProgress"]

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
