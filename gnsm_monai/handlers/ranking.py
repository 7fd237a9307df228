"""The ranking: what a scoring engine found, gathered, sorted and written."""

from __future__ import annotations

import heapq
import logging
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import numpy as np
import numpy.typing as npt
from ignite.engine import Engine, Events

from gnsm_monai.errors import SCORING_FAILED, InputError
from gnsm_monai.evaluation.ranking import LEVEL_COLUMNS, has_dice, levels_table, ranking_summary
from gnsm_monai.files import save_arrays, save_json, save_table
from gnsm_monai.handlers.journal import Journal
from gnsm_monai.handlers.memory import release_free_memory
from gnsm_monai.report import build_report
from gnsm_monai.report.board import write_board
from gnsm_monai.report.strips import thumbnail
from gnsm_monai.rules.calibration import smallest_p_value
from gnsm_monai.rules.levels import stack_levels, to_array
from gnsm_monai.rules.statistics import STATISTICS

__all__ = ["RANKING_COLUMNS", "STRUCTURE_COLUMNS", "RankingWriter"]

RANKING_COLUMNS = (
    "rank", "case", "status", "anomaly_score", "p_value", "flag", "predicted_dice", "predicted_dice_low",
    "predicted_dice_high", "worst_structure", "worst_slice_axis", "worst_slice", "dice", "message",
)  # fmt: skip
GRID_KEYS = ("anomaly_map", "affine", "file_affine", "file_shape")
"""What a row has for those who write maps, and what need not be kept of every case."""
REPORT, BOARD, CARDS = "report.html", "tensorboard", 24
"""The report, the folder for TensorBoard, and how many of the worst cases it shows in pictures."""
TRIM_EVERY = 50
"""Cases after which memory that is free is given back."""
STRUCTURE_COLUMNS = ("case", "structure", "anomaly_score", "p_value", "volume_ml", "dice")


