"""From the network's logits to the score: two parametrisations of one function.

The noisy marginal of a voxel with the label posterior ``P(c | x)`` has the score (design of the method: Vincent 2011)

    ``s(x)_k = sum_c P(c | x) tau (K softmax_k(log alpha(c) - tau x) - 1)``

``direct``: the logits ``f`` stand for the whole sum, ``s = tau (K softmax(f) - 1)`` (the published form).
``posterior``: the logits stand for ``P(c | x) = softmax(f)``, and the sum is taken analytically.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gnsm_monai.noise import NoiseSchedule
from gnsm_monai.noise.gumbel import CLASS_DIM, expand_like, upcast

__all__ = ["PARAMETRISATIONS", "direct_score", "posterior_score", "score_from_logits"]

PARAMETRISATIONS = ("posterior", "direct")


def direct_score(logits: Tensor, temperature: Tensor | float) -> Tensor:
    """``tau (K softmax(f) - 1)``, the shape of ``logits`` ``(B, K, *spatial)``."""
    logits = upcast(logits)
    return expand_like(temperature, logits) * (logits.shape[CLASS_DIM] * torch.softmax(logits, CLASS_DIM) - 1)


def posterior_score(logits: Tensor, x: Tensor, level: Tensor, schedule: NoiseSchedule) -> Tensor:
    """The sum over ``c`` above for one-hot labels, in time and memory linear in ``K``.

    ``alpha(c)`` differs from class to class in one entry: ``own`` in place of ``other``. With ``w_k = exp(-tau x_k)``
    and ``D_c = other sum_k w_k + (own - other) w_c``,

        ``sum_c P_c softmax_k(log alpha(c) - tau x) = w_k (other sum_c P_c / D_c + (own - other) P_k / D_k)``

    Args:
        logits: posterior logits, ``(B, K, *spatial)``.
        x: relaxed one-hot maps of the same shape.
        level: noise level per sample, ``(B,)``.
        schedule: the noise.
    """
    logits, x = upcast(logits), upcast(x)
    num_classes = x.shape[CLASS_DIM]
    tau = expand_like(schedule.temperature(level), x)
    same, other = (expand_like(weight, x) for weight in schedule.class_weights(level, num_classes))
    w = torch.softmax(-tau * x, CLASS_DIM)  # w up to a factor per voxel, which cancels: its sum is 1
    share = torch.softmax(logits, CLASS_DIM) / (other + (same - other) * w)
    mixture = w * (other * share.sum(CLASS_DIM, keepdim=True) + (same - other) * share)
    return tau * (num_classes * mixture - 1)


def score_from_logits(
    parametrisation: str, logits: Tensor, x: Tensor, level: Tensor, schedule: NoiseSchedule
) -> Tensor:
    """Score ``(B, K, *spatial)`` of the noisy marginal at ``x``, for either parametrisation.

    Raises:
        ValueError: unknown parametrisation.
    """
    if parametrisation == "direct":
        return direct_score(logits, schedule.temperature(level))
    if parametrisation == "posterior":
        return posterior_score(logits, x, level, schedule)
    raise ValueError(f"parametrisation must be one of {PARAMETRISATIONS}, got '{parametrisation}'")
