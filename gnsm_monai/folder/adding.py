"""A folder that grows: new masks are judged by what the earlier ones taught, and join their ranking."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from gnsm_monai.data.layouts import AUTO
from gnsm_monai.errors import InputError
from gnsm_monai.evaluation.ranking import Ranking
from gnsm_monai.explain.sentences import joined
from gnsm_monai.folder.apart import standing_apart, words_of
from gnsm_monai.folder.images import later_with_images
from gnsm_monai.folder.judging import of_masks
from gnsm_monai.folder.learnt import Learnt, load_learnt
from gnsm_monai.folder.ranking import write_ranking
from gnsm_monai.folder.reading import FolderMasks, NothingNewError, ReadOptions, read_masks
from gnsm_monai.folder.results import case_results
from gnsm_monai.folder.resuming import progress_in
from gnsm_monai.report.marks import read_marks
from gnsm_monai.scoring.result import CaseResult, Result, scored
from gnsm_monai.workflow import check_output_dir

__all__ = ["add_masks"]

ADDED = "{} of the masks were added later: they are judged by what the first {} let expect, and teach nothing."
NOTE = "added later: judged by the masks that were ranked first"

UNREAD = (
    "The images of %d of %d new masks could not be used: what images say of earlier masks that score like them stands "
    "for them"
)

logger = logging.getLogger(__name__)


def add_masks(
    predictions: Sequence[Path],
    output: Path,
    references_dir: Path | None = None,
    images_dir: Path | None = None,
    layout: str = AUTO,
    failure_dice: Sequence[float] = (0.5, 0.7),
    **more: Any,
) -> Ranking:
    """Ranks new masks beside those that ``output`` has a ranking of, whose scores stay.

    Cases that were scored before are left as they are, whatever their files hold now; those that failed are read again.
    What a new mask scores does not depend on the others that are added.

    Args:
        predictions: folders of masks, new ones and any of the earlier ones.
        output: folder of a ranking by :func:`gnsm_monai.folder.ranking.rank_folders`.
        references_dir, images_dir, layout, failure_dice, more: as there, for the new masks.

    Raises:
        InputError: no such ranking, or what :func:`gnsm_monai.folder.ranking.rank_folders` raises.
    """
    check_output_dir(output, list(predictions), references_dir, images_dir)
    start, learnt = time.monotonic(), load_learnt(output)
    marks = read_marks(more["marks"]) if more.get("marks") is not None else {}
    with progress_in(output) as progress:
        earlier = frozenset(result.case for result in scored(learnt.results))
        options = ReadOptions(layout, learnt.scheme, learnt.voxel_size, progress, earlier)
        try:
            masks = read_masks(predictions, references_dir, images_dir, options)
        except NothingNewError as error:  # a run that was killed while it wrote ends here
            logger.warning("%s", error)
        else:
            if masks.failed and more.get("strict"):
                raise InputError(f"{masks.failed[0].message} (strict: nothing is added)")
            results: list[Result] = [*_judged(learnt, masks, options), *masks.failed]
            learnt = replace(learnt, results=_joined(learnt.results, results))
            learnt = replace(learnt, settings=_settings(learnt, predictions, references_dir))
        return write_ranking(output, learnt, failure_dice, marks, start)


def _judged(learnt: Learnt, masks: FolderMasks, options: ReadOptions) -> list[CaseResult]:
    few, seed = learnt.few, learnt.seed
    folds = learnt.folds([mask.name for mask in masks.masks], [mask.digest for mask in masks.masks])
    consensus = learnt.consensus.joined_by(masks.one_hot, folds, seed, of_masks if few is None else few.fit())
    notes: Sequence[str] = [""] * len(folds)
    if learnt.images is not None:
        consensus, notes, unread = later_with_images(consensus, masks, learnt.images, options)
        if unread:
            logger.warning(UNREAD, unread, len(folds))
    elif any(mask.image for mask in masks.masks):
        logger.warning("The images are shown alone: those of the first masks have no part in the scores either")
    p_values = np.full(len(folds), np.nan) if few is None else few.p_values(consensus, seed, learnt.consensus)
    return case_results(masks, consensus, p_values, [joined(NOTE, note) for note in notes])


def _joined(earlier: Sequence[Result], results: Sequence[Result]) -> list[Result]:
    """A case that failed before and is there again is the new one."""
    again = {result.case for result in results}
    return [*(result for result in earlier if result.case not in again), *results]


def _settings(learnt: Learnt, predictions: Sequence[Path], references_dir: Path | None) -> Mapping[str, Any]:
    settings, results = learnt.settings, scored(learnt.results)
    apart = standing_apart([result.decision.anomaly for result in results])
    itself, first = settings["folder_itself"], len(learnt.names)
    folders = [*settings["predictions_dir"], *map(str, predictions)]
    added = len(results) - first
    itself = {
        **itself,
        "limits": f"{itself.get('first_limits', itself['limits'])} {ADDED.format(added, first)}",
        "first_limits": itself.get("first_limits", itself["limits"]),
        "standing_apart": words_of(apart),
        "expected_apart": float(apart.sum()),
        "added": added,
    }
    measured = {"references_dir": str(references_dir), "dice_source": "references"} if references_dir else {}
    return {**settings, **measured, "predictions_dir": list(dict.fromkeys(folders)), "folder_itself": itself}
