"""The score network of label maps: one noise-conditioned U-Net for two and three axes."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from monai.networks.layers.factories import Conv
from torch import Tensor, nn

from gnsm_monai.networks.evidence import centred, evidence_scale, log_prior, surprise
from gnsm_monai.networks.layers import LevelEmbedding, ResidualBlock, groups_of, padded
from gnsm_monai.networks.precision import in_precision
from gnsm_monai.networks.scripted import TracedNetwork
from gnsm_monai.networks.separable import upsample
from gnsm_monai.noise import NoiseSchedule, build_schedule
from gnsm_monai.noise.gumbel import CLASS_DIM, expand_like

__all__ = ["ScoreUNet"]

LAYERS = {"stem", "inject", "encoder", "down", "middle", "up", "decoder", "head"}


class ScoreUNet(nn.Module):
    """Residual U-Net from a noisy relaxed label map and its noise level to ``K`` logits per voxel.

    What the logits mean is the parametrisation's business (:mod:`gnsm_monai.networks.parametrisation`).

    Under strong noise one voxel says almost nothing, but a neighbourhood of voxels says much. So the network is shown,
    at each of its resolutions, the mean of what the voxels say over as many voxels as one of its own covers, in units
    of the noise of that mean; and what a neighbourhood says is also added to the logits directly, by an amount that is
    learnt for each level. Without these two the loss stays at that of independent voxels for hundreds of steps.

    Args:
        spatial_dims: 2 or 3.
        num_classes: classes ``K``, background included.
        image_channels: channels of the image that the label map belongs to; 0 for label maps alone.
        noise: schedule, or what :func:`gnsm_monai.noise.build_schedule` makes one from.
        channels: features per resolution, finest first.
        strides: stride before each resolution, a number or one per axis; ``len(channels)`` of them, 2 by default. The
            first leads from the voxels to the finest features.
        position_size: voxels per axis of the usual field of view. The network is then told where a voxel lies: by
            coordinates from its centre in units of its half-width, and by :attr:`log_prior`. ``None`` leaves positions
            out.
        posterior: the logits are those of the label's posterior, and the layers' output is added to the exact posterior
            of voxels that know nothing of each other, ``log prior + log p(x_v | c)``. What is left to learn is context:
            training starts at the voxelwise prior instead of at nothing.

    Shapes: x ``(B, K, *spatial)``, level ``(B,)`` (by default the weakest, 0), image ``(B, image_channels, *spatial)``
    or further channels of x -> ``(B, K, *spatial)``, for any spatial size: what the strides don't divide is padded and
    cropped inside.

    Raises:
        ValueError: strides that don't fit the channels or axes, or an image given or missing against the setting.
    """

    def __init__(
        self,
        spatial_dims: int,
        num_classes: int,
        image_channels: int = 0,
        noise: str | Mapping[str, Any] | NoiseSchedule = "mixing",
        channels: Sequence[int] = (16, 64, 96),
        strides: Sequence[int | Sequence[int]] | None = None,
        position_size: Sequence[int] | None = None,
        posterior: bool = True,
    ) -> None:
        super().__init__()
        steps = [2] * len(channels) if strides is None else list(strides)
        self.strides = [(s,) * spatial_dims if isinstance(s, int) else tuple(s) for s in steps]
        if len(self.strides) != len(channels) or any(len(s) != spatial_dims for s in self.strides):
            raise ValueError(f"{len(channels)} channels and {spatial_dims} axes do not fit the strides {steps}")
        if position_size is not None and len(position_size) != spatial_dims:
            raise ValueError(f"position_size {tuple(position_size)} needs {spatial_dims} axes")
        self.spatial_dims, self.num_classes, self.image_channels = spatial_dims, num_classes, image_channels
        self.posterior = posterior
        self.schedule = build_schedule(noise)
        self.position_size = None if position_size is None else tuple(position_size)
        self.settings = {
            "spatial_dims": spatial_dims,
            "num_classes": num_classes,
            "image_channels": image_channels,
            "noise": self.schedule.to_dict(),
            "channels": list(channels),
            "strides": [list(stride) for stride in self.strides],
            "position_size": None if position_size is None else list(position_size),
            "posterior": posterior,
        }
        """Plain values that make an equal network, for a model's settings.json."""
        self.compute_dtype: torch.dtype | None = None
        """What the layers compute in, by default as their parameters; evidence, prior and sums stay as they are."""

        mean, deviation = evidence_scale(self.schedule, num_classes)
        self.register_buffer("evidence_mean", mean, persistent=False)
        self.register_buffer("evidence_deviation", deviation, persistent=False)
        # Flat until set_prior: every class is as probable as any other, everywhere.
        self.log_prior: Tensor
        self.register_buffer("log_prior", torch.zeros(num_classes, *(position_size or [1] * spatial_dims)))

        self._build(list(channels))

    def _build(self, channels: Sequence[int]) -> None:
        """The layers, from the plain settings."""
        spatial_dims, num_classes, coordinates = self.spatial_dims, self.num_classes, self.position_size is not None
        conv = Conv[Conv.CONV, spatial_dims]
        width = 4 * max(channels[0], 16)
        self.embedding, self.gate = LevelEmbedding(self.schedule.num_levels, width), nn.Linear(width, len(channels))
        context = 2 * num_classes + self.image_channels + (num_classes if coordinates else 0)
        in_channels = context + (spatial_dims if coordinates else 0)
        first = self.strides[0]
        self.stem = conv(in_channels, channels[0], kernel_size=[3 * s for s in first], padding=first, stride=first)
        self.inject = nn.ModuleList(conv(context, c, kernel_size=1) for c in channels)
        self.encoder = nn.ModuleList(ResidualBlock(spatial_dims, c, c, width) for c in channels)
        pairs = list(itertools.pairwise(channels))
        self.down = nn.ModuleList(
            conv(fine, coarse, kernel_size=3, padding=1, stride=stride)
            for (fine, coarse), stride in zip(pairs, self.strides[1:], strict=True)
        )
        self.middle = ResidualBlock(spatial_dims, channels[-1], channels[-1], width)
        self.up = nn.ModuleList(conv(coarse, fine, kernel_size=1) for fine, coarse in pairs)
        self.decoder = nn.ModuleList(ResidualBlock(spatial_dims, 2 * fine, fine, width) for fine, _ in pairs)
        self.head = nn.Sequential(
            nn.GroupNorm(groups_of(channels[0]), channels[0]),
            nn.SiLU(),
            Conv[Conv.CONVTRANS, spatial_dims](channels[0], num_classes, kernel_size=first, stride=first),
        )
        # Nothing is added at the start: the loss begins at that of the posterior of independent voxels.
        for last in (self.head[-1], self.gate):
            nn.init.zeros_(last.weight)  # type: ignore[arg-type]
            nn.init.zeros_(last.bias)  # type: ignore[arg-type]
        self.memory_format = torch.channels_last if spatial_dims == 2 else torch.channels_last_3d
        for module in self.modules():
            if isinstance(module, (nn.Conv2d, nn.Conv3d)):  # 1.3 to 2 times as fast on a CPU
                module.weight.data = module.weight.data.contiguous(memory_format=self.memory_format)

    def forward(self, x: Tensor, level: Tensor | None = None, image: Tensor | None = None) -> Tensor:
        if level is None:  # MONAI's tools for bundles give a network one input
            level = torch.zeros(x.shape[0], dtype=torch.long, device=x.device)
        x, image = self._inputs(x, image)
        evidence, prior = self.schedule.log_likelihood(x, level), self._prior(x)
        context = [self._standardise(evidence, level), surprise(evidence, prior, self.evidence_deviation[level])]  # type: ignore[index]
        if image is not None:
            context.append(image.to(x.dtype))
        if self.position_size is not None:
            context.append(prior.expand_as(x) / 3)
        seen, crop = padded(torch.cat(context, dim=CLASS_DIM), self.strides)
        where = [] if self.position_size is None else [padded(self._coordinates(x), self.strides)[0]]

        # GroupNorm divides by the spread of a sample's features. Without an offset that would be the noise's alone, and
        # the noise-free centre of a level, a weak and clean pattern, would reach the network magnified.
        offset, rest = seen[:, : self.num_classes] + 0.5, seen[:, self.num_classes :]
        inputs = torch.cat([offset, rest, *where], dim=CLASS_DIM)
        pooled, embedding = self._pooled(seen), self.embedding(level)
        layers = self._layers
        if self.compute_dtype is not None:
            layers = partial(in_precision, self.compute_dtype, self, LAYERS, layers)
        logits = layers(inputs, embedding, *pooled) + self._neighbourhood(pooled, embedding, seen.shape[2:])
        logits = logits[crop]
        return logits + evidence + prior if self.posterior else logits

    def _layers(self, inputs: Tensor, embedding: Tensor, *pooled: Tensor) -> Tensor:
        """What the layers add to the logits; everything here is in one precision."""
        h = self.stem(inputs.contiguous(memory_format=self.memory_format))
        skips: list[Tensor] = []
        for i, block in enumerate(self.encoder):
            h = h if i == 0 else self.down[i - 1](h)
            h = block(h + self.inject[i](pooled[i]), embedding)
            skips.append(h)
        h = self.middle(skips.pop(), embedding)
        for up, block in zip(reversed(self.up), reversed(self.decoder), strict=True):
            skip = skips.pop()
            h = F.interpolate(up(h), size=skip.shape[2:], mode="nearest")
            h = block(torch.cat([h, skip], dim=CLASS_DIM), embedding)
        logits: Tensor = self.head(h)
        return logits

    def __prepare_scriptable__(self) -> TracedNetwork:
        """What ``torch.jit.script`` compiles: the trace on a map of ``position_size`` (16 voxels per axis without)."""
        x = torch.zeros(1, self.num_classes + self.image_channels, *(self.position_size or (16,) * self.spatial_dims))
        return TracedNetwork(self, x, torch.zeros(1, dtype=torch.long))

    def _inputs(self, x: Tensor, image: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Label map and image, given apart or as channels of one tensor, as MONAI's tools for bundles give them."""
        if image is None and x.shape[CLASS_DIM] == self.num_classes + self.image_channels > self.num_classes:
            x, image = x.split([self.num_classes, self.image_channels], dim=CLASS_DIM)
        if (image is not None) != bool(self.image_channels):
            raise ValueError(f"the network has {self.image_channels} image channels, image given: {image is not None}")
        return x, image

    def _pooled(self, seen: Tensor) -> list[Tensor]:
        """Means of ``(B, F, *spatial)`` over the voxels of each resolution; those of noise in units of its spread."""
        noisy = 2 * self.num_classes
        pool = F.avg_pool2d if self.spatial_dims == 2 else F.avg_pool3d
        pooled, mean, count = [], seen, 1
        for stride in self.strides:
            mean, count = pool(mean, stride), count * math.prod(stride)
            parts = [mean[:, :noisy] * math.sqrt(count), mean[:, noisy:]]
            pooled.append(torch.cat(parts, dim=CLASS_DIM).contiguous(memory_format=self.memory_format))
        return pooled

    def _neighbourhood(self, pooled: Sequence[Tensor], embedding: Tensor, size: Sequence[int]) -> Tensor:
        """The evidence of neighbourhoods, to be added to the logits; each resolution has its own learned share."""
        said = [p[:, self.num_classes : 2 * self.num_classes] for p in pooled]
        total: Tensor = sum(  # type: ignore[assignment]
            expand_like(share, part) * upsample(part, size)
            for share, part in zip(self.gate(embedding).T, said, strict=True)
        )
        return total

    def independent_logits(self, x: Tensor, level: Tensor) -> Tensor:
        """Posterior logits of voxels that know nothing of each other: prior and the voxel's own noisy value alone."""
        return self.schedule.log_likelihood(x, level) + self._prior(x)

    def set_prior(self, frequencies: Tensor) -> None:
        """Sets :attr:`log_prior` from how often each voxel of the usual field of view has each class.

        Args:
            frequencies: ``(K, *position_size)``, summing to 1 over the classes; 0 is allowed.
        """
        if frequencies.shape != self.log_prior.shape:
            raise ValueError(f"frequencies of shape {tuple(self.log_prior.shape)} are needed")
        self.log_prior.copy_(log_prior(frequencies))

    def _prior(self, x: Tensor) -> Tensor:
        """:attr:`log_prior` centred on the field of view of ``x``, its edge repeated outside, ``(1, K, *spatial)``."""
        return centred(self.log_prior[None].to(x.dtype), x.shape[2:], edge=True)

    def _standardise(self, evidence: Tensor, level: Tensor) -> Tensor:
        """Log-likelihoods at a scale that all levels share."""
        mean, deviation = (
            expand_like(values[level], evidence)  # type: ignore[index]
            for values in (self.evidence_mean, self.evidence_deviation)
        )
        return (evidence - mean) / (2 * deviation)

    def _coordinates(self, x: Tensor) -> Tensor:
        """Coordinates from the centre of the field of view, ``(B, axes, *spatial)``; -1 … 1 inside position_size."""
        assert self.position_size is not None
        axes = [
            (torch.arange(n, device=x.device, dtype=x.dtype) - (n - 1) / 2) / (usual / 2)
            for n, usual in zip(x.shape[2:], self.position_size, strict=True)
        ]
        return torch.stack(torch.meshgrid(*axes, indexing="ij")).expand(x.shape[0], *[-1] * (x.ndim - 1))
