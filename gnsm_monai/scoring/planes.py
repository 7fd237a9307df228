"""Slices of one scored mask, ready to be drawn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

__all__ = ["CasePicture", "Plane"]


@dataclass(frozen=True)
class Plane:
    """One slice of a case, turned for display: row 0 is on top.

    Attributes:
        axis: array axis of the file that the slice lies across.
        index: slice index along it, from 0.
        label: (h, w) int16 class index, 0 background, -1 ignored.
        anomaly: (h, w) float32, higher = worse.
        image: (h, w) float32, where images are given.
        spacing: mm per row and column.
    """

    axis: int
    index: int
    label: np.ndarray
    anomaly: np.ndarray
    image: np.ndarray | None
    spacing: tuple[float, float]


CasePicture: TypeAlias = tuple[Plane, ...]
"""Three orthogonal planes through the worst place; one for 2D."""
