"""Dice and volume of a mask, in the geometry of its file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from monai.data import MetaTensor
from monai.transforms import Transform

from gnsm_monai.data.constants import IMAGE, LABEL, REFERENCE
from gnsm_monai.data.overlap import foreground_dice
from gnsm_monai.errors import InputError

__all__ = ["CompareToReference", "check_geometry"]


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
