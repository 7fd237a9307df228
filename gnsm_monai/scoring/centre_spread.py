"""Where values of references lie, in a way that references which are themselves in error hardly move."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar, TypeVar

import numpy as np
from scipy.stats import median_abs_deviation

__all__ = ["CentreAndSpread"]

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
        known = [(np.median(c), median_abs_deviation(c, scale="normal")) if len(c) else (0.0, 0.0) for c in columns]
        centre, spread = np.array(known, dtype=np.float64).reshape(-1, 2).T
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
