"""What general knowledge of anatomy says against a whole folder: errors that all masks share, and no rank can show."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from gnsm_monai.folder.reading import FolderMasks

__all__ = ["folder_warnings", "side_pairs"]

MOST = 0.5
"""Share of the masks from which on an error is the folder's and not a case's."""

MIN_PIECE = 0.05
"""Share of a structure that a piece of it must have to count."""

SAME_PIECES = 0.8
"""Share of the masks with the same number of pieces from which on that number is the anatomy's, as of two lungs."""

MAX_RATIO = 1.5
"""Volume of one side of the body over that of the other, from which on they are no pair."""

SIDES = re.compile(r"(?<![a-z])(left|right|l|r|lh|rh)(?![a-z])")

_Floats = npt.NDArray[np.float64]


def folder_warnings(masks: FolderMasks) -> list[str]:
    """Sentences on what most masks of the folder share and no healthy anatomy has; none where nothing is seen.

    Looked for are declared structures that most masks lack, structures in a varying number of pieces, and structures of
    both sides of the body (by their names) that differ in size or lie on the other side.
    """
    names = masks.scheme.structure_names
    # (N, S): voxels, pieces, and position along the first axis, which grows towards the patient's right.
    sizes, pieces, positions = (np.array(values) for values in zip(*map(_measures, _all(masks)), strict=True))
    present = sizes > 0
    return [
        *_missing(names, present),
        *_in_pieces(names, pieces, present),
        *_unequal_sides(names, sizes, present),
        *(_wrong_sides(names, positions, present) if masks.masks[0].label().ndim == 4 else ()),
    ]


def side_pairs(names: Sequence[str]) -> list[tuple[int, int]]:
    """Numbers of the left and the right one of structures whose names differ in the side alone."""
    sided: dict[str, dict[str, int]] = {}
    for number, name in enumerate(names):
        plain = name.lower().replace("_", " ").replace("-", " ")
        if match := SIDES.search(plain):
            sided.setdefault(SIDES.sub("*", plain), {})[match[1][0]] = number
    return [(pair["l"], pair["r"]) for pair in sided.values() if len(pair) == 2]


def _all(masks: FolderMasks) -> Iterator[np.ndarray]:
    return (masks.structures(mask) for mask in masks.masks)


def _measures(structures: np.ndarray) -> tuple[_Floats, _Floats, _Floats]:
    """Voxels, pieces and mean index along the first axis of each structure ``(S, *spatial)``, ``(S,)`` each."""
    sizes = structures.reshape(len(structures), -1).sum(1).astype(np.float64)
    pieces, positions = np.zeros(len(sizes)), np.full(len(sizes), np.nan)
    for number, inside in enumerate(structures):
        if sizes[number]:
            parts = np.bincount(ndimage.label(inside, np.ones([3] * inside.ndim))[0].ravel())[1:]
            pieces[number] = (parts >= MIN_PIECE * sizes[number]).sum()
            positions[number] = np.flatnonzero(inside.any(tuple(range(1, inside.ndim)))).mean()
    return sizes, pieces, positions


def _missing(names: Sequence[str], present: npt.NDArray[np.bool_]) -> Iterator[str]:
    for name, share in zip(names, 1 - present.mean(0), strict=True):
        if share > MOST:
            yield f"{name} is missing from {share:.0%} of the masks: is it in these images at all?"


def _in_pieces(names: Sequence[str], pieces: _Floats, present: npt.NDArray[np.bool_]) -> Iterator[str]:
    for number, name in enumerate(names):
        counts = pieces[present[:, number], number].astype(int)
        if not len(counts) or np.bincount(counts).max() >= SAME_PIECES * len(counts):
            continue
        if (share := float((counts > 1).mean())) > MOST:
            yield f"{name} is in several pieces in {share:.0%} of the masks that have it, and their number varies"


def _unequal_sides(names: Sequence[str], sizes: _Floats, present: npt.NDArray[np.bool_]) -> Iterator[str]:
    for left, right in side_pairs(names):
        both = present[:, left] & present[:, right]
        for larger, smaller in ((left, right), (right, left)):
            share = float((sizes[both, larger] > MAX_RATIO * sizes[both, smaller]).mean()) if both.any() else 0.0
            if share > MOST:
                text = "{} is over {:g} times as large as {} in {:.0%} of the masks"
                yield text.format(names[larger], MAX_RATIO, names[smaller], share)


def _wrong_sides(names: Sequence[str], positions: _Floats, present: npt.NDArray[np.bool_]) -> Iterator[str]:
    for left, right in side_pairs(names):
        both = present[:, left] & present[:, right]
        share = float((positions[both, left] > positions[both, right]).mean()) if both.any() else 0.0
        if share > MOST:
            text = "{} lies to the patient's right of {} in {:.0%} of the masks: mirror images, or sides exchanged"
            yield text.format(names[left], names[right], share)
