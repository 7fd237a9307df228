"""Graded, realistic failures of a segmenter, made from a good label map.

Each kind draws its random geometry once (seed points, direction, displacement, which structures) and then has a single
amount in [0, 1] that makes the failure larger. The amount is searched so that the mean foreground Dice against the good
map falls to a wanted value: a severity means the same damage for every kind, case and grid.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from gnsm_monai.data._scene import LabelMap, Scene, smooth_field
from gnsm_monai.data.compare import mean_foreground_dice
from gnsm_monai.data.constants import IGNORE_INDEX
from gnsm_monai.data.degradation_plans import DICE_RANGE, KINDS, PLANS
from gnsm_monai.errors import InputError

__all__ = ["KINDS", "degrade", "degrade_like_a_segmenter", "mean_foreground_dice", "smooth_field"]

SEGMENTER_DRIFT = (0.07, 0.3)
"""Severities of the boundary drift that every copy like a segmenter's has: Dice 0.95 to 0.79, as of good networks."""

SCAN_STEPS = 8
BISECTIONS = 12


def degrade(
    label: LabelMap,
    kind: str,
    severity: float,
    rng: np.random.Generator,
    num_classes: int,
    spacing: Sequence[float] | None = None,
) -> LabelMap:
    """Copy of a label map with one failure, of mean foreground Dice near 1 - 0.7 * severity against the original.

    Args:
        label: label indices 0..num_classes-1, `IGNORE_INDEX` where ignored, shape (*spatial); not modified.
        kind: one of `KINDS`.
        severity: in [0, 1], higher = worse; 0 gives the map unchanged.
        rng: the same state gives the same failure, and for rising severity the same failure growing.
        num_classes: classes with background.
        spacing: voxel size in mm per axis; 1 where not given.

    Returns:
        Label map of the same shape and dtype, ignored voxels as they were. Where the kind cannot reach the Dice aimed
        at (a coarse grid, a swap among an odd number of structures), the nearest that it reaches; a map without
        foreground comes back unchanged.

    Raises:
        InputError: unknown kind, severity outside [0, 1], labels that are no integers of 0..num_classes-1, or a spacing
            that is not one positive number per axis.
    """
    if kind not in PLANS:
        raise InputError(f"kind: '{kind}' is unknown; known are {', '.join(KINDS)}")
    if not 0 <= severity <= 1:
        raise InputError(f"severity: must lie in [0, 1], got {severity}")
    if not np.issubdtype(label.dtype, np.integer):
        raise InputError(f"label: must hold integers, got {label.dtype}")
    spacing = [1.0] * label.ndim if spacing is None else [float(s) for s in spacing]
    if len(spacing) != label.ndim or not all(s > 0 for s in spacing):
        raise InputError(f"spacing: must be {label.ndim} positive numbers, got {spacing}")
    ignored = label == IGNORE_INDEX
    known: LabelMap = np.where(ignored, 0, label).astype(label.dtype)
    if known.size and (known.min() < 0 or known.max() >= num_classes):
        raise InputError(f"label: values must lie in 0..{num_classes - 1}, got {known.min()}..{known.max()}")
    if severity == 0 or not known.any():
        return np.array(label)
    plan = PLANS[kind](Scene(known, num_classes, spacing, rng))

    def at(amount: float) -> tuple[float, LabelMap]:
        failed = plan(amount)
        np.copyto(failed, label, where=ignored)
        return mean_foreground_dice(label, failed, num_classes), failed

    return _search(at, label.copy(), 1 - DICE_RANGE * severity)


def degrade_like_a_segmenter(
    label: LabelMap,
    kind: str,
    rng: np.random.Generator,
    num_classes: int,
    spacing: Sequence[float] | None = None,
) -> LabelMap:
    """Copy with one failure of random severity, on a mask whose boundaries err a little everywhere.

    A segmenter never equals the reference to the voxel away from its failure. Copies that did would teach that a mask
    without an obvious failure has a Dice of 1. Arguments and errors are those of :func:`degrade`.
    """
    drifted = degrade(label, "boundary_drift", rng.uniform(*SEGMENTER_DRIFT), rng, num_classes, spacing)
    return degrade(drifted, kind, rng.uniform(), rng, num_classes, spacing)


def _search(at: Callable[[float], tuple[float, LabelMap]], unchanged: LabelMap, target: float) -> LabelMap:
    """Map whose Dice is nearest to the target: bisection of the first interval of a scan that passes it.

    The scan makes severities graded for kinds whose Dice does not fall all the way (a part shifted onto another).
    """
    best, nearest = unchanged, 1 - target
    low, high = 0.0, 1.0

    def passes(amount: float) -> bool:
        nonlocal best, nearest
        dice, failed = at(amount)
        if abs(dice - target) < nearest:
            best, nearest = failed, abs(dice - target)
        return dice <= target

    for step in range(1, SCAN_STEPS + 1):
        if passes(step / SCAN_STEPS):
            low, high = (step - 1) / SCAN_STEPS, step / SCAN_STEPS
            break
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        low, high = (low, middle) if passes(middle) else (middle, high)
    return best
