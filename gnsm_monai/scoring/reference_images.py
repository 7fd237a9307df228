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
"""Spreads below the centre beyond which an image is unlike the references'. Of 50 sound images of the hippocampus none
lies further than 3, and none of nine that are noisy, or whose integers overflowed, nearer than 29."""

LEAST_SPREAD = 0.005
FEWEST = 12
"""References below which their spread is a guess, and no image is named."""

ROUGHER = "the image is far rougher than the references' (noise, or damaged values): little can be read in it"


def smoothness(image: Tensor, inside: Tensor) -> np.ndarray:
    """How much neighbouring voxels of an image resemble each other, ``(C,)`` float64 in [-1, 1], higher = smoother.

    Their correlation, mean over the axes: 0 for noise, 0.88 for an MRI of 1 mm, 1 for a constant image. Scale, offset
    and an inverted contrast do not change it. NaN where no two neighbours are known.

    Args:
        image: ``(C, *spatial)``.
        inside: ``(1, *spatial)`` bool, where the image is known.
    """
    known = inside.double()
    values = image.double()
    axes = tuple(range(1, image.ndim))
    values = (values - (values * known).sum(axes, keepdim=True) / known.sum().clamp_min(1)) * known
    found = []
    for axis in axes:
        n = image.shape[axis] - 1
        pairs = known.narrow(axis, 0, n) * known.narrow(axis, 1, n)
        if pairs.sum() == 0:
            continue
        low, high = values.narrow(axis, 0, n) * pairs, values.narrow(axis, 1, n) * pairs
        product, spread = (low * high).sum(axes), ((low**2).sum(axes) * (high**2).sum(axes)).sqrt()
        found.append((product / spread).nan_to_num(1.0))  # nothing varies: as smooth as can be
    if not found:
        return np.full(len(image), np.nan)
    mean: np.ndarray = np.mean([values.cpu().numpy() for values in found], axis=0)
    return mean


@dataclass(frozen=True)
class ReferenceImages:
    """Centre and spread of the :func:`smoothness` of the references' images, ``(C,)`` each.

    They are the median and 1.4826 times the median absolute deviation; the spread is infinite where they are too few.
    """

    centre: np.ndarray
    spread: np.ndarray

    @classmethod
    def fit(cls, values: np.ndarray) -> ReferenceImages:
        """Fits the smoothness ``(N, C)`` of references' images; those of which it is not known are left out."""
        known = values[np.isfinite(values).all(axis=1)]
        if len(known) < FEWEST:
            return cls(np.zeros(values.shape[1]), np.full(values.shape[1], np.inf))
        spread = median_abs_deviation(known, axis=0, scale="normal")
        return cls(np.median(known, axis=0), np.maximum(spread, LEAST_SPREAD))

    def finding(self, values: np.ndarray) -> str:
        """What is wrong with an image of smoothness ``(C,)``, in words; empty where nothing is."""
        return ROUGHER if ((values - self.centre) / self.spread < -FAR).any() else ""

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Plain arrays for an npz file; :meth:`from_arrays` reads them back."""
        return {f"{PREFIX}centre": self.centre, f"{PREFIX}spread": self.spread}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> ReferenceImages | None:
        """None where the arrays hold none: a model that sees no images, or of an earlier version."""
        if f"{PREFIX}centre" not in arrays:
            return None
        return cls(arrays[f"{PREFIX}centre"], arrays[f"{PREFIX}spread"])
