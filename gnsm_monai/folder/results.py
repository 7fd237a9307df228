"""What a folder says of each of its masks, as the result of a case that the report and all tables take."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from gnsm_monai.data.compare import mean_dice
from gnsm_monai.data.constants import FILE_AFFINE, FILE_SHAPE, IMAGE, LABEL
from gnsm_monai.data.geometry import Grid, lay_on, size_in_words
from gnsm_monai.data.nnunet import LabelScheme
from gnsm_monai.data.notes import NOTE
from gnsm_monai.data.transforms import ToSpacingd, load_case
from gnsm_monai.engines.case_views import case_picture, file_slices, place_of_worst
from gnsm_monai.errors import InputError
from gnsm_monai.explain.reasons import explain
from gnsm_monai.explain.sentences import joined
from gnsm_monai.files import one_line
from gnsm_monai.folder.consensus import Consensus
from gnsm_monai.folder.judging import Judgement
from gnsm_monai.folder.models import disagreements, words_of
from gnsm_monai.folder.reading import FolderMask, FolderMasks
from gnsm_monai.networks.separable import dilate
from gnsm_monai.report.builder import MAX_CARDS
from gnsm_monai.report.strips import thumbnail
from gnsm_monai.rules.statistics import STATISTICS
from gnsm_monai.scoring.decision import Decision
from gnsm_monai.scoring.result import AnomalyMap, CaseResult, StructureResult

__all__ = ["case_results", "image_of"]

BAND = 2
"""Half-width in voxels of the band around structures in which the worst place is sought."""


def case_results(
    masks: FolderMasks, consensus: Consensus, p_values: npt.NDArray[np.float64], notes: Sequence[str] = ()
) -> list[CaseResult]:
    """The results of all masks, those that come first with pictures.

    Args:
        masks: of the folder.
        consensus: their judgement.
        p_values: of each among references, ``(N,)``; NaN without any.
        notes: what is said of each.
    """
    pictured = set(np.argsort(-consensus.scores, kind="stable")[:MAX_CARDS].tolist())
    made = []
    notes = notes or [""] * len(masks.masks)
    for number, (p_value, differs, note) in enumerate(zip(p_values, disagreements(masks), notes, strict=True)):
        result = _case_result(masks, consensus, number, number in pictured, float(p_value), note)
        words = words_of(float(differs))
        reason = joined(result.reason, words) if words else result.reason
        made.append(replace(result, disagreement=float(differs), reason=reason))
    return made


def _case_result(
    masks: FolderMasks, consensus: Consensus, number: int, pictured: bool, p_value: float, note: str
) -> CaseResult:
    """The result of one mask: no predicted Dice and no flag, as little or nothing is known to be good.

    Args:
        masks: of the folder.
        consensus: their judgement.
        number: of the mask.
        pictured: whether to keep its pictures, with its image where there is one.
        p_value: among references; NaN without any.
        note: what is said of it.
    """
    mask, judgement = masks.masks[number], consensus.judgements[number]
    structures = masks.structures(mask)
    expected = np.mean(
        [grid.fine(rebuilt, structures) for grid, rebuilt in zip(consensus.grids, judgement.rebuilt, strict=True)],
        axis=0,
    )
    label, denoised = mask.label(), usual_labels(expected, masks.scheme)
    values = np.abs(structures - expected).max(0).astype(np.float32)
    file_affine = np.asarray(label.meta[FILE_AFFINE], dtype=np.float64)
    maps = AnomalyMap(values, label.affine.numpy(), file_affine, label.meta[FILE_SHAPE])
    either = torch.as_tensor((structures.any(0) | (denoised > 0))[None, None]).float()
    band = dilate(either, [BAND] * values.ndim)[0, 0].bool().numpy()
    parts = _structures(mask.case, judgement, masks.scheme)
    case, note = {**mask.case, LABEL: label}, joined(note, mask.case.get(NOTE, ""))
    if pictured and mask.image:
        try:
            case[IMAGE] = image_of(mask, masks)
        except Exception as error:  # each reader raises its own kinds; a picture without it will do
            why = one_line(error, mask.image[0])
            note = note if why in note else joined(note, "its image is not shown: " + why)
    picture = case_picture(case, maps, band)
    named = tuple(zip(masks.scheme.structure_names, masks.scheme.structure_classes, strict=True))
    return CaseResult(
        case=mask.case["case"],
        folder=mask.case["folder"],
        decision=_decision(judgement, p_value, not structures.any()),
        structures=parts,
        place=place_of_worst(parts, maps, band),
        reason=explain(label.as_tensor()[0].numpy(), denoised, named, list(masks.voxel_size)),
        levels={**{name: np.full(len(judgement.levels), np.nan) for name in STATISTICS}, "shape": judgement.levels},
        dice=None if mask.case.get("dice") is None else mean_dice(mask.case["dice"]),
        note=note,
        picture=picture if pictured else (),
        thumbnail=thumbnail(picture),
        slices=file_slices(maps, band),
    )


def usual_labels(expected: np.ndarray, scheme: LabelScheme) -> np.ndarray:
    """Class indices ``(*spatial)`` int16 of shares of structures ``(S, *spatial)``: the likeliest class.

    Regions, which overlap, are written one after the other where their share is above one half, as nnU-Net does.
    """
    if not scheme.regions:
        background = np.clip(1 - expected.sum(0), 0, 1)
        return np.asarray(np.concatenate([background[None], expected]).argmax(0), dtype=np.int16)
    index = np.zeros(expected.shape[1:], dtype=np.int16)
    for region, share in zip(scheme.regions, expected, strict=True):
        index[share > 0.5] = region.written
    return index


def _decision(judgement: Judgement, p_value: float, empty: bool) -> Decision:
    nan = math.nan
    return Decision(judgement.score, p_value, False, nan, nan, nan, nan, empty and judgement.score == 1)


def _structures(case: Mapping[str, Any], judgement: Judgement, scheme: LabelScheme) -> tuple[StructureResult, ...]:
    dice = [None] * len(scheme.structure_names) if case.get("dice") is None else case["dice"].tolist()
    columns = scheme.structure_names, judgement.structures.tolist(), case["volume_ml"].tolist(), dice
    return tuple(StructureResult(name, score, math.nan, ml, d) for name, score, ml, d in zip(*columns, strict=True))


def image_of(mask: FolderMask, masks: FolderMasks) -> Any:
    """``(C, *spatial)`` at the voxels of the mask. Raises what its reader raises, and where the two do not fit."""
    label = mask.label()
    image = load_case(None, label.ndim - 1, [IMAGE])({IMAGE: list(mask.image)})[IMAGE]
    laid = lay_on(label, image, IMAGE).values
    resampled = ToSpacingd([IMAGE], masks.voxel_size)({IMAGE: laid})[IMAGE]
    if resampled.shape[1:] != label.shape[1:]:
        sizes = [size_in_words(Grid.of(one)) for one in (image, label)]
        raise InputError(
            f"{mask.image[0]}: shows another part of the body than the mask: {sizes[0]}, the mask {sizes[1]}"
        )
    return resampled
