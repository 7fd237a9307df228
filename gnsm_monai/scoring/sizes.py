"""How large the references' structures are, and where values of references lie."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import ClassVar, TypeVar

import numpy as np
import scipy  # its parts are imported when they are first used
from torch import Tensor

from gnsm_monai.explain.findings import UsualVolume

__all__ = ["CentreAndSpread", "ReferenceSizes"]

_Values = TypeVar("_Values", bound="CentreAndSpread")


@dataclass(frozen=True)
class CentreAndSpread:
    """Centre and spread of some values of the references, ``(F,)`` each: median, 1.4826 x median absolute deviation.

    A subclass says what the values are, and gives the ``prefix`` of its arrays in an npz file.
    """

    prefix: ClassVar[str]
    centre: np.ndarray
    spread: np.ndarray

    @classmethod
    def of(cls: type[_Values], columns: Iterable[np.ndarray], least_spread: float) -> _Values:
        """Fits ``F`` columns of values, which may differ in length; the centre of an empty column is 0."""
        deviation = partial(scipy.stats.median_abs_deviation, scale="normal")
        summaries = [(np.median(c), deviation(c)) if len(c) else (0.0, 0.0) for c in columns]
        centre, spread = np.array(summaries, dtype=np.float64).reshape(-1, 2).T
        return cls(centre, np.maximum(spread, least_spread))

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Plain arrays for an npz file; :meth:`from_arrays` reads them back."""
        return {f"{self.prefix}centre": self.centre, f"{self.prefix}spread": self.spread}

    @classmethod
    def from_arrays(cls: type[_Values], arrays: Mapping[str, np.ndarray]) -> _Values | None:
        """None where the arrays hold none."""
        if f"{cls.prefix}centre" not in arrays:
            return None
        return cls(arrays[f"{cls.prefix}centre"], arrays[f"{cls.prefix}spread"])


MIN_SPREAD = 0.05
"""Least spread of the logarithm, 5 % of a size: where references are alike, one voxel more is no error."""


@dataclass(frozen=True)
class ReferenceSizes(CentreAndSpread):
    """Centre and spread of the logarithm of one more than a structure's voxels, ``(S,)`` each.

    If no reference has a structure, its centre is 0. ``smallest`` and ``largest`` are the voxels of a structure in the
    references that have it, ``(S,)`` each; models of version 0.2 do not know them, and they are empty there.
    """

    prefix: ClassVar[str] = "size_"
    smallest: np.ndarray = field(default_factory=lambda: np.empty(0))
    largest: np.ndarray = field(default_factory=lambda: np.empty(0))

    @classmethod
    def fit(cls, voxels: np.ndarray) -> ReferenceSizes:
        """Fits voxels ``(N, S)`` of references; where one lacks a structure, the others tell its size."""
        columns = [column[column > 0] for column in np.asarray(voxels, dtype=np.float64).T]
        middle = cls.of((np.log1p(column) for column in columns), MIN_SPREAD)
        smallest, largest = (np.array([f(c) if len(c) else 0.0 for c in columns]) for f in (np.min, np.max))
        return cls(middle.centre, middle.spread, smallest, largest)

    def volumes(self, voxel: float) -> list[UsualVolume]:
        """What a structure measures in the references, one for each structure, with voxels of ``voxel`` mm³ (mm²)."""
        unknown = np.full(len(self.centre), np.nan)
        ends = zip(*((self.smallest, self.largest) if len(self.smallest) else (unknown, unknown)), strict=True)
        return [
            UsualVolume(float(np.expm1(centre)) * voxel, float(low) * voxel, float(high) * voxel)
            for centre, (low, high) in zip(self.centre, ends, strict=True)
        ]

    def to_arrays(self) -> dict[str, np.ndarray]:
        return {**super().to_arrays(), f"{self.prefix}smallest": self.smallest, f"{self.prefix}largest": self.largest}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> ReferenceSizes | None:
        middle = super().from_arrays(arrays)
        if middle is None or f"{cls.prefix}smallest" not in arrays:
            return middle
        return cls(middle.centre, middle.spread, arrays[f"{cls.prefix}smallest"], arrays[f"{cls.prefix}largest"])

    def deviation(self, voxels: Tensor) -> Tensor:
        """Spreads by which structures of ``(..., S)`` voxels are larger or smaller than usual, same shape, float64."""
        values = voxels.double().log1p()
        return (values - values.new_tensor(self.centre)).abs() / values.new_tensor(self.spread)
