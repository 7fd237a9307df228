"""Ranks folders of masks by themselves, and says at the top of the results what that can tell and what it cannot."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from gnsm_monai.data.layouts import AUTO
from gnsm_monai.data.patients import patients_of
from gnsm_monai.errors import InputError
from gnsm_monai.evaluation.ranking import Ranking, ranked
from gnsm_monai.folder.apart import words_of
from gnsm_monai.folder.consensus import MIN_GROUPS, Consensus, frames_of
from gnsm_monai.folder.few_references import MIN_CALIBRATED, FewReferences, read_references
from gnsm_monai.folder.images import WithImages, with_images
from gnsm_monai.folder.learnt import Learnt, save_learnt
from gnsm_monai.folder.plausibility import folder_warnings
from gnsm_monai.folder.reading import FolderMasks, ReadOptions, declared_scheme, read_masks
from gnsm_monai.folder.results import case_results
from gnsm_monai.folder.resuming import progress_in
from gnsm_monai.locks import locked_folder
from gnsm_monai.report import ResultsWriter
from gnsm_monai.report.marks import Mark, marks_of_cases, read_marks
from gnsm_monai.scoring.result import Result
from gnsm_monai.workflow import check_output_dir
from gnsm_monai.workflow.training import num_processes

__all__ = ["LIMITS", "groups_of", "options_without_model", "rank_folders", "write_ranking"]

LIMITS = (
    "Learnt from the folder itself: no references were given. What differs from case to case is found; what every mask "
    "has in common cannot be found, however wrong it is. So there are ranks and reasons, and no flags at a stated rate."
)
"""What stands at the top of every such ranking."""

FEW = (
    "Learnt from {} references and from the folder itself: the references say what is right, the masks how shapes "
    "vary. There are ranks and reasons, and no flags. "
)
P_VALUES = "The p-values are ranks among the references, and none is below {:.2g}."
NO_P_VALUES = "So few references give no p-value below {:.2g}, and none is given."

NOT_WITH_REFERENCES = (
    "Images are shown and have no part in the scores: --few-references says what is right, and a reader of images that "
    "is learnt from the masks would take their common errors for right."
)

NEED_MODEL = {
    "alpha": "--alpha", "fdr": "--fdr", "soft": "--soft", "write_maps": "--maps", "propose": "--propose",
    "lists": "--lists",
}  # fmt: skip
"""Options of ``gnsm rank`` that nothing can be done with where no model is given."""

logger = logging.getLogger(__name__)


def rank_folders(
    predictions: Sequence[Path],
    output: Path,
    references_dir: Path | None = None,
    images_dir: Path | None = None,
    layout: str = AUTO,
    failure_dice: Sequence[float] = (0.5, 0.7),
    few_references: Path | None = None,
    **more: Any,
) -> Ranking:
    """Ranks the masks of folders by what they have in common, and writes the results to ``output``.

    Args:
        predictions: folders of masks; masks of one patient never judge each other.
        output: folder of the results.
        references_dir: to measure Dice; nothing is learnt from it.
        images_dir: images, which are read where they help (:func:`gnsm_monai.folder.images.with_images`), and shown.
        layout: see :func:`gnsm_monai.data.layouts.look_into`.
        failure_dice: limits of Dice below which a mask is a failure.
        few_references: folder of three references or more, which count more than the masks.
        more: ``marks`` of an earlier report; ``strict``, to end at the first mask that cannot be read; ``seed`` of the
            folds.

    Raises:
        InputError: too few masks to compare, none that can be read, a folder that cannot be written, or ``strict``.
    """
    check_output_dir(output, list(predictions), references_dir, images_dir, few_references)
    start, seed = time.monotonic(), int(more.get("seed", 0))
    scheme = None if few_references is None else declared_scheme(few_references)
    marks = read_marks(more["marks"]) if more.get("marks") is not None else {}
    with progress_in(output) as progress:
        options = ReadOptions(layout, scheme, progress=progress)
        masks = read_masks(predictions, references_dir, images_dir, options)
        references = None if few_references is None else read_references(few_references, masks, options)
        _check(masks, references, predictions[0], bool(more.get("strict")))
        groups = groups_of(masks)
        judged = _judge(masks, references, groups, seed)
        images = None
        if images_dir is not None:
            images = _images(judged, masks, groups, seed, options)
            judged = replace(judged, consensus=images.consensus)
        logger.info("%s", judged.limits)
        notes = () if images is None else images.notes
        results: list[Result] = [*case_results(masks, judged.consensus, judged.p_values, notes), *masks.failed]
        learnt = Learnt(
            masks.scheme, masks.voxel_size, seed, groups, [mask.name for mask in masks.masks],
            [mask.digest for mask in masks.masks], judged.consensus, judged.few, results,
            _settings(masks, judged, predictions, references_dir, images), None if images is None else images.learnt,
        )  # fmt: skip
        return write_ranking(output, learnt, failure_dice, marks, start)


def write_ranking(
    output: Path, learnt: Learnt, failure_dice: Sequence[float], marks: Mapping[str, Mark], start: float
) -> Ranking:
    """Writes all results of a folder, and what it has taught.

    Args:
        output: folder of the results.
        learnt: of the folder, with the results.
        failure_dice: limits of Dice below which a mask is a failure.
        marks: of an earlier report.
        start: time of the clock when the ranking began, in s.
    """
    merged = ranked(learnt.results)
    shown = marks_of_cases(marks, [result.case for result in merged])
    writer = ResultsWriter(output, learnt.settings, failure_dice, seed=learnt.seed, marks=shown)
    with locked_folder(output):
        save_learnt(output, learnt)  # first: what is added to it is lost to no kill
        return Ranking(merged, writer(merged, (time.monotonic() - start) / len(merged)))


def options_without_model(given: Mapping[str, Any]) -> dict[str, Any]:
    """Options of ``gnsm rank`` that :func:`rank_folders` takes; nothing is computed by torch, and no device matters.

    Raises:
        InputError: an option that needs a model, or several processes.
    """
    if num_processes() > 1:
        raise InputError("gnsm rank without --model: runs in one process, without torchrun")
    if unused := [option for name, option in NEED_MODEL.items() if name in given]:
        raise InputError(f"{unused[0]}: needs what only a model can tell: give one with --model, made by gnsm train")
    return {name: value for name, value in given.items() if name not in ("device", "num_workers")}


@dataclass(frozen=True)
class _Judged:
    """The masks of a folder, judged; ``p_values`` ``(N,)`` are NaN without enough references."""

    consensus: Consensus
    p_values: np.ndarray
    limits: str
    few: FewReferences | None = None


def _judge(masks: FolderMasks, references: FolderMasks | None, groups: Sequence[str], seed: int) -> _Judged:
    if references is None:
        consensus = Consensus.of(masks.one_hot, groups, seed)
        return _Judged(consensus, np.full(len(masks.masks), np.nan), LIMITS)
    number = len(references.masks)
    grids = frames_of([*masks.one_hot, *references.one_hot])
    patients = patients_of([mask.name for mask in references.masks])
    few = FewReferences.of(references.one_hot, grids, seed, patients)
    consensus = Consensus.of(masks.one_hot, groups, seed, grids, few.fit())
    words = P_VALUES if number >= MIN_CALIBRATED else NO_P_VALUES
    limits = FEW.format(number) + words.format(1 / (number + 1))
    return _Judged(consensus, few.p_values(consensus, seed), limits, few)


def _images(judged: _Judged, masks: FolderMasks, groups: Sequence[str], seed: int, options: ReadOptions) -> WithImages:
    """What images say, and in one line whether it counts."""
    if judged.few is None:
        images = with_images(judged.consensus, masks, groups, seed, options)
    else:
        said = {"used": False, "read": 0, "p_value": None, "text": NOT_WITH_REFERENCES}
        images = WithImages(judged.consensus, [""] * len(masks.masks), said)
    logger.info("%s", images.said["text"])
    return images


def _check(masks: FolderMasks, references: FolderMasks | None, folder: Path, strict: bool) -> None:
    if strict and masks.failed:
        raise InputError(f"{masks.failed[0].message} (strict: no ranking is written)")
    if (cases := len({mask.name for mask in masks.masks})) < MIN_GROUPS:
        raise InputError(
            f"{folder}: masks of {cases} case(s) can be read: without --model each is compared with the others, which "
            f"takes {MIN_GROUPS} at least"
        )
    if references is None and all(mask.empty for mask in masks.masks):
        raise InputError(f"{folder}: the masks hold no structure, only background: nothing tells them apart")


def groups_of(masks: FolderMasks) -> list[str]:
    """Masks of one patient, and masks that are equal voxel by voxel, are one group, as long as enough are left."""
    patients = patients_of([mask.name for mask in masks.masks])
    first: dict[str, str] = {}
    group = {patient: patient for patient in patients}
    for mask, patient in zip(masks.masks, patients, strict=True):
        same = group[first.setdefault(mask.digest, patient)]
        if same != (now := group[patient]):
            group = {one: same if value == now else value for one, value in group.items()}
    return patients if len(set(group.values())) < MIN_GROUPS else [group[patient] for patient in patients]


def _settings(
    masks: FolderMasks,
    judged: _Judged,
    predictions: Sequence[Path],
    references_dir: Path | None,
    images: WithImages | None,
) -> dict[str, Any]:
    """Settings for summary.json: what was compared with what, and what is said of the folder."""
    apart = judged.consensus.probability_apart
    warnings = folder_warnings(masks)
    for warning in warnings:
        logger.warning("%s", warning)
    return {
        "model_dir": None,
        "weights_sha256": None,
        "anomaly_score": "1 - overlap with what "
        + ("" if judged.few is None else "the references and ")
        + "the other masks let expect"
        + (", and with what is read in the image" if images is not None and images.learnt is not None else ""),
        "alpha": None,
        "predictions_dir": [str(folder) for folder in predictions],
        "references_dir": None if references_dir is None else str(references_dir),
        "dice_source": None if references_dir is None else "references",
        "structures": list(masks.scheme.structure_names),
        "colours": list(masks.scheme.colours),
        "noise": None,
        "folder_itself": {
            "limits": judged.limits,
            "standing_apart": words_of(apart),
            "expected_apart": float(apart.sum()),
            "warnings": warnings,
            "rounds": judged.consensus.rounds,
            "references": 0 if judged.few is None else len(judged.few),
            "images": None if images is None else dict(images.said),
            "added": 0,
        },
    }
