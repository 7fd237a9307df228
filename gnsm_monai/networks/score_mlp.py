"""The score network of tables: one noise-conditioned residual MLP over categorical features of any cardinality."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gnsm_monai.networks.evidence import evidence_scale
from gnsm_monai.networks.layers import FiLM, LevelEmbedding
from gnsm_monai.noise import FeatureBlocks, NoiseSchedule, build_schedule
from gnsm_monai.noise.gumbel import expand_like

__all__ = ["ScoreMLP"]


class ResidualLayers(nn.Module):
    """LayerNorm, SiLU, linear, twice, with FiLM by the noise level between them and a skip around them."""

    def __init__(self, width: int, embedding_channels: int, dropout: float) -> None:
        super().__init__()
        self.norm1, self.linear1 = nn.LayerNorm(width), nn.Linear(width, width)
        self.norm2, self.linear2 = nn.LayerNorm(width), nn.Linear(width, width)
        self.film, self.dropout = FiLM(embedding_channels, width), nn.Dropout(dropout)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        h = self.linear1(F.silu(self.norm1(x)))
        h = self.linear2(self.dropout(F.silu(self.film(self.norm2(h), embedding))))
        out: Tensor = x + h
        return out


class ScoreMLP(nn.Module):
    """Residual MLP from noisy relaxed rows and their noise level to ``K_f`` logits per feature.

    What the logits mean is the parametrisation's business (:mod:`gnsm_monai.networks.parametrisation`).

    Args:
        cardinalities: categories per feature, ``K_f >= 2``.
        noise: schedule, or what :func:`gnsm_monai.noise.build_schedule` makes one from.
        width: units per layer.
        depth: residual blocks, of two layers each.
        dropout: share of units left out in training, in ``[0, 1)``.
        posterior: the logits are those of the category's posterior, and the layers' output is added to the exact
            posterior of features that know nothing of each other, ``log prior + log p(x_f | c)``, as in
            :class:`gnsm_monai.networks.ScoreUNet`. What is left to learn is how features depend on each other.

    Shapes: x ``(B, D)``, the flat form of :class:`gnsm_monai.noise.FeatureBlocks`, and level ``(B,)`` -> ``(B, D)``.
    """

    def __init__(
        self,
        cardinalities: Sequence[int],
        noise: str | Mapping[str, Any] | NoiseSchedule = "mixing",
        width: int = 256,
        depth: int = 3,
        dropout: float = 0.0,
        posterior: bool = True,
    ) -> None:
        super().__init__()
        self.blocks, self.schedule, self.posterior = FeatureBlocks(cardinalities), build_schedule(noise), posterior
        self.settings = {
            "cardinalities": list(self.blocks.cardinalities),
            "noise": self.schedule.to_dict(),
            "width": width,
            "depth": depth,
            "dropout": dropout,
            "posterior": posterior,
        }
        """Plain values that make an equal network, for a model's settings.json."""

        scales = [evidence_scale(self.schedule, k) for k, _ in self.blocks.blocks]
        self.register_buffer("evidence_mean", torch.stack([mean for mean, _ in scales], 1), persistent=False)
        self.register_buffer("evidence_deviation", torch.stack([sd for _, sd in scales], 1), persistent=False)
        # Flat until set_prior: every category is as probable as any other.
        self.log_prior: Tensor
        self.register_buffer("log_prior", torch.zeros(self.blocks.size))

        channels = max(32, width // 4)
        self.embedding = LevelEmbedding(self.schedule.num_levels, channels)
        self.stem = nn.Linear(self.blocks.size, width)
        self.layers = nn.ModuleList(ResidualLayers(width, channels, dropout) for _ in range(depth))
        self.head = nn.Sequential(nn.LayerNorm(width), nn.SiLU(), nn.Linear(width, self.blocks.size))
        # Nothing is added at the start: the loss begins at that of the posterior of independent features.
        nn.init.zeros_(self.head[-1].weight)  # type: ignore[arg-type]
        nn.init.zeros_(self.head[-1].bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor, level: Tensor) -> Tensor:
        evidence = [self.schedule.log_likelihood(block, level) for block in self.blocks.split(x)]
        embedding = self.embedding(level)
        h = self.stem(self.blocks.join([self.standardise(e, level, i) for i, e in enumerate(evidence)]))
        for layers in self.layers:
            h = layers(h, embedding)
        logits: Tensor = self.head(h)
        return logits + self.blocks.join(evidence) + self.log_prior if self.posterior else logits

    def independent_logits(self, x: Tensor, level: Tensor) -> Tensor:
        """Posterior logits of features that know nothing of each other: prior and the own noisy value alone."""
        evidence = [self.schedule.log_likelihood(block, level) for block in self.blocks.split(x)]
        return self.blocks.join(evidence) + self.log_prior

    def set_prior(self, frequencies: Tensor) -> None:
        """Sets :attr:`log_prior` from frequencies ``(D,)``, flat, positive, summing to 1 over each feature."""
        if frequencies.shape != self.log_prior.shape or not bool((frequencies > 0).all()):
            raise ValueError(f"positive frequencies of shape {tuple(self.log_prior.shape)} are needed")
        self.log_prior.copy_(frequencies.log())

    def standardise(self, evidence: Tensor, level: Tensor, block: int) -> Tensor:
        """Log-likelihoods at a scale that all levels and cardinalities share; see :class:`ScoreUNet` for the offset."""
        mean, deviation = (
            expand_like(values[level, block], evidence)  # type: ignore[index]
            for values in (self.evidence_mean, self.evidence_deviation)
        )
        return (evidence - mean) / (2 * deviation) + 0.5
