"""Mask-only rivals that need no training: what any learned anomaly score has to beat.

Each is fitted on reference label maps and scores one mask, higher = worse. Label maps are integer arrays of any number
of spatial axes, class 0 is background, negative values (ignored voxels, padding) count nowhere. Maps may differ in
shape: they are aligned at the centre of their field of view. All maps share one voxel size; lengths are in voxels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from gnsm_monai.scoring.linear_shape import CoarseGrid, LinearShape

__all__ = [
    "MISSING_Z", "CentreOfMassZScore", "LinearShapeRival", "VolumeZScore", "VoxelwisePrior", "common_grid",
    "pad_or_crop",
]  # fmt: skip

MISSING_Z = 100.0
"""|z| of the position of a structure that the mask lacks: beyond any real one, and finite so that means stay finite."""

MARGIN = 2
"""Voxels of a grid beside the outermost structure of the references, as our own grid has them."""

_Labels = npt.NDArray[np.integer[Any]]
_Floats = npt.NDArray[np.float64]


class VolumeZScore:
    """Mean over structures of |z| of the volume, z by mean and standard deviation of the references; range >= 0.

    Args:
        log: take z of log(1 + voxels), in which half and double are equally far and a missing structure stands out;
            otherwise of the voxel count itself.
    """

    def __init__(self, log: bool = True) -> None:
        self.log = log

    def fit(self, labels: Sequence[_Labels], num_classes: int) -> VolumeZScore:
        """Measure the references.

        Args:
            labels: reference label maps, each of shape (*spatial).
            num_classes: classes with background, K.

        Raises:
            ValueError: when there is no reference or a map is no integer label map of K classes.
        """
        _check_references(labels, num_classes)
        self.num_classes = num_classes
        volumes = np.stack([self._volumes(label) for label in labels])
        self.mean, self.std = volumes.mean(0), _positive_std(volumes)
        return self

    def score(self, label: _Labels) -> float:
        """Anomaly of one mask of shape (*spatial). Raises ValueError when it is no integer map of the known classes."""
        _check_label(label, self.num_classes)
        return float(np.mean(np.abs(self._volumes(label) - self.mean) / self.std))

    def _volumes(self, label: _Labels) -> _Floats:
        """Size per structure, shape (K - 1,)."""
        voxels = np.bincount(label[label > 0], minlength=self.num_classes)[1:].astype(np.float64)
        return np.log1p(voxels) if self.log else voxels


class CentreOfMassZScore:
    """Mean over structures and axes of |z| of the centre of mass, measured from the centre of the field of view.

    Range >= 0. A structure that the mask lacks counts `MISSING_Z` on every axis; references that lack it are left out
    of its mean and standard deviation.
    """

    def fit(self, labels: Sequence[_Labels], num_classes: int) -> CentreOfMassZScore:
        """Measure the references; arguments and errors as in `VolumeZScore.fit`.

        Raises:
            ValueError: also when a structure occurs in no reference.
        """
        _check_references(labels, num_classes)
        self.num_classes = num_classes
        centres = np.stack([self._centres(label) for label in labels])
        missing = np.isnan(centres).all(axis=(0, 2))
        if missing.any():
            raise ValueError(f"structure {int(missing.argmax()) + 1} occurs in no reference.")
        self.mean, self.std = np.nanmean(centres, axis=0), _positive_std(centres)
        return self

    def score(self, label: _Labels) -> float:
        """Anomaly of one mask of shape (*spatial). Raises ValueError when it is no integer map of the known classes."""
        _check_label(label, self.num_classes)
        z = np.abs(self._centres(label) - self.mean) / self.std
        return float(np.mean(np.nan_to_num(z, nan=MISSING_Z)))

    def _centres(self, label: _Labels) -> _Floats:
        """Centre of mass of each structure minus the centre of the field of view, (K - 1, axes); NaN when absent."""
        middle = (np.array(label.shape) - 1) / 2
        centres = np.full((self.num_classes - 1, label.ndim), np.nan)
        for structure in range(1, self.num_classes):
            voxels = np.argwhere(label == structure)
            if len(voxels):
                centres[structure - 1] = voxels.mean(0) - middle
        return centres


class VoxelwisePrior:
    """Mean over the mask's foreground of -log p(label), p the frequency of the label at that place in the references.

    p = 0.999 frequency + 0.001 / K, so that -log p stays finite. References are laid into a common grid around the
    centre of the field of view: smaller ones are padded with background, larger ones cropped, an odd voxel of
    difference goes to the far end. A mask larger than the grid meets the prior of the nearest voxel of the grid (its
    edge) beyond it, so that no foreground escapes.

    Args:
        grid_shape: of the common grid; by default the largest reference, axis by axis.
    """

    def __init__(self, grid_shape: Sequence[int] | None = None) -> None:
        self.grid_shape = None if grid_shape is None else tuple(grid_shape)

    def fit(self, labels: Sequence[_Labels], num_classes: int) -> VoxelwisePrior:
        """Count the references; arguments and errors as in `VolumeZScore.fit`.

        Raises:
            ValueError: also when the references differ from `grid_shape` in the number of axes.
        """
        _check_references(labels, num_classes)
        self.num_classes = num_classes
        shape = self.grid_shape or tuple(int(n) for n in np.max([label.shape for label in labels], axis=0))
        if len(shape) != labels[0].ndim:
            raise ValueError(f"grid_shape must have {labels[0].ndim} axes, got {shape}.")
        counts = np.zeros((num_classes, *shape))
        for label in labels:
            placed = pad_or_crop(label, shape)
            for k in range(num_classes):
                counts[k] += placed == k
        seen = counts.sum(0)
        # Where every reference ignores a voxel nothing is known: all labels are alike there.
        frequency = np.where(seen > 0, counts / np.maximum(seen, 1), 1 / num_classes)
        self.surprise: _Floats = -np.log(0.999 * frequency + 0.001 / num_classes)
        return self

    def score(self, label: _Labels) -> float:
        """Anomaly of one mask of shape (*spatial), above 0.

        A mask without foreground gets -log(0.001 / K) + 1, which is more than any other mask can.

        Raises:
            ValueError: when the mask is no integer map of the known classes, or differs in the number of axes.
        """
        foreground = self.voxelwise_prior_map(label)[label > 0]
        if foreground.size == 0:
            return 1 - math.log(0.001 / self.num_classes)
        return float(foreground.mean())

    def voxelwise_prior_map(self, label: _Labels) -> _Floats:
        """-log p of the mask's label at each voxel, shape (*spatial); 0 where the mask is ignored. Raises: `score`."""
        _check_label(label, self.num_classes)
        shape = self.surprise.shape[1:]
        if label.ndim != len(shape):
            raise ValueError(f"the mask must have {len(shape)} axes, got shape {label.shape}.")
        places = [np.clip(np.arange(n) + _offset(n, g), 0, g - 1) for n, g in zip(label.shape, shape, strict=True)]
        index = (np.maximum(label, 0), *np.ix_(*places))
        return np.where(label < 0, 0.0, self.surprise[index])


