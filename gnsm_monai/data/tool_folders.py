"""The label maps in folders as tools leave them, one function per layout; none where a folder is laid out otherwise."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

from gnsm_monai.data.case_names import (
    MASK_WORDS,
    OTHER_WORDS,
    SEPARATORS,
    base_and_word,
    case_id,
    files_by_case,
    subfolders,
)
from gnsm_monai.data.dicom_seg import find_segmentations, holds_dicom
from gnsm_monai.data.mask_files import Files, masks_only

__all__ = ["find_bids", "find_case_folders", "find_dicom", "find_freesurfer", "find_structures"]

FREESURFER = tuple(
    f"{name}.mgz"
    for name in (
        "aparc.DKTatlas+aseg.deep", "aparc.DKTatlas+aseg.mapped", "aparc+aseg", "aparc.DKTatlas+aseg", "aseg",
        "aseg.auto_noCCseg", "synthseg",
    )
)  # fmt: skip
"""Segmentations in the folder ``mri`` of a subject; the first of those that most subjects have counts."""

STRUCTURES_FOLDER = "segmentations"
"""Where TotalSegmentator's data and BodyMaps keep the structures of a case."""


def find_structures(folder: Path) -> Files:
    """Folders of cases in which the same names recur, which are neither of cases nor of images or whole masks."""
    inner = {sub.name: sub / STRUCTURES_FOLDER for sub in subfolders(folder)}
    inner = {case: place if place.is_dir() else place.parent for case, place in inner.items()}
    names = {case: files.keys() for case, place in inner.items() if (files := files_by_case(place))}
    if any(inner[case].name != STRUCTURES_FOLDER for case in names):
        common = Counter(name for members in names.values() for name in members)
        shared = [name for name, count in common.items() if 2 * count > len(names)]
        parts = [name for name in shared if base_and_word(name)[1] not in MASK_WORDS | OTHER_WORDS]
        if len(parts) < 2 or any(_is_of(case, name) for case, members in names.items() for name in members):
            return {}
    return {case: [inner[case]] for case in names}


def _is_of(case: str, name: str) -> bool:
    """Whether a name begins with that of its case (``CASE_seg``); a case may be called ``1``, a structure ``rib_1``."""
    return name.startswith(case) and name[len(case) : len(case) + 1] in ("", *SEPARATORS)


def find_bids(folder: Path) -> Files:
    """Of a folder of subjects, or that of a subject."""
    files: Files = {}
    pattern = "*/**/sub-*" if folder.resolve().name.startswith("sub-") else "sub-*/**/*"
    for kind in ("_dseg", "_mask"):
        for path in sorted(folder.glob(pattern)):
            name = case_id(path)
            if name is not None and name.endswith(kind):
                files.setdefault(name.removesuffix(kind), []).append(path)
        if files:
            break
    return files


def find_freesurfer(folder: Path) -> Files:
    """Of a folder of subjects, or that of a subject."""
    subjects = [sub for sub in (folder, *subfolders(folder)) if (sub / "mri").is_dir()]
    counts = {name: sum((sub / "mri" / name).is_file() for sub in subjects) for name in FREESURFER}
    name = max(counts, key=lambda name: counts[name])  # of equals the first
    return {sub.resolve().name: [sub / "mri" / name] for sub in subjects} if counts[name] else {}


def find_case_folders(folder: Path) -> Files:
    """One label map in each folder of a case. Among several the one counts whose name is usual in the other folders."""
    patterns_of: dict[str, dict[str, list[Path]]] = {}
    for sub in subfolders(folder):
        masks, _ = masks_only(files_by_case(sub), look=False)
        patterns = {name.replace(sub.name, "{}"): paths for name, paths in masks.items()}
        if patterns:
            patterns_of[sub.name] = patterns
    common = Counter(pattern for patterns in patterns_of.values() for pattern in patterns)

    def usual(pattern: str) -> tuple[bool, int]:
        return base_and_word(pattern)[1] in MASK_WORDS, common[pattern]

    return {case: _best(patterns, usual) for case, patterns in patterns_of.items()}


def _best(patterns: Mapping[str, list[Path]], usual: Callable[[str], tuple[bool, int]]) -> list[Path]:
    best = max(map(usual, patterns))
    return [path for pattern, paths in patterns.items() if usual(pattern) == best for path in paths]


def find_dicom(folder: Path) -> Files:
    return {case: [path] for case, path in find_segmentations(folder).items()} if holds_dicom(folder) else {}
