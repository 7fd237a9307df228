"""How smooth the references' images are, so that an image in which nothing can be read is noticed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.stats import median_abs_deviation
from torch import Tensor

__all__ = ["ReferenceImages", "smoothness"]

PREFIX = "image_"
FAR = 8.0
"""Spreads from the centre beyond which an image is unlike the references'. Of 50 sound images of the hippocampus none
lies further than 5.1, and none of nine that are noisy, or whose integers overflowed, nearer than 29."""

LEAST_SPREAD = 0.005

ROUGHER = "the image is far rougher than the references' (noise, or damaged values): little can be read in it"
SMOOTHER = "the image is far smoother than the references' (blurred, or of coarser resolution)"


def smoothness(image: Tensor, inside: Tensor) -> np.ndarray:
    """How much neighbouring voxels of an image resemble each other, ``(C,)`` float64 in [-1, 1], higher = smoother.

    Their correlation, mean over the axes: 0 for noise, 0.88 for an MRI of 1 mm, 1 for a constant image. Scale, offset
    and an inverted contrast do not change it.

    Args:
        image: ``(C, *spatial)``.
        inside: ``(1, *spatial)`` bool, where the image is known.
    """
    known = inside.double()
    values = image.double()
    axes = tuple(range(1, image.ndim))
    values = (values - (values * known).sum(axes, keepdim=True) / known.sum().clamp_min(1)) * known
    variance = (values**2).sum(axes) / known.sum().clamp_min(1)
    found = []
    for axis in axes:
        n = image.shape[axis] - 1
        pairs = (known.narrow(axis, 0, n) * known.narrow(axis, 1, n)).sum()
        if pairs > 0:
            found.append((values.narrow(axis, 0, n) * values.narrow(axis, 1, n)).sum(axes) / pairs)
    if not found:
        return np.full(len(image), np.nan)
    mean = np.mean([covariance.cpu().numpy() for covariance in found], axis=0)
    spread = variance.cpu().numpy()
    correlation: np.ndarray = np.where(spread > 0, mean / np.where(spread > 0, spread, 1), 1.0)
    return correlation


@dataclass(frozen=True)
class ReferenceImages:
    """Centre and spread of the :func:`smoothness` of the references' images, ``(C,)`` each.

    They are the median and 1.4826 times the median absolute deviation.
    """

    centre: np.ndarray
    spread: np.ndarray

    @classmethod
    def fit(cls, values: np.ndarray) -> ReferenceImages:
        """Fits the smoothness ``(N, C)`` of references' images."""
        spread = median_abs_deviation(values, axis=0, scale="normal")
        return cls(np.median(values, axis=0), np.maximum(spread, LEAST_SPREAD))

    def finding(self, values: np.ndarray) -> str:
        """What is wrong with an image of smoothness ``(C,)``, in words; empty where nothing is."""
        deviation = (values - self.centre) / self.spread
        if not np.isfinite(deviation).any():
            return ""
        worst = float(deviation[np.nanargmax(np.abs(deviation))])
        return "" if abs(worst) <= FAR else ROUGHER if worst < 0 else SMOOTHER

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Plain arrays for an npz file; :meth:`from_arrays` reads them back."""
        return {f"{PREFIX}centre": self.centre, f"{PREFIX}spread": self.spread}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> ReferenceImages | None:
        """None where the arrays hold none: a model that sees no images, or of an earlier version."""
        if f"{PREFIX}centre" not in arrays:
            return None
        return cls(arrays[f"{PREFIX}centre"], arrays[f"{PREFIX}spread"])
