"""The results of a scoring engine, collected over its iterations and processes, and handed over as a ranking."""

from __future__ import annotations

import heapq
import logging
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import ignite.distributed as idist
from ignite.engine import Engine, Events

from gnsm_monai.errors import SCORING_FAILED, InputError
from gnsm_monai.evaluation.ranking import Ranking, ranked
from gnsm_monai.evaluation.verdict import flagged_by_rate
from gnsm_monai.memory import release_free_memory
from gnsm_monai.report.builder import MAX_CARDS
from gnsm_monai.report.strips import thumbnail
from gnsm_monai.report.write_results import ResultsWriter
from gnsm_monai.scoring.journal import Journal
from gnsm_monai.scoring.result import CaseResult, FailedCase, Result, scored

__all__ = ["RankingCollector"]

TRIM_EVERY = 50
"""Cases after which memory that is free is given back."""

logger = logging.getLogger(__name__)


class RankingCollector:
    """Collects the output of :class:`gnsm_monai.engines.ScoreStep` and hands the ranking over at the end.

    In a distributed run rank 0 hands over, once, what all ranks found.

    Args:
        writer: writes the ranking.
        journal: keeps the results of a run that is killed, for the next one.
        strict: end at the first case that cannot be scored, with exit code 3 and one line that names it. No ranking is
            written then; the journal keeps what was scored.
        fdr: masks are flagged at this false-discovery rate within their folder, in (0, 1), in place of alpha.
        complete: measures the rest of a mask that was only ranked, by an engine and the id of its case. It is asked for
            those that the report shows, and those that are flagged.

    Attributes:
        ranking: what was found, on every rank; empty before the engine completes.
    """

    def __init__(
        self,
        writer: ResultsWriter,
        journal: Journal | None = None,
        strict: bool = False,
        fdr: float | None = None,
        complete: Callable[[Engine, str], Result] | None = None,
    ) -> None:
        self.writer, self.journal, self.strict, self.fdr, self.complete = writer, journal, strict, fdr, complete
        self.ranking = Ranking((), {})
        self._scored: list[CaseResult] = []
        self._failed: list[FailedCase] = []
        self._pictured: list[tuple[float, int]] = []

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.STARTED, self._started)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._collect)
        engine.add_event_handler(Events.COMPLETED, self._completed)

    def _started(self, engine: Engine) -> None:
        self._start = time.monotonic()
        self._scored, self._failed, self._pictured = [], [], []
        for result in [] if self.journal is None else self.journal.results:
            self._keep(result)
        self._restored = len(self._scored)

    def _collect(self, engine: Engine) -> None:
        result: Any = engine.state.output
        if isinstance(result, FailedCase):
            self._fail(result)
            return
        self._keep(replace(result, anomaly_map=None))
        if self.journal is not None:
            self.journal.add(self._scored[-1])
        if len(self._scored) % TRIM_EVERY == 0:
            release_free_memory()

    def _keep(self, result: CaseResult) -> None:
        """Keeps the pictures of the worst cases so far only: those of all cases would not fit in memory."""
        number = len(self._scored)
        if not result.picture:
            self._scored.append(result)
            return
        self._scored.append(replace(result, thumbnail=thumbnail(result.picture)))
        heapq.heappush(self._pictured, (result.decision.severity, -number))
        if len(self._pictured) > MAX_CARDS:
            least = -heapq.heappop(self._pictured)[1]
            self._scored[least] = replace(self._scored[least], picture=())

    def _fail(self, case: FailedCase) -> None:
        if self.strict:
            hint = "" if self.journal is None else "; what was scored is kept for the next run"
            print(f"error: {case.case}: {case.message} (strict: no ranking is written{hint})", file=sys.stderr)
            raise SystemExit(SCORING_FAILED)
        logger.warning("%s: %s", case.case, case.message)
        self._failed.append(case)

    def _completed(self, engine: Engine) -> None:
        if self.complete is not None:
            self._complete(engine, self.complete)
        seconds = time.monotonic() - self._start
        self.hand_over(seconds / max(len(self._scored) + len(self._failed) - self._restored, 1))
        if self.journal is not None and idist.get_rank() == 0:
            self.journal.clear()

    def hand_over(self, seconds_per_case: float) -> None:
        """Gathers the results of all processes and has them written; called when the engine completes."""
        results = self._ranked()
        summary = self.writer(results, seconds_per_case) if idist.get_rank() == 0 else {}
        self.ranking = Ranking(results, summary)

    def _ranked(self) -> list[Result]:
        """Results of all processes as they stand now."""
        # Samplers repeat cases so that every rank has as many; equal rows of one case count once.
        results = ranked({result.case: result for part in self._gather() for result in part}.values())
        return flagged_by_rate(results, self.fdr)

    def _complete(self, engine: Engine, complete: Callable[[Engine, str], Result]) -> None:
        """Measures the rest of the masks that the report shows, and of those that are flagged."""
        cases = scored(self._ranked())
        carded = {result.case for result in cases[:MAX_CARDS]}
        shown = carded | {result.case for result in cases if result.decision.flagged}
        for place, brief in enumerate(list(self._scored)):
            if brief.complete or brief.case not in shown:
                continue
            result = complete(engine, brief.case)
            if isinstance(result, FailedCase):  # its file is gone, say: its rank stands
                logger.warning("%s: %s", result.case, result.message)
                continue
            picture = result.picture if result.case in carded else ()
            self._scored[place] = replace(
                result, anomaly_map=None, thumbnail=thumbnail(result.picture), picture=picture
            )
            if self.journal is not None:
                self.journal.add(self._scored[place])
        if left := sum(not result.complete for result in cases if result.case not in shown):
            text = "%d masks that are neither flagged nor shown were only ranked: --all-statistics measures all of each"
            logger.info(text, left)

    def _gather(self) -> Sequence[Sequence[Result]]:
        """Results of each process. Raises InputError where another one ended before."""
        try:
            results: Any = idist.all_gather([*self._scored, *self._failed])
        except RuntimeError as error:  # of the backend, in many words
            hint = "" if self.journal is None else ": the same command continues with what was scored"
            raise InputError(f"{self.writer.output_dir}: another process of this ranking ended early{hint}") from error
        return list(results)
