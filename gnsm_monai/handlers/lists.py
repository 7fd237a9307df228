"""Lists of the worst masks for correction tools."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gnsm_monai.data.constants import IMAGE, UNSEEN_IMAGE
from gnsm_monai.handlers.after_ranking import AfterRanking
from gnsm_monai.handlers.ranking import RankingCollector
from gnsm_monai.report.lists import MAPPING, listed_cases, needs_correction, write_lists
from gnsm_monai.report.marks import Mark
from gnsm_monai.scoring.result import CaseResult

__all__ = ["ListWriter"]

logger = logging.getLogger(__name__)


class ListWriter(AfterRanking):
    """Writes ``lists/`` once the ranking stands; see :func:`gnsm_monai.report.lists.write_lists`.

    Args:
        output_dir: folder of the results.
        ranking: whose order counts; attach this after it, and after what writes maps and corrected copies.
        cases: with ``case``, the path of the mask and, if there is one, of its image.
        marks: of an earlier report, by case.
        lists: whether to write anything.
    """

    def __init__(
        self,
        output_dir: str | Path,
        ranking: RankingCollector,
        cases: Sequence[Mapping[str, Any]],
        marks: Mapping[str, Mark] | None = None,
        lists: bool = True,
    ) -> None:
        super().__init__(Path(output_dir) / "lists", ranking, cases)
        self.cases, self.marks, self.lists = cases, marks or {}, lists

    def write(self, results: Sequence[CaseResult]) -> None:
        if not self.lists:
            return
        # Tools take one file a mask, and no folder of structures.
        masks = {case: Path(path) for case, path in self.paths.items() if not Path(path).is_dir()}
        results = [result for result in results if result.case in masks]
        listed = listed_cases(results, masks, self._images(), self.folder.parent)
        pairs = zip(listed, results, strict=True)
        wrong = [entry for entry, result in pairs if needs_correction(result, self.marks.get(result.case))]
        written = write_lists(self.folder, listed, wrong)
        if MAPPING not in written:
            logger.info("%s: not written, as it pairs masks with images: name their folder with --images", MAPPING)

    def _images(self) -> dict[str, Path]:
        """The first image of each case that has one."""
        images = {case["case"]: case.get(IMAGE) or [case.get(UNSEEN_IMAGE)] for case in self.cases}
        return {case: Path(paths[0]) for case, paths in images.items() if paths[0]}
