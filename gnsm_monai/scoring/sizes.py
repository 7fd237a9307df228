"""How large the references' structures are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from torch import Tensor

from gnsm_monai.scoring.centre_spread import CentreAndSpread

__all__ = ["ReferenceSizes"]

LEAST_SPREAD = 0.05
"""Of the logarithm, 5 % of a size: where references are all alike, no voxel more or less is an error."""


@dataclass(frozen=True)
class ReferenceSizes(CentreAndSpread):
    """Centre and spread of the logarithm of one more than a structure's voxels, ``(S,)`` each.

    A structure that no reference has is of centre 0.
    """

    prefix: ClassVar[str] = "size_"

    @classmethod
    def fit(cls, voxels: np.ndarray) -> ReferenceSizes:
        """Fits voxels ``(N, S)`` of references; where one lacks a structure, the others tell its size."""
        columns = np.asarray(voxels, dtype=np.float64).T
        return cls.of((np.log1p(column[column > 0]) for column in columns), LEAST_SPREAD)

    def deviation(self, voxels: Tensor) -> Tensor:
        """Spreads by which structures of ``(..., S)`` voxels are larger or smaller than usual, same shape, float64."""
        values = voxels.double().log1p()
        return (values - values.new_tensor(self.centre)).abs() / values.new_tensor(self.spread)
