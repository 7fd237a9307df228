"""Where a mask is worst: slices of its file to look at, pictures of them, and maps in the geometry of the file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import SpatialResample
from scipy import ndimage

__all__ = [
    "PLACE_VOXELS", "CasePicture", "Plane", "SliceScores", "file_index", "picture_of", "slice_scores",
    "to_file_geometry", "worst_place", "worst_slices",
]  # fmt: skip

MIN_BAND = 0.1
"""Slices whose band is smaller than this share of the largest one's are not compared: a few voxels are no slice."""


PLACE_VOXELS = 1.5
"""Standard deviation in voxels of the Gaussian that makes a place: a single odd voxel counts less than a cluster."""


@dataclass(frozen=True)
class Plane:
    """One slice, ready to be drawn: row 0 is the top, column 0 the left.

    Args:
        axis: array axis of the file that the slice lies across.
        index: its index along that axis, from 0.
        label: ``(h, w)`` int16 class index, 0 background, ``IGNORE_INDEX`` where ignored.
        anomaly: ``(h, w)`` float32, higher = worse.
        image: ``(h, w)`` float32, where an image is given.
        spacing: mm per row and per column.
    """

    axis: int
    index: int
    label: np.ndarray
    anomaly: np.ndarray
    image: np.ndarray | None
    spacing: tuple[float, float]


CasePicture = tuple[Plane, ...]
"""Orthogonal planes through one place: three of a volume, the picture itself in 2D."""


def worst_slices(anomaly: np.ndarray, band: np.ndarray) -> tuple[list[int], list[float]]:
    """Per axis, the slice with the highest mean anomaly over its part of the band, and that mean.

    Args:
        anomaly: ``(*spatial)``, higher = worse.
        band: where masks and their denoised versions have structures, and a little around, ``(*spatial)`` bool; an
            empty one stands for everywhere.
    """
    band = band if band.any() else np.ones_like(band)
    indices, means = [], []
    for axis in range(anomaly.ndim):
        others = tuple(a for a in range(anomaly.ndim) if a != axis)
        counts = band.sum(others)
        sums = np.where(band, anomaly, 0).sum(others, dtype=np.float64)
        mean = np.where(counts >= max(1, MIN_BAND * counts.max()), sums / np.maximum(counts, 1), -np.inf)
        indices.append(int(mean.argmax()))
        means.append(float(mean.max()))
    return indices, means


@dataclass(frozen=True)
class SliceScores:
    """How bad every slice of a file is, across one of its axes.

    Args:
        axis: array axis of the file that the slices lie across.
        scores: mean anomaly of each slice over its part of the band, ``(slices,)``, higher = worse; NaN where there is
            nothing of it.
    """

    axis: int
    scores: np.ndarray


def slice_scores(
    anomaly: np.ndarray, band: np.ndarray, grid_affine: np.ndarray, file_affine: np.ndarray, shape: Sequence[int]
) -> SliceScores:
    """Scores of the slices of a volume across the file's axis of the largest spacing, the last one of equal axes.

    A slice of the file has the score of the nearest slice of the grid.

    Args:
        anomaly: ``(*spatial)`` on the model's grid, higher = worse.
        band: where masks and their denoised versions have structures, and a little around, ``(*spatial)`` bool; an
            empty one stands for everywhere.
        grid_affine, file_affine, shape: see :func:`file_index`.
    """
    spacing = np.linalg.norm(file_affine[:-1, :-1], axis=0)
    axis = int(np.flatnonzero(spacing >= 0.99 * spacing.max())[-1])
    along = file_axes(grid_affine, file_affine).index(axis)
    band = band if band.any() else np.ones_like(band)
    others = tuple(a for a in range(anomaly.ndim) if a != along)
    counts = band.sum(others)
    means = np.where(band, anomaly, 0).sum(others, dtype=np.float64) / np.where(counts > 0, counts, np.nan)
    centres = np.ones((len(shape) + 1, shape[axis]))
    centres[:-1] = (np.array(shape)[:, None] - 1) / 2
    centres[axis] = np.arange(shape[axis])
    index = np.rint(np.linalg.solve(grid_affine, file_affine @ centres)[along]).astype(int)
    inside = (index >= 0) & (index < len(means))
    return SliceScores(axis, np.where(inside, means[index.clip(0, len(means) - 1)], np.nan).astype(np.float32))


def worst_place(anomaly: np.ndarray, band: np.ndarray) -> tuple[int, ...]:
    """Voxel of the band around which the anomaly is highest; a single odd voxel counts less than a cluster."""
    smooth = ndimage.gaussian_filter(np.where(band, anomaly, 0).astype(np.float32), sigma=PLACE_VOXELS)
    return tuple(int(i) for i in np.unravel_index(int(smooth.argmax()), smooth.shape))


