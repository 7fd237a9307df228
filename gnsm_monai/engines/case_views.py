"""Where a scored mask is worst: its structure, its slices, and pictures through the place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gnsm_monai.data.constants import IMAGE, LABEL
from gnsm_monai.explain.planes import (
    CasePicture,
    SliceScores,
    file_axes,
    file_index,
    picture_of,
    slice_scores,
    worst_place,
    worst_slices,
)
from gnsm_monai.scoring.result import AnomalyMap, Place, StructureResult

__all__ = ["case_picture", "file_slices", "place_of_worst", "worst_structure"]


def worst_structure(structures: Sequence[StructureResult]) -> str:
    """Name of the structure of the highest severity; empty where none has a score."""
    severity = np.array([entry.severity for entry in structures])
    return "" if np.isnan(severity).all() else structures[int(np.nanargmax(severity))].name


def place_of_worst(structures: Sequence[StructureResult], maps: AnomalyMap, band: np.ndarray) -> Place:
    """The worst structure, and the worst slice within the band ``(*spatial)``."""
    structure = worst_structure(structures)
    if maps.values.ndim == 2:
        return Place(structure)
    slices, means = worst_slices(maps.values, band)
    in_file = file_index(slices, maps.affine, maps.file_affine, maps.file_shape)
    axis = file_axes(maps.affine, maps.file_affine)[int(np.argmax(means))]
    return Place(structure, axis, in_file[axis])


def file_slices(maps: AnomalyMap, band: np.ndarray) -> SliceScores | None:
    """Scores of the slices of a volume's file within the band ``(*spatial)``; None of a 2D mask."""
    if maps.values.ndim == 2:
        return None
    return slice_scores(maps.values, band, maps.affine, maps.file_affine, maps.file_shape)


def case_picture(case: Mapping[str, Any], maps: AnomalyMap, band: np.ndarray) -> CasePicture:
    """Planes of a case's maps ``(C, *spatial)`` through the worst place in the band ``(*spatial)``."""
    mask = case[LABEL].as_tensor()[0].numpy()
    image = case[IMAGE].as_tensor()[0].numpy() if IMAGE in case else None
    place = worst_place(maps.values, band)
    return picture_of(place, mask, maps.values, image, maps.affine, maps.file_affine, maps.file_shape)
