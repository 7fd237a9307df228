"""How a network is told the noise level."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

__all__ = ["FiLM", "LevelEmbedding"]


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
