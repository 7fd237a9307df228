"""What each kind of failure does to a label map: its random geometry, and one amount that makes the failure larger."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy import ndimage

from gnsm_monai.data._scene import LabelMap, Mask, Plan, Scene
from gnsm_monai.data.compare import mean_foreground_dice

__all__ = ["DICE_RANGE", "PLANS"]

DICE_RANGE = 0.7
"""Severity 1 aims at a mean Dice of 1 - 0.7."""


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
        remaining = np.where(amounts <= amount, 0, scene.label)
        return np.where(painted_amounts <= amount, painted, remaining).astype(scene.label.dtype)

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

    If their number is odd, one structure keeps its label. A lone structure loses the region to background.
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


PLANS: dict[str, Callable[[Scene], Plan]] = {
    "missing_part": _missing_part,
    "leakage": _leakage,
    "wrong_side": _wrong_side,
    "boundary_drift": _boundary_drift,
    "holes": _holes,
    "islands": _islands,
    "swapped_labels": _swapped_labels,
    "truncated_fov": _truncated_fov,
}
