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
from gnsm_monai.data.field_of_view import FieldsOfView, extent_of
from gnsm_monai.data.transforms import outside_value

__all__ = ["AlignToReferencesd", "best_shift"]

TOLERANCE = 0.02
"""Share of a length up to which a field of view beyond those of the references is still a usual one."""

SPREADS = 2
"""Standard deviations of the references' centres by which a place in the world may be off."""


class AlignToReferencesd(MapTransform):
    """Moves a case of an unusual field of view to where the references' structures lie.

    Positions are measured from the centre of the field of view. That is where the references' structures lie as long as
    the field of view is of their kind; one that was cut or padded has its centre elsewhere.

    - A map that starts at a place in the world where no reference does was cut or padded by somebody who kept account
      of it in the file's header. It is put where the references' fields of view lie in the world; as these differ, it
      is moved to the place of highest likelihood within :data:`SPREADS` of their standard deviations.
    - Where the header tells nothing of the kind, but an axis is shorter or longer than that of any reference, nobody
      knows on which side that was done. Along such an axis the place of highest likelihood is taken wherever it is:
      position then counts neither for nor against the map.

    Likelihood is that of the voxelwise prior.

    Args:
        keys: maps of one grid, ``(C, *spatial)``, among them the label map.
        log_prior: of each class at each voxel of the usual grid, ``(K, *spatial)``, see
            :meth:`gnsm_monai.networks.ScoreUNet.set_prior`.
        usual: the references' fields of view.
    """

    def __init__(self, keys: KeysCollection, log_prior: np.ndarray, usual: FieldsOfView) -> None:
        super().__init__(keys, allow_missing_keys=True)
        self.log_prior, self.usual = log_prior, usual

    def __call__(self, data: Mapping[Any, Any]) -> dict[Hashable, Any]:
        case = dict(data)
        label: MetaTensor = case[LABEL]
        start, reach = self._search(label)
        if not reach.any() or not (label > 0).any():
            return case
        shift = best_shift(label.numpy()[0], self.log_prior, start, reach)
        # Twice as much on one side moves the centre, from which the grid is laid, by once as much.
        added = [(2 * max(0, n), 2 * max(0, -n)) for n in shift]
        for key in self.key_iterator(case):
            pad: Any = Pad([(0, 0), *added], value=outside_value(key))  # type: ignore[arg-type]
            case[key] = pad(case[key])
        return case

    def _search(self, label: MetaTensor) -> tuple[np.ndarray, np.ndarray]:
        """The shift in voxels per axis around which the best one is sought, and how far; no reach: not to be moved."""
        extent, spacing = extent_of(label), label.pixdim.numpy()
        shortest, longest = np.asarray(self.usual.lengths)
        margin, half = TOLERANCE * longest, np.array(self.log_prior.shape[1:]) // 2
        shift = np.rint((extent.mean(0) - self.usual.centre) / spacing).astype(np.int64)
        if _outside(extent[0], *self.usual.starts, margin).any() and (np.abs(shift) <= half).all():
            apart = np.ceil(SPREADS * np.asarray(self.usual.spread) / spacing).astype(np.int64)
            return shift, np.minimum(np.maximum(apart, 1), half)
        cut = _outside(extent[1] - extent[0], shortest, longest, margin)
        return np.zeros_like(shift), np.where(cut, half, 0)


def _outside(values: np.ndarray, low: Sequence[float], high: Sequence[float], margin: np.ndarray) -> np.ndarray:
    outside: np.ndarray = (values < np.asarray(low) - margin) | (values > np.asarray(high) + margin)
    return outside


def best_shift(label: np.ndarray, log_prior: np.ndarray, around: np.ndarray, reach: np.ndarray) -> list[int]:
    """Voxels per axis by which a label map is moved from the centre of the grid to where it is most probable.

    The log-likelihood of voxels that know nothing of each other, ``sum_v log p(label_v)`` over the voxels that count,
    by cross-correlation. The prior's edge is repeated outside its grid.

    Args:
        label: class indices ``(*spatial)``, ``IGNORE_INDEX`` where nothing is known.
        log_prior: ``(K, *grid)``.
        around: the shift in the middle of those that are looked at, ``(axes,)``.
        reach: how many voxels more or less are looked at, ``(axes,)``; 0 where the axis is not searched.
    """
    grid = np.array(log_prior.shape[1:])
    start = (grid - label.shape) // 2 + around - reach  # of the first place that is looked at, in voxels of the grid
    size = np.array(label.shape) + 2 * reach
    at = np.ix_(*[np.clip(np.arange(n) + s, 0, g - 1) for n, s, g in zip(size, start, grid, strict=True)])
    likelihood = np.zeros(tuple(2 * reach + 1))
    for index, prior in enumerate(log_prior):
        own = (label == index).astype(np.float32)
        if own.any():
            likelihood += fftconvolve(prior[at], np.flip(own), mode="valid")
    best = np.unravel_index(likelihood.argmax(), likelihood.shape)
    return [int(b + a - r) for b, a, r in zip(best, around, reach, strict=True)]
