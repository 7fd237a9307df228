"""Ranks folders of masks by themselves, and says at the top of the results what that can tell and what it cannot."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gnsm_monai.data.layouts import AUTO
from gnsm_monai.errors import InputError
from gnsm_monai.evaluation.ranking import Ranking, ranked
from gnsm_monai.folder.consensus import MIN_GROUPS, Consensus
from gnsm_monai.folder.plausibility import folder_warnings
from gnsm_monai.folder.reading import FolderMasks, read_masks
from gnsm_monai.folder.results import case_result
from gnsm_monai.report import ResultsWriter
from gnsm_monai.report.builder import MAX_CARDS
from gnsm_monai.report.marks import marks_of_cases, read_marks
from gnsm_monai.workflow import check_output_dir

__all__ = ["LIMITS", "rank_folders"]

LIMITS = (
    "Learnt from the folder itself: no references were given. What differs from case to case is found; what every mask "
    "has in common cannot be found, however wrong it is. So there are ranks and reasons, and no flags at a stated rate."
)
"""What stands at the top of every such ranking."""

logger = logging.getLogger(__name__)


def rank_folders(
    predictions: Sequence[Path],
    output: Path,
    references_dir: Path | None = None,
    images_dir: Path | None = None,
    layout: str = AUTO,
    failure_dice: Sequence[float] = (0.5, 0.7),
    marks: Path | None = None,
    strict: bool = False,
    seed: int = 0,
) -> Ranking:
    """Ranks the masks of folders by what they have in common, and writes the results to ``output``.

    Args:
        predictions: folders of masks; masks of one case in several folders never judge each other.
        output: folder of the results.
        references_dir: to measure Dice; nothing is learnt from it.
        images_dir: images for the pictures of the report.
        layout: see :func:`gnsm_monai.data.layouts.look_into`.
        failure_dice: limits of Dice below which a mask is a failure.
        marks: of an earlier report.
        strict: end at the first mask that cannot be read.
        seed: of the folds.

    Raises:
        InputError: too few masks to compare, none that can be read, a folder that cannot be written, or ``strict``.
    """
    check_output_dir(output, list(predictions), references_dir, images_dir)
    start = time.monotonic()
    masks = read_masks(predictions, references_dir, images_dir, layout)
    if strict and masks.failed:
        raise InputError(f"{masks.failed[0].message} (strict: no ranking is written)")
    earlier = read_marks(marks) if marks is not None else {}
    patients = [mask.patient for mask in masks.masks]
    if len(set(patients)) < MIN_GROUPS:
        raise InputError(
            f"{predictions[0]}: masks of {len(set(patients))} case(s) can be read: without "
            f"--model each is compared with the others, which takes {MIN_GROUPS} at least"
        )
    logger.info("%s", LIMITS)
    consensus = Consensus.of(_Structures(masks), _groups(masks), seed)
    pictured = set(np.argsort(-consensus.scores, kind="stable")[:MAX_CARDS].tolist())
    results = [case_result(masks, consensus, number, number in pictured) for number in range(len(masks.masks))]
    settings = _settings(masks, consensus, predictions, references_dir)
    shown = marks_of_cases(earlier, [mask.case["case"] for mask in masks.masks])
    writer = ResultsWriter(output, settings, failure_dice, seed=seed, marks=shown)
    merged = ranked([*results, *masks.failed])
    return Ranking(merged, writer(merged, (time.monotonic() - start) / len(merged)))


class _Structures(Sequence[np.ndarray]):
    """One-hot structures of every mask, unpacked when they are asked for."""

    def __init__(self, masks: FolderMasks) -> None:
        self.masks = masks

    def __len__(self) -> int:
        return len(self.masks.masks)

    def __getitem__(self, number: Any) -> Any:
        return self.masks.structures(self.masks.masks[number])


def _groups(masks: FolderMasks) -> list[str]:
    """Masks of one case, and masks that are equal voxel by voxel, are one group, as long as enough groups are left."""
    first: dict[str, str] = {}
    group = {mask.patient: mask.patient for mask in masks.masks}
    for mask in masks.masks:
        same = group[first.setdefault(mask.digest, mask.patient)]
        if same != (now := group[mask.patient]):
            group = {patient: same if value == now else value for patient, value in group.items()}
    if len(set(group.values())) < MIN_GROUPS:
        return [mask.patient for mask in masks.masks]
    return [group[mask.patient] for mask in masks.masks]


def _settings(
    masks: FolderMasks, consensus: Consensus, predictions: Sequence[Path], references_dir: Path | None
) -> dict[str, Any]:
    """Settings for summary.json: what was compared with what, and what is said of the folder."""
    apart = consensus.probability_apart
    warnings = folder_warnings(masks)
    for warning in warnings:
        logger.warning("%s", warning)
    return {
        "model_dir": None,
        "weights_sha256": None,
        "anomaly_score": "1 - overlap with what the other masks let expect",
        "alpha": None,
        "predictions_dir": [str(folder) for folder in predictions],
        "references_dir": None if references_dir is None else str(references_dir),
        "dice_source": None if references_dir is None else "references",
        "structures": list(masks.scheme.structure_names),
        "noise": None,
        "folder_itself": {
            "limits": LIMITS,
            "standing_apart": _apart(apart),
            "expected_apart": float(apart.sum()),
            "warnings": warnings,
            "rounds": consensus.rounds,
        },
    }


def _apart(probability: np.ndarray) -> str:
    """How many stand apart, in words."""
    number, masks = round(float(probability.sum())), len(probability)
    if number == 0:
        return f"No group stands apart from the rest of the {masks} masks: the scores fall without a gap."
    if 2 * number > masks:
        return (
            f"About {number} of {masks} masks differ from the others, each in its own way: that is more than half, and "
            "what the others have in common may be no good measure."
        )
    return f"About {number} of {masks} masks stand apart from the rest, by the distribution of the scores."