def file_index(
    place: Sequence[int], grid_affine: np.ndarray, file_affine: np.ndarray, shape: Sequence[int]
) -> list[int]:
    """Voxel of the file that lies nearest to a voxel of the model's grid.

    Args:
        place: index per axis of the grid.
        grid_affine: grid index to mm, ``(D + 1, D + 1)``.
        file_affine: file index to mm, of the same shape.
        shape: voxels per axis of the file; a place outside it gives its nearest voxel.
    """
    there = np.linalg.solve(file_affine, grid_affine @ [*place, 1.0])[:-1]
    return [int(i) for i in np.clip(np.rint(there), 0, np.array(shape) - 1)]


def file_axes(grid_affine: np.ndarray, file_affine: np.ndarray) -> list[int]:
    """Array axis of the file that runs along each axis of the grid."""
    step = np.abs(np.linalg.solve(file_affine, grid_affine)[:-1, :-1])
    return [int(axis) for axis in (step / step.sum(1, keepdims=True)).argmax(0)]


def picture_of(
    place: Sequence[int],
    label: np.ndarray,
    anomaly: np.ndarray,
    image: np.ndarray | None,
    grid_affine: np.ndarray,
    file_affine: np.ndarray,
    shape: Sequence[int],
) -> CasePicture:
    """Planes through ``place``, as radiologists hold them: patient's right on the left, front or head on top.

    Args:
        place: index per axis of the grid, which is in RAS for volumes and x to the right, y down for 2D.
        label, anomaly, image: maps on the grid, ``(*spatial)``.
        grid_affine, file_affine, shape: see :func:`file_index`.
    """
    spacing = np.linalg.norm(grid_affine[:-1, :-1], axis=0)
    if label.ndim == 2:
        maps = [None if m is None else np.ascontiguousarray(m.T) for m in (label, anomaly, image)]
        return (_plane(2, 0, maps, (float(spacing[1]), float(spacing[0]))),)
    index, axes = file_index(place, grid_affine, file_affine, shape), file_axes(grid_affine, file_affine)
    planes = []
    for axis, (column, row) in enumerate([(1, 2), (0, 2), (0, 1)]):

        def cut(values: np.ndarray | None, axis: int = axis) -> np.ndarray | None:
            # Rows run up from back or feet in the array, and columns from the patient's left in RAS turned over.
            return None if values is None else np.ascontiguousarray(values.take(place[axis], axis).T[::-1, ::-1])

        maps = [cut(label), cut(anomaly), cut(image)]
        planes.append(_plane(axes[axis], index[axes[axis]], maps, (float(spacing[row]), float(spacing[column]))))
    return tuple(planes)


def _plane(axis: int, index: int, maps: Sequence[np.ndarray | None], spacing: tuple[float, float]) -> Plane:
    label, anomaly, image = maps
    assert label is not None and anomaly is not None
    small = None if image is None else image.astype(np.float32)
    return Plane(axis, index, label.astype(np.int16), anomaly.astype(np.float32), small, spacing)


MAX_VOXELS = 1 << 22
"""Voxels of the file that are computed at a time: their coordinates take eight times the memory of the map."""


def to_file_geometry(
    values: np.ndarray, grid_affine: np.ndarray, file_affine: np.ndarray, shape: Sequence[int]
) -> np.ndarray:
    """Values on the model's grid, linearly interpolated at the voxels of a file; 0 outside the grid.

    Args:
        values: ``(*spatial)`` float.
        grid_affine, file_affine, shape: see :func:`file_index`.

    Returns:
        ``shape`` float32.
    """
    source = MetaTensor(
        torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))[None], affine=torch.as_tensor(grid_affine)
    )
    resample = SpatialResample(mode="bilinear", padding_mode="zeros", align_corners=True, dtype=np.float64)
    in_file = np.empty(tuple(shape), dtype=np.float32)
    # Two slices at least: MONAI knows no spacing along an axis of one voxel.
    thickness = min(len(in_file), max(2, MAX_VOXELS // in_file[:1].size))
    for first in range(0, len(in_file), thickness):
        start = min(first, len(in_file) - thickness)
        slab, there = in_file[start : start + thickness], np.array(file_affine, dtype=np.float64)
        there[:, -1] += start * there[:, 0]  # of the slab's first voxel
        slab[:] = resample(source, dst_affine=torch.as_tensor(there), spatial_size=slab.shape).numpy()[0]
    return in_file
