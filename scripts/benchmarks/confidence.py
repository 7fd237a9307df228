"""Rivals that need more than a mask: the segmenter's probabilities, or a second network's mask of the same image."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from gnsm_monai.data.compare import mean_foreground_dice

__all__ = ["UNSURE", "entropy", "missing_confidence", "pairwise_disagreement"]

UNSURE = 0.01
"""Only voxels whose probability of a structure exceeds this count. All voxels would be mostly certain background, and
the predicted foreground alone would miss what is missing from it."""

_Probabilities = npt.NDArray[np.floating[Any]]
_Labels = npt.NDArray[np.integer[Any]]


def entropy(probabilities: _Probabilities) -> float:
    """Mean entropy of the softmax, in nats, in [0, log K]; log K where no voxel may be a structure.

    Args:
        probabilities: (K, *spatial), background first, sums to 1.
    """
    voxels = _counted(probabilities)
    if voxels.shape[1] == 0:
        return math.log(len(probabilities))
    return float(-(voxels * np.log(np.maximum(voxels, 1e-12))).sum(0).mean())


def missing_confidence(probabilities: _Probabilities) -> float:
    """1 - mean of the largest probability, in [0, 1 - 1/K], most where no voxel may be a structure; see `entropy`."""
    voxels = _counted(probabilities)
    if voxels.shape[1] == 0:
        return 1 - 1 / len(probabilities)
    return float(1 - voxels.max(0).mean())


def pairwise_disagreement(mask: _Labels, other: _Labels, num_classes: int) -> float:
    """1 - mean foreground Dice between two networks' masks, in [0, 1]; 1 where both are empty, as no mask is a failure.

    Args:
        mask: class indices, (*spatial).
        other: of the same image, by the other network.
        num_classes: classes K, background included.
    """
    dice = mean_foreground_dice(mask, other, num_classes)
    return 1.0 if math.isnan(dice) else 1 - dice


def _counted(probabilities: _Probabilities) -> npt.NDArray[np.float64]:
    """(K, N) of the voxels that count."""
    return probabilities[:, probabilities[0] < 1 - UNSURE].astype(np.float64)
