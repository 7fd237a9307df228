"""A score network of label maps with a bottleneck: a few numbers must describe the whole shape."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from monai.networks.layers.factories import Conv
from torch import Tensor, nn

from gnsm_monai.networks.evidence import centred, evidence_scale, log_prior, surprise
from gnsm_monai.networks.layers import FiLM, LevelEmbedding, groups_of
from gnsm_monai.noise import NoiseSchedule

__all__ = ["BottleneckNetwork"]

MAX_CELLS = 512
"""Most cells of the coarsest grid."""

MAX_VALUES = 16_384
"""Classes times cells of the grid before the coarsest one, which bounds the number of weights."""


class BottleneckNetwork(nn.Module):
    """From a noisy relaxed label map to the posterior of its labels, as far as ``latents`` numbers can tell it.

    A U-Net hands on, by its skip connections, what its neighbourhoods say: however strong the noise, a smooth mask of
    an impossible shape explains much of itself. A network with a bottleneck cannot do that: only shapes that were
    learned come out. The reader is linear up to its one hidden layer, over what the two coarsest grids say in units of
    the noise; the writer is that of a convolutional auto-encoder.

    Args:
        schedule: the noise; few levels and weak ones, as a strong one teaches the average.
        num_classes: classes ``K``, background included.
        spatial_size: voxels, or cells of some voxels, per axis of the usual field of view, two or three axes. What a
            map has outside says nothing, and gets the prior at the edge.
        strides: steps to coarser grids, one number per axis each, or none; as many as needed are added.
        latents: width of the bottleneck.
        hidden: width of the reader.
        width: channels of the coarsest grid.

    Shapes: x ``(B, K, *spatial)``, level ``(B,)`` -> logits of the label's posterior ``(B, K, *spatial)``.
    """

    def __init__(
        self,
        schedule: NoiseSchedule,
        num_classes: int,
        spatial_size: Sequence[int],
        strides: Sequence[Sequence[int]],
        latents: int = 64,
        hidden: int = 256,
        width: int = 64,
    ) -> None:
        super().__init__()
        self.schedule, self.num_classes = schedule, num_classes
        self.spatial_size, self.strides = list(spatial_size), [list(step) for step in strides]
        dims = len(self.spatial_size)
        self.steps = _steps(num_classes, self.spatial_size, self.strides)
        coarse = _grids(self.spatial_size, self.steps)[-1]
        self.cells = coarse
        """Cells of the coarsest grid, per axis."""
        self.grid = [n * math.prod(step[a] for step in self.steps) for a, n in enumerate(coarse)]
        fine = [n * s for n, s in zip(coarse, self.steps[-1], strict=True)]
        _, deviation = evidence_scale(schedule, num_classes)
        self.register_buffer("evidence_deviation", deviation, persistent=False)
        self.log_prior: Tensor
        self.register_buffer("log_prior", torch.zeros(num_classes, *self.spatial_size))

        embedding = 64
        self.embedding = LevelEmbedding(schedule.num_levels, embedding)
        self.read = nn.ModuleList(nn.Linear(num_classes * math.prod(grid), hidden) for grid in (fine, coarse))
        self.read_film = FiLM(embedding, hidden)
        self.latent = nn.Linear(hidden, latents)
        self.latent_film = FiLM(embedding, latents)
        self.write = nn.Linear(latents, width * math.prod(coarse))
        channels = [max(min(16, width), width >> n) for n in range(len(self.steps))] + [num_classes]
        conv, transposed = Conv[Conv.CONV, dims], Conv[Conv.CONVTRANS, dims]
        layers: list[nn.Module] = []
        for step, (coarser, finer) in zip(reversed(self.steps), itertools.pairwise(channels), strict=True):
            layers += [conv(coarser, coarser, 3, padding=1), nn.GroupNorm(groups_of(coarser), coarser), nn.SiLU()]
            layers += [transposed(coarser, finer, kernel_size=step, stride=step)]
        self.writer = nn.Sequential(*layers)
        for parameter in self.writer[-1].parameters():  # training starts at the prior
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor, level: Tensor) -> Tensor:
        evidence, prior = self.schedule.log_likelihood(x, level), self.log_prior[None]
        evidence, size = centred(evidence, self.spatial_size), x.shape[2:]
        said = centred(surprise(evidence, prior, self.evidence_deviation[level]), self.grid)  # type: ignore[index]
        embedding = self.embedding(level)
        pooled = self._pooled(said)
        hidden = sum(read(mean.flatten(1)) for read, mean in zip(self.read, pooled, strict=True))
        latent = self.latent_film(self.latent(F.silu(self.read_film(hidden, embedding))), embedding)
        logits = self.writer(self.write(latent).reshape(len(x), -1, *self.cells))
        return centred(centred(logits, self.spatial_size) + prior, size, edge=True)

    def set_prior(self, frequencies: Tensor) -> None:
        """Sets :attr:`log_prior` from how often each voxel has each class, ``(K, *spatial_size)``; 0 is allowed."""
        self.log_prior.copy_(log_prior(frequencies))

    def _pooled(self, said: Tensor) -> list[Tensor]:
        """Means over the cells of the two coarsest grids, in units of the noise that is left in them."""
        pool = F.avg_pool2d if said.ndim == 4 else F.avg_pool3d
        pooled = []
        for step in self.steps:
            said = pool(said, tuple(step)) * math.sqrt(math.prod(step))
            pooled.append(said)
        return pooled[-2:]


def _steps(num_classes: int, size: Sequence[int], strides: Sequence[Sequence[int]]) -> list[list[int]]:
    """The strides, two at least, and further ones by 2 until the grids are coarse enough."""
    steps = [list(step) for step in strides]
    while True:
        *_, coarse = grids = _grids(size, steps)
        small = math.prod(coarse) <= MAX_CELLS and num_classes * math.prod(grids[-2:][0]) <= MAX_VALUES
        if len(steps) > 1 and (small or max(coarse) == 1):
            return steps
        steps.append([2 if n > 1 else 1 for n in coarse])


def _grids(size: Sequence[int], steps: Sequence[Sequence[int]]) -> list[list[int]]:
    """Cells per axis: the voxels', and after each step."""
    grids = [list(size)]
    for step in steps:
        grids.append([-(-n // s) for n, s in zip(grids[-1], step, strict=True)])
    return grids
