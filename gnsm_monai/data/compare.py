"""Dice and surface distance of two label maps; Dice and volume of a mask, in the geometry of its file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from monai.data import MetaTensor
from monai.transforms import Pad, Transform
from scipy import ndimage

from gnsm_monai.data.constants import (
    CONTACT_AREAS,
    CONTACTS,
    CROPPED,
    EMPTY_LEFT_OUT,
    IGNORE_INDEX,
    IMAGE,
    LABEL,
    REFERENCE,
    SOFT,
    UNSEEN_IMAGE,
)
from gnsm_monai.data.contacts import contact_areas
from gnsm_monai.data.geometry import Cropped, Grid, as_turned, lay_on
from gnsm_monai.data.loading import read_grid
from gnsm_monai.data.notes import add_note, spared
from gnsm_monai.errors import InputError

__all__ = [
    "CompareToReference",
    "LabelMap",
    "foreground_dice",
    "mean_dice",
    "mean_foreground_dice",
    "surface_distances",
]

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
    counted = (a > 0) | (b > 0)  # what is background in both counts nowhere
    a, b = a[counted], b[counted]
    if (ignored := (a == IGNORE_INDEX) | (b == IGNORE_INDEX)).any():
        a, b = a[~ignored], b[~ignored]
    # A table of voxel counts, not one-hot maps: a CT scan with a hundred structures would not fit in memory.
    pairs = a.astype(np.intp) * num_classes + b
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
    return mean_dice(foreground_dice(a, b, num_classes, structure_classes))


def mean_dice(dice: npt.NDArray[np.float64]) -> float:
    """Mean of Dice ``(S,)`` over the structures where it is defined; NaN if it is nowhere."""
    defined = dice[~np.isnan(dice)]
    return float(defined.mean()) if defined.size else float("nan")


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
    """Adds ``volume_ml``, contacts and, if the case has a reference, ``dice``; then drops the reference.

    Volumes are in ml per structure. For 2D maps, which have no thickness, they are areas in square centimetres.
    Contacts are judged at the size of the mask's file. Dice is per structure.

    All maps of a case follow the mask (:func:`gnsm_monai.data.geometry.lay_on`). A reference that does not fit costs
    the Dice alone, and the case's ``note`` says why. If the mask or the reference lies within the other, the slices
    that one of them lacks are background. What the mask lacks of the field of view of its image, or else of its
    reference, is put down as ``cropped``, unless its file leaves empty slices out (DICOM SEG). A mask that lacks slices
    of its image is filled up with background, so that what is missing counts; a reference never changes what is scored.

    Args:
        num_classes: classes ``K``, background included.
        structure_classes: the classes that each structure consists of; by default each foreground class is one.
        contacts: from areas ``(K, K)`` to how unusual the contacts of each structure are, ``(S,)``, if that is known.

    Raises:
        InputError: on call; the image that the network sees does not fit the mask.
    """

    def __init__(
        self,
        num_classes: int,
        structure_classes: Sequence[Sequence[int]] | None = None,
        contacts: Callable[[np.ndarray], np.ndarray] | None = None,
    ) -> None:
        self.num_classes, self.contacts = num_classes, contacts
        self.structure_classes = [list(c) for c in structure_classes or ([c] for c in range(1, num_classes))]

    def __call__(self, data: Mapping[str, Any]) -> dict[str, Any]:
        case = dict(data)
        label = case[LABEL]
        counts = np.bincount(label.numpy().ravel().clip(min=0), minlength=self.num_classes)
        spacing = label.pixdim.numpy()[: label.ndim - 1]
        voxels = np.array([counts[members].sum() for members in self.structure_classes])
        case["volume_ml"] = voxels * float(np.prod(spacing)) / (1000 if len(spacing) == 3 else 100)
        if REFERENCE in case:
            self._compare(case)
        if UNSEEN_IMAGE in case:
            _compare_size(case)
        if IMAGE in case:
            _lay_image(case)
        if self.contacts is not None:
            case[CONTACT_AREAS] = self._contact_areas(case[LABEL])
            case[CONTACTS] = self.contacts(case[CONTACT_AREAS])
        return case

    def _contact_areas(self, label: MetaTensor) -> np.ndarray:
        values, spacing = label[0].numpy(), label.pixdim.tolist()[: label.ndim - 1]
        # Background lies where slices were left out.
        return contact_areas(np.pad(values, 1) if label.meta.get(EMPTY_LEFT_OUT) else values, spacing, self.num_classes)

    def _compare(self, case: dict[str, Any]) -> None:
        label, reference = case[LABEL], case.pop(REFERENCE)
        _note_cropping(case, Grid.of(reference), REFERENCE)
        with spared(case, REFERENCE):
            laid = lay_on(label, reference, REFERENCE)
            if laid.apart:
                add_note(case, _apart(REFERENCE, laid.apart))
            if np.any(laid.lacking):
                add_note(case, "its reference shows less than the mask: the rest is taken for background there")
            mask, values = (
                np.pad(m.numpy(), [(0, 0), *ends]) for m, ends in ((label, laid.missing), (laid.values, laid.lacking))
            )
            case["dice"] = foreground_dice(mask, values, self.num_classes, self.structure_classes)


def _compare_size(case: dict[str, Any]) -> None:
    """Fills the mask up to an image that the network does not see; an unreadable one costs a line."""
    path = case.pop(UNSEEN_IMAGE)
    with spared(case, UNSEEN_IMAGE):
        cropped = _note_cropping(case, read_grid(path, case[LABEL].ndim - 1), IMAGE)
        if cropped is not None and cropped.located:
            _fill_up(case, as_turned(case[LABEL], cropped.missing))


def _note_cropping(case: dict[str, Any], file: Grid, beside: str) -> Cropped | None:
    mask = Grid.of(case[LABEL])
    cropped = Cropped.of(mask, file, beside) if len(file.shape) == len(mask.shape) else None
    if cropped is not None and not case[LABEL].meta.get(EMPTY_LEFT_OUT):
        case[CROPPED] = cropped
    return cropped


def _fill_up(case: dict[str, Any], missing: Sequence[tuple[int, int]]) -> None:
    """Background for what the mask lacks at the ends of its axes: else a part that was cut off would not count."""
    add_note(case, "what it lacks of its image is taken for background")
    pad: Any = Pad([(0, 0), *missing], value=0)  # type: ignore[arg-type]
    case[LABEL] = pad(case[LABEL])
    if SOFT in case:
        case[SOFT] = pad(case[SOFT])
        case[SOFT][0] += 1 - case[SOFT].sum(0)


def _lay_image(case: dict[str, Any]) -> None:
    """Brings the image that the network sees to the mask's axes, and both to the image's field of view.

    Raises:
        InputError: the two do not fit, or the image shows less than the mask.
    """
    label = case[LABEL]
    laid = lay_on(label, case[IMAGE], IMAGE)
    if np.any(laid.lacking):
        path = label.meta.get("filename_or_obj", "label map")
        raise InputError(f"{path}: its image shows a part of it only, and this model is conditioned on images")
    if laid.apart:
        add_note(case, _apart(IMAGE, laid.apart))
    case[IMAGE] = laid.values
    if np.any(laid.missing):
        _note_cropping(case, Grid.of(case[IMAGE]), IMAGE)
        _fill_up(case, laid.missing)


def _apart(key: str, mm: float) -> str:
    return (
        f"the headers of mask and {key} place them {mm:{'.0f' if mm >= 10 else '.2g'}} mm apart: taken voxel by voxel"
    )
