"""Dice of two label maps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from gnsm_monai.data.constants import IGNORE_INDEX

__all__ = ["LabelMap", "foreground_dice", "mean_foreground_dice"]

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
