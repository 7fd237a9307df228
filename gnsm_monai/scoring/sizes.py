"""How large the references' structures are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.stats import median_abs_deviation
from torch import Tensor

__all__ = ["ReferenceSizes"]

PREFIX = "size_"
LEAST_SPREAD = 0.05
"""Of the logarithm, 5 % of a size: where references are all alike, no voxel more or less is an error."""


@dataclass(frozen=True)
class ReferenceSizes:
    """Centre and spread of the logarithm of one more than a structure's voxels, ``(S,)`` each.

    They are the median and 1.4826 times the median absolute deviation, which references that are themselves in error
    hardly move. A structure that no reference has is of centre 0.
    """

    centre: np.ndarray
    spread: np.ndarray

    @classmethod
    def fit(cls, voxels: np.ndarray) -> ReferenceSizes:
        """Fits voxels ``(N, S)`` of references; where one lacks a structure, the others tell its size."""
        columns = [np.log1p(column[column > 0]) for column in np.asarray(voxels, dtype=np.float64).T]
        centre = [np.median(column) if len(column) else 0.0 for column in columns]
        spread = [median_abs_deviation(column, scale="normal") if len(column) else 0.0 for column in columns]
        return cls(np.array(centre), np.maximum(spread, LEAST_SPREAD))

    def deviation(self, voxels: Tensor) -> Tensor:
        """Spreads by which structures of ``(..., S)`` voxels are larger or smaller than usual, same shape, float64."""
        values = voxels.double().log1p()
        return (values - values.new_tensor(self.centre)).abs() / values.new_tensor(self.spread)

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Plain arrays for an npz file; :meth:`from_arrays` reads them back."""
        return {f"{PREFIX}centre": self.centre, f"{PREFIX}spread": self.spread}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> ReferenceSizes | None:
        """None where the arrays hold none."""
        if f"{PREFIX}centre" not in arrays:
            return None
        return cls(arrays[f"{PREFIX}centre"], arrays[f"{PREFIX}spread"])