class RankingWriter:
    """Collects the output of :class:`gnsm_monai.engines.ScoreStep` and writes the results when the engine completes.

    To ``output_dir``: ``ranking.csv`` (worst first, failed cases last), ``structures.csv``, ``summary.json``,
    ``report.html``, ``level_statistics.npz`` (``levels``: statistics per case and level, ``(N, L, S)``) and, with
    references, ``levels.csv``: correlation with Dice of every statistic at every level. What the report shows also goes
    to ``tensorboard/``. In a distributed run rank 0 writes, once, what all ranks found.

    Args:
        output_dir: folder of the results.
        settings: plain values for the summary: which model scored what.
        failure_dice: Dice limits below which a mask counts as a failure; the review budget is for the last one.
        reference_scores: anomaly scores of the calibration references, for the report.
        seed: of the bootstrap.
        journal: keeps the rows of a run that is killed, for the next one.
        strict: end at the first case that cannot be scored, with exit code 3 and one line that names it. No ranking is
            written then; the journal keeps what was scored.
    """

    def __init__(
        self,
        output_dir: str | Path,
        settings: Mapping[str, Any],
        failure_dice: Sequence[float] = (0.5, 0.7),
        reference_scores: npt.ArrayLike = (),
        seed: int = 0,
        journal: Journal | None = None,
        strict: bool = False,
    ) -> None:
        self.output_dir, self.settings = Path(output_dir), dict(settings)
        self.failure_dice = tuple(failure_dice) if isinstance(failure_dice, (list, tuple)) else (failure_dice,)
        self.reference_scores, self.seed = np.asarray(reference_scores, dtype=np.float64), seed
        self.journal, self.strict = journal, strict
        self.rows: list[dict[str, Any]] = []
        self._pictured: list[tuple[float, int, dict[str, Any]]] = []
        self.seconds_per_case = float("nan")
        self.logger = logging.getLogger(__name__)

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.STARTED, self._started)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._collect)
        engine.add_event_handler(Events.COMPLETED, self._completed)

    @property
    def num_failed(self) -> int:
        """Cases that could not be scored."""
        return sum(row["status"] == "failed" for row in self.rows)

    def _started(self, engine: Engine) -> None:
        self._start = time.monotonic()
        self.rows, self._pictured = [] if self.journal is None else list(self.journal.rows), []
        for number, row in enumerate(self.rows):
            self._keep_worst_pictures(row, number)
        self._restored = len(self.rows)

    def _collect(self, engine: Engine) -> None:
        row = {key: value for key, value in engine.state.output.items() if key not in GRID_KEYS}  # type: ignore[union-attr]
        self._keep_worst_pictures(row, len(self.rows))
        if row["status"] == "failed":
            self._failed(row)
        elif self.journal is not None:
            self.journal.add(row)
        self.rows.append(row)
        if len(self.rows) % TRIM_EVERY == 0:
            release_free_memory()

    def _keep_worst_pictures(self, row: dict[str, Any], number: int) -> None:
        """Pictures of all cases would not fit in memory; those that end among the worst are among them all the time."""
        if row.get("picture") is None:
            return
        row["thumbnail"] = thumbnail(row["picture"])
        score = float("inf") if row.get("empty") else row["anomaly_score"]
        heapq.heappush(self._pictured, (score, -number, row))
        if len(self._pictured) > CARDS:
            heapq.heappop(self._pictured)[-1]["picture"] = None

    def _failed(self, row: Mapping[str, Any]) -> None:
        if self.strict:
            kept = "" if self.journal is None else "; what was scored is kept for the next run"
            print(f"error: {row['case']}: {row['message']} (strict: no ranking is written{kept})", file=sys.stderr)
            raise SystemExit(SCORING_FAILED)
        self.logger.warning("%s: %s", row["case"], row["message"])

    def _completed(self, engine: Engine) -> None:
        seconds = time.monotonic() - self._start
        self.seconds_per_case = seconds / max(len(self.rows) - self._restored, 1)
        self.write()
        if self.journal is not None and idist.get_rank() == 0:
            self.journal.clear()

    def write(self) -> None:
        """Sorts ``rows`` and writes the results; called when the engine completes."""
        gathered = self._gather()
        # Samplers repeat cases to give every rank as many: by case, the later one replaces its equal.
        unique: dict[str, dict[str, Any]] = {row["case"]: row for rows in gathered for row in rows}
        self.rows = list(unique.values())
        if idist.get_rank() != 0:
            return
        scores = [row["anomaly_score"] for row in self.rows if row["status"] == "ok"]
        for row in self.rows:
            if row.get("empty"):
                row["anomaly_score"] = max(scores)  # no mask is worse than none at all
        self.rows.sort(key=_worst_first)
        for rank, row in enumerate(self.rows, start=1):
            row["rank"] = rank
        structures = [{"case": r["case"], **s} for r in self.rows for s in r.get("structures", [])]
        save_table(self.output_dir / "ranking.csv", RANKING_COLUMNS, self.rows)
        save_table(self.output_dir / "structures.csv", STRUCTURE_COLUMNS, structures)
        scored = [row for row in self.rows if row["status"] == "ok"]
        if scored:
            statistics = {
                "case": np.array([row["case"] for row in scored]),
                "statistic": np.array(STATISTICS),
                "levels": to_array(stack_levels([row["levels"] for row in scored])),
            }
            save_arrays(self.output_dir / "level_statistics.npz", statistics)
        measured = [row for row in self.rows if has_dice(row)]
        (self.output_dir / "levels.csv").unlink(missing_ok=True)
        if len(measured) > 2:
            save_table(self.output_dir / "levels.csv", LEVEL_COLUMNS, levels_table(measured))
        summary = ranking_summary(self.rows, self.settings, self.seconds_per_case, self.failure_dice, self.seed)
        save_json(self.output_dir / "summary.json", summary)
        build_report(self.output_dir / REPORT, self.rows, summary, self.reference_scores, max_cards=CARDS)
        write_board(self.output_dir / BOARD, self.rows, summary, self.reference_scores)
        self._report(summary)

    def _gather(self) -> Sequence[Sequence[dict[str, Any]]]:
        """Rows of each process. Raises InputError where another one ended before."""
        try:
            rows: Any = idist.all_gather(self.rows)
        except RuntimeError as error:  # of the backend, in many words
            kept = "" if self.journal is None else ": the same command goes on with what was scored"
            raise InputError(f"{self.output_dir}: another process of this ranking ended early{kept}") from error
        return list(rows)

    def _report(self, summary: Mapping[str, Any]) -> None:
        path = self.output_dir / "ranking.csv"
        self.logger.info("%d cases ranked, %d failed: %s", summary["scored"], summary["failed"], path)
        alpha, known = self.settings.get("alpha"), int(np.isfinite(self.reference_scores).sum())
        smallest = smallest_p_value(self.reference_scores)
        if alpha is not None and smallest > alpha:
            text = "nothing is flagged: %d calibration references give no p-value below %.3f, and alpha is %g"
            self.logger.warning(text, known, smallest, alpha)
        pooled = {"pooled": summary.get("metrics"), **summary.get("metrics_per_folder", {})}
        for name, metrics in pooled.items():
            if metrics and metrics["spearman"]["value"] is not None:
                values = ", ".join(f"{m} {metrics[m]['value']:.3f}" for m in ("spearman", "pearson", "norm_aurc"))
                self.logger.info("anomaly against Dice, %s (%d masks): %s", name, metrics["spearman"]["n"], values)


def _worst_first(row: Mapping[str, Any]) -> tuple[bool, float, bool, str]:
    failed = row["status"] == "failed"
    return failed, 0.0 if failed else -row["anomaly_score"], not row.get("empty", False), row["case"]
