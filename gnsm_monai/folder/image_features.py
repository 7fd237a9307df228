"""What the image around a voxel looks like, as a row of numbers; no more of an image is held than is needed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

__all__ = ["SCALES", "features_of"]

SCALES = (1.0, 2.0, 4.0)
"""Standard deviations at which an image is smoothed, in voxels along the axis with the smallest ones."""

TEXTURE = 5
"""Voxels along that axis over which the spread of intensities is taken."""

_Floats = npt.NDArray[np.floating[Any]]


def features_of(
    image: _Floats, voxels: npt.NDArray[np.int64], voxel_size: Sequence[float] = (), block: int = 1
) -> npt.NDArray[np.float32]:
    """Intensities, edges and texture around voxels, and in the last columns their place: ``(V, F)``.

    Args:
        image: ``(C, *spatial)``.
        voxels: flat indices ``(V,)`` into ``spatial``.
        voxel_size: mm per axis; by default the same along all axes. Thick slices are smoothed over fewer of them.
        block: voxels per axis that are averaged before anything is computed, for images that are large.

    Raises:
        ValueError: the image holds values that are no finite numbers.
    """
    shape = np.array(image.shape[1:])
    unit = np.ones(len(shape)) if not len(voxel_size) else min(voxel_size) / np.asarray(voxel_size, dtype=np.float64)
    where = np.stack(np.unravel_index(voxels, tuple(shape)))
    # What lies further away than the widest filter reaches has no part in any value.
    margin = (np.ceil(4 * max(SCALES) * unit).astype(int) + 2) * block
    low = np.maximum(where.min(1, initial=0 if not len(voxels) else shape.max()) - margin, 0) // block * block
    high = np.minimum(where.max(1, initial=0) + 1 + margin, shape)
    box, at = tuple(map(slice, low, high)), tuple((where - low[:, None]) // block)
    columns: list[_Floats] = []
    for channel in image:
        if not np.isfinite(mean := float(channel.mean(dtype=np.float64))):
            raise ValueError("it holds values that are no finite numbers")
        values = (channel[box].astype(np.float32) - mean) / (float(channel.std(dtype=np.float64)) + 1e-6)
        columns += [column[at] for column in _columns(_averaged(values.astype(np.float32), block), unit)]
    columns += list(where - (shape[:, None] - 1) / 2)
    return np.stack(columns, axis=-1).astype(np.float32)


def _columns(values: npt.NDArray[np.float32], unit: npt.NDArray[np.float64]) -> Iterator[_Floats]:
    """Values ``(*spatial)`` of one channel, one feature after the other."""
    yield values
    for scale in SCALES:
        smooth = ndimage.gaussian_filter(values, scale * unit)
        yield smooth
        for axis in range(values.ndim):
            yield np.gradient(smooth, axis=axis) if values.shape[axis] > 1 else np.zeros_like(smooth)
    yield ndimage.gaussian_gradient_magnitude(values, unit)
    yield ndimage.gaussian_laplace(values, 1.5 * unit)
    size = np.maximum(1, np.round(TEXTURE * unit)).astype(int).tolist()
    spread = ndimage.uniform_filter(values**2, size) - ndimage.uniform_filter(values, size) ** 2
    yield np.sqrt(np.maximum(spread, 0))


def _averaged(values: npt.NDArray[np.float32], block: int) -> npt.NDArray[np.float32]:
    """Means of blocks; the last ones are filled up with their edge."""
    if block == 1:
        return values
    filled = np.pad(values, [(0, -n % block) for n in values.shape], mode="edge")
    split = [part for n in filled.shape for part in (n // block, block)]
    return np.asarray(filled.reshape(split).mean(tuple(range(1, 2 * values.ndim, 2)), dtype=np.float32))
