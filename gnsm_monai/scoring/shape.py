"""The shapes that references have, as a linear model: what a mask would be if it had one of them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from gnsm_monai.networks.evidence import centred
from gnsm_monai.networks.separable import upsample
from gnsm_monai.noise.gumbel import CLASS_DIM

__all__ = ["MAX_CASES", "ShapeModel", "coarse_maps"]

MODES = 64
"""Most modes of variation that are kept."""

MAX_CASES = 256
"""Most references that shapes are learned from."""

MAX_VALUES = 200_000
"""Most values of a coarse map (classes times cells)."""

MIN_VARIANCE = 1e-8
PREFIX = "shape_"


class ShapeModel:
    """Principal components of coarse reference maps, and the posterior mean of a mask's shape given noisy voxels.

    Coarse maps ``y`` (shares of the classes per cell) are ``mean + sum_j z_j mode_j + rest`` with ``z_j ~ N(0,
    variance_j)`` and a rest of equal variance in all cells: probabilistic PCA (Tipping & Bishop 1999). A noise level
    whose voxels each say as much of their label as a measurement with error ``sigma`` makes ``E[z | y]`` a Wiener
    filter: weak noise leaves all modes, strong noise the mean alone. A mask loses whatever no mode describes, however
    sure its voxels are. A network with skip connections cannot do this. Cells that are not observed say nothing.

    Args:
        mean: ``(K, *cells)``.
        modes: ``(J, K, *cells)``, orthonormal.
        variance: of each mode, falling, ``(J,)``.
        rest: variance per value that the modes leave.
        stride: voxels per cell and axis.
    """

    def __init__(self, mean: Tensor, modes: Tensor, variance: Tensor, rest: float, stride: Sequence[int]) -> None:
        # At the precision of a model's file, so that a model gives the same answers before and after it is stored.
        self.mean, self.modes, self.variance = mean.float(), modes.half().float(), variance.float()
        self.rest, self.stride = max(float(rest), MIN_VARIANCE), tuple(int(s) for s in stride)

    @classmethod
    def fit(cls, values: Tensor, stride: Sequence[int]) -> ShapeModel | None:
        """Learns from :func:`coarse_maps` ``(N, K, *cells)``; None from fewer than three."""
        if len(values) < 3:
            return None
        mean = values.mean(0)
        _, singular, modes = torch.linalg.svd((values - mean).flatten(1), full_matrices=False)
        variance = singular**2 / (len(values) - 1)
        count = max(1, min(MODES, int((variance > MIN_VARIANCE).sum())))
        rest = variance[count:].sum() / max(1, mean.numel() - count)
        return cls(mean, modes[:count].reshape(-1, *mean.shape), variance[:count], float(rest), stride)

    def coefficients(self, probabilities: Tensor, mask: Tensor, noise: Tensor) -> Tensor:
        """Posterior mean of the modes' coefficients, of the shape that a mask tells of at each noise level: ``(L, J)``.

        Args:
            probabilities: ``(1, K, *spatial)``, one-hot or soft, of any size: centred on the model's grid, which has
                background around it.
            mask: ``(1, 1, *spatial)``, 1 where a voxel is observed.
            noise: variance of what one voxel says of its label at each level, ``(L,)``.
        """
        grid, mean, modes = self._grid, self.mean.to(probabilities.device), self._modes(probabilities)
        usual = F.interpolate(mean[None], size=grid)
        seen = centred(mask, grid)
        differs = _pool((centred(probabilities, grid) - usual) * seen, self.stride).flatten()
        weight = _pool(seen, self.stride).expand(1, *mean.shape).flatten()
        # E[z | observed cells], by the modes' own Gram matrix there: the identity where all is observed.
        gram = ((modes * weight) @ modes.T).double()
        says = (modes @ differs).double()
        cell = noise.double().to(gram.device) / math.prod(self.stride) + self.rest
        ridge = cell[:, None, None] * torch.diag(1 / self.variance.to(gram.device).double())
        solution: Tensor = torch.linalg.solve(gram + ridge, says.expand(len(cell), -1)[..., None])[..., 0].float()
        return solution

    def maps(self, coefficients: Tensor, size: Sequence[int]) -> Tensor:
        """Class probabilities ``(L, K, *size)`` of the shapes with these coefficients ``(L, J)``."""
        mean = self.mean.to(coefficients.device)
        coarse = mean + (coefficients @ self._modes(coefficients)).reshape(-1, *mean.shape)
        fine = upsample(coarse, self._grid).clamp_min(1e-6)
        fine = fine / fine.sum(CLASS_DIM, keepdim=True)
        outside = torch.zeros(1, mean.shape[0], *[1] * (mean.ndim - 1), device=fine.device)
        outside[:, 0] = 1
        return centred(fine - outside, size) + outside

    @property
    def _grid(self) -> list[int]:
        """Voxels per axis."""
        return [n * s for n, s in zip(self.mean.shape[1:], self.stride, strict=True)]

    def _modes(self, like: Tensor) -> Tensor:
        """``(J, values)`` on the device of ``like``."""
        return self.modes.to(like.device).flatten(1)

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Plain arrays for an npz file; :meth:`from_arrays` reads them back."""
        return {
            f"{PREFIX}mean": self.mean.numpy(),
            f"{PREFIX}modes": self.modes.half().numpy(),
            f"{PREFIX}variance": self.variance.numpy(),
            f"{PREFIX}rest": np.array(self.rest),
            f"{PREFIX}stride": np.array(self.stride),
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> ShapeModel | None:
        """None where the arrays hold none."""
        if f"{PREFIX}mean" not in arrays:
            return None
        mean, modes, variance = (torch.as_tensor(arrays[PREFIX + name]) for name in ("mean", "modes", "variance"))
        return cls(mean, modes, variance, float(arrays[f"{PREFIX}rest"]), arrays[f"{PREFIX}stride"].tolist())


def coarse_maps(maps: Iterable[Tensor], strides: Sequence[Sequence[int]]) -> tuple[Tensor, list[int]]:
    """Shares of the classes per cell ``(N, K, *cells)`` of one-hot maps ``(K, *spatial)`` of one size, and the stride.

    Args:
        maps: one at least.
        strides: steps to coarser grids, such as a network's; the first, and as many more as memory asks for.
    """
    coarse: list[Tensor] = []
    stride: list[int] = []
    for one_hot in maps:
        stride = stride or _coarse_enough(one_hot.shape, strides)
        coarse.append(_pool(one_hot[None].float(), stride)[0])
    return torch.stack(coarse), stride


def _coarse_enough(shape: Sequence[int], strides: Sequence[Sequence[int]]) -> list[int]:
    stride = [1] * len(strides[0])
    for step in strides:
        stride = [s * f for s, f in zip(stride, step, strict=True)]
        if shape[0] * math.prod(-(-n // s) for n, s in zip(shape[1:], stride, strict=True)) <= MAX_VALUES:
            break
    return stride


def _pool(maps: Tensor, stride: Sequence[int]) -> Tensor:
    """Means over cells of ``(B, C, *spatial)``. Cells that reach beyond the end count 0 there."""
    pool = F.avg_pool2d if maps.ndim == 4 else F.avg_pool3d
    return pool(maps, tuple(stride), ceil_mode=True)
