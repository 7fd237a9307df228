"""What a mask alone tells beside references: its form in two frames, its place, extent and parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from gnsm_monai.scoring.linear_shape import FRAMES, CoarseGrid, LinearShape, finite_mean

__all__ = ["FORM_STATISTICS", "ReferenceForms", "outside_largest"]

FORM_STATISTICS = ("form", "form_centred", "average", "place", "extent", "parts")
"""What :meth:`ReferenceForms.measure` gives, higher = worse.

- ``form``: ``1 - soft Dice`` to what principal components make of the mask, in the volume's frame.
- ``form_centred``: the same in the mask's own frame, where its centre of mass is the middle of the grid.
- ``average``: ``1 - soft Dice`` to the mean of the references, in the volume's frame: the mask's expected Dice with a
  reference of which nothing else is known.
- ``place``: deviation of the structures' centres of mass, measured from the middle of the field of view.
- ``extent``: deviation of their logarithmic second moments: size, proportions and orientation.
- ``parts``: share of a structure outside of its largest connected part.

Deviations are Mahalanobis distances by the references, root mean square per number, in standard deviations.
"""

MISSING = 10.0
"""Deviation of a structure that a mask lacks and every reference has."""

MAX_CELLS, MAX_VALUES = 12_000, 120_000
"""Most cells of a coarse grid, and most values of a coarse mask (structures times cells)."""

MIN_REFERENCES = 3
_Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class _Deviation:
    """Mahalanobis distance of the references' numbers of each structure.

    Args:
        centre: ``(S, F)``; NaN for a structure of fewer than :data:`MIN_REFERENCES` references.
        precision: ``(S, F, F)``.
    """

    centre: _Floats
    precision: _Floats

    @classmethod
    def fit(cls, values: _Floats) -> _Deviation:
        """Fits ``(N, S, F)`` numbers, NaN where a reference lacks a structure; the covariance is shrunk."""
        fitted = [_gaussian(column[np.isfinite(column).all(1)]) for column in values.swapaxes(0, 1)]
        return cls(np.stack([centre for centre, _ in fitted]), np.stack([precision for _, precision in fitted]))

    def __call__(self, values: _Floats) -> _Floats:
        """Distance of ``(S, F)`` numbers, ``(S,)``; NaN where they or the references are unknown."""
        difference = values - self.centre
        squared = np.einsum("sf,sfg,sg->s", difference, self.precision, difference)
        return np.asarray(np.sqrt(np.maximum(squared, 0) / values.shape[1]))


def _gaussian(values: _Floats) -> tuple[_Floats, _Floats]:
    size = values.shape[1]
    if len(values) < MIN_REFERENCES:
        return np.full(size, np.nan), np.eye(size)
    from sklearn.covariance import ledoit_wolf  # half a second, which no ranking need wait for

    centre = values.mean(0)
    scale = np.maximum(values.std(0), 1e-3)
    covariance, _ = ledoit_wolf((values - centre) / scale, assume_centered=True)
    # References that are all alike would leave a precision without bound.
    precision = np.linalg.inv(covariance + 1e-6 * np.eye(size))
    return centre, precision / np.outer(scale, scale)


@dataclass(frozen=True)
class ReferenceForms:
    """Linear shapes in both frames, and where and how large the references' structures are.

    Args:
        grids, shapes: by frame, of :data:`gnsm_monai.scoring.linear_shape.FRAMES`.
        place: of the centres of mass, in mm.
        extent: of the logarithms of the second moments.
        voxel_size: mm per axis.
    """

    grids: Mapping[str, CoarseGrid]
    shapes: Mapping[str, LinearShape]
    place: _Deviation
    extent: _Deviation
    voxel_size: tuple[float, ...]

    @classmethod
    def fit(cls, masks: Sequence[np.ndarray], voxel_size: Sequence[float]) -> ReferenceForms | None:
        """Learns from masks ``(S, *spatial)``, 0 or 1; None from fewer than three that hold a structure."""
        masks = [mask for mask in masks if mask.any()]
        if len(masks) < MIN_REFERENCES:
            return None
        cells = min(MAX_CELLS, max(64, MAX_VALUES // len(masks[0])))
        grids = {frame: CoarseGrid.holding(masks, frame, cells) for frame in FRAMES}
        shapes = {frame: _stored(LinearShape.fit([grid.coarse(m) for m in masks])) for frame, grid in grids.items()}
        moments = [_moments(mask, voxel_size) for mask in masks]
        place, extent = (_Deviation.fit(np.stack(values)) for values in zip(*moments, strict=True))
        return cls(grids, shapes, place, extent, tuple(float(mm) for mm in voxel_size))

    def measure(self, mask: np.ndarray, needed: np.ndarray) -> dict[str, float]:
        """Each of :data:`FORM_STATISTICS` of a mask ``(S, *spatial)``, 0 or 1: means over its structures.

        A structure that it lacks counts as :data:`MISSING`, or 1, if it is ``needed`` ``(S,)``, and is left out
        otherwise; it has no ``parts`` in any case. Where no structure counts, the statistic is 0.
        """
        present = mask.reshape(len(mask), -1).any(1)
        lacking = np.where(needed, 1.0, np.nan)
        coarse = {frame: grid.coarse(mask) for frame, grid in self.grids.items()}
        form, centred = (self.shapes[frame].structure_scores(coarse[frame]) for frame in FRAMES)
        usual = self.shapes["volume"].mean.clip(0, 1)
        shares, axes = coarse["volume"].shares, tuple(range(1, usual.ndim))
        overlap = 2 * (shares * usual).sum(axes) / np.maximum(coarse["volume"].size + usual.sum(axes), 1e-9)
        place, extent = _moments(mask, self.voxel_size)
        each = {
            "form": np.where(present, form, lacking),
            "form_centred": np.where(present, centred, lacking),
            "average": np.where(present, 1 - overlap, lacking),
            "place": np.where(present, self.place(place), MISSING * lacking),
            "extent": np.where(present, self.extent(extent), MISSING * lacking),
            "parts": np.array([outside_largest(structure) for structure in mask]),
        }
        return {name: float(np.nan_to_num(finite_mean(values))) for name, values in each.items()}

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Plain arrays for an npz file; :meth:`from_arrays` reads them back."""
        arrays = {"form_voxel_size": np.array(self.voxel_size)}
        for frame in FRAMES:
            arrays |= self.shapes[frame].to_arrays(f"form_{frame}_")
            arrays[f"form_{frame}_stride"] = np.array(self.grids[frame].stride)
        for name, deviation in (("place", self.place), ("extent", self.extent)):
            arrays |= {f"form_{name}": deviation.centre, f"form_{name}_precision": deviation.precision}
        return arrays

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> ReferenceForms | None:
        """None where the arrays hold none."""
        if "form_voxel_size" not in arrays:
            return None
        grids: dict[str, CoarseGrid] = {}
        shapes: dict[str, LinearShape] = {}
        for frame in FRAMES:
            shape = LinearShape.from_arrays(arrays, f"form_{frame}_")
            assert shape is not None
            stride = tuple(arrays[f"form_{frame}_stride"].tolist())
            shapes[frame], grids[frame] = shape, CoarseGrid(shape.mean.shape[1:], stride, frame)
        place, extent = (_Deviation(arrays[f"form_{n}"], arrays[f"form_{n}_precision"]) for n in ("place", "extent"))
        return cls(grids, shapes, place, extent, tuple(arrays["form_voxel_size"].tolist()))


