"""One label map with the random geometry that failures are made of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import scipy  # its parts are imported when they are first used

from gnsm_monai.data.compare import LabelMap

__all__ = ["LabelMap", "Mask", "Plan", "Scene", "smooth_field"]

Mask: TypeAlias = npt.NDArray[np.bool_]
Field: TypeAlias = npt.NDArray[np.float32]
Plan: TypeAlias = Callable[[float], LabelMap]
"""From an amount in [0, 1] to the label map damaged so far."""


def smooth_field(shape: Sequence[int], spacing: Sequence[float], length: float, rng: np.random.Generator) -> Field:
    """Smooth Gaussian random field of mean 0 and variance 1 at every voxel, float32 of shape `shape`.

    Args:
        shape: voxels per axis.
        spacing: voxel size per axis in mm.
        length: width of the bumps in mm (standard deviation of each).
        rng: source of the random numbers.
    """
    weights = []
    for size, step in zip(shape, spacing, strict=True):
        position = np.arange(size) * step
        centres = np.arange(-2 * length, position[-1] + 3 * length, length)
        bumps = np.exp(-0.5 * ((position[:, None] - centres) / length) ** 2)
        weights.append(bumps / np.linalg.norm(bumps, axis=1, keepdims=True))
    field = rng.standard_normal([w.shape[1] for w in weights])
    for axis, w in enumerate(weights):  # separable, hence fast for any length, unlike a wide Gaussian filter
        field = np.moveaxis(np.tensordot(w, field, axes=(1, axis)), 0, axis)
    return field.astype(np.float32)


class Scene:
    """One label map (ignore read as background) with the geometry that every kind needs; lengths in mm."""

    def __init__(self, label: LabelMap, num_classes: int, spacing: Sequence[float], rng: np.random.Generator) -> None:
        self.label, self.rng, self.num_classes = label, rng, num_classes
        self.spacing = np.asarray(spacing, dtype=float)
        self.foreground: Mask = label > 0
        self.structures = [int(c) for c in np.unique(label[self.foreground])]

    @cached_property
    def grid(self) -> list[Field]:
        extents = zip(self.label.shape, self.spacing, strict=True)
        axes = [np.arange(n, dtype=np.float32) * np.float32(step) for n, step in extents]
        return list(np.meshgrid(*axes, indexing="ij"))

    def radius(self, mask: Mask) -> float:
        """Half the side of the cube that is as large as the mask: its scale in mm, at least one voxel."""
        volume = max(int(np.count_nonzero(mask)), 1) * float(np.prod(self.spacing))
        return float(max(0.5 * volume ** (1 / mask.ndim), self.spacing.max()))

    def noise(self, length: float) -> Field:
        return smooth_field(self.label.shape, self.spacing.tolist(), length, self.rng)

    def pick(self, mask: Mask) -> tuple[int, ...]:
        """Index of a random voxel of the mask, which must not be empty."""
        return tuple(int(i) for i in np.unravel_index(self.rng.choice(np.flatnonzero(mask)), mask.shape))

    def spread(self, mask: Mask, count: int, candidates: int = 6) -> list[tuple[int, ...]]:
        """Random voxels of the mask that keep apart: each the farthest of some candidates from those before it."""
        seeds = [self.pick(mask)]
        while len(seeds) < count:
            drawn = [self.pick(mask) for _ in range(candidates)]
            gaps = np.linalg.norm((np.array(drawn)[:, None] - np.array(seeds)) * self.spacing, axis=-1)
            seeds.append(drawn[int(gaps.min(axis=1).argmax())])
        return seeds

    def per_seed(self, values: npt.NDArray[np.floating[Any]]) -> Field:
        """Values (S,) in the shape that broadcasts with `distances`."""
        return values.astype(np.float32).reshape(-1, *[1] * self.label.ndim)

    def distances(self, seeds: list[tuple[int, ...]], length: float) -> Field:
        """Distance of every voxel to each seed, (S, *spatial) in mm, in one smoothly bent space.

        The bend is mild enough to keep balls connected, so {distance < r} is a compact blob of irregular shape.
        """
        bent = [x + np.float32(0.25 * length) * self.noise(0.8 * length) for x in self.grid]
        return np.stack([np.sqrt(sum(((x - x[seed]) ** 2 for x in bent), np.float32(0))) for seed in seeds])

    def cut(self) -> Field:
        """Position along a random direction, or along the object's longest axis, with a wavy front."""
        direction = self.rng.standard_normal(self.label.ndim)
        lengthwise, sign = self.rng.random() < 0.5, self.rng.choice([-1.0, 1.0])
        if lengthwise:
            points = np.argwhere(self.foreground) * self.spacing
            direction = sign * np.linalg.svd(np.cov(points.T, ddof=0).reshape(self.label.ndim, -1))[0][:, 0]
        direction = direction / np.linalg.norm(direction)
        scale = self.radius(self.foreground)
        along = sum((np.float32(d) * x for d, x in zip(direction, self.grid, strict=True)), np.float32(0))
        return np.asarray(along + np.float32(0.3 * scale) * self.noise(scale), dtype=np.float32)

    def ranked(self, order: Field, *masks: Mask) -> Field:
        """Amount in (0, 1] at which each voxel is changed: mask after mask, inside a mask by `order`; else inf."""
        amount = np.full(self.label.shape, np.inf, dtype=np.float32)
        for i, mask in enumerate(masks):
            ranks = scipy.stats.rankdata(order[mask], method="max")
            amount[mask] = (i + ranks / max(ranks.size, 1)) / len(masks)
        return amount

    def one_or_all(self) -> list[Mask]:
        """Either the whole foreground at once, or its structures in a random order."""
        if self.rng.random() < 0.5:
            return [self.foreground]
        return [self.label == c for c in self.rng.permutation(self.structures)]

    def replacing(self, amounts: Field, replacement: LabelMap | int) -> Plan:
        return lambda amount: np.where(amounts <= amount, replacement, self.label).astype(self.label.dtype)
