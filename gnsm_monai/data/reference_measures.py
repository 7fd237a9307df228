"""What is measured of reference label maps at their full size, and the grid that follows from all of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
from monai.data import MetaTensor
from scipy import ndimage

from gnsm_monai.data.alignment import Place, place_of
from gnsm_monai.data.class_index import distinct_values, scheme_values
from gnsm_monai.data.constants import LABEL_NAMES
from gnsm_monai.data.nnunet import LabelScheme
from gnsm_monai.data.transforms import centred_extent
from gnsm_monai.errors import InputError

__all__ = ["MapMeasures", "any_way_up", "grid_of", "symmetric_axes"]

SIZE_MULTIPLE = 8
"""Grids are rounded up to it, so that three halvings leave nothing to pad."""

MARGIN = 2
"""Voxels of background kept on each side of the outermost structure."""

COARSE_SIZE = 24
"""Voxels per axis of the maps whose symmetry is examined; an even number."""


@dataclass(frozen=True)
class MapMeasures:
    """What is measured of one label map.

    Args:
        extent: see :func:`centred_extent`.
        spacing: mm per axis.
        place: of the field of view.
        values: class indices that occur (file values as long as the classes are not known).
        coarse: the map at ``COARSE_SIZE`` voxels per axis.
        middle: the largest square about the middle of a picture, likewise; None for volumes.
        names: of its values, where its header or a table beside it tells them.
    """

    extent: np.ndarray
    spacing: np.ndarray
    place: Place
    values: frozenset[int]
    coarse: np.ndarray
    middle: np.ndarray | None = None
    names: Mapping[int, str] = field(default_factory=dict)

    @classmethod
    def of(cls, label: MetaTensor) -> MapMeasures:
        """Measures a map ``(1, *spatial)``."""
        array = label.as_tensor()[0].numpy()
        return cls(
            extent=centred_extent(array),
            spacing=label.pixdim.numpy().astype(np.float64),
            place=place_of(label),
            values=frozenset(distinct_values(array)[0].tolist()),
            coarse=array[np.ix_(*[_sampled(n) for n in array.shape])],
            middle=_middle(array, label.pixdim.numpy()) if array.ndim == 2 else None,
            names=label.meta.get(LABEL_NAMES, {}),
        )

    def indexed(self, scheme: LabelScheme, path: Path) -> MapMeasures:
        """File values replaced by class indices."""

        def index(values: np.ndarray) -> np.ndarray:
            return np.searchsorted(scheme.values, scheme_values(values, self.names, scheme, path))  # which are in order

        values = index(np.array(sorted(self.values)))
        middle = None if self.middle is None else index(self.middle)
        return replace(self, values=frozenset(values.tolist()), coarse=index(self.coarse), middle=middle)


def _sampled(size: int) -> np.ndarray:
    """``COARSE_SIZE`` voxels of an axis, evenly spread and mirror-symmetric: else a symmetric map would not look so."""
    low = (2 * np.arange(COARSE_SIZE // 2) + 1) * size // (2 * COARSE_SIZE)
    return np.concatenate([low, size - 1 - low[::-1]])


def _middle(picture: np.ndarray, spacing: np.ndarray) -> np.ndarray:
    """The largest square about the middle of a picture, at ``COARSE_SIZE`` pixels per axis."""
    lengths = np.array(picture.shape) * spacing
    offsets = ((np.arange(COARSE_SIZE) + 0.5) / COARSE_SIZE - 0.5) * lengths.min()
    places = [n / 2 + offsets / mm for n, mm in zip(picture.shape, spacing, strict=True)]
    return picture[np.ix_(*[place.astype(int) for place in places])]


def grid_of(measured: Sequence[MapMeasures], max_voxels: int) -> tuple[list[float], list[int]]:
    """Voxel size in mm, the median (nnU-Net's rule) or coarser, and voxels per axis, at most ``max_voxels`` in all."""
    spacings = np.stack([m.spacing for m in measured])
    extents = np.stack([m.extent for m in measured]) * spacings
    voxel_size = np.median(spacings, axis=0)
    if max_voxels < SIZE_MULTIPLE ** len(voxel_size):
        raise InputError(f"max_voxels: must be at least {SIZE_MULTIPLE ** len(voxel_size)}, got {max_voxels}")
    while True:
        needed = (extents / voxel_size).max(0) + 2 * MARGIN
        size = np.ceil(np.round(needed, 3) / SIZE_MULTIPLE).astype(int) * SIZE_MULTIPLE
        if np.prod(size) <= max_voxels:
            return voxel_size.tolist(), size.tolist()
        voxel_size = voxel_size * 1.01


def symmetric_axes(maps: Sequence[np.ndarray], num_classes: int) -> list[int]:
    """Axes along which a mirrored map is as probable as the map itself, by the voxelwise frequencies of the maps.

    Left and right structures with labels of their own fail at once.
    """
    flips: list[_Change] = [partial(np.flip, axis=axis) for axis in range(maps[0].ndim)]
    return [axis for axis, probable in enumerate(_as_probable(maps, num_classes, flips)) if probable]


def any_way_up(measured: Sequence[MapMeasures], num_classes: int) -> bool:
    """Whether pictures that are turned by any angle are as probable as they are, as those of cells may be.

    Eighths of a turn are tried, on the largest disc about the middle, which stays inside when it is turned. Volumes are
    never turned: no set of volumes has been measured on which it pays.
    """
    pictures = [_disc(m.middle) for m in measured if m.middle is not None]
    turns: list[_Change] = [partial(_turned, degrees=degrees) for degrees in (45, 90, 135)]
    return bool(pictures) and all(_as_probable(pictures, num_classes, turns))


_Change = Callable[[np.ndarray], np.ndarray]


def _as_probable(maps: Sequence[np.ndarray], num_classes: int, changes: Sequence[_Change]) -> list[bool]:
    """Of each way to change maps, whether they are as probable as before.

    Frequencies come from one half of the maps, the comparison from the other: a changed map must be within half a
    standard deviation of the usual log-likelihood.
    """
    indices = [np.maximum(m, 0).astype(np.intp) for m in maps]  # ignored counts as background
    learnt, compared = indices[::2], indices[1::2]
    frequency = np.zeros((num_classes, *maps[0].shape))
    for index in learnt:
        np.put_along_axis(frequency, index[None], np.take_along_axis(frequency, index[None], 0) + 1 / len(learnt), 0)
    log_prior = np.log(frequency * 0.999 + 0.001 / num_classes)

    def log_likelihood(samples: Sequence[np.ndarray]) -> np.ndarray:
        return np.array([np.take_along_axis(log_prior, sample[None], 0).mean() for sample in samples])

    usual = log_likelihood(compared)
    limit = usual.mean() - 0.5 * usual.std(ddof=1) - 1e-9  # identical maps have no spread, only rounding
    return [bool(log_likelihood([change(m) for m in compared]).mean() >= limit) for change in changes]


def _turned(picture: np.ndarray, degrees: float) -> np.ndarray:
    turned: np.ndarray = ndimage.rotate(picture, degrees, reshape=False, order=0)
    return turned


def _disc(square: np.ndarray) -> np.ndarray:
    """The largest disc in a square, and background around it."""
    offset = np.arange(len(square)) - (len(square) - 1) / 2
    disc: np.ndarray = np.where(offset[:, None] ** 2 + offset**2 <= len(square) ** 2 / 4, square, 0)
    return disc
