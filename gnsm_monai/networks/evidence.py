"""Evidence of a noisy label map's voxels against a voxelwise prior; the networks of label maps share it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from gnsm_monai.noise import NoiseSchedule
from gnsm_monai.noise.gumbel import CLASS_DIM, expand_like

__all__ = ["centred", "evidence_scale", "log_prior", "surprise"]


def log_prior(frequencies: Tensor) -> Tensor:
    """Log-probabilities of classes that occur so often, ``(K, *spatial)`` summing to 1 over ``K``; 0 is allowed."""
    return (0.999 * frequencies + 0.001 / len(frequencies)).log()


def evidence_scale(schedule: NoiseSchedule, num_classes: int) -> tuple[Tensor, Tensor]:
    """Mean and deviation to standardise evidence by, ``(L,)`` each: :meth:`NoiseSchedule.log_likelihood_scale`.

    A level of ``beta`` 1 says nothing, and its evidence does not vary: the deviation 1 leaves it at 0.
    """
    mean, deviation = schedule.log_likelihood_scale(num_classes)
    same, other = schedule.class_weights(torch.arange(schedule.num_levels), num_classes)
    return mean, torch.where(same == other, 1.0, deviation)


def surprise(evidence: Tensor, prior: Tensor, deviation: Tensor) -> Tensor:
    """How far a voxel's noisy value moves its label's probabilities away from the prior, in units of the noise.

    This is the gradient of the log-likelihood with respect to the prior's logits. To first order it is all that a voxel
    says about a change of shape. It is 0 if the prior is certain.

    Args:
        evidence: log-likelihoods of the classes, ``(B, K, *spatial)``.
        prior: their log-probabilities, ``(1, K, *spatial)``.
        deviation: of the noise in the evidence, ``(B,)``.
    """
    moved = torch.softmax(evidence + prior, CLASS_DIM) - torch.softmax(prior, CLASS_DIM)
    return moved / expand_like(deviation, moved)


def centred(maps: Tensor, size: Sequence[int], edge: bool = False) -> Tensor:
    """``(B, C, *spatial)`` to ``(B, C, *size)`` about its centre, as FitToGridd does; padded with 0 or its edge."""
    padding: list[int] = []
    for axis, (n, m) in enumerate(zip(size, maps.shape[2:], strict=True), start=2):
        shift = (n - m) // 2
        maps = maps.narrow(axis, max(0, -shift), min(m, n - shift) - max(0, -shift))
        padding = [max(0, shift), max(0, n - m - shift), *padding]  # torch lists the last axis first
    if not any(padding):  # torch would copy, and in training add up gradients of no edge
        return maps
    return F.pad(maps, padding, mode="replicate" if edge else "constant")
