"""Maps of the model's grid, brought back to the geometry of a file."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import SpatialResample

__all__ = ["to_file_geometry"]


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
    there = resample(source, dst_affine=torch.as_tensor(file_affine), spatial_size=list(shape))
    found: np.ndarray = there.numpy()[0].astype(np.float32)
    return found
