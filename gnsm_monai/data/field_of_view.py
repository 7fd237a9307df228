"""How much of the body label maps show, and where that lies in the world."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from monai.data import MetaTensor

from gnsm_monai.data.constants import FILE_AFFINE

__all__ = ["FieldsOfView", "Place", "place_of"]


@dataclass(frozen=True)
class Place:
    """The field of view of one label map, ``(axes,)`` each, in mm.

    Args:
        length: along the axes of the map.
        corner: outer corner of the file's first voxel, in the world. A crop that is recorded in the header moves this
            corner if it removes voxels at the beginning of an axis, whichever way the file is stored.
        centre: in the world.
        directions: ``(axes, axes)``, the map's axes as columns of unit length.
    """

    length: np.ndarray
    corner: np.ndarray
    centre: np.ndarray
    directions: np.ndarray


def place_of(label: MetaTensor) -> Place:
    """Where a map ``(1, *spatial)`` lies in the world. It may have been turned and resampled after reading."""
    affine, size = np.asarray(label.affine, dtype=np.float64), np.array(label.shape[1:])
    file = np.asarray(label.meta.get(FILE_AFFINE, affine), dtype=np.float64)
    spacing = label.pixdim.numpy().astype(np.float64)
    return Place(
        size * spacing,
        file[:-1, :-1] @ np.full(len(size), -0.5) + file[:-1, -1],
        affine[:-1, :-1] @ ((size - 1) / 2) + affine[:-1, -1],
        affine[:-1, :-1] / spacing,
    )


@dataclass(frozen=True)
class FieldsOfView:
    """The fields of view of the references, per axis in mm.

    Args:
        lengths: shortest and longest.
        corners: lowest and highest place of their files' first voxels in the world.
        centre: mean place of their centres.
        spread: standard deviation of the places of their centres.
    """

    lengths: tuple[list[float], list[float]]
    corners: tuple[list[float], list[float]]
    centre: list[float]
    spread: list[float]

    @classmethod
    def of(cls, places: Sequence[Place]) -> FieldsOfView:
        """Summarises the places of the references, at least one."""
        lengths, corners, centres = (
            np.stack([getattr(place, name) for place in places]) for name in ("length", "corner", "centre")
        )
        return cls(
            (lengths.min(0).tolist(), lengths.max(0).tolist()),
            (corners.min(0).tolist(), corners.max(0).tolist()),
            centres.mean(0).tolist(),
            centres.std(0).tolist(),
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values; ``FieldsOfView(**values)`` reads them back."""
        return asdict(self)
