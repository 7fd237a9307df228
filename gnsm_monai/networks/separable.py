"""Interpolation, smoothing and dilation of maps, one axis at a time.

They give what torch's and MONAI's kernels for whole neighbourhoods give, to rounding, in a small part of their time on
a CPU (``scripts/benchmarks/time_shares.py`` prints both).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from monai.networks.layers import gaussian_1d
from torch import Tensor

__all__ = ["dilate", "smooth", "upsample"]


def upsample(maps: Tensor, size: Sequence[int]) -> Tensor:
    """``(B, C, *spatial)`` to ``(B, C, *size)``: bi- or trilinear ``F.interpolate``."""
    matrices: list[Tensor | None] = []
    for n, new in zip(maps.shape[2:], size, strict=True):
        unit = torch.eye(n, dtype=maps.dtype, device=maps.device)
        matrices.append(None if n == new else F.interpolate(unit[None], size=new, mode="linear")[0].T)
    return _along_axes(maps, matrices)


def smooth(maps: Tensor, sigma: float) -> Tensor:
    """``(B, C, *spatial)`` blurred by ``sigma`` voxels, zeros outside: MONAI's ``GaussianFilter``."""
    kernel = gaussian_1d(torch.tensor(float(sigma))).to(maps)
    reach = len(kernel) // 2
    matrices: list[Tensor | None] = []
    for n in maps.shape[2:]:
        place = torch.arange(n, device=maps.device)
        offset = place - place[:, None]
        weight = kernel[(offset + reach).clamp(0, 2 * reach)]
        matrices.append(torch.where(offset.abs() <= reach, weight, weight.new_zeros(())))
    return _along_axes(maps, matrices)


def dilate(maps: Tensor, radius: Sequence[int]) -> Tensor:
    """Greatest value within ``radius`` voxels per axis, ``(B, C, *spatial)``: ``F.max_pool3d`` at stride 1."""
    for axis, reach in zip(range(2, maps.ndim), radius, strict=True):
        done, n = 0, maps.shape[axis]
        while done < min(reach, n - 1):  # k voxels reach 2 k + 1 by a shift of k + 1; a larger one leaves gaps
            step = min(done + 1, min(reach, n - 1) - done)
            wider = maps.clone()
            lower, upper = wider.narrow(axis, 0, n - step), wider.narrow(axis, step, n - step)
            torch.maximum(lower, maps.narrow(axis, step, n - step), out=lower)
            torch.maximum(upper, maps.narrow(axis, 0, n - step), out=upper)
            maps, done = wider, done + step
    return maps


def _along_axes(maps: Tensor, matrices: Sequence[Tensor | None]) -> Tensor:
    """Applies ``(new, old)`` matrices to the spatial axes of ``(B, C, *spatial)``, in the maps' own precision."""
    size = list(maps.shape)
    with torch.autocast(maps.device.type, enabled=False):
        for axis in reversed(range(2, maps.ndim)):
            matrix = matrices[axis - 2]
            if matrix is None:
                continue
            lines = maps.reshape(math.prod(size[:axis]), size[axis], -1)
            size[axis] = len(matrix)
            maps = (lines[..., 0] @ matrix.T if axis == maps.ndim - 1 else torch.matmul(matrix, lines)).reshape(size)
    return maps
