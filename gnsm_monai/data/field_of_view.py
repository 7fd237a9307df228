"""How much of the body label maps show, and where that lies in the world."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from monai.data import MetaTensor

__all__ = ["FieldsOfView", "extent_of"]


def extent_of(label: MetaTensor) -> np.ndarray:
    """Where a map starts and ends along each of its axes, in mm of the world, ``(2, axes)``."""
    affine, spacing = np.asarray(label.affine, dtype=np.float64), label.pixdim.numpy().astype(np.float64)
    start = (affine[:-1, :-1] / spacing).T @ affine[:-1, -1] - spacing / 2
    return np.stack([start, start + spacing * label.shape[1:]])


@dataclass(frozen=True)
class FieldsOfView:
    """The fields of view of the references, per axis in mm.

    Args:
        lengths: shortest and longest.
        starts: lowest and highest place at which one starts.
        centre: mean place of their centres.
        spread: standard deviation of the places of their centres.
    """

    lengths: tuple[list[float], list[float]]
    starts: tuple[list[float], list[float]]
    centre: list[float]
    spread: list[float]

    @classmethod
    def of(cls, extents: Sequence[np.ndarray]) -> FieldsOfView:
        """Of the references' :func:`extent_of`, one at least."""
        starts, ends = np.stack(extents, axis=1)
        lengths, centres = ends - starts, (starts + ends) / 2
        return cls(
            (lengths.min(0).tolist(), lengths.max(0).tolist()),
            (starts.min(0).tolist(), starts.max(0).tolist()),
            centres.mean(0).tolist(),
            centres.std(0).tolist(),
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values; ``FieldsOfView(**values)`` reads them back."""
        return asdict(self)
