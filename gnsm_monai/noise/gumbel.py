"""Relaxed one-hot (ExpConcrete) variables: sampling, log-density and score.

A relaxed one-hot ``x`` is kept in the log domain: ``x <= 0`` and ``sum_k exp(x_k) = 1`` over the class axis, which is
axis 1. Everything acts on that axis alone, so shapes are ``(B, K)`` for tables and ``(B, K, *spatial)`` for label maps
alike. Arithmetic runs in float32 or better, whatever the input: in bfloat16 ``logsumexp`` over a few classes already
loses the digits that a score is made of.

Source: Maddison, Mnih, Teh, "The Concrete Distribution", ICLR 2017 (arXiv 1611.00712), appendix C; Mahmood, Oliva,
Styner, "Anomaly Detection via Gumbel Noise Score Matching", arXiv 2304.03220.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["CLASS_DIM", "expand_like", "gumbel_noise", "hide", "log_density", "relax", "residual", "score", "upcast"]

CLASS_DIM = 1


def upcast(x: Tensor) -> Tensor:
    """``x`` in float32, or unchanged where it is float32 or float64 already."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def expand_like(value: Tensor | float, x: Tensor) -> Tensor:
    """A scalar, or one value per sample ``(B,)``, shaped to broadcast against ``x`` of shape ``(B, K, *spatial)``."""
    value = torch.as_tensor(value, dtype=x.dtype, device=x.device)
    return value.reshape(-1, *[1] * (x.ndim - 1)) if value.ndim == 1 else value


def gumbel_noise(like: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Independent standard Gumbel(0, 1) draws with the shape and device of ``like``, in float32 or float64."""
    exponential = torch.empty_like(upcast(like), memory_format=torch.contiguous_format)
    if exponential.device.type == "cpu":  # what exponential_ computes there, in two fifths of its time
        uniform = torch.rand(exponential.shape, generator=generator, dtype=torch.float64)
        exponential.copy_(uniform.neg_().log1p_().neg_())
    else:
        exponential.exponential_(generator=generator)
    # -log of an Exponential(1) draw keeps the digits that -log(-log(u)) loses near u = 1; the clamp keeps it finite.
    return exponential.clamp_min_(torch.finfo(exponential.dtype).tiny).log_().neg_()


def hide(x: Tensor, observed: Tensor) -> Tensor:
    """``x`` where a voxel was observed, and elsewhere the point that speaks for no class, ``x_k = -log K``.

    At any level this point is equally probable for all classes, so a voxel's posterior follows from its context alone.

    Args:
        x: relaxed one-hot maps ``(B, K, *spatial)``.
        observed: ``(B, 1, *spatial)``, 1 where a voxel was observed; 0 outside the field of view and where labels are
            ignored.
    """
    return torch.where(observed > 0, x, -math.log(x.shape[CLASS_DIM]))


def relax(log_alpha: Tensor, temperature: Tensor | float, gumbel: Tensor | None = None) -> Tensor:
    """Relaxed one-hot ``x`` for class log-weights, perturbed by ``gumbel``.

    ``x = (log alpha + G) / tau - logsumexp_k((log alpha + G) / tau)``

    Args:
        log_alpha: class log-weights ``(B, K, *spatial)``; they need not be normalised.
        temperature: ``tau > 0``, one number or one per sample ``(B,)``.
        gumbel: noise of the same shape. ``None`` gives the noise-free point, the centre of the distribution.

    Returns:
        ``x``, the shape of ``log_alpha``, float32 or float64: ``x <= 0`` and ``logsumexp_k(x) = 0``.
    """
    log_alpha = upcast(log_alpha)
    perturbed = log_alpha if gumbel is None else log_alpha + gumbel
    return torch.log_softmax(perturbed / expand_like(temperature, log_alpha), dim=CLASS_DIM)


def residual(x: Tensor, log_alpha: Tensor, temperature: Tensor | float) -> Tensor:
    """``z = log alpha - tau x``. For a sample made from ``G`` it equals ``-G`` up to one constant per voxel."""
    x = upcast(x)
    return upcast(log_alpha) - expand_like(temperature, x) * x


def log_density(x: Tensor, log_alpha: Tensor, temperature: Tensor | float) -> Tensor:
    """Log-density of ExpConcrete(alpha, tau) at ``x`` (Maddison et al. 2017, eq. 25).

    ``log p = log (K-1)! + (K-1) log tau + sum_k z_k - K logsumexp_k(z_k)``, with ``z = log alpha - tau x``

    Returns:
        One value per voxel, ``(B, *spatial)``.
    """
    z = residual(x, log_alpha, temperature)
    num_classes = z.shape[CLASS_DIM]
    tau = expand_like(temperature, z)
    log_tau = tau.log().squeeze(CLASS_DIM) if tau.ndim > 1 else tau.log()
    shape_term = math.lgamma(num_classes) + (num_classes - 1) * log_tau
    return shape_term + z.sum(CLASS_DIM) - num_classes * torch.logsumexp(z, CLASS_DIM)


def score(x: Tensor, log_alpha: Tensor, temperature: Tensor | float) -> Tensor:
    """Score of ExpConcrete(alpha, tau) at ``x``: the gradient of :func:`log_density` with respect to ``x``.

    ``grad_x log p = tau (K softmax_k(z) - 1)``, with ``z = log alpha - tau x``. It sums to zero over the classes.

    Returns:
        The score, ``(B, K, *spatial)``.
    """
    z = residual(x, log_alpha, temperature)
    return expand_like(temperature, z) * (z.shape[CLASS_DIM] * torch.softmax(z, CLASS_DIM) - 1)
