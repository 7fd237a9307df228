"""A linear model of shape: the principal components of coarse masks, fitted in milliseconds.

To it a mask is odd where the components cannot build it. Place and size are left in (frame ``volume``) or the place is
taken out (frame ``mask``): which of the two tells more depends on the anatomy and the field of view.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["FRAMES", "MAX_CELLS", "CoarseGrid", "CoarseMap", "LinearShape", "disagreement", "finite_mean"]

FRAMES = ("volume", "mask")
"""What the middle of the grid is: that of the field of view, or the centre of mass of all structures."""

COMPONENTS = 10
MAX_CELLS = 12_000
"""Cells of the coarse grid: blocks of voxels are averaged until no more are left."""

EXPECTED = 0.5
"""Share of a cell that the components must give a structure for it to be missed in a mask that lacks it."""

_Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class CoarseMap:
    """A mask on a coarse grid.

    Args:
        shares: of each structure in every cell, ``(S, *cells)``, in [0, 1].
        size: of each structure in cells, ``(S,)``, what lies outside of the grid included.
    """

    shares: _Floats
    size: _Floats


@dataclass(frozen=True)
class CoarseGrid:
    """Where masks are laid, and how coarse they become.

    Args:
        cells: per axis.
        stride: voxels per cell and axis.
        frame: one of :data:`FRAMES`.
    """

    cells: tuple[int, ...]
    stride: tuple[int, ...]
    frame: str = "volume"

    @classmethod
    def holding(cls, masks: Sequence[npt.ArrayLike], frame: str = "volume", max_cells: int = MAX_CELLS) -> CoarseGrid:
        """The finest grid of at most ``max_cells`` cells that holds the structures of all masks.

        Args:
            masks: shares of the structures ``(S, *spatial)`` each, which may differ in shape.
            frame: one of :data:`FRAMES`.
            max_cells: the longest axis is made coarser first, so that thick slices stay what they are.

        Raises:
            ValueError: no masks, or another frame.
        """
        if frame not in FRAMES or not len(masks):
            raise ValueError(f"frame must be one of {FRAMES} and masks at least one, got {frame!r} and {len(masks)}.")
        size = np.max([_reach(np.asarray(mask), _middle(np.asarray(mask), frame)) for mask in masks], axis=0)
        stride = np.ones(len(size), dtype=int)
        while np.prod(-(-size // stride)) > max_cells:
            stride[int(np.argmax(size / stride))] += 1
        return cls(tuple((-(-size // stride)).tolist()), tuple(stride.tolist()), frame)

    def coarse(self, mask: npt.ArrayLike) -> CoarseMap:
        """Lays a mask ``(S, *spatial)``, one-hot without background or soft, on the grid."""
        values = np.asarray(mask, dtype=np.float64)
        source, target = self._overlap(values)
        laid = np.zeros((len(values), *np.multiply(self.cells, self.stride)))
        laid[target] = values[source]
        split = tuple(itertools.chain(*zip(self.cells, self.stride, strict=True)))
        shares = laid.reshape(len(values), *split).mean(tuple(range(2, 2 * values.ndim - 1, 2)))
        size = values.reshape(len(values), -1).sum(1) / np.prod(self.stride)
        return CoarseMap(shares, size)

    def fine(self, shares: npt.ArrayLike, mask: npt.ArrayLike) -> _Floats:
        """Shares ``(C, *cells)`` at the voxels of a mask ``(S, *spatial)``: ``(C, *spatial)``, 0 outside the grid."""
        like = np.asarray(mask)
        source, target = self._overlap(like)
        laid = np.asarray(shares, dtype=np.float64)
        for axis, step in enumerate(self.stride, start=1):
            laid = np.repeat(laid, step, axis)
        values = np.zeros((len(laid), *like.shape[1:]))
        values[source] = laid[target]
        return values

    def _overlap(self, mask: np.ndarray) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
        """Where a mask ``(S, *spatial)`` and the grid's voxels lie on each other: in the mask, and in the grid."""
        source, target = [slice(None)], [slice(None)]
        voxels = np.multiply(self.cells, self.stride).tolist()
        for middle, old, new in zip(_middle(mask, self.frame), mask.shape[1:], voxels, strict=True):
            # Voxel ``i`` comes to ``i + shift``; halves go down, whatever is cropped or padded.
            shift = int(np.floor((new - 1) / 2 - middle + 0.5 - 1e-9))
            low, high = max(0, -shift), min(old, new - shift)
            source.append(slice(low, max(low, high)))
            target.append(slice(low + shift, max(low, high) + shift))
        return tuple(source), tuple(target)


