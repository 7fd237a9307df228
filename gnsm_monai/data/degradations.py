"""Graded, realistic failures of a segmenter, made from a good label map.

Each kind draws its random geometry once (seed points, direction, displacement, which structures) and then has a single
amount in [0, 1] that makes the failure larger. The amount is searched so that the mean foreground Dice against the good
map falls to a wanted value: a severity means the same damage for every kind, case and grid.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from scipy import ndimage

from gnsm_monai.data._scene import LabelMap, Mask, Plan, Scene, smooth_field
from gnsm_monai.data.constants import IGNORE_INDEX
from gnsm_monai.data.overlap import mean_foreground_dice
from gnsm_monai.errors import InputError

__all__ = ["KINDS", "degrade", "degrade_like_a_segmenter", "mean_foreground_dice", "smooth_field"]

DICE_RANGE = 0.7  # severity 1 aims at a mean Dice of 1 - 0.7
SEGMENTER_DRIFT = (0.07, 0.3)
"""Severities of the boundary drift that every copy like a segmenter's has: Dice 0.95 to 0.79, as of good networks."""

SCAN_STEPS = 8
BISECTIONS = 12


def _missing_part(scene: Scene) -> Plan:
    """A wavy cut takes a growing share of the whole object, or of one structure after another."""
    return scene.replacing(scene.ranked(scene.cut(), *scene.one_or_all()), 0)


def _leakage(scene: Scene) -> Plan:
    """One or more structures spill over a place of their boundary, into background and neighbours alike."""
    leaking = scene.rng.permutation(scene.structures)[: scene.rng.integers(1, len(scene.structures) + 1)]
    masks = [scene.label == c for c in leaking]
    seeds = [scene.pick(mask & ~ndimage.binary_erosion(mask)) for mask in masks]
    size = np.array([scene.radius(mask) for mask in masks]) * scene.rng.uniform(0.7, 1.3, len(masks))
    time = scene.distances(seeds, scene.radius(scene.foreground)) / scene.per_seed(size)
    leaked = leaking[np.argmin(time, axis=0)]
    return scene.replacing(scene.ranked(time.min(axis=0), leaked != scene.label), leaked)


def _wrong_side(scene: Scene) -> Plan:
    """A growing part is taken away and painted mirrored about the centre of the field of view.

    The axis is the one whose mirror image differs most; where even that resembles the object, the part is shifted
    along the axis with most room instead.
    """
    amounts = scene.ranked(scene.cut(), *scene.one_or_all())
    mirrored = [np.flip(scene.label, axis) for axis in range(scene.label.ndim)]
    overlap = [mean_foreground_dice(scene.label, m, scene.num_classes) for m in mirrored]
    axis = int(np.argmin(overlap))
    if overlap[axis] < 1 - DICE_RANGE:
        painted, painted_amounts = mirrored[axis], np.flip(amounts, axis)
    else:
        box = ndimage.find_objects(scene.foreground.astype(np.int8))[0]
        room = [max((s.start, -1), (n - s.stop, 1)) for s, n in zip(box, scene.label.shape, strict=True)]
        axis = int(np.argmax([r[0] * step for r, step in zip(room, scene.spacing, strict=True)]))
        distance = round(0.85 * (box[axis].stop - box[axis].start)) * room[axis][1]
        shift = [distance if i == axis else 0 for i in range(scene.label.ndim)]
        painted = ndimage.shift(scene.label, shift, order=0)
        painted_amounts = ndimage.shift(amounts, shift, order=0, cval=np.inf)

    def at(amount: float) -> LabelMap:
        kept = np.where(amounts <= amount, 0, scene.label)
        return np.where(painted_amounts <= amount, painted, kept).astype(scene.label.dtype)

    return at


def _boundary_drift(scene: Scene) -> Plan:
    """A smooth random displacement, growing in size, bends every boundary in and out."""
    scale = scene.radius(scene.foreground)
    displacement = [2 * scale / step * scene.noise(1.2 * scale) for step in scene.spacing]
    index = np.meshgrid(*[np.arange(n) for n in scene.label.shape], indexing="ij", sparse=True)

    def at(amount: float) -> LabelMap:
        moved = [np.rint(i + amount * d).astype(np.intp) for i, d in zip(index, displacement, strict=True)]
        inside = tuple(np.clip(m, 0, n - 1) for m, n in zip(moved, scene.label.shape, strict=True))
        return np.asarray(scene.label[inside])

    return at


