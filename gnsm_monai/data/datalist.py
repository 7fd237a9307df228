"""Folders of files to lists of cases."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from gnsm_monai.data.case_names import case_id, match_cases
from gnsm_monai.data.constants import IMAGE, LABEL, REFERENCE, SOFT
from gnsm_monai.data.images import Images, check_partners, find_images
from gnsm_monai.data.layouts import AUTO, CaseFolder, look_into, say_how
from gnsm_monai.data.nnunet import preferred_ending, read_dataset_json
from gnsm_monai.data.notes import spared, warn_anew
from gnsm_monai.data.readers import read_header
from gnsm_monai.errors import InputError
from gnsm_monai.files import check_folder

__all__ = ["find_label_maps", "find_predictions", "find_references", "find_spatial_dims"]

Case = dict[str, Any]
"""``case`` (id) and the paths that are known of it: ``label``, ``reference``, ``image`` (a list, one per channel) and
``probabilities`` (an npz file)."""


def find_label_maps(folder: str | Path, layout: str = AUTO) -> dict[str, Path]:
    """Label maps of a folder by case id, in order of id; all other files are passed over.

    If a case has two files, the one with the ``file_ending`` of the folder's dataset.json counts.

    Args:
        folder: of label maps.
        layout: see :func:`gnsm_monai.data.layouts.look_into`.

    Returns:
        Files; a folder in place of a file holds one file per structure.

    Raises:
        InputError: no such folder, no label map in it, two equally good files for a case, or one that is no file.
    """
    return _regular_files(look_into(folder, layout))


def _regular_files(maps: CaseFolder) -> dict[str, Path]:
    return {case: _preferred(case, paths) for case, paths in maps.files.items()}


def find_references(
    dataset_dir: str | Path, bare: bool = False, layout: str = AUTO
) -> tuple[list[Case], Images | None]:
    """Label maps to learn from, and their images.

    Args:
        dataset_dir: nnU-Net raw data set. Its files are those in ``labelsTr`` and ``imagesTr``, or the ones that the
            key ``dataset`` of its dataset.json lists.
        bare: ``dataset_dir`` itself holds the label maps, and there are no images.
        layout: see :func:`gnsm_monai.data.layouts.look_into`.

    Returns:
        Cases with ``case`` and ``label``; and the images, None where there is no folder of them.

    Raises:
        InputError: as :func:`find_label_maps`.
    """
    folder = Path(dataset_dir)
    labels, maps = _labels(folder, bare, layout)
    cases = [{"case": case, LABEL: path} for case, path in labels.items()]
    if maps is None:
        files = {case: paths for case, (_, paths) in _listed_cases(folder).items() if paths}
        return cases, Images(files, folder, labels) if files else None
    say_how([maps])
    with_images = not bare and (folder / "imagesTr").is_dir()
    return cases, Images.of_folder(folder / "imagesTr", labels) if with_images else None


def _labels(folder: Path, bare: bool, layout: str) -> tuple[dict[str, Path], CaseFolder | None]:
    """Label maps to learn from by case, and where they were looked for; None where a dataset.json lists them."""
    check_folder(folder)
    if not bare and (listed := _listed_cases(folder)):
        return {case: _regular(label) for case, (label, _) in listed.items()}, None
    if not bare and not (folder / "labelsTr").is_dir():
        raise InputError(f"{folder}: no folder labelsTr with reference label maps")
    maps = look_into(folder if bare else folder / "labelsTr", layout)
    return _regular_files(maps), maps


def _listed_cases(folder: Path) -> dict[str, tuple[Path, list[Path]]]:
    """Label map and images of each case that the key ``dataset`` of ``folder/dataset.json`` lists; none without it.

    Paths are relative to the folder. Source: ``get_filenames_of_train_images_and_targets`` of nnU-Net v2.

    Raises:
        InputError: the key is malformed.
    """
    listed = (read_dataset_json(folder) or {}).get("dataset", {})
    cases: dict[str, tuple[Path, list[Path]]] = {}
    for case, files in listed.items() if isinstance(listed, dict) else [("", listed)]:
        label, images = (files.get("label"), files.get("images", [])) if isinstance(files, dict) else (None, [])
        if not isinstance(label, str) or not (isinstance(images, list) and all(isinstance(i, str) for i in images)):
            raise InputError(f"{folder / 'dataset.json'}: dataset must name the label and the images of each case")
        cases[case] = folder / label, [folder / image for image in images]
    return cases


def _preferred(case: str, paths: Sequence[Path]) -> Path:
    """The file of a case. Raises InputError if it cannot be read, or if several files are equally good."""
    if len(paths) == 1:
        return _regular(paths[0])
    folder = paths[0].parent
    ending = preferred_ending(folder)
    preferred = [path for path in paths if path.name[len(case) :].lower() == ending]
    if len(preferred) != 1:
        names = " and ".join(path.name for path in paths)
        raise InputError(f"{folder}: {len(paths)} files for case '{case}': {names}")
    return _regular(preferred[0])


def _regular(path: Path) -> Path:
    """Raises InputError for what only looks like a file; opening a pipe would wait for ever."""
    if path.is_file() or (path.is_dir() and case_id(path) is None):  # the latter holds one file per structure
        return path
    if path.is_dir():
        raise InputError(f"{path}: is a folder, not a file")
    if path.is_symlink() and not path.exists():
        raise InputError(f"{path}: is a link to a file that is not there")
    raise InputError(f"{path}: is no regular file")


def find_predictions(
    predictions_dir: str | Path | Sequence[str | Path],
    references_dir: str | Path | None = None,
    images_dir: str | Path | None = None,
    soft: bool = False,
    layout: str = AUTO,
    structures: Collection[str] = (),
) -> list[Case]:
    """Predicted masks of one folder, or of several.

    Args:
        predictions_dir: a folder, or a list of folders: case ids are then ``FOLDER/CASE``.
        references_dir: folder with the reference of each case, where there is one.
        images_dir: folder with the image of each case.
        soft: also find the probabilities that nnU-Net saved beside a mask (``CASE.npz``).
        layout: of the masks, see :func:`gnsm_monai.data.layouts.look_into`; also of the references, if they lie so.
        structures: names of the model's structures, by which the folder of a single case is told.

    Returns:
        Cases with ``case``, ``folder``, ``label`` and, where known, ``reference``, ``probabilities`` and ``image``; a
        case whose image is missing, or whose mask is ambiguous or no file, has a ``message``; others cost a ``note``.

    Raises:
        InputError: a folder is missing or empty, or references or images are of other cases.
    """
    several = not isinstance(predictions_dir, (str, Path))
    folders = [Path(f) for f in predictions_dir] if several else [Path(predictions_dir)]  # type: ignore[union-attr, arg-type]
    if not folders:
        raise InputError("predictions_dir: the list of folders is empty")
    warn_anew()
    looked = [look_into(folder, layout, structures) for folder in folders]
    cases = [case for maps in looked for case in maps.files]
    references = _references(references_dir, layout, structures, cases)
    masks = [path for maps in looked for paths in maps.files.values() for path in paths]
    images = None if images_dir is None else find_images(images_dir, cases, masks)
    say_how(looked)
    predictions: list[Case] = []
    for maps, name in zip(looked, _folder_names(folders), strict=True):
        for case, paths in maps.files.items():
            alone = maps.is_case or not several
            folder = maps.path.resolve().parent.name if maps.is_case else name
            entry = {"case": case if alone else f"{name}/{case}", "folder": folder, LABEL: paths[0]}
            predictions.append(_with_files(entry, case, paths, references, images, soft))
    return predictions


def _with_files(
    entry: Case,
    case: str,
    paths: Sequence[Path],
    references: Mapping[str, Sequence[Path]],
    images: Images | None,
    soft: bool,
) -> Case:
    try:  # the other cases can be scored
        entry[LABEL] = _preferred(case, paths)
        with spared(entry, REFERENCE):
            if case in references:
                entry[REFERENCE] = _preferred(case, references[case])
        with spared(entry, SOFT):
            if soft and os.path.lexists(probabilities := paths[0].parent / f"{case}.npz"):
                entry[SOFT] = _regular(probabilities)
        if images is not None:
            entry[IMAGE] = images.of(case)
    except InputError as error:
        entry["message"] = str(error)
    return entry


def _references(
    references_dir: str | Path | None, layout: str, structures: Collection[str], cases: Sequence[str]
) -> dict[str, list[Path]]:
    """Paths of the reference of each case that has one."""
    if references_dir is None:
        return {}
    try:
        maps = look_into(references_dir, layout, structures)
    except InputError:  # references often lie otherwise than masks
        maps = look_into(references_dir, AUTO, structures)
    say_how([maps])
    partner = match_cases(cases, maps.files)
    check_partners(maps.path, "reference", cases, partner, maps.files)
    return {case: maps.files[other] for case, other in partner.items()}


def _folder_names(folders: Sequence[Path]) -> list[str]:
    """Last part of each path, with as many parents as tell the folders apart (``fold_0/validation``)."""
    resolved = [folder.resolve() for folder in folders]
    if len(set(resolved)) < len(resolved):
        raise InputError(f"predictions_dir: the same folder is given twice: {[str(f) for f in folders]}")
    depth = 1
    while len({r.parts[-depth:] for r in resolved}) < len(resolved):
        depth += 1
    return ["/".join(r.parts[-depth:]) for r in resolved]


def find_spatial_dims(dataset_dir: str | Path, bare: bool = False, layout: str = AUTO) -> int:
    """3 as soon as one label file of :func:`find_references` has three axes of more than one voxel, else 2.

    Only headers are read. An unreadable file is skipped, because reading it in full will report it. If no file can be
    read, the answer is 3.

    Raises:
        InputError: as :func:`find_references`.
    """
    dims = 0
    for path in _labels(Path(dataset_dir), bare, layout)[0].values():
        axes = _long_axes(path)
        if axes >= 3:
            return 3
        dims = max(dims, axes)
    return 2 if dims else 3


def _long_axes(path: Path) -> int:
    """Axes of a file up to the last one that is longer than a voxel; 0 where it cannot be read."""
    try:
        shape, _ = read_header(str(path))
    except Exception:  # each reader raises its own kinds
        return 0
    return max((axis + 1 for axis, size in enumerate(shape) if size > 1), default=0)
