"""How far a mask is from a posterior, and how far any mask must be: soft Dice by structure."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["disagreement", "doubt", "highest_soft_dice"]

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


def doubt(disagreements: Tensor, expected: Tensor, needed: Tensor) -> Tensor:
    """1 - the highest soft Dice that any mask could have with the posterior, ``(n, S)``; never above ``disagreements``.

    The doubt about a structure that may be absent shrinks as its absence becomes sure: if no mask reaches a soft Dice
    of 1/2, it is multiplied by twice the highest Dice. A mask that has such a structure all the same is blamed for it.
    NaN where ``disagreements`` of :func:`disagreement` are. Other arguments: as there.
    """
    highest = highest_soft_dice(expected)
    counts = torch.where(needed, 1.0, (2 * highest).clamp_max(1))
    return torch.where(disagreements.isfinite(), counts * (1 - highest), torch.nan)


def highest_soft_dice(expected: Tensor) -> Tensor:
    """The highest soft Dice of any mask with maps of probabilities ``(n, S, *spatial)``: ``(n, S)`` float64."""
    return torch.stack([torch.stack([_highest(values) for values in maps]) for maps in expected.flatten(2)])


def _highest(probabilities: Tensor) -> Tensor:
    """A scalar for one map ``(V,)``. The best mask has the voxels above half of its Dice (Dinkelbach 1967)."""
    total = probabilities.sum(dtype=torch.float64)
    taken, best = probabilities[probabilities > 0], torch.zeros_like(total)
    count = -1
    while len(taken) != count:  # fewer each time, or found
        count = len(taken)
        best = 2 * taken.sum(dtype=torch.float64) / (count + total).clamp_min(TINY)
        taken = taken[taken > best / 2]
    return best


def _spatial(maps: Tensor) -> tuple[int, ...]:
    return tuple(range(2, maps.ndim))
