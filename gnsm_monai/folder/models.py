"""Several models' masks of one case: how far they disagree."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from gnsm_monai.folder.reading import FolderMasks

__all__ = ["disagreements", "words_of"]


def disagreements(masks: FolderMasks) -> npt.NDArray[np.float64]:
    """1 - mean Dice of each mask with the other masks of its case, ``(N,)`` in [0, 1]; NaN without others.

    Dice is the mean over structures that either mask has, at the common voxel size. Masks of another size than the rest
    of their case are not compared.
    """
    cases: dict[str, list[int]] = {}
    for number, mask in enumerate(masks.masks):
        cases.setdefault(mask.patient, []).append(number)
    values = np.full(len(masks.masks), np.nan)
    for numbers in cases.values():
        structures = [masks.one_hot[number] for number in numbers] if len(numbers) > 1 else []
        for i, one in enumerate(structures):
            others = [_dice(one, other) for j, other in enumerate(structures) if j != i and other.shape == one.shape]
            if measured := [dice for dice in others if not math.isnan(dice)]:
                values[numbers[i]] = 1 - float(np.mean(measured))
    return values


def words_of(disagreement: float) -> str:
    """The disagreement in words; empty where there is none."""
    return (
        ""
        if math.isnan(disagreement)
        else f"other models' masks of the case have a Dice of {1 - disagreement:.2f} with it"
    )


def _dice(mask: npt.NDArray[np.bool_], other: npt.NDArray[np.bool_]) -> float:
    """Mean over the structures ``(S, *spatial)`` that either has; NaN where neither has any."""
    axes: Sequence[int] = tuple(range(1, mask.ndim))
    total = mask.sum(axes) + other.sum(axes)
    return float((2 * (mask & other).sum(axes)[total > 0] / total[total > 0]).mean()) if total.any() else math.nan
