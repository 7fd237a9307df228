"""Noise levels: how much label smoothing and which temperature each of them has."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gnsm_monai.errors import InputError
from gnsm_monai.noise.gumbel import expand_like, gumbel_noise, relax, upcast

__all__ = ["SCHEDULES", "NoiseSchedule", "build_schedule", "mixing_schedule", "temperature_schedule"]


@dataclass(frozen=True)
class NoiseSchedule:
    """Noise levels ``0 … L-1``, weakest first.

    At level ``l`` a label map with class probabilities ``y`` has the class weights

        ``alpha_l = max((1 - beta_l) y + beta_l / K, floor)``

    and the noisy map is drawn from ExpConcrete(alpha_l, tau_l).

    Args:
        betas: label smoothing per level, in ``[0, 1]``. At 1 nothing of the label is left, so that the best guess is
            the prior of the voxel.
        temperatures: ``tau > 0`` per level.
        floor: least class weight, which keeps ``log alpha`` finite where ``beta`` is 0.

    Raises:
        InputError: levels of unequal number, or values out of range.
    """

    betas: tuple[float, ...]
    temperatures: tuple[float, ...]
    floor: float = 1e-5

    def __post_init__(self) -> None:
        if not self.betas or len(self.betas) != len(self.temperatures):
            raise InputError(f"noise: {len(self.betas)} betas and {len(self.temperatures)} temperatures do not match")
        if not all(0 <= beta <= 1 for beta in self.betas):
            raise InputError(f"noise: every beta must lie in [0, 1], got {self.betas}")
        if not all(0 < tau < math.inf for tau in self.temperatures):
            raise InputError(f"noise: every temperature must be positive and finite, got {self.temperatures}")
        if not 0 < self.floor < 1:
            raise InputError(f"noise: floor must lie in (0, 1), got {self.floor}")

    @property
    def num_levels(self) -> int:
        return len(self.betas)

    def beta(self, level: Tensor) -> Tensor:
        """Label smoothing of each sample, ``(B,)``, for its ``level``, ``(B,)`` integer."""
        return _table(self.betas, level.device)[level]

    def temperature(self, level: Tensor) -> Tensor:
        """Temperature of each sample, ``(B,)``, for its ``level``, ``(B,)`` integer."""
        return _table(self.temperatures, level.device)[level]

    def log_alpha(self, probabilities: Tensor, level: Tensor) -> Tensor:
        """Class log-weights ``(B, K, *spatial)`` of (soft) label maps ``(B, K, *spatial)`` at ``level``, ``(B,)``."""
        probabilities = upcast(probabilities)
        beta = expand_like(self.beta(level), probabilities)
        mixed = torch.lerp(probabilities, torch.full_like(beta, 1 / probabilities.shape[1]), beta)
        return mixed.clamp_min(self.floor).log()

    def class_weights(self, level: Tensor, num_classes: int) -> tuple[Tensor, Tensor]:
        """``alpha`` of the labelled class and of each other class for one-hot maps, ``(B,)`` each."""
        beta = self.beta(level)
        same = (1 - beta) + beta / num_classes
        return same.clamp_min(self.floor), (beta / num_classes).clamp_min(self.floor)

    def log_likelihood(self, x: Tensor, level: Tensor) -> Tensor:
        """``log p(x_v | y_v = c)`` for every class ``c`` and voxel, up to a constant per voxel, ``(B, K, *spatial)``.

        What ``x_v`` alone says of its label, and all that it says: a sufficient statistic. Only one term of the
        log-density, ``-K logsumexp_k(z_k)``, depends on ``c``; ``alpha(c)`` has one entry ``own`` and the others
        ``other``.
        """
        x = upcast(x)
        num_classes = x.shape[1]
        same, other = (expand_like(weight, x) for weight in self.class_weights(level, num_classes))
        w = torch.softmax(-expand_like(self.temperature(level), x) * x, 1)
        return -num_classes * torch.log(other + (same - other) * w)

    def log_likelihood_scale(self, num_classes: int) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of :meth:`log_likelihood` under noise alone, per level, ``(L,)`` each.

        Without a label ``softmax(-tau x)`` is Dirichlet(1, …, 1), hence each entry Beta(1, K - 1).
        """
        quantile = (torch.arange(4096, dtype=torch.float64) + 0.5) / 4096
        w = 1 - (1 - quantile) ** (1 / (num_classes - 1))
        same, other = (v.double()[:, None] for v in self.class_weights(torch.arange(self.num_levels), num_classes))
        values = -num_classes * torch.log(other + (same - other) * w)
        return values.mean(1).float(), values.std(1).float()

    def noise_free(self, probabilities: Tensor, level: Tensor) -> Tensor:
        """Relaxed one-hot without a random draw: the centre of the noise at ``level``, ``(B, K, *spatial)``."""
        return relax(self.log_alpha(probabilities, level), self.temperature(level))

    def sample(self, probabilities: Tensor, level: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Noisy relaxed one-hot maps ``(B, K, *spatial)`` of (soft) label maps at ``level``, ``(B,)``."""
        log_alpha = self.log_alpha(probabilities, level)
        return relax(log_alpha, self.temperature(level), gumbel_noise(log_alpha, generator))

    def flip_rates(self, num_classes: int) -> Tensor:
        """Probability per level, ``(L,)``, that the noise turns a voxel's class into another one.

        ``argmax_k x_k = argmax_k (log alpha_k + G_k)`` is a draw from ``alpha``, whatever the temperature: the rate
        is ``beta (1 - 1/K)`` where the floor is not met.
        """
        same, other = self.class_weights(torch.arange(self.num_levels), num_classes)
        return 1 - same / (same + (num_classes - 1) * other)

    def to_dict(self) -> dict[str, Any]:
        """Plain values that :func:`build_schedule` turns back into an equal schedule."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}


def _table(values: tuple[float, ...], device: torch.device) -> Tensor:
    """A schedule's values on a device, from where a captured CUDA graph can read them."""
    if torch.compiler.is_compiling():  # an export keeps what it sees made; its stand-ins of tensors must not stay
        return torch.tensor(values, device=device)
    return _stored_table(values, device, torch.get_default_dtype())


@cache  # without a limit: graphs read a table where it lies, so that it must stay there
def _stored_table(values: tuple[float, ...], device: torch.device, dtype: torch.dtype) -> Tensor:
    with torch.inference_mode(False):  # or training could not use what scoring has stored
        return torch.tensor(values, dtype=dtype, device=device)


def mixing_schedule(
    num_levels: int = 8, beta_min: float = 0.3, beta_max: float = 0.997, temperature: float = 1.0
) -> NoiseSchedule:
    """Levels that hide labels: ``1 - beta`` geometric from ``1 - beta_min`` to ``1 - beta_max``, one temperature.

    The strongest level ends near the voxelwise prior. On smooth label maps neighbours reveal a voxel's label even under
    very strong noise, hence the geometric steps towards 1. The weak levels see what is locally odd, and teach a network
    without images what the strong ones build on.
    """
    if not 0 <= beta_min <= beta_max < 1:
        raise InputError(f"noise: 0 <= beta_min <= beta_max < 1 is needed, got {beta_min} and {beta_max}")
    keep = np.geomspace(1 - beta_min, 1 - beta_max, num_levels)
    return NoiseSchedule(tuple((1 - keep).tolist()), (float(temperature),) * num_levels)


def temperature_schedule(
    num_levels: int = 20, tau_min: float = 2.0, tau_max: float = 20.0, floor: float = 1e-5
) -> NoiseSchedule:
    """The published levels (Mahmood et al., arXiv 2304.03220): no smoothing, ``tau`` geometric from 2 to 20.

    Kept for reproduction. Dividing by ``tau`` rescales label and noise alike, so that at every level the label can be
    read off the voxel itself (flip rate about 1 in 50 000), and the objective can be met without learning shape.
    """
    taus = np.geomspace(tau_min, tau_max, num_levels)
    return NoiseSchedule((0.0,) * num_levels, tuple(taus.tolist()), floor)


SCHEDULES = {"mixing": mixing_schedule, "temperature": temperature_schedule}


def build_schedule(noise: str | Mapping[str, Any] | NoiseSchedule) -> NoiseSchedule:
    """A schedule from a configuration value.

    Args:
        noise: a name (``"mixing"``, ``"temperature"``), a mapping with that ``name`` and the arguments of its
            function (``{"name": "mixing", "num_levels": 5}``), or explicit ``betas`` and ``temperatures``.

    Raises:
        InputError: unknown name or argument, or values out of range.
    """
    if isinstance(noise, NoiseSchedule):
        return noise
    try:
        settings = {"name": noise} if isinstance(noise, str) else dict(noise)
        if "betas" in settings:
            betas, taus = tuple(settings.pop("betas")), tuple(settings.pop("temperatures"))
            return NoiseSchedule(betas, taus, **settings)
        name = settings.pop("name")
        if name not in SCHEDULES:
            raise InputError(f"noise: unknown schedule '{name}', known are {', '.join(SCHEDULES)}")
        return SCHEDULES[name](**settings)
    except InputError:
        raise
    except (TypeError, KeyError, ValueError) as error:
        raise InputError(f"noise: cannot read {noise!r}: {error}") from error
