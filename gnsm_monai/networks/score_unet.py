"""The score network of label maps: one noise-conditioned U-Net for two and three axes."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from monai.networks.layers.factories import Conv
from torch import Tensor, nn

from gnsm_monai.networks.embedding import FiLM, LevelEmbedding
from gnsm_monai.noise import NoiseSchedule, build_schedule
from gnsm_monai.noise.gumbel import CLASS_DIM, expand_like

__all__ = ["ScoreUNet", "plan_strides"]


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
        self.norm1 = nn.GroupNorm(_groups(in_channels), in_channels)
        self.conv1 = conv(in_channels, out_channels, kernel_size=3, padding=1)
        self.norm2 = nn.GroupNorm(_groups(out_channels), out_channels)
        self.film = FiLM(embedding_channels, out_channels)
        self.conv2 = conv(out_channels, out_channels, kernel_size=3, padding=1)
        self.skip = nn.Identity() if in_channels == out_channels else conv(in_channels, out_channels, kernel_size=1)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        h = self.conv2(F.silu(self.film(self.norm2(h), embedding)))
        out: Tensor = self.skip(x) + h
        return out


class ScoreUNet(nn.Module):
    """Residual U-Net from a noisy relaxed label map and its noise level to ``K`` logits per voxel.

    What the logits mean is the parametrisation's business (:mod:`gnsm_monai.networks.parametrisation`).

    Args:
        spatial_dims: 2 or 3.
        num_classes: classes ``K``, background included.
        image_channels: channels of the image that the label map belongs to; 0 for label maps alone.
        noise: schedule, or what :func:`gnsm_monai.noise.build_schedule` makes one from.
        channels: features per resolution, finest first.
        strides: stride per downsampling step, a number or one per axis; ``len(channels) - 1`` of them, 2 by default.
        position_size: voxels per axis of the usual field of view. The network is then told where a voxel lies: by
            coordinates from its centre in units of its half-width, and by :attr:`log_prior`. ``None`` leaves positions
            out.
        posterior: the logits are those of the label's posterior, and the layers' output is added to the exact posterior
            of voxels that know nothing of each other, ``log prior + log p(x_v | c)``. What is left to learn is context:
            training starts at the voxelwise prior instead of at nothing.

    Shapes: x ``(B, K, *spatial)``, level ``(B,)``, image ``(B, image_channels, *spatial)`` -> ``(B, K, *spatial)``,
    for any spatial size: what the strides don't divide is padded and cropped inside.

    Raises:
        ValueError: strides that don't fit the channels or axes, or an image given or missing against the setting.
    """

    def __init__(
        self,
        spatial_dims: int,
        num_classes: int,
        image_channels: int = 0,
        noise: str | Mapping[str, Any] | NoiseSchedule = "mixing",
        channels: Sequence[int] = (16, 32, 64, 64),
        strides: Sequence[int | Sequence[int]] | None = None,
        position_size: Sequence[int] | None = None,
        posterior: bool = True,
    ) -> None:
        super().__init__()
        steps = [2] * (len(channels) - 1) if strides is None else list(strides)
        self.strides = [(s,) * spatial_dims if isinstance(s, int) else tuple(s) for s in steps]
        if len(self.strides) != len(channels) - 1 or any(len(s) != spatial_dims for s in self.strides):
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

        mean, deviation = self.schedule.log_likelihood_scale(num_classes)
        self.register_buffer("evidence_mean", mean, persistent=False)
        self.register_buffer("evidence_deviation", deviation, persistent=False)
        # Flat until set_prior: every class is as probable as any other, everywhere.
        self.log_prior: Tensor
        self.register_buffer("log_prior", torch.zeros(num_classes, *(position_size or [1] * spatial_dims)))

        conv = Conv[Conv.CONV, spatial_dims]
        width = 4 * channels[0]
        self.embedding = LevelEmbedding(self.schedule.num_levels, width)
        in_channels = num_classes + image_channels
        if position_size is not None:
            in_channels += num_classes + spatial_dims  # prior and coordinates
        self.stem = conv(in_channels, channels[0], kernel_size=3, padding=1)
        self.encoder = nn.ModuleList(ResidualBlock(spatial_dims, c, c, width) for c in channels)
        pairs = list(itertools.pairwise(channels))
        self.down = nn.ModuleList(
            conv(fine, coarse, kernel_size=3, padding=1, stride=stride)
            for (fine, coarse), stride in zip(pairs, self.strides, strict=True)
        )
        self.middle = ResidualBlock(spatial_dims, channels[-1], channels[-1], width)
        self.up = nn.ModuleList(conv(coarse, fine, kernel_size=1) for fine, coarse in pairs)
        self.decoder = nn.ModuleList(ResidualBlock(spatial_dims, 2 * fine, fine, width) for fine, _ in pairs)
        self.head = nn.Sequential(
            nn.GroupNorm(_groups(channels[0]), channels[0]), nn.SiLU(), conv(channels[0], num_classes, kernel_size=1)
        )
        # Nothing is added at the start: the loss begins at that of the posterior of independent voxels.
        nn.init.zeros_(self.head[-1].weight)  # type: ignore[arg-type]
        nn.init.zeros_(self.head[-1].bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor, level: Tensor, image: Tensor | None = None) -> Tensor:
        if (image is not None) != bool(self.image_channels):
            raise ValueError(f"the network has {self.image_channels} image channels, image given: {image is not None}")
        evidence, prior = self.schedule.log_likelihood(x, level), self._prior(x)
        features = [self._standardise(evidence, level)]
        if image is not None:
            features.append(image.to(x.dtype))
        if self.position_size is not None:
            features += [prior.expand_as(x) / 3, self._coordinates(x)]
        inputs, crop = self._pad(torch.cat(features, dim=CLASS_DIM))
        embedding = self.embedding(level)

        h = self.stem(inputs)
        skips = []
        for i, block in enumerate(self.encoder):
            h = block(h if i == 0 else self.down[i - 1](h), embedding)
            skips.append(h)
        h = self.middle(skips.pop(), embedding)
        for up, block in zip(reversed(self.up), reversed(self.decoder), strict=True):
            skip = skips.pop()
            h = F.interpolate(up(h), size=skip.shape[2:], mode="nearest")
            h = block(torch.cat([h, skip], dim=CLASS_DIM), embedding)
        logits: Tensor = self.head(h)[crop]
        return logits + evidence + prior if self.posterior else logits

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
        self.log_prior.copy_((0.999 * frequencies + 0.001 / self.num_classes).log())

    def _prior(self, x: Tensor) -> Tensor:
        """:attr:`log_prior` centred on the field of view of ``x``, its edge repeated outside, ``(1, K, *spatial)``."""
        prior: Tensor = self.log_prior[None].to(x.dtype)
        for axis, n in enumerate(x.shape[2:], start=2):
            usual = prior.shape[axis]
            index = torch.arange(n, device=x.device) - (n - usual) // 2
            prior = prior.index_select(axis, index.clamp(0, usual - 1))
        return prior

    def _standardise(self, evidence: Tensor, level: Tensor) -> Tensor:
        """Log-likelihoods at a scale that all levels share, plus an offset.

        GroupNorm divides by the spread of a sample's features. Without the offset that spread would be the noise's
        alone, and the noise-free centre of a level, a weak and clean pattern, would reach the network magnified.
        """
        mean, deviation = (
            expand_like(values[level], evidence)  # type: ignore[index]
            for values in (self.evidence_mean, self.evidence_deviation)
        )
        return (evidence - mean) / (2 * deviation) + 0.5

    def _coordinates(self, x: Tensor) -> Tensor:
        """Coordinates from the centre of the field of view, ``(B, axes, *spatial)``; -1 … 1 inside position_size."""
        assert self.position_size is not None
        axes = [
            (torch.arange(n, device=x.device, dtype=x.dtype) - (n - 1) / 2) / (usual / 2)
            for n, usual in zip(x.shape[2:], self.position_size, strict=True)
        ]
        return torch.stack(torch.meshgrid(*axes, indexing="ij")).expand(x.shape[0], *[-1] * (x.ndim - 1))

    def _pad(self, inputs: Tensor) -> tuple[Tensor, tuple[slice, ...]]:
        """Zero padding, even on both sides, to a size that the strides divide, and the slices that undo it."""
        padding: list[int] = []
        crop = [slice(None), slice(None)]
        for axis, n in enumerate(inputs.shape[2:]):
            factor = 1
            for stride in self.strides:
                factor *= stride[axis]
            missing = -n % factor
            padding = [missing // 2, missing - missing // 2, *padding]  # torch lists the last axis first
            crop.append(slice(missing // 2, missing // 2 + n))
        return F.pad(inputs, padding), tuple(crop)


def _groups(channels: int) -> int:
    """Eight groups, or as many as divide the channels, of two or more each: one voxel can still be normalised."""
    return next((g for g in (8, 4, 2) if channels % g == 0 and channels >= 2 * g), 1)
