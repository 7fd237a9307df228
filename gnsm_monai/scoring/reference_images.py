"""How smooth the references' images are. An image in which nothing can be read is far rougher."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from torch import Tensor

from gnsm_monai.data.constants import IGNORE_INDEX, IMAGE, LABEL
from gnsm_monai.scoring.sizes import CentreAndSpread

__all__ = ["FAR", "ReferenceImages", "case_smoothness", "smoothness"]

FAR = 8.0
"""Spreads below the centre beyond which an image is unlike the references'. Hippocampus images that are noisy, or whose
integers overflowed, lie at least 32 spreads below, all others at most 3.9 (damaged_images.py)."""

MIN_SPREAD = 0.005
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
    weight = inside.double()
    values = image.double()
    axes = tuple(range(1, image.ndim))
    values = (values - (values * weight).sum(axes, keepdim=True) / weight.sum().clamp_min(1)) * weight
    per_axis = []
    for axis in axes:
        n = image.shape[axis] - 1
        pairs = weight.narrow(axis, 0, n) * weight.narrow(axis, 1, n)
        if pairs.sum() == 0:
            continue
        low, high = values.narrow(axis, 0, n) * pairs, values.narrow(axis, 1, n) * pairs
        product, spread = (low * high).sum(axes), ((low**2).sum(axes) * (high**2).sum(axes)).sqrt()
        per_axis.append((product / spread).nan_to_num(1.0))  # nothing varies: as smooth as can be
    if not per_axis:
        return np.full(len(image), np.nan)
    return np.asarray(np.mean([correlations.cpu().numpy() for correlations in per_axis], axis=0))


def case_smoothness(case: Mapping[str, Any]) -> np.ndarray:
    """:func:`smoothness` of a case's image on the model's grid, where its label map says something."""
    return smoothness(case[IMAGE].as_tensor(), case[LABEL].as_tensor() != IGNORE_INDEX)


@dataclass(frozen=True)
class ReferenceImages(CentreAndSpread):
    """Centre and spread of the :func:`smoothness` of the references' images, ``(C,)`` each.

    The spread is infinite where they are too few. A model that sees no images, or one of an earlier version, has none.
    """

    prefix: ClassVar[str] = "image_"

    @classmethod
    def fit(cls, values: np.ndarray) -> ReferenceImages:
        """Fits the smoothness ``(N, C)`` of references' images; those of which it is not known are left out."""
        finite = values[np.isfinite(values).all(axis=1)]
        if len(finite) < FEWEST:
            return cls(np.zeros(values.shape[1]), np.full(values.shape[1], np.inf))
        return cls.of(finite.T, MIN_SPREAD)

    def finding(self, values: np.ndarray) -> str:
        """What is wrong with an image of smoothness ``(C,)``, in words; empty where nothing is."""
        return ROUGHER if ((values - self.centre) / self.spread < -FAR).any() else ""
