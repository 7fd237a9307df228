"""How much of the body label maps show, and where a mask lies in the usual field of view when its own is another."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import scipy  # its parts are imported when they are first used
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform, Pad
from nibabel.orientations import io_orientation
from scipy.ndimage import find_objects

from gnsm_monai.data.constants import LABEL
from gnsm_monai.data.file_checks import check_memory
from gnsm_monai.data.geometry import Grid
from gnsm_monai.data.transforms import outside_value

__all__ = ["AlignToReferencesd", "FieldsOfView", "Place", "best_shift", "place_of"]


@dataclass(frozen=True)
class Place:
    """The field of view of one label map, ``(axes,)`` each, in mm.

    Args:
        length: along the axes of the map.
        corner: outer corner of the file's first voxel, in the world. A crop that is recorded in the header moves this
            corner if it removes voxels at the beginning of an axis, whichever way the file is stored.
        centre: in the world.
        directions: ``(axes, axes)``, the map's axes as columns of unit length.
        spacing: of the file, along the axes of the map.
        file_length: of the file, likewise.
    """

    length: np.ndarray
    corner: np.ndarray
    centre: np.ndarray
    directions: np.ndarray
    spacing: np.ndarray
    file_length: np.ndarray


def place_of(label: MetaTensor, usual: FieldsOfView | None = None) -> Place:
    """Where a map ``(1, *spatial)`` lies in the world. It may have been turned and resampled after reading.

    Args:
        label: the map.
        usual: where references lie; the corner is then that of the voxel which would come first if the map's file was
            stored in the same direction as theirs. By default it is that of the file's own first voxel.
    """
    affine, size = np.asarray(label.affine, dtype=np.float64), np.array(label.shape[1:])
    file, spacing = Grid.of(label), label.pixdim.numpy().astype(np.float64)
    first = np.full(len(size), -0.5)
    if usual is not None:
        along, towards = io_orientation(file.affine).astype(int).T
        ascending = np.where(np.mean(usual.corners, axis=0) < usual.centre, 1, -1)
        first = np.where(towards == ascending[along], -0.5, np.array(file.shape) - 0.5)
    order = np.argsort(io_orientation(np.linalg.solve(affine, file.affine))[:, 0])
    return Place(
        size * spacing,
        file.affine[:-1, :-1] @ first + file.affine[:-1, -1],
        affine[:-1, :-1] @ ((size - 1) / 2) + affine[:-1, -1],
        affine[:-1, :-1] / spacing,
        file.spacing[order],
        (file.spacing * file.shape)[order],
    )


@dataclass(frozen=True)
class FieldsOfView:
    """The fields of view of the references, per axis in mm.

    Args:
        lengths: shortest and longest.
        corners: lowest and highest place of their files' first voxels in the world.
        centre: mean place of their centres.
        spread: standard deviation of the places of their centres.
        spacings: finest and coarsest spacing of their files; None for models of earlier versions.
    """

    lengths: tuple[list[float], list[float]]
    corners: tuple[list[float], list[float]]
    centre: list[float]
    spread: list[float]
    spacings: tuple[list[float], list[float]] | None = None

    @classmethod
    def of(cls, places: Sequence[Place]) -> FieldsOfView:
        """Summarises the places of the references, at least one."""
        lengths, corners, centres, spacings = (
            np.stack([getattr(place, name) for place in places]) for name in ("length", "corner", "centre", "spacing")
        )
        return cls(
            (lengths.min(0).tolist(), lengths.max(0).tolist()),
            (corners.min(0).tolist(), corners.max(0).tolist()),
            centres.mean(0).tolist(),
            centres.std(0).tolist(),
            (spacings.min(0).tolist(), spacings.max(0).tolist()),
        )

    @property
    def made_up(self) -> bool:
        """Whether the places are those that nibabel makes up for files without any, as version 0.2 read them."""
        centred = np.allclose([self.centre, self.spread], 0, atol=1e-3)
        return len(self.centre) == 3 and bool(centred and (np.sign(self.corners) == [1, -1, -1]).all())

    def to_dict(self) -> dict[str, Any]:
        """Plain values; ``FieldsOfView(**values)`` reads them back."""
        return asdict(self)


TOLERANCE, ROUNDED = 0.02, 1.5
"""How far, as a share of a length and in voxels, a field of view may exceed those of the references and still be usual:
a resampled map is rounded up to whole voxels."""

SPREADS = 2
"""Standard deviations of the references' centres by which a place in the world may be off."""

BYTES_PER_VOXEL = 200
"""Memory per voxel that the search takes (190 bytes were measured)."""


