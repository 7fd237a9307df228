"""How tools lay out a folder of label maps: found by looking, one decision for the whole folder."""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gnsm_monai.data.case_names import LABEL_ENDINGS, MASK_WORDS, SEPARATORS, base_and_word, files_by_case
from gnsm_monai.data.label_names import name_key
from gnsm_monai.data.mask_files import Files, masks_only
from gnsm_monai.data.notes import warn_once
from gnsm_monai.data.tool_folders import find_bids, find_case_folders, find_dicom, find_freesurfer, find_structures
from gnsm_monai.errors import InputError
from gnsm_monai.files import check_folder

__all__ = ["AUTO", "LAYOUTS", "CaseFolder", "Layout", "look_into", "say_how"]

logger = logging.getLogger(__name__)

AUTO = "auto"
"""The layout that fits is looked for."""

BIDS_KINDS = ("desc", "space", "seg", "atlas", "res", "den")
"""Entities of BIDS that tell derivatives of one image apart."""

MIN_PAIRS = 3
"""Pairs of files for the left and the right side that make a folder one case, whatever a model's structures are."""


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
        """Whether the folder itself is a case: its files are structures, or it is that of a subject."""
        return self.layout.name != "files" and list(self.files) == [self.path.resolve().name]


def look_into(folder: str | Path, layout: str = AUTO, structures: Collection[str] = ()) -> CaseFolder:
    """Finds the label maps of a folder.

    Args:
        folder: of label maps.
        layout: name of a layout, or :data:`AUTO`.
        structures: names of a model's structures. A folder whose files are called so is one case.

    Raises:
        InputError: no such folder or layout, no label map in it, files of structures beside those of other cases, or
            several label maps in every folder of a case.
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
            if layout == AUTO and one.name == "files":
                _check_no_structures(folder, files, structures)
            if layout == AUTO and one.name == "structures" and structures:
                _check_own_structures(folder, files, structures)
            if one.name == "folders":
                _check_single_maps(folder, files)
            return CaseFolder(folder, one, *masks_only(files))
    tried = "" if layout == AUTO else f" in the layout '{layout}' ({fitting[0].title})"
    raise InputError(f"{folder}: no label maps ({', '.join(LABEL_ENDINGS)}){tried}; in it: {_content(folder)}")


def say_how(folders: Sequence[CaseFolder]) -> None:
    """Logs how folders were read, where that is not plain to see: one line for all that are laid out alike."""
    for layout in LAYOUTS[1:]:
        if alike := [folder.path for folder in folders if folder.layout is layout]:
            others = f" and {len(alike) - 1} more" if alike[1:] else ""
            logger.info("%s%s: read as: %s", alike[0], others, layout.title)
    for folder in (one for one in folders if one.passed_over):
        text = "%s: %d files passed over, which are images or previews by their names or values, such as %s"
        logger.warning(text, folder.path, len(folder.passed_over), folder.passed_over[0].name)
    for folder in folders:
        if several := [names for names in _of_one_mask(folder).values() if len(names) > 1]:
            text = (
                f"several label maps of one case, such as {' and '.join(several[0])}: each counts as a case of its own"
            )
            warn_once(f"{folder.path.resolve()}: {text}", f"{folder.path}: {text}")


def _of_one_mask(folder: CaseFolder) -> dict[str, list[str]]:
    """Cases by what their names say without the kind of label map (``p1`` of ``p1_pred`` and ``p1_gt``)."""
    cases = defaultdict[str, list[str]](list)
    for case in folder.files:
        base, word = base_and_word(case)
        if folder.layout.name == "bids":
            base, word = "_".join(part for part in case.split("_") if part.split("-")[0] not in BIDS_KINDS), "dseg"
        cases[base if word in MASK_WORDS else case].append(case)
    return cases


def _one_case(files: Mapping[str, Sequence[Path]], structures: Collection[str]) -> bool:
    """Whether files are those of one case: called like at least two of a model's structures, or its only one.

    So are those of a tool's own structures, which a model need not know: names that have a left and a right side.
    """
    called = {name_key(name) for name in files} & {name_key(name) for name in structures}
    sides = {name.casefold() for name in files if not any(map(str.isdigit, name))}  # a case is mostly numbered
    pairs = [name for name in sides if "left" in name and name.replace("left", "right") in sides]
    return (bool(called) and len(called) >= min(2, len(structures))) or len(pairs) >= MIN_PAIRS


def _check_no_structures(folder: Path, files: Files, structures: Collection[str]) -> None:
    """Raises InputError where most files are called like structures, each of them behind the name of its case."""
    ends = [separator + name.casefold() for name in structures for separator in SEPARATORS]
    called = {name: end[1:] for name in files for end in ends if name.casefold().endswith(end)}
    if len(set(called.values())) > 1 and 2 * len(called) > len(files):
        name, structure = next(iter(called.items()))
        raise InputError(
            f"{folder}: its files are called like structures of cases, such as {name}: put those of each case into a "
            f"folder of its own (CASE/{structure}), or give the layout 'files', if each is a mask"
        )


def _check_own_structures(folder: Path, cases: Files, structures: Collection[str]) -> None:
    """Raises InputError where no file of any case is called like a structure: folders of masks look alike."""
    of_model = {name_key(name) for name in structures}
    if any(name_key(name) in of_model for place, *_ in cases.values() for name in files_by_case(place)):
        return
    case, (place, *_) = next(iter(cases.items()))
    raise InputError(
        f"{folder}: its folders hold files of equal names, such as {case}/{next(iter(files_by_case(place)))}, and none "
        f"is called like a structure of the model. If each file is a mask, give the folders themselves: {folder}/*"
    )


def _check_single_maps(folder: Path, cases: Files) -> None:
    """Raises InputError where each folder holds several label maps, of which none can be that of a case."""
    if all(len(paths) > 1 for paths in cases.values()):
        case, paths = next(iter(cases.items()))
        raise InputError(
            f"{folder}: none of its folders holds the one label map of a case: {case} has {len(paths)} files, such as "
            f"{paths[0].name} and {paths[1].name}. If each file is a label map, give the folders themselves"
        )


def _content(folder: Path) -> str:
    """What is in a folder, in a few words."""
    paths = list(folder.iterdir())
    endings = Counter(path.suffix.lower() or "without ending" for path in paths if path.is_file())
    parts = [f"{count} files {ending}" for ending, count in endings.most_common(3)]
    folders = sum(path.is_dir() for path in paths)
    return ", ".join([f"{folders} folders"] * (folders > 0) + parts) or "nothing"


LAYOUTS = (
    Layout("files", "one file per case", files_by_case),
    Layout("bids", "BIDS derivatives (sub-*/..._dseg)", find_bids),
    Layout("freesurfer", "one folder per subject (FreeSurfer, FastSurfer: mri/...aseg.mgz)", find_freesurfer),
    Layout("structures", "one folder per case, one file per structure (TotalSegmentator)", find_structures),
    Layout("folders", "one folder per case, one label map in it (MONAI SaveImage)", find_case_folders),
    Layout("dicom", "DICOM segmentations (SEG)", find_dicom),
)
"""In the order in which they are tried."""

LAYOUT_OF_STRUCTURES = next(one for one in LAYOUTS if one.name == "structures")
