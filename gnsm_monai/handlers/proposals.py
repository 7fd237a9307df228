"""Corrected copies of masks whose labels alone are wrong."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from gnsm_monai.data.rewriting import place_of_copy, save_changed, save_moved_structures
from gnsm_monai.engines.corrections import changed_values
from gnsm_monai.files import one_line_of, save_table
from gnsm_monai.handlers.after_ranking import AfterRanking
from gnsm_monai.handlers.ranking import RankingCollector
from gnsm_monai.report.earlier import PROPOSALS
from gnsm_monai.scoring.result import CaseResult

__all__ = ["PROPOSAL_COLUMNS", "ProposalWriter"]

PROPOSAL_COLUMNS = (
    "case", "file", "change", "anomaly_score_before", "anomaly_score_after", "p_value_before", "p_value_after",
)  # fmt: skip

logger = logging.getLogger(__name__)


class ProposalWriter(AfterRanking):
    """Writes ``proposed/`` once the ranking stands: a copy of each mask that a change of labels alone makes usual.

    A copy has the name, layout, format, geometry and number type of its mask: a folder with a file per structure has a
    folder of such files. ``proposed/proposed.csv`` lists the copies, worst masks first, with what was changed and the
    scores before and after.

    Args:
        output_dir: folder of the results.
        ranking: whose corrections count; attach this after it.
        cases: with ``case`` and the path of the mask.
        propose: whether to write anything.
    """

    def __init__(
        self,
        output_dir: str | Path,
        ranking: RankingCollector,
        cases: Sequence[Mapping[str, Any]],
        propose: bool = True,
    ) -> None:
        super().__init__(Path(output_dir) / "proposed", ranking, cases)
        self.propose = propose

    def write(self, results: Sequence[CaseResult]) -> None:
        if not self.propose:
            return
        corrected = [result for result in results if result.correction is not None]
        rows = [row for result in corrected if (row := self._copy(result)) is not None]
        save_table(self.folder / PROPOSALS, PROPOSAL_COLUMNS, rows)
        logger.info("%d of the masks have a corrected copy: %s", len(rows), self.folder / PROPOSALS)

    def _copy(self, result: CaseResult) -> dict[str, Any] | None:
        """Writes the copy of a mask; its line of the table, or None where its format cannot be written."""
        correction = result.correction
        assert correction is not None
        try:
            if correction.moves is None:
                raise ValueError("its header has no number for a structure that it should hold")
            source = Path(self.paths[result.case])
            target = self.folder / place_of_copy(result.case, source)
            if source.is_dir():
                save_moved_structures(source, target, correction.moves, correction.axis)
            else:
                save_changed(source, target, partial(changed_values, moves=correction.moves, axis=correction.axis))
        except Exception as error:  # ITK's and nibabel's own kinds: one copy must not cost the others
            logger.warning("%s: no corrected copy can be written: %s", self.paths[result.case], one_line_of(error))
            return None
        scores = [d.anomaly for d in (result.decision, correction.decision)]
        p_values = [d.p_value for d in (result.decision, correction.decision)]
        values = (result.case, target.relative_to(self.folder).as_posix(), correction.change, *scores, *p_values)
        return dict(zip(PROPOSAL_COLUMNS, values, strict=True))
