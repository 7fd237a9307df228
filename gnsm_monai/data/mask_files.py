"""Which files of a folder are masks: images, probabilities and previews among them are told apart."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from gnsm_monai.data.case_names import MASK_WORDS, PICTURE_ENDINGS, base_and_word, beside_masks
from gnsm_monai.data.readers import read_file

__all__ = ["SEGMENTS", "Files", "masks_only"]

Files = dict[str, list[Path]]
"""Paths that may be the label map of a case, by case; several are ambiguous. A folder stands for its structures."""

SEGMENTS = ".seg.nrrd"
"""What 3D Slicer calls a segmentation, beside its volume ``.nrrd``."""

MIN_VALUES, MAX_LOOKED_AT = 100, 1 << 20
"""Fewest values of an image among so many of its voxels; it also has twice those of its mask."""


def masks_only(files: Files, look: bool = True) -> tuple[Files, list[Path]]:
    """Without images, probabilities and previews, which come second.

    Args:
        files: of a folder.
        look: whether what has the name of a case alone, beside its mask (``p1`` beside ``p1_seg``), may be read to find
            out what it is.
    """
    pictures = {path for members in files.values() for path in members if _is_picture(path)}
    drawn = sum(pictures.issuperset(members) for members in files.values())
    aside = pictures if 2 * drawn < len(files) else set()  # else the label maps themselves are pictures
    for members in files.values():
        if any(path.name.lower().endswith(SEGMENTS) for path in members):
            aside |= {path for path in members if not path.name.lower().endswith(SEGMENTS)}
    aside |= _images_of_masks(files) if look else set()
    names = beside_masks([case for case, members in files.items() if not aside.issuperset(members)])
    left = {
        case: members if case in names else [path for path in members if path not in aside]
        for case, members in files.items()
    }
    passed = [path for case, members in files.items() for path in members if case in names or path in aside]
    return {case: members for case, members in left.items() if members and case not in names}, passed


def _is_picture(path: Path) -> bool:
    return path.name.lower().endswith(PICTURE_ENDINGS)


def _images_of_masks(files: Files) -> set[Path]:
    """Files with the names of cases alone beside masks of the same cases, where the first of them is an image."""
    masks = {base: name for name in files if (split := base_and_word(name))[1] in MASK_WORDS for base in split[:1]}
    pairs = [name for name in files if name in masks]
    if not pairs:
        return set()
    values, of_mask = (_number_of_values(files[name][0]) for name in (pairs[0], masks[pairs[0]]))
    is_image = values > max(MIN_VALUES, 2 * of_mask) and of_mask > 0
    return {path for name in pairs for path in files[name]} if is_image else set()


def _number_of_values(path: Path) -> int:
    """Different values of some voxels; 0 of a file that cannot be read."""
    try:
        values = read_file(str(path), 3)[0].ravel()
    except Exception:  # each reader raises its own kinds; what is wrong is said where the file is used
        return 0
    return len(np.unique(values[:: max(1, values.size // MAX_LOOKED_AT)]))
