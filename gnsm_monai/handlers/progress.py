"""A progress bar where somebody watches."""

from __future__ import annotations

import sys

import ignite.distributed as idist
from ignite.engine import Engine
from ignite.handlers import ProgressBar

__all__ = ["TerminalProgress"]


class TerminalProgress:
    """ignite's progress bar with rate and remaining time, on a terminal; nothing where the output is a file or a log.

    Args:
        desc: words before the bar.
    """

    def __init__(self, desc: str) -> None:
        self.desc = desc

    def attach(self, engine: Engine) -> None:
        if sys.stderr.isatty() and idist.get_rank() == 0:
            ProgressBar(persist=False, desc=self.desc).attach(engine)