def _stored(shape: LinearShape) -> LinearShape:
    """At the precision of a model's file, so that a model gives the same answers before and after it is stored."""
    read = LinearShape.from_arrays(shape.to_arrays(""), "")
    assert read is not None
    return read


def _moments(mask: np.ndarray, voxel_size: Sequence[float]) -> tuple[_Floats, _Floats]:
    """Centres of mass ``(S, axes)`` in mm from the middle, and logarithms of the second moments around them.

    These are the upper triangle of a matrix, ``(S, axes * (axes + 1) / 2)``. NaN for a structure that the mask
    lacks.
    """
    size, axes = np.asarray(voxel_size, dtype=np.float64), mask.ndim - 1
    triangle = np.triu_indices(axes)
    centres, extents = np.full((len(mask), axes), np.nan), np.full((len(mask), len(triangle[0])), np.nan)
    for number, structure in enumerate(mask):
        places = np.argwhere(structure) * size
        if not len(places):
            continue
        centre = places.mean(0)
        centres[number] = centre - (np.array(structure.shape) - 1) / 2 * size
        # A voxel is a box: without its own moments a plane of voxels would have none across.
        moments = (places - centre).T @ (places - centre) / len(places) + np.diag(size**2 / 12)
        lengths, directions = np.linalg.eigh(moments)
        extents[number] = ((directions * np.log(lengths)) @ directions.T)[triangle]
    return centres, extents


def outside_largest(structure: np.ndarray) -> float:
    """Share of a structure outside of its largest part of voxels that share a face; NaN where there is none."""
    parts, count = ndimage.label(structure)
    if not count:
        return float("nan")
    voxels = np.bincount(parts.ravel())[1:]
    return float(1 - voxels.max() / voxels.sum())
