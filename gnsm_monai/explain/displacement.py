"""Moving of label maps, and how well two of them agree."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = ["align", "directions", "joint_counts", "length", "move", "overlap_dice", "structure_dice"]

Map: TypeAlias = npt.NDArray[Any]
Offset: TypeAlias = npt.NDArray[np.int64]


def move(label: Map, offset: Sequence[int] | Offset) -> Map:
    """The map moved by whole voxels per axis; zeros come in, what leaves the map is lost."""
    moved = np.zeros_like(label)
    source, target = _overlap(label.shape, offset)
    moved[target] = label[source]
    return moved


def align(label: Map, like: Map, most_steps: int = 12) -> Offset:
    """Offset in voxels per axis by which a map agrees best with another; both hold foreground (> 0).

    The centres of mass give the start; single steps along the axes improve it, since a part that is missing or lies
    outside the map draws its centre away.
    """
    offset: Offset = np.rint(_centre(like) - _centre(label)).astype(np.int64)
    nothing = int(max(label.max(), like.max())) + 1
    small = np.min_scalar_type(nothing)  # a few hundred comparisons: the fewer bytes the better
    moving, fixed = label.astype(small), np.where(like > 0, like, nothing).astype(small)
    agreements: dict[tuple[int, ...], int] = {}

    def agreement(o: Offset) -> int:
        key = tuple(o.tolist())
        if key not in agreements:
            source, target = _overlap(label.shape, o)
            agreements[key] = int(np.count_nonzero(moving[source] == fixed[target]))
        return agreements[key]

    steps = np.concatenate([np.eye(label.ndim, dtype=np.int64), -np.eye(label.ndim, dtype=np.int64)])
    for _ in range(most_steps):
        around = [agreement(offset + step) for step in steps]
        if max(around) <= agreement(offset):
            break
        offset = offset + steps[int(np.argmax(around))]
    return offset


def _overlap(shape: Sequence[int], offset: Sequence[int] | Offset) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """What stays inside of a map that is moved, before and after; empty where nothing does."""
    source = tuple(slice(max(-int(o), 0), max(n - max(int(o), 0), 0)) for o, n in zip(offset, shape, strict=True))
    target = tuple(slice(max(int(o), 0), max(n - max(-int(o), 0), 0)) for o, n in zip(offset, shape, strict=True))
    return source, target


def _centre(label: Map) -> npt.NDArray[np.float64]:
    """Centre of mass of the foreground in voxels."""
    counts = [np.count_nonzero(label, axis=tuple(j for j in range(label.ndim) if j != i)) for i in range(label.ndim)]
    return np.array([np.average(np.arange(len(c)), weights=c) for c in counts])


def length(offset: Offset, spacing: npt.NDArray[np.float64]) -> float:
    """mm of an offset in voxels."""
    return float(np.linalg.norm(offset * spacing))


def directions(offset: Offset, spacing: npt.NDArray[np.float64]) -> tuple[tuple[int, int], ...]:
    """(axis, -1 or 1) of an offset in voxels, the longest way first; axes of less than half of it are left out."""
    mm = offset * spacing
    order = [int(i) for i in np.argsort(-np.abs(mm))]
    return tuple((i, 1 if mm[i] > 0 else -1) for i in order if abs(mm[i]) > 0.5 * abs(mm[order[0]]))


def overlap_dice(a: Map, b: Map) -> float:
    """Dice of two boolean maps, of which one at least is not empty."""
    return 2 * int(np.count_nonzero(a & b)) / int(np.count_nonzero(a) + np.count_nonzero(b))


def joint_counts(a: Map, b: Map, num_classes: int) -> npt.NDArray[np.int64]:
    """Voxels per pair of classes of two maps, (num_classes, num_classes)."""
    pairs = a.ravel().astype(np.intp) * num_classes + b.ravel()
    counts: npt.NDArray[np.int64] = np.bincount(pairs, minlength=num_classes**2)
    return counts.reshape(num_classes, num_classes)


def structure_dice(joint: npt.NDArray[np.int64], members: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """Dice of each structure from `joint_counts`, 1 where it is in neither map; (S,).

    Args:
        joint: voxels per pair of classes, (K, K).
        members: the classes of each structure, bool (S, K).
    """
    inside = members.astype(np.int64)
    both = np.einsum("sk,kl,sl->s", inside, joint, inside, optimize=True)
    sizes = inside @ (joint.sum(axis=0) + joint.sum(axis=1))
    return np.where(sizes > 0, 2 * both / np.maximum(sizes, 1), 1.0)
