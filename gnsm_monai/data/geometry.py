"""How the files of one case lie to each other: one turn for all maps, decided by the mask."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import product
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.utils import MetaKeys
from nibabel.orientations import aff2axcodes, apply_orientation, inv_ornt_aff, io_orientation

from gnsm_monai.data.constants import FILE_AFFINE, FILE_SHAPE
from gnsm_monai.errors import InputError

__all__ = ["Cropped", "Grid", "Laid", "Overlay", "as_turned", "lay_on", "overlay", "size_in_words", "turned"]

NEAR = 0.1
"""Share of the finest voxel by which headers may place two maps apart and still agree: it comes from rounding."""

SAME_SPACING = 0.01
"""Relative difference of spacings that comes from rounding."""


@dataclass(frozen=True)
class Grid:
    """The voxels of a file.

    Args:
        shape: per axis, ``(D,)``.
        affine: voxel index to mm in RAS, ``(D + 1, D + 1)``.
    """

    shape: tuple[int, ...]
    affine: np.ndarray

    @classmethod
    def of(cls, image: MetaTensor) -> Grid:
        """The file of a map ``(C, *spatial)`` that was at most turned, cropped or resampled since."""
        shape = image.meta.get(FILE_SHAPE, image.shape[1:])
        affine = image.meta.get(FILE_AFFINE, image.affine)
        return cls(tuple(int(n) for n in shape), np.asarray(affine, dtype=np.float64))

    @property
    def spacing(self) -> np.ndarray:
        """mm per axis, ``(D,)``."""
        spacing: np.ndarray = np.linalg.norm(self.affine[:-1, :-1], axis=0)
        return spacing

    @property
    def orientation(self) -> str:
        """What the index of each axis grows towards, such as RAS; of two axes, nothing that can be relied on."""
        return "".join(aff2axcodes(self.affine))

    def turned(self, turn: np.ndarray) -> Grid:
        """Its axes permuted and flipped by an orientation of nibabel's, ``(D, 2)``."""
        order = np.argsort(turn[:, 0])
        shape = tuple(self.shape[axis] for axis in order)
        return Grid(shape, self.affine @ inv_ornt_aff(turn, self.shape))

    def begun_at(self, start: np.ndarray, shape: Sequence[int]) -> Grid:
        """The grid of ``shape`` whose first voxel is the voxel ``start`` of this one."""
        affine = self.affine.copy()
        affine[:-1, -1] += affine[:-1, :-1] @ start
        return Grid(tuple(shape), affine)

    def apart(self, other: Grid) -> float:
        """Largest distance in mm between equal voxels of two grids of one shape."""
        corners = np.array([[*corner, 1] for corner in product(*[(0, n - 1) for n in self.shape])])
        return float(np.linalg.norm(corners @ (self.affine - other.affine).T, axis=1).max())


@dataclass(frozen=True)
class Overlay:
    """How a file lies on the grid of a mask's file.

    Args:
        turn: nibabel's orientation that brings its axes to those of the mask's file, ``(D, 2)``.
        start: voxel of the mask's file at which it begins then, ``(D,)``.
        apart: mm between equal voxels by the two headers, where voxels are taken as they lie; 0 where headers agree.
    """

    turn: np.ndarray
    start: np.ndarray
    apart: float = 0.0


def overlay(mask: Grid, other: Grid) -> Overlay | None:
    """How ``other`` lies on the grid of a mask: by the headers, or voxel by voxel if only the shapes agree.

    Headers count if they agree to :data:`NEAR` of a voxel after one turn of axes, and if both files have the same
    voxels or one lies within the other. Voxels are else taken as they lie in files of one shape, as nnU-Net takes them:
    readers make different matrices of one header (no sform and qform, or two that differ).

    Returns:
        None where neither is possible.
    """
    turn = io_orientation(np.linalg.solve(mask.affine, other.affine))
    there = other.turned(turn)
    start = np.rint(np.linalg.solve(mask.affine, there.affine)[:-1, -1]).astype(int)
    beyond = start + np.array(there.shape) - np.array(mask.shape)
    nested = ((start <= 0) & (beyond >= 0)).all() or ((start >= 0) & (beyond <= 0)).all()
    if nested and mask.begun_at(start, there.shape).apart(there) <= NEAR * mask.spacing.min():
        return Overlay(turn, start)
    if mask.shape == other.shape:
        same = np.stack([np.arange(len(mask.shape)), np.ones(len(mask.shape))], axis=1)
        return Overlay(same, np.zeros(len(mask.shape), dtype=int), mask.apart(other))
    return None


