"""Building blocks of the score networks, which are told the noise level, and the choice of strides."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from monai.networks.layers.factories import Conv
from torch import Tensor, nn

__all__ = ["FiLM", "LevelEmbedding", "ResidualBlock", "groups_of", "padded", "plan_strides"]


class LevelEmbedding(nn.Module):
    """Sinusoidal features of the noise level, mixed by a small MLP.

    Args:
        num_levels: number of noise levels ``L``.
        channels: size of the embedding, even.

    Shapes: level ``(B,)`` integer in ``[0, L)`` -> ``(B, channels)``.
    """

    def __init__(self, num_levels: int, channels: int) -> None:
        super().__init__()
        # Half a turn at the lowest frequency over all levels, so that no two levels share their features.
        frequencies = math.pi / max(num_levels, 2) * 2.0 ** torch.arange(channels // 2).clamp_max(6)
        phases = torch.arange(num_levels)[:, None] * frequencies
        self.register_buffer("features", torch.cat([phases.sin(), phases.cos()], dim=1), persistent=False)
        self.mlp = nn.Sequential(nn.Linear(channels, channels), nn.SiLU(), nn.Linear(channels, channels), nn.SiLU())

    def forward(self, level: Tensor) -> Tensor:
        out: Tensor = self.mlp(self.features[level])  # type: ignore[index]
        return out


class FiLM(nn.Module):
    """Feature-wise scale and shift of ``(B, C, *spatial)`` by an embedding ``(B, E)`` (Perez et al., arXiv 1709.07871).

    One embedding ``(1, E)`` serves all of a batch. It starts as the identity: a fresh network treats all levels alike.
    """

    def __init__(self, embedding_channels: int, channels: int) -> None:
        super().__init__()
        self.project = nn.Linear(embedding_channels, 2 * channels)
        nn.init.zeros_(self.project.weight)
        nn.init.zeros_(self.project.bias)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        scale, shift = self.project(embedding).reshape(embedding.shape[0], -1, *[1] * (x.ndim - 2)).chunk(2, dim=1)
        return torch.addcmul(x + shift, x, scale)


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


def padded(inputs: Tensor, strides: Sequence[Sequence[int]]) -> tuple[Tensor, tuple[slice, ...]]:
    """Zero padding, even on both sides, to a size that the strides divide, and the slices that undo it."""
    padding: list[int] = []
    crop = [slice(None), slice(None)]
    for axis, n in enumerate(inputs.shape[2:]):
        missing = -n % math.prod(stride[axis] for stride in strides)
        padding = [missing // 2, missing - missing // 2, *padding]  # torch lists the last axis first
        crop.append(slice(missing // 2, missing // 2 + n))
    return F.pad(inputs, padding) if any(padding) else inputs, tuple(crop)


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
