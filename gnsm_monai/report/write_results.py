"""The files of a ranking: tables, statistics, summary, report and board."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gnsm_monai.data.notes import NO_DICE
from gnsm_monai.evaluation.ranking import LEVEL_COLUMNS, levels_table, ranking_summary
from gnsm_monai.files import save_arrays, save_json, save_table
from gnsm_monai.report.board import write_board
from gnsm_monai.report.builder import build_report
from gnsm_monai.report.earlier import LEARNT, remove_earlier_results
from gnsm_monai.report.figures import MIN_MEASURED
from gnsm_monai.report.marks import Mark
from gnsm_monai.report.results_json import results_content
from gnsm_monai.report.rows import (
    RANKING_COLUMNS,
    SLICE_COLUMNS,
    STRUCTURE_COLUMNS,
    case_row,
    slice_rows,
    structure_fields,
)
from gnsm_monai.report.verdict_words import verdict_summary
from gnsm_monai.rules.calibration import smallest_p_value
from gnsm_monai.rules.held_out import Basis
from gnsm_monai.rules.levels import stack_levels, to_array
from gnsm_monai.rules.statistics import STATISTICS
from gnsm_monai.scoring.result import Result, scored

__all__ = ["ResultsWriter"]

RANKING, REPORT, BOARD = "ranking.csv", "report.html", "tensorboard"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ResultsWriter:
    """Writes what a ranking found to ``output_dir``, in place of what an earlier one left there.

    ``ranking.csv`` (worst first, failed cases last), ``structures.csv``, ``slices.csv``, ``summary.json``,
    ``results.json`` (all of these for programs), ``report.html``, ``level_statistics.npz`` (``levels``: statistics per
    case and level, ``(N, L, S)``) and, with references, ``levels.csv``: correlation with Dice of every statistic at
    every level. What the report shows also goes to ``tensorboard/``.

    Args:
        output_dir: folder of the results.
        settings: plain values for the summary: which model scored what.
        failure_dice: limits of Dice below which a mask is a failure; the review budget is for the last one.
        reference_scores: anomaly scores of the held-out references, for the report.
        seed: of the bootstrap.
        with_maps: whether this ranking has maps and flagged masks; without, those of an earlier one are removed.
        basis: what verdicts on whole folders rest on; without it there are none.
        marks: of an earlier report, by case, to be shown in this one.
    """

    output_dir: str | Path
    settings: Mapping[str, Any] = field(default_factory=dict)
    failure_dice: Sequence[float] = (0.5, 0.7)
    reference_scores: npt.ArrayLike = ()
    seed: int = 0
    with_maps: bool = False
    basis: Basis | None = None
    marks: Mapping[str, Mark] = field(default_factory=dict)

    def __call__(self, results: Sequence[Result], seconds_per_case: float) -> dict[str, Any]:
        """Writes the files and returns the content of summary.json.

        Args:
            results: in the order of :func:`gnsm_monai.evaluation.ranking.ranked`.
            seconds_per_case: s.
        """
        folder = Path(self.output_dir)
        remove_earlier_results(folder, [result.case for result in scored(results)], self.with_maps)
        if "folder_itself" not in self.settings:
            (folder / LEARNT).unlink(missing_ok=True)
        self._write_tables(folder, results)
        summary = ranking_summary(results, self.settings, seconds_per_case, self.failure_dice, self.seed)
        if self.basis is not None:
            summary |= verdict_summary(results, self.basis, self.failure_dice[-1], self.seed)
        save_json(folder / "summary.json", summary)
        save_json(folder / "results.json", results_content(results, summary))
        build_report(folder / REPORT, results, summary, self.reference_scores, marks=self.marks)
        write_board(folder / BOARD, results, summary, self.reference_scores)
        self._log(summary)
        self._log_notes([result.note for result in scored(results) if result.note])
        return summary

    def _write_tables(self, folder: Path, results: Sequence[Result]) -> None:
        cases = scored(results)
        structures = [{"case": result.case, **structure_fields(e)} for result in cases for e in result.structures]
        save_table(folder / RANKING, RANKING_COLUMNS, [case_row(*each) for each in enumerate(results, start=1)])
        save_table(folder / "structures.csv", STRUCTURE_COLUMNS, structures)
        save_table(folder / "slices.csv", SLICE_COLUMNS, [row for result in cases for row in slice_rows(result)])
        if cases:
            statistics = {
                "case": np.array([result.case for result in cases]),
                "statistic": np.array(STATISTICS),
                "levels": to_array(stack_levels([result.levels for result in cases])),
            }
            save_arrays(folder / "level_statistics.npz", statistics)
        measured = [result for result in cases if result.has_dice]
        if len(measured) >= MIN_MEASURED:
            save_table(folder / "levels.csv", LEVEL_COLUMNS, levels_table(measured))

    def _log(self, summary: Mapping[str, Any]) -> None:
        path = Path(self.output_dir) / RANKING
        counts = (summary[name] for name in ("scored", "flagged", "failed"))
        logger.info("%d cases ranked, %d flagged, %d failed: %s", *counts, path)
        references = np.asarray(self.reference_scores, dtype=np.float64)
        name = "alpha" if self.settings.get("fdr") is None else "fdr"
        limit, smallest = self.settings.get(name), smallest_p_value(references)
        if limit is not None and smallest > limit:
            text = "nothing is flagged: %d held-out references give no p-value below %.3f, and %s is %g"
            logger.warning(text, int(np.isfinite(references).sum()), smallest, name, limit)
        folders = summary.get("metrics_per_folder", {})
        for name, metrics in {"pooled": summary.get("metrics"), **(folders if len(folders) > 1 else {})}.items():
            if metrics and metrics["spearman"]["value"] is not None:
                values = ", ".join(f"{m} {metrics[m]['value']:.3f}" for m in ("spearman", "pearson", "norm_aurc"))
                masks = f"{metrics['spearman']['n']} masks"
                if len(folders) > 1:
                    masks = f"{name} ({masks})"
                logger.info("anomaly against Dice, %s: %s", masks, values)

    def _log_notes(self, notes: Sequence[str]) -> None:
        """One line for all masks that were ranked without some of their files."""
        uncompared = sum(NO_DICE in note for note in notes)
        parts = [
            f"{count} {one if count == 1 else many}"
            for count, one, many in (
                (uncompared, "reference could not be compared", "references could not be compared"),
                (len(notes) - uncompared, "ranked mask has a remark", "ranked masks have a remark"),
            )
            if count
        ]
        if parts:
            logger.warning("%s: see `message` in %s", ", ".join(parts), Path(self.output_dir) / RANKING)
