"""Maps of the model's grid, brought back to the geometry of a file."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import SpatialResample

__all__ = ["to_file_geometry"]

MAX_VOXELS = 1 << 22
"""Voxels of the file that are computed at a time: their coordinates take eight times the memory of the map."""


def to_file_geometry(
    values: np.ndarray, grid_affine: np.ndarray, file_affine: np.ndarray, shape: Sequence[int]
) -> np.ndarray:
    """Values on the model's grid, linearly interpolated at the voxels of a file; 0 outside the grid.

    Args:
        values: ``(*spatial)`` float.
        grid_affine: grid index to mm, ``(D + 1, D + 1)``.
        file_affine: file index to mm, of the same shape.
        shape: voxels per axis of the file.

    Returns:
        ``shape`` float32.
    """
    source = MetaTensor(
        torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))[None], affine=torch.as_tensor(grid_affine)
    )
    resample = SpatialResample(mode="bilinear", padding_mode="zeros", align_corners=True, dtype=np.float64)
    found = np.empty(tuple(shape), dtype=np.float32)
    thickness = min(len(found), max(2, MAX_VOXELS // found[:1].size))  # of an axis of one voxel MONAI knows no spacing
    for first in range(0, len(found), thickness):
        start = min(first, len(found) - thickness)
        slab, there = found[start : start + thickness], np.array(file_affine, dtype=np.float64)
        there[:, -1] += start * there[:, 0]  # of the slab's first voxel
        slab[:] = resample(source, dst_affine=torch.as_tensor(there), spatial_size=slab.shape).numpy()[0]
    return found