@dataclass(frozen=True)
class LinearShape:
    """1 - soft Dice between a coarse mask and its reconstruction by principal components.

    Args:
        mean: of the masks it was fitted to, ``(S, *cells)``.
        directions: orthonormal, most variance first, ``(J, S * cells)``.
    """

    mean: _Floats
    directions: _Floats

    @classmethod
    def fit(cls, maps: Sequence[CoarseMap], components: int = COMPONENTS) -> LinearShape:
        """Mean and components of masks on one grid; fewer components where there are few masks.

        Raises:
            ValueError: no mask.
        """
        if not maps:
            raise ValueError("at least one mask is needed.")
        mean = np.mean([one.shares for one in maps], axis=0)
        return cls.around(mean, np.stack([one.shares - mean for one in maps]), components)

    @classmethod
    def around(cls, mean: _Floats, deviations: _Floats, components: int = COMPONENTS) -> LinearShape:
        """Components of deviations ``(N, S, *cells)`` from a mean ``(S, *cells)``, which need not be that of masks."""
        # From the deviations' Gram matrix, which is small: as many components as masks, not as cells.
        centred = deviations.reshape(len(deviations), -1)
        variance, vectors = np.linalg.eigh(centred @ centred.T)
        count = min(components, int((variance > 1e-10 * max(1.0, variance[-1])).sum()))
        largest = np.argsort(variance)[::-1][:count]
        directions = (vectors[:, largest] / np.sqrt(variance[largest])).T @ centred
        return cls(mean, directions)

    def rebuilt(self, mask: CoarseMap) -> _Floats:
        """What the components make of a mask, ``(S, *cells)`` in [0, 1]."""
        differs = mask.shares.ravel() - self.mean.ravel()
        answer = self.mean.ravel() + (self.directions @ differs) @ self.directions
        return np.clip(answer, 0, 1).reshape(self.mean.shape)

    def structure_scores(self, mask: CoarseMap) -> _Floats:
        """:func:`disagreement` of each structure with what the components make of the mask, ``(S,)``."""
        return disagreement(mask, self.rebuilt(mask))

    def score(self, mask: CoarseMap) -> float:
        """Anomaly of a mask in [0, 1]: the mean over its structures and those it lacks; 1 for an empty one."""
        if not (mask.size > 0).any():
            return 1.0
        return float(np.nanmean(self.structure_scores(mask)))

    def to_arrays(self, prefix: str) -> dict[str, np.ndarray]:
        """Plain arrays for an npz file; :meth:`from_arrays` reads them back."""
        return {
            f"{prefix}mean": self.mean.astype(np.float32),
            f"{prefix}directions": self.directions.astype(np.float32),
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray], prefix: str) -> LinearShape | None:
        """None where the arrays hold none."""
        if f"{prefix}mean" not in arrays:
            return None
        mean, directions = (np.asarray(arrays[prefix + name], dtype=np.float64) for name in ("mean", "directions"))
        return cls(mean, directions)


def disagreement(mask: CoarseMap, answer: _Floats) -> _Floats:
    """1 - soft Dice of each structure ``(S,)``, in [0, 1]; NaN where neither the mask nor the answer has it.

    A structure that the mask lacks has 1 where the answer has more than half a cell of it. What a mask has outside of
    the grid counts as not in the answer.

    Args:
        mask: of ``S`` structures.
        answer: shares of the structures that are expected, ``(S, *cells)``.
    """
    expected = answer.reshape(len(answer), -1)
    shares = mask.shares.reshape(expected.shape)
    overlap = 2 * np.minimum(shares, expected).sum(1) / np.maximum(mask.size + expected.sum(1), 1e-9)
    either = (mask.size > 0) | (expected.max(1) > EXPECTED)
    return np.where(either, 1 - np.clip(overlap, 0, 1), np.nan)


def _middle(mask: np.ndarray, frame: str) -> _Floats:
    """Index of what comes to the middle of the grid; the middle of an empty mask is that of its field of view."""
    shape = np.array(mask.shape[1:])
    weight = mask.sum(0, dtype=np.float64)
    if frame == "volume" or not weight.any():
        return (shape - 1) / 2
    axes = range(weight.ndim)
    along = [weight.sum(tuple(a for a in axes if a != axis)) for axis in axes]
    return np.array([(line * np.arange(len(line))).sum() / line.sum() for line in along])


def _reach(mask: np.ndarray, middle: _Floats) -> npt.NDArray[np.int64]:
    """Least size per axis of a box around ``middle`` that holds all structures, rounding of the middle included."""
    inside = np.any(mask > 0, axis=0)
    if not inside.any():
        return np.ones(inside.ndim, dtype=np.int64)
    size = []
    for axis, centre in enumerate(middle):
        hit = np.flatnonzero(np.any(inside, axis=tuple(a for a in range(inside.ndim) if a != axis)))
        size.append(2 * np.ceil(max(centre - hit[0], hit[-1] - centre)) + 2)
    return np.array(size, dtype=np.int64)


def finite_mean(values: _Floats, axis: int | None = None) -> _Floats:
    """Mean of what is finite, along an axis or of all; NaN where nothing is."""
    finite = np.isfinite(values)
    count = finite.sum(axis)
    return np.where(count > 0, np.where(finite, values, 0).sum(axis) / np.maximum(count, 1), np.nan)
