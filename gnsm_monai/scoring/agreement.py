"""How far a mask is from a posterior, and how far any mask must be: soft Dice by structure."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["disagreement", "doubt", "highest_soft_dice"]

LEAST = 1e-3
"""Probability above which a voxel can be of the best mask: it is half of that mask's soft Dice at least."""

TINY = torch.finfo(torch.float64).tiny


def disagreement(own: Tensor, denoised: Tensor, expected: Tensor, needed: Tensor) -> Tensor:
    """``1 - soft Dice`` of mask and posterior, ``(n, S)`` float64.

    1 for a structure that is needed, and neither in the mask nor in its denoised version; NaN for an optional one.

    Args:
        own, denoised: whether a voxel belongs to each structure of the mask, and of its denoised version,
            ``(n, S, *spatial)``, 0 or 1.
        expected: the posterior's probability of it, ``(n, S, *spatial)``.
        needed: whether every reference has the structure, ``(S,)`` bool.
    """
    axes = _spatial(own)
    total = own.double().sum(axes) + expected.double().sum(axes)
    overlap = 2 * (own * expected).double().sum(axes)
    absent = torch.where(needed, 1.0, torch.nan).double()
    found = own.sum(axes) + denoised.sum(axes) > 0
    return torch.where(found, 1 - overlap / total.clamp_min(TINY), absent)


def doubt(disagreements: Tensor, denoised: Tensor, expected: Tensor, needed: Tensor) -> Tensor:
    """1 - the highest soft Dice that any mask could have with the posterior, ``(n, S)``; never above ``disagreements``.

    0 where it is sure that an optional structure is absent: that a mask has it nevertheless is the mask's fault. NaN
    where ``disagreements`` of :func:`disagreement` are. Other arguments: as there.
    """
    asked = (denoised.sum(_spatial(denoised)) > 0) | needed
    least = torch.where(asked, 1 - highest_soft_dice(expected), 0.0)
    return torch.where(disagreements.isfinite(), least, torch.nan)


def highest_soft_dice(expected: Tensor) -> Tensor:
    """The highest soft Dice of any mask with maps of probabilities ``(n, S, *spatial)``: ``(n, S)`` float64."""
    return torch.stack([torch.stack([_highest(values) for values in maps]) for maps in expected.flatten(2)])


def _highest(probabilities: Tensor) -> Tensor:
    """Of one map ``(V,)``, a scalar: of each size the likeliest voxels are the best mask."""
    total = probabilities.sum(dtype=torch.float64)
    falling = probabilities[probabilities > LEAST].double().sort(descending=True).values
    if not len(falling):
        return torch.zeros_like(total)
    size = torch.arange(1, len(falling) + 1, device=falling.device)
    return (2 * falling.cumsum(0) / (size + total)).max()


def _spatial(maps: Tensor) -> tuple[int, ...]:
    return tuple(range(2, maps.ndim))