def _holes(scene: Scene) -> Plan:
    """Several balls of background grow from inside the structures, at least one from each."""
    scale = scene.radius(scene.foreground)
    seeds = []
    for structure in [*scene.structures, *scene.rng.choice(scene.structures, scene.rng.integers(0, 3))]:
        mask = scene.label == structure
        depth = ndimage.distance_transform_edt(mask, sampling=scene.spacing)
        seeds.append(scene.pick(mask & (depth >= np.median(depth[mask]))))
    size = scene.per_seed(scene.rng.uniform(0.5, 1.5, len(seeds)))
    return scene.replacing(scene.ranked((scene.distances(seeds, scale) / size).min(axis=0), scene.foreground), 0)


def _islands(scene: Scene) -> Plan:
    """Separate blobs of structure labels grow in the background, at some distance from the object.

    Where the field of view is too small for islands alone to bring the Dice down, the object itself fades.
    """
    scale = scene.radius(scene.foreground)
    away = ndimage.distance_transform_edt(~scene.foreground, sampling=scene.spacing)
    free = away > min(0.4 * scale, 0.5 * float(away.max()))
    if not free.any():
        return _missing_part(scene)
    labels = scene.rng.permutation(np.resize(scene.structures, len(scene.structures) + scene.rng.integers(1, 4)))
    inner = ndimage.distance_transform_edt(np.pad(free, 1), sampling=scene.spacing)[(slice(1, -1),) * free.ndim]
    seeds = scene.spread(free & (inner >= np.median(inner[free])), len(labels))
    size = np.array([scene.radius(scene.label == c) for c in labels]) * scene.rng.uniform(0.7, 1.3, len(labels))
    time = scene.distances(seeds, 0.5 * scale) / scene.per_seed(size)
    nearest = np.sort(time, axis=0)[:2]
    free &= nearest[1] > 1.2 * nearest[0]  # the gap that keeps two islands apart
    fading = scene.distances([scene.pick(scene.foreground)], scale)[0]
    amounts = np.minimum(scene.ranked(nearest[0], free), 0.4 + 0.6 * scene.ranked(fading, scene.foreground))
    return scene.replacing(amounts, np.where(free, labels[np.argmin(time, axis=0)], 0))


def _swapped_labels(scene: Scene) -> Plan:
    """Neighbouring structures exchange labels in a region that grows from where they meet, pair after pair.

    Of an odd number one structure keeps its label; a lone structure loses the region to background instead.
    """
    remaining = [int(c) for c in scene.rng.permutation(scene.structures)]
    replacement = scene.label.copy()
    order = np.zeros(scene.label.shape, dtype=np.float32)
    masks: list[Mask] = []
    while len(remaining) > 1 or not masks:
        mask = scene.label == (first := remaining.pop())
        replacement[mask], near = 0, mask
        if remaining:
            away = ndimage.distance_transform_edt(~mask, sampling=scene.spacing)
            second = min(remaining, key=lambda c: float(away[scene.label == c].min()))
            remaining.remove(second)
            other = scene.label == second
            replacement[mask], replacement[other] = second, first
            near, mask = other & (away <= np.quantile(away[other], 0.1)), mask | other
        order[mask] = scene.distances([scene.pick(near)], scene.radius(mask))[0][mask]
        masks.append(mask)
    return scene.replacing(scene.ranked(order, *masks), replacement)


def _truncated_fov(scene: Scene) -> Plan:
    """Everything beyond a plane across one axis is lost, as where the field of view ended there."""
    extents = [s.stop - s.start for s in ndimage.find_objects(scene.foreground.astype(np.int8))[0]]
    axis = scene.rng.choice([i for i, extent in enumerate(extents) if extent > 1] or [0])
    return scene.replacing(scene.ranked(scene.rng.choice([-1, 1]) * scene.grid[axis], scene.foreground), 0)


_PLANS: dict[str, Callable[[Scene], Plan]] = {
    "missing_part": _missing_part,
    "leakage": _leakage,
    "wrong_side": _wrong_side,
    "boundary_drift": _boundary_drift,
    "holes": _holes,
    "islands": _islands,
    "swapped_labels": _swapped_labels,
    "truncated_fov": _truncated_fov,
}
KINDS: tuple[str, ...] = tuple(_PLANS)
"""The kinds of failure, in the order of the tables."""


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
    if kind not in _PLANS:
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
    plan = _PLANS[kind](Scene(known, num_classes, spacing, rng))

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

    No segmenter fails in one place and equals the reference to the voxel elsewhere: copies that did would teach that a
    mask without an obvious failure has a Dice of 1. Arguments and errors are those of :func:`degrade`.
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
