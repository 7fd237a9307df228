"""Where a mask lies in the usual field of view, when its own field of view is another one."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform, Pad
from scipy.signal import fftconvolve

from gnsm_monai.data.constants import LABEL
from gnsm_monai.data.transforms import outside_value

__all__ = ["AlignToReferencesd", "best_shift"]

TOLERANCE = 0.02
"""Share of a length up to which a field of view beyond those of the references is still a usual one."""


class AlignToReferencesd(MapTransform):
    """Moves a case of an unusual field of view to where its label map fits the references best.

    Positions are measured from the centre of the field of view. That is where the references' structures lie as long as
    the field of view is of their kind; one that is shorter or longer than any of theirs was cut or padded by somebody,
    nobody knows on which side. Along such an axis the centre says nothing, and the place is taken at which the label
    map is most probable under the voxelwise prior: its position then counts neither for nor against it.

    Args:
        keys: maps of one grid, ``(C, *spatial)``, among them the label map.
        log_prior: of each class at each voxel of the usual grid, ``(K, *spatial)``, see
            :meth:`gnsm_monai.networks.ScoreUNet.set_prior`.
        field_of_view: shortest and longest length per axis among the references, ``(2, axes)`` in mm.
    """

    def __init__(self, keys: KeysCollection, log_prior: np.ndarray, field_of_view: Sequence[Sequence[float]]) -> None:
        super().__init__(keys, allow_missing_keys=True)
        self.log_prior, self.field_of_view = log_prior, np.asarray(field_of_view, dtype=np.float64)

    def __call__(self, data: Mapping[Any, Any]) -> dict[Hashable, Any]:
        case = dict(data)
        label: MetaTensor = case[LABEL]
        lengths = np.array(label.shape[1:]) * label.pixdim.numpy()
        shortest, longest = self.field_of_view * [[1 - TOLERANCE], [1 + TOLERANCE]]
        unusual = (lengths < shortest) | (lengths > longest)
        if not unusual.any() or not (label > 0).any():
            return case
        shift = best_shift(label.numpy()[0], self.log_prior, unusual)
        # Twice as much on one side moves the centre, from which the grid is laid, by once as much.
        added = [(2 * max(0, n), 2 * max(0, -n)) for n in shift]
        for key in self.key_iterator(case):
            pad: Any = Pad([(0, 0), *added], value=outside_value(key))  # type: ignore[arg-type]
            case[key] = pad(case[key])
        return case


def best_shift(label: np.ndarray, log_prior: np.ndarray, free: np.ndarray) -> list[int]:
    """Voxels per axis by which a label map is moved from the centre of the grid to where it is most probable.

    The log-likelihood of voxels that know nothing of each other, ``sum_v log p(label_v)`` over the voxels that count,
    by cross-correlation. The prior's edge is repeated outside its grid.

    Args:
        label: class indices ``(*spatial)``, ``IGNORE_INDEX`` where nothing is known.
        log_prior: ``(K, *grid)``.
        free: axes along which the map may be moved, ``(axes,)`` bool; by half the usual grid, either way.
    """
    grid = np.array(log_prior.shape[1:])
    reach = np.where(free, grid // 2, 0)
    start = (grid - label.shape) // 2 - reach  # of the first place that is looked at, in voxels of the grid
    size = np.array(label.shape) + 2 * reach
    at = np.ix_(*[np.clip(np.arange(n) + s, 0, g - 1) for n, s, g in zip(size, start, grid, strict=True)])
    likelihood = np.zeros(tuple(2 * reach + 1))
    for index, prior in enumerate(log_prior):
        own = (label == index).astype(np.float32)
        if own.any():
            likelihood += fftconvolve(prior[at], np.flip(own), mode="valid")
    best = np.unravel_index(likelihood.argmax(), likelihood.shape)
    return [int(b - r) for b, r in zip(best, reach, strict=True)]