@dataclass(frozen=True)
class Cropped:
    """What a mask lacks of the field of view of another file of its case.

    Args:
        beside: what the other file is.
        missing: voxels at the low and the high end of each axis of the mask's file, ``(D, 2)``; where ends cannot be
            told, all of them at the low one.
        orientation: what the index of each axis grows towards.
        located: whether the headers tell at which end voxels are missing.
    """

    beside: str
    missing: tuple[tuple[int, int], ...]
    orientation: str
    located: bool = True

    @classmethod
    def of(cls, mask: Grid, other: Grid, beside: str) -> Cropped | None:
        """None where nothing is missing, or where the two files cannot be compared."""
        over = overlay(mask, other)
        if over is not None:
            shape = np.array(other.turned(over.turn).shape)
            ends = np.stack([-over.start, over.start + shape - mask.shape], axis=1).clip(min=0)
        else:
            there = other.turned(io_orientation(np.linalg.solve(mask.affine, other.affine)))
            fewer = np.array(there.shape) - mask.shape
            if (fewer != 0).sum() > 1 or not np.allclose(there.spacing, mask.spacing, rtol=SAME_SPACING):
                return None
            ends = np.stack([fewer.clip(min=0), np.zeros_like(fewer)], axis=1)
        missing = tuple((int(low), int(high)) for low, high in ends)
        return cls(beside, missing, mask.orientation, over is not None) if ends.any() else None


def turned(values: np.ndarray, turn: np.ndarray) -> np.ndarray:
    """A map ``(C, *spatial)`` with its axes permuted and flipped by an orientation of nibabel's, ``(D, 2)``."""
    channels_last: Any = apply_orientation(np.moveaxis(values, 0, -1), turn)
    return np.ascontiguousarray(np.moveaxis(channels_last, -1, 0))


@dataclass(frozen=True)
class Laid:
    """A map in the axes of its case's mask, as both are now.

    Args:
        values: ``(C, *spatial)``; its affine is that of the mask, begun at its own first voxel.
        missing: voxels that the mask lacks of it, at the low and high end of each axis.
        lacking: voxels of the mask that it lacks, likewise.
        apart: see :class:`Overlay`.
    """

    values: MetaTensor
    missing: list[tuple[int, int]]
    lacking: list[tuple[int, int]]
    apart: float


def _ends(begin: np.ndarray, inner: Sequence[int], outer: Sequence[int]) -> list[tuple[int, int]]:
    return [(max(0, int(b)), max(0, n - m - int(b))) for b, m, n in zip(begin, inner, outer, strict=True)]


def lay_on(label: MetaTensor, other: MetaTensor, key: str) -> Laid:
    """Turns a map as the mask of its case was turned after reading, whatever its own header says of its axes.

    Near 45 degrees it hangs on rounding which axis a map is turned to. So its own turn is undone, and the mask's taken.

    Args:
        label: the mask ``(1, *spatial)``; since it was read it was at most turned or resampled.
        other: ``(C, *spatial)``, likewise, not resampled.
        key: what it is, for the message.

    Raises:
        InputError: neither by the headers nor by their shapes do the two fit.
    """
    mask, file = Grid.of(label), Grid.of(other)
    over = overlay(mask, file)
    if over is None:
        path = other.meta.get("filename_or_obj", key)
        raise InputError(f"{path}: does not fit the mask: {size_in_words(file)}, the mask {size_in_words(mask)}")
    shape, forth = file.turned(over.turn).shape, _turn_since(label, mask)
    there = mask.begun_at(over.start, shape).turned(forth)
    values = other.as_tensor()
    if not np.allclose(other.affine, there.affine, atol=NEAR * mask.spacing.min()):
        back = io_orientation(np.linalg.solve(file.affine, np.asarray(other.affine, dtype=np.float64)))
        values = torch.from_numpy(reduce(turned, (back, over.turn, forth), values.numpy()))
    meta = {key: value for key, value in other.meta.items() if key != MetaKeys.AFFINE}
    placed = MetaTensor(values, affine=torch.from_numpy(there.affine), meta=meta)
    missing, lacking = _ends(-over.start, mask.shape, shape), _ends(over.start, shape, mask.shape)
    return Laid(placed, as_turned(label, missing), as_turned(label, lacking), over.apart)


def as_turned(label: MetaTensor, ends: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Voxels at the low and high end of each axis of a mask's file, along the axes of the mask as it is now."""
    now = {int(axis): ends[i][:: int(flip)] for i, (axis, flip) in enumerate(_turn_since(label, Grid.of(label)))}
    return [(low, high) for _, (low, high) in sorted(now.items())]


def _turn_since(label: MetaTensor, file: Grid) -> np.ndarray:
    """nibabel's orientation, ``(D, 2)``, by which a map was turned since it was read."""
    turn: np.ndarray = io_orientation(np.linalg.solve(np.asarray(label.affine, dtype=np.float64), file.affine))
    return turn


def size_in_words(grid: Grid) -> str:
    """Voxels and spacing."""
    voxels, mm = (" x ".join(f"{n:g}" for n in values) for values in (grid.shape, grid.spacing.round(3)))
    return f"{voxels} voxels of {mm} mm"