def _offset(size: int, grid: int) -> int:
    """Index in the grid of the first voxel of a centred map; negative when the map is larger."""
    return (grid - size) // 2 if size <= grid else -((size - grid) // 2)


class LinearShapeRival:
    """1 - mean soft Dice with what the references' principal components make of a mask: the package's linear shapes.

    Args:
        frame: one of :data:`gnsm_monai.scoring.linear_shape.FRAMES`.
    """

    def __init__(self, frame: str) -> None:
        self.frame = frame

    def fit(self, labels: Sequence[_Labels], num_classes: int) -> LinearShapeRival:
        """Grid, mean and components of label maps, (*spatial) each."""
        _check_references(labels, num_classes)
        self.num_classes = num_classes
        masks = [self._one_hot(label) for label in labels]
        self.grid = CoarseGrid.holding(masks, self.frame)
        self.shape = LinearShape.fit([self.grid.coarse(mask) for mask in masks])
        return self

    def score(self, label: _Labels) -> float:
        """Anomaly of a mask (*spatial), in [0, 1]; 1 for an empty one."""
        _check_label(label, self.num_classes)
        return self.shape.score(self.grid.coarse(self._one_hot(label)))

    def _one_hot(self, label: _Labels) -> npt.NDArray[np.bool_]:
        return np.stack([label == k for k in range(1, self.num_classes)])


def common_grid(sizes: Sequence[npt.NDArray[np.integer[Any]]], multiple: int) -> tuple[int, ...]:
    """Shape of a grid that holds maps of these sizes per axis, and a margin, in multiples of a network's strides."""
    needed = np.max(sizes, axis=0) + 2 * MARGIN
    return tuple(int(n) for n in np.ceil(needed / multiple).astype(int) * multiple)


def pad_or_crop(label: _Labels, shape: tuple[int, ...]) -> _Labels:
    """The map (*spatial) laid into a grid of ``shape`` around the centre of its field of view."""
    # Structures lie inside their field of view, so what was not imaged is taken for background.
    placed = np.zeros(shape, dtype=label.dtype)
    offsets = [_offset(n, g) for n, g in zip(label.shape, shape, strict=True)]
    inside = [(max(o, 0), min(o + n, g)) for o, n, g in zip(offsets, label.shape, shape, strict=True)]
    source = tuple(slice(low - o, high - o) for (low, high), o in zip(inside, offsets, strict=True))
    placed[tuple(slice(low, high) for low, high in inside)] = label[source]
    return placed


def _positive_std(values: _Floats) -> _Floats:
    """Standard deviation over the references without NaN; 1 where they do not vary at all, so that z stays finite."""
    std = np.nanstd(values, axis=0)
    return np.where(std > 0, std, 1.0)


def _check_references(labels: Sequence[_Labels], num_classes: int) -> None:
    if num_classes < 2:
        raise ValueError(f"num_classes must be at least 2, got {num_classes}.")
    if len(labels) == 0:
        raise ValueError("at least one reference is needed.")
    for label in labels:
        _check_label(label, num_classes)
        if label.ndim != labels[0].ndim:
            raise ValueError(f"references must agree in their axes, got shapes {labels[0].shape} and {label.shape}.")


def _check_label(label: _Labels, num_classes: int) -> None:
    if not np.issubdtype(label.dtype, np.integer):
        raise ValueError(f"label maps must be integer, got {label.dtype}.")
    if label.size and label.max() >= num_classes:
        raise ValueError(f"label {label.max()} is not one of {num_classes} classes.")