class AlignToReferencesd(MapTransform):
    """Moves a case of an unusual field of view to where the references' structures lie.

    Positions are measured from the centre of the field of view. A field of view that was cut or padded has its centre
    elsewhere, so its structures seem to lie in another place than those of the references.

    - If the first voxel of a file lies where that of no reference does, somebody cut or padded the file and kept
      account of it in the header. The map is moved to where the references' fields of view lie in the world. As these
      differ, the most probable place within :data:`SPREADS` of their standard deviations is taken. If all lengths are
      usual, the header may only tell of another scanner: then the map stays where it is if that is more probable.
    - If the header tells nothing, but an axis is shorter or longer than that of any reference, the side of the cut is
      unknown. Along such an axis the most probable place is taken, wherever it is: position then counts neither for nor
      against the map.

    The voxelwise prior of the whole map decides which place is probable.

    Args:
        keys: maps of one grid, ``(C, *spatial)``, among them the label map.
        log_prior: of each class at each voxel of the usual grid, ``(K, *spatial)``, see
            :meth:`gnsm_monai.networks.ScoreUNet.set_prior`.
        usual: the references' fields of view.

    Raises:
        ValueError: on call; the search would not fit in this machine's memory.
    """

    def __init__(self, keys: KeysCollection, log_prior: np.ndarray, usual: FieldsOfView) -> None:
        super().__init__(keys, allow_missing_keys=True)
        self.log_prior, self.usual = log_prior, usual

    def __call__(self, data: Mapping[Any, Any]) -> dict[Hashable, Any]:
        case = dict(data)
        label: MetaTensor = case[LABEL]
        searches = self._searches(label)
        if not searches or not (label > 0).any():
            return case
        shifts = [best_shift(label.numpy()[0], self.log_prior, around, reach) for around, reach in searches]
        shift, _ = max(shifts, key=lambda place: place[1])
        # Padding one side by 2 n voxels moves the centre, about which the grid is laid, by n voxels.
        added = [(2 * max(0, n), 2 * max(0, -n)) for n in shift]
        for key in self.key_iterator(case):
            pad: Any = Pad([(0, 0), *added], value=outside_value(key))  # type: ignore[arg-type]
            case[key] = pad(case[key])
        return case

    def _searches(self, label: MetaTensor) -> list[tuple[np.ndarray, np.ndarray]]:
        """Shifts in voxels per axis around which the best one is sought, and how far each; none: not to be moved."""
        place, spacing = place_of(label, self.usual), label.pixdim.numpy()
        half = np.array(self.log_prior.shape[1:]) // 2
        here = np.zeros_like(half)
        margin = np.maximum(TOLERANCE * np.asarray(self.usual.lengths[1]), ROUNDED * spacing)
        offset = place.directions.T @ (place.centre - self.usual.centre)
        shift = np.rint(offset / spacing).astype(np.int64)
        cut = _outside(place.length, *self.usual.lengths, margin)
        if _outside(place.corner, *self.usual.corners, margin).any() and (np.abs(shift) <= half).all():
            apart = np.ceil(SPREADS * np.asarray(self.usual.spread) / spacing).astype(np.int64)
            there = (shift, np.clip(apart, 1, half))
            return [there] if cut.any() else [(here, here), there]
        return [(here, np.where(cut, half, 0))] if cut.any() else []


def _outside(values: np.ndarray, low: Sequence[float], high: Sequence[float], margin: np.ndarray) -> np.ndarray:
    outside: np.ndarray = (values < np.asarray(low) - margin) | (values > np.asarray(high) + margin)
    return outside


def best_shift(
    label: np.ndarray, log_prior: np.ndarray, around: np.ndarray, reach: np.ndarray
) -> tuple[list[int], float]:
    """Voxels per axis by which a label map is moved from the centre of the grid to where it is most probable.

    Cross-correlation gives the log-likelihood of independent voxels, ``sum_v log p(label_v)`` over the observed voxels.
    The prior's edge is repeated outside its grid, so background far from all structures is equally probable everywhere.
    It is left out, and the memory depends on the structures' size.

    Args:
        label: class indices ``(*spatial)``, ``IGNORE_INDEX`` where nothing is known; with a structure.
        log_prior: ``(K, *grid)``.
        around: the shift in the middle of those that are looked at, ``(axes,)``.
        reach: how many voxels more or less are looked at, ``(axes,)``; 0 where the axis is not searched.

    Returns:
        The shift and its log-likelihood in nats, up to a constant of the label map.
    """
    grid = np.array(log_prior.shape[1:])
    (begin, whole), label = _near_structures(label, 2 * grid)
    start = begin + (grid - whole) // 2 + around - reach  # of the first place that is looked at, in the grid's voxels
    size = np.array(label.shape) + 2 * reach
    check_memory(float(np.prod(size)) * BYTES_PER_VOXEL, f"its place is sought on {' x '.join(map(str, size))} voxels")
    at = np.ix_(*[np.clip(np.arange(n) + s, 0, g - 1) for n, s, g in zip(size, start, grid, strict=True)])
    likelihood = np.zeros(tuple(2 * reach + 1))
    for index, prior in enumerate(log_prior):
        inside = (label == index).astype(np.float32)
        if inside.any():
            likelihood += scipy.signal.fftconvolve(prior[at], np.flip(inside), mode="valid")
    best = np.unravel_index(likelihood.argmax(), likelihood.shape)
    return [int(b + a - r) for b, a, r in zip(best, around, reach, strict=True)], float(likelihood[best])


def _near_structures(label: np.ndarray, margin: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The box around all structures and ``margin`` more; where it begins beside the map's whole size, ``(2, axes)``."""
    (structures,) = find_objects((label > 0).astype(np.int8))
    low = [max(extent.start - more, 0) for extent, more in zip(structures, margin, strict=True)]
    box = tuple(slice(a, extent.stop + more) for a, extent, more in zip(low, structures, margin, strict=True))
    return np.array([low, label.shape]), label[box]
