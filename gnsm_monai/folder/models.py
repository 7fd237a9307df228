"""Several models' masks of one case: how far they disagree."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import numpy.typing as npt

from gnsm_monai.data.compare import mean_foreground_dice
from gnsm_monai.folder.reading import FolderMasks

__all__ = ["disagreements", "words_of"]


def disagreements(masks: FolderMasks) -> npt.NDArray[np.float64]:
    """1 - mean Dice of each mask with the other masks of its case, ``(N,)`` in [0, 1]; NaN without others.

    Dice is the mean over structures that either mask has, at the common voxel size. Masks of another size than the rest
    of their case are not compared.
    """
    cases: dict[str, list[int]] = {}
    for number, mask in enumerate(masks.masks):
        cases.setdefault(mask.name, []).append(number)
    values = np.full(len(masks.masks), np.nan)
    scheme = masks.scheme
    dice = partial(mean_foreground_dice, num_classes=scheme.num_classes, structure_classes=scheme.structure_classes)
    for numbers in cases.values():
        labels = [masks.masks[n].label().as_tensor()[0].numpy() for n in numbers] if len(numbers) > 1 else []
        for i, one in enumerate(labels):
            others = [dice(one, other) for j, other in enumerate(labels) if j != i and other.shape == one.shape]
            if measured := [value for value in others if not math.isnan(value)]:
                values[numbers[i]] = 1 - float(np.mean(measured))
    return values


def words_of(disagreement: float) -> str:
    """The disagreement in words; empty where there is none."""
    return (
        ""
        if math.isnan(disagreement)
        else f"other models' masks of the case have a Dice of {1 - disagreement:.2f} with it"
    )
