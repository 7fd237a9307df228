"""How tools lay out a folder of label maps: found by looking, one decision for the whole folder."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gnsm_monai.data.case_names import (
    LABEL_ENDINGS,
    MASK_WORDS,
    OTHER_WORDS,
    PICTURE_ENDINGS,
    SEPARATORS,
    base_and_word,
    beside_masks,
    case_id,
    files_by_case,
    subfolders,
)
from gnsm_monai.data.dicom_seg import find_segmentations, holds_dicom
from gnsm_monai.data.label_names import name_key
from gnsm_monai.errors import InputError
from gnsm_monai.files import check_folder

__all__ = ["AUTO", "LAYOUTS", "CaseFolder", "Layout", "look_into", "say_how"]

logger = logging.getLogger(__name__)

AUTO = "auto"
"""The layout that fits is looked for."""

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

MIN_PAIRS = 3
"""Pairs of files for the left and the right side that make a folder one case, whatever a model's structures are."""

Files = dict[str, list[Path]]
"""Paths that may be the label map of a case, by case; several are ambiguous. A folder stands for its structures."""


@dataclass(frozen=True)
class Layout:
    """One way to lay out a folder.

    Args:
        name: for ``--layout``.
        title: what users are told.
        find: the label maps of a folder; none where it is laid out otherwise.
    """

    name: str
    title: str
    find: Callable[[Path], Files]


@dataclass(frozen=True)
class CaseFolder:
    """The label maps of a folder.

    Args:
        path: of the folder.
        layout: by which it was read.
        files: by case, in order.
        passed_over: images, probabilities and previews among the masks.
    """

    path: Path
    layout: Layout
    files: Files
    passed_over: Sequence[Path] = field(default=())

    @property
    def is_case(self) -> bool:
        """Whether the folder itself is a case: its files are structures."""
        return list(self.files.values()) == [[self.path]]


def look_into(folder: str | Path, layout: str = AUTO, structures: Collection[str] = ()) -> CaseFolder:
    """Finds the label maps of a folder.

    Args:
        folder: of label maps.
        layout: name of a layout, or :data:`AUTO`.
        structures: names of a model's structures. A folder whose files are called so is one case.

    Raises:
        InputError: no such folder or layout, or no label map in it.
    """
    folder = Path(folder)
    check_folder(folder)
    fitting = [one for one in LAYOUTS if layout in (AUTO, one.name)]
    if not fitting:
        raise InputError(f"layout: '{layout}' is not one of {AUTO}, {', '.join(one.name for one in LAYOUTS)}")
    for one in fitting:
        files = one.find(folder)
        if layout in (AUTO, "structures") and _one_case(files or files_by_case(folder), structures):
            return CaseFolder(folder, LAYOUT_OF_STRUCTURES, {folder.resolve().name: [folder]})
        if files:
            return CaseFolder(folder, one, *_masks_only(files))
    tried = "" if layout == AUTO else f" in the layout '{layout}' ({fitting[0].title})"
    raise InputError(f"{folder}: no label maps ({', '.join(LABEL_ENDINGS)}){tried}; in it: {_content(folder)}")


def say_how(folders: Sequence[CaseFolder]) -> None:
    """Logs how folders were read, where that is not plain to see: one line for all that are laid out alike."""
    for layout in LAYOUTS[1:]:
        if alike := [folder.path for folder in folders if folder.layout is layout]:
            others = f" and {len(alike) - 1} more" if alike[1:] else ""
            logger.info("%s%s: read as: %s", alike[0], others, layout.title)
    for folder in (one for one in folders if one.passed_over):
        text = "%s: %d files passed over, which are images or previews by their names, such as %s"
        logger.warning(text, folder.path, len(folder.passed_over), folder.passed_over[0].name)


def _one_case(files: Mapping[str, Sequence[Path]], structures: Collection[str]) -> bool:
    """Whether files are those of one case: called like at least two of a model's structures, or its only one.

    So are those of a tool's own structures, which a model need not know: names that have a left and a right side.
    """
    called = {name_key(name) for name in files} & {name_key(name) for name in structures}
    sides = {name.casefold() for name in files if not any(map(str.isdigit, name))}  # a case is mostly numbered
    pairs = [name for name in sides if "left" in name and name.replace("left", "right") in sides]
    return (bool(called) and len(called) >= min(2, len(structures))) or len(pairs) >= MIN_PAIRS


def _masks_only(files: Files) -> tuple[Files, list[Path]]:
    """Without images, probabilities and previews, which come second."""
    pictures = {path for members in files.values() for path in members if _is_picture(path)}
    drawn = sum(pictures.issuperset(members) for members in files.values())
    aside = pictures if 2 * drawn < len(files) else set()  # else the label maps themselves are pictures
    names = beside_masks([case for case, members in files.items() if not aside.issuperset(members)])
    left = {
        case: members if case in names else [path for path in members if path not in aside]
        for case, members in files.items()
    }
    passed = [path for case, members in files.items() for path in members if case in names or path in aside]
    return {case: members for case, members in left.items() if members and case not in names}, passed


def _is_picture(path: Path) -> bool:
    return path.name.lower().endswith(PICTURE_ENDINGS)


def _find_structures(folder: Path) -> Files:
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


def _find_bids(folder: Path) -> Files:
    files: Files = {}
    for kind in ("_dseg", "_mask"):
        for path in sorted(folder.glob("sub-*/**/*")):
            name = case_id(path)
            if name is not None and name.endswith(kind):
                files.setdefault(name.removesuffix(kind), []).append(path)
        if files:
            break
    return files


def _find_freesurfer(folder: Path) -> Files:
    subjects = [sub for sub in subfolders(folder) if (sub / "mri").is_dir()]
    counts = {name: sum((sub / "mri" / name).is_file() for sub in subjects) for name in FREESURFER}
    name = max(counts, key=lambda name: counts[name])  # of equals the first
    return {sub.name: [sub / "mri" / name] for sub in subjects} if counts[name] else {}


def _find_case_folders(folder: Path) -> Files:
    """One label map in each folder of a case. Among several the one counts whose name is usual in the other folders."""
    patterns_of: dict[str, dict[str, list[Path]]] = {}
    for sub in subfolders(folder):
        masks, _ = _masks_only(files_by_case(sub))
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


def _find_dicom(folder: Path) -> Files:
    return {case: [path] for case, path in find_segmentations(folder).items()} if holds_dicom(folder) else {}


def _content(folder: Path) -> str:
    """What is in a folder, in a few words."""
    paths = list(folder.iterdir())
    endings = Counter(path.suffix.lower() or "without ending" for path in paths if path.is_file())
    parts = [f"{count} files {ending}" for ending, count in endings.most_common(3)]
    folders = sum(path.is_dir() for path in paths)
    return ", ".join([f"{folders} folders"] * (folders > 0) + parts) or "nothing"


LAYOUTS = (
    Layout("files", "one file per case", files_by_case),
    Layout("bids", "BIDS derivatives (sub-*/..._dseg)", _find_bids),
    Layout("freesurfer", "one folder per subject (FreeSurfer, FastSurfer: mri/...aseg.mgz)", _find_freesurfer),
    Layout("structures", "one folder per case, one file per structure (TotalSegmentator)", _find_structures),
    Layout("folders", "one folder per case, one label map in it (MONAI SaveImage)", _find_case_folders),
    Layout("dicom", "DICOM segmentations (SEG)", _find_dicom),
)
"""In the order in which they are tried."""

LAYOUT_OF_STRUCTURES = next(one for one in LAYOUTS if one.name == "structures")
