"""What is written once a ranking stands."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ignite.distributed as idist
from ignite.engine import Engine, Events

from gnsm_monai.data.constants import LABEL
from gnsm_monai.handlers.ranking import RankingCollector
from gnsm_monai.scoring.result import CaseResult, scored

__all__ = ["AfterRanking"]


class AfterRanking(ABC):
    """A handler that writes files of the masks that were scored, once, in the first process.

    Args:
        folder: that it writes to.
        ranking: attach this after it.
        cases: with ``case`` and the path of the mask.
    """

    def __init__(self, folder: Path, ranking: RankingCollector, cases: Sequence[Mapping[str, Any]]) -> None:
        self.folder, self.ranking = folder, ranking
        self.paths: dict[str, Any] = {case["case"]: case[LABEL] for case in cases}

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.COMPLETED, self._completed)

    def _completed(self, engine: Engine) -> None:
        if idist.get_rank() == 0:
            self.write(scored(self.ranking.ranking.results))

    @abstractmethod
    def write(self, results: Sequence[CaseResult]) -> None:
        """Writes the files, of results worst first."""
