"""Building blocks of the score network of label maps, and the choice of its strides."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from monai.networks.layers.factories import Conv
from torch import Tensor, nn

from gnsm_monai.networks.embedding import FiLM

__all__ = ["ResidualBlock", "groups_of", "plan_strides"]


def plan_strides(spatial_size: Sequence[int], spacing: Sequence[float], num_steps: int) -> list[list[int]]:
    """Stride per downsampling step and axis that brings anisotropic voxels towards cubes.

    An axis is halved while it keeps at least 4 voxels and its spacing is below twice the finest one among the axes
    that do (the rule of nnU-Net's planner).

    Args:
        spatial_size: voxels per axis.
        spacing: mm per axis.
        num_steps: number of downsampling steps.

    Returns:
        ``num_steps`` lists of 1 or 2 per axis.
    """
    size, mm = list(spatial_size), list(spacing)
    strides = []
    for _ in range(num_steps):
        # An axis too short to halve keeps its spacing, and must not hold the others back.
        finest = min((s for n, s in zip(size, mm, strict=True) if n >= 8), default=0.0)
        step = [2 if n >= 8 and s < 2 * finest else 1 for n, s in zip(size, mm, strict=True)]
        size = [-(-n // f) for n, f in zip(size, step, strict=True)]
        mm = [s * f for s, f in zip(mm, step, strict=True)]
        strides.append(step)
    return strides


class ResidualBlock(nn.Module):
    """GroupNorm, SiLU, convolution, twice, with FiLM by the noise level between them and a skip around them."""

    def __init__(self, spatial_dims: int, in_channels: int, out_channels: int, embedding_channels: int) -> None:
        super().__init__()
        conv = Conv[Conv.CONV, spatial_dims]
        self.norm1 = nn.GroupNorm(groups_of(in_channels), in_channels)
        self.conv1 = conv(in_channels, out_channels, kernel_size=3, padding=1)
        self.norm2 = nn.GroupNorm(groups_of(out_channels), out_channels)
        self.film = FiLM(embedding_channels, out_channels)
        self.conv2 = conv(out_channels, out_channels, kernel_size=3, padding=1)
        self.skip = nn.Identity() if in_channels == out_channels else conv(in_channels, out_channels, kernel_size=1)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        h = self.conv2(F.silu(self.film(self.norm2(h), embedding)))
        out: Tensor = self.skip(x) + h
        return out


def groups_of(channels: int) -> int:
    """Eight groups, or as many as divide the channels, of two or more each: one voxel can still be normalised."""
    return next((g for g in (8, 4, 2) if channels % g == 0 and channels >= 2 * g), 1)
