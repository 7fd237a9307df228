"""Dice and surface distance of two label maps; Dice and volume of a mask, in the geometry of its file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from monai.data import MetaTensor
from monai.transforms import Transform
from scipy import ndimage

from gnsm_monai.data.constants import IGNORE_INDEX, IMAGE, LABEL, REFERENCE
from gnsm_monai.errors import InputError

__all__ = [
    "CompareToReference", "LabelMap", "check_geometry", "foreground_dice", "mean_foreground_dice", "surface_distances",
]  # fmt: skip

LabelMap: TypeAlias = npt.NDArray[np.integer[Any]]
"""Class indices 0..num_classes-1, `IGNORE_INDEX` where ignored, of any shape."""


def foreground_dice(
    a: LabelMap, b: LabelMap, num_classes: int, structure_classes: Sequence[Sequence[int]] | None = None
) -> npt.NDArray[np.float64]:
    """Dice of each structure of two label maps of equal shape, (S,).

    In [0, 1], 1 = identical; NaN for a structure that is in neither map, 0 for one that is in a single map. Voxels that
    are `IGNORE_INDEX` in either map count nowhere.

    Args:
        a: class indices.
        b: class indices.
        num_classes: classes K, background included.
        structure_classes: the classes that each structure consists of; by default each foreground class is one.
    """
    valid = (a != IGNORE_INDEX) & (b != IGNORE_INDEX)
    # A table of voxel counts, not one-hot maps: a CT scan with a hundred structures would not fit in memory.
    pairs = a[valid].astype(np.intp) * num_classes + b[valid]
    joint = np.bincount(pairs, minlength=num_classes**2).reshape(num_classes, num_classes)
    members = [list(classes) for classes in structure_classes or ([c] for c in range(1, num_classes))]
    common = np.array([joint[np.ix_(m, m)].sum() for m in members])
    sizes = np.array([joint[m].sum() + joint[:, m].sum() for m in members])
    dice = np.full(len(members), np.nan)
    np.divide(2 * common, sizes, out=dice, where=sizes > 0)
    return dice


def mean_foreground_dice(
    a: LabelMap, b: LabelMap, num_classes: int, structure_classes: Sequence[Sequence[int]] | None = None
) -> float:
    """Mean of `foreground_dice` over the structures that are in either map, as nnU-Net does; NaN if none is."""
    dice = foreground_dice(a, b, num_classes, structure_classes)
    present = dice[~np.isnan(dice)]
    return float(present.mean()) if present.size else float("nan")


def surface_distances(
    a: LabelMap,
    b: LabelMap,
    num_classes: int,
    spacing: Sequence[float],
    structure_classes: Sequence[Sequence[int]] | None = None,
) -> npt.NDArray[np.float64]:
    """Mean distance between the surfaces of each structure of two label maps of equal shape, (S,) in mm.

    From every voxel of either surface to the other surface; 0 = identical. A surface is made of the voxels of a
    structure that share a face with what is outside of it. NaN for a structure that is not in both maps. Voxels that
    are `IGNORE_INDEX` in either map belong to no structure.

    Args:
        a: class indices.
        b: class indices.
        num_classes: classes K, background included.
        spacing: mm per axis.
        structure_classes: the classes that each structure consists of; by default each foreground class is one.
    """
    ignored = (a == IGNORE_INDEX) | (b == IGNORE_INDEX)
    distances = []
    for members in structure_classes or ([c] for c in range(1, num_classes)):
        pair = [np.isin(labels, list(members)) & ~ignored for labels in (a, b)]
        if not all(inside.any() for inside in pair):
            distances.append(np.nan)
            continue
        (box,) = ndimage.find_objects((pair[0] | pair[1]).astype(np.int8))
        # A rim, so that a structure at the edge of its box has a surface there.
        one, other = (np.pad(inside[box], 1) for inside in pair)
        surfaces = [inside & ~ndimage.binary_erosion(inside) for inside in (one, other)]
        to = [ndimage.distance_transform_edt(~surface, sampling=list(spacing)) for surface in surfaces]
        distances.append(float(np.concatenate([to[1][surfaces[0]], to[0][surfaces[1]]]).mean()))
    return np.array(distances)


class CompareToReference(Transform):
    """Adds ``volume_ml`` and, if the case has a reference, ``dice`` per structure; then drops the reference.

    Volumes are in ml. For 2D maps, which have no thickness, they are areas in square centimetres.

    Args:
        num_classes: classes ``K``, background included.
        structure_classes: the classes that each structure consists of; by default each foreground class is one.

    Raises:
        InputError: on call; the reference or image has another shape or place than the mask.
    """

    def __init__(self, num_classes: int, structure_classes: Sequence[Sequence[int]] | None = None) -> None:
        self.num_classes = num_classes
        self.structure_classes = [list(c) for c in structure_classes or ([c] for c in range(1, num_classes))]

    def __call__(self, data: Mapping[str, Any]) -> dict[str, Any]:
        case = dict(data)
        label = case[LABEL]
        for key in (REFERENCE, IMAGE):
            if key in case:
                check_geometry(label, case[key], key)
        counts = np.bincount(label.numpy().ravel().clip(min=0), minlength=self.num_classes)
        spacing = label.pixdim.numpy()[: label.ndim - 1]
        voxels = np.array([counts[members].sum() for members in self.structure_classes])
        case["volume_ml"] = voxels * float(np.prod(spacing)) / (1000 if len(spacing) == 3 else 100)
        if REFERENCE in case:
            reference = case.pop(REFERENCE)
            case["dice"] = foreground_dice(label.numpy(), reference.numpy(), self.num_classes, self.structure_classes)
        return case


def check_geometry(label: MetaTensor, other: MetaTensor, key: str) -> None:
    """Checks that two maps ``(C, *spatial)`` show the same place.

    Args:
        label: label map, which the message names.
        other: its reference or image.
        key: what ``other`` is.

    Raises:
        InputError: shape, spacing, orientation or origin (by more than 0.01 mm) differ.
    """
    path = label.meta.get("filename_or_obj", "label map")
    if label.shape[1:] != other.shape[1:]:
        raise InputError(f"{path}: shape {tuple(label.shape[1:])} differs from its {key}'s {tuple(other.shape[1:])}")
    if not np.allclose(label.affine, other.affine, atol=1e-2):
        raise InputError(f"{path}: spacing, orientation or origin differ from its {key}'s")
