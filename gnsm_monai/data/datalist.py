"""Folders of files to lists of cases."""

from __future__ import annotations

import glob
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gnsm_monai.data.constants import SOFT
from gnsm_monai.data.nnunet import preferred_ending
from gnsm_monai.data.readers import file_shape
from gnsm_monai.errors import InputError
from gnsm_monai.files import check_folder

__all__ = [
    "LABEL_ENDINGS",
    "case_id",
    "check_enough",
    "find_images",
    "find_label_maps",
    "find_predictions",
    "find_spatial_dims",
    "split_references",
]

LABEL_ENDINGS = (
    ".nii.gz", ".nii", ".mgz", ".mgh", ".mha", ".mhd", ".seg.nrrd", ".nrrd", ".png", ".tif", ".tiff", ".bmp",
)  # fmt: skip

Case = dict[str, Any]
"""``case`` (id) and the paths that are known of it: ``label``, ``reference``, ``image`` (a list, one per channel) and
``probabilities`` (an npz file)."""


def case_id(path: Path) -> str | None:
    """File name without its ending, cut by length (``a.b.nii.gz`` -> ``a.b``); ``None`` for another kind of file."""
    ending = next((e for e in LABEL_ENDINGS if path.name.lower().endswith(e)), None)
    return None if ending is None or path.name.startswith(".") else path.name[: -len(ending)]


def find_label_maps(folder: str | Path) -> dict[str, Path]:
    """Label maps of a folder by case id, in order of id; all other files are passed over.

    If a case has two files, the one with the ``file_ending`` of the folder's dataset.json counts.

    Raises:
        InputError: no such folder, no label map in it, two files for one case of which none is preferred, or a folder
            or a link to nowhere in place of a file.
    """
    return {case: _preferred(case, paths) for case, paths in _label_files(Path(folder)).items()}


def _label_files(folder: Path) -> dict[str, list[Path]]:
    """All paths that are named like a label map, by case. A dead link counts, too: its case must not be lost."""
    check_folder(folder)
    files: dict[str, list[Path]] = {}
    for path in sorted(folder.iterdir()):
        case = case_id(path)
        if case is not None:
            files.setdefault(case, []).append(path)
    if not files:
        raise InputError(f"{folder}: no label maps ({', '.join(LABEL_ENDINGS)})")
    return files


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
    if path.is_file():
        return path
    if path.is_dir():
        raise InputError(f"{path}: is a folder, not a file")
    if path.is_symlink() and not path.exists():
        raise InputError(f"{path}: is a link to a file that is not there")
    raise InputError(f"{path}: is no regular file")


def find_images(folder: str | Path, case: str) -> list[Path]:
    """Image files of a case, one per channel (``CASE_0000``, ``CASE_0001``, …), or the single file ``CASE``.

    Raises:
        InputError: no such folder, the case has no image there, or a channel is missing.
    """
    folder = Path(folder)
    check_folder(folder)
    for ending in LABEL_ENDINGS:
        channels = sorted(folder.glob(f"{glob.escape(case)}_[0-9][0-9][0-9][0-9]{ending}"))
        if channels:
            if channels[-1].name != f"{case}_{len(channels) - 1:04d}{ending}":
                raise InputError(f"{folder}: case '{case}' lacks a channel: found {[c.name for c in channels]}")
            return channels
        if (folder / f"{case}{ending}").is_file():
            return [folder / f"{case}{ending}"]
    raise InputError(f"{folder}: no image for case '{case}'")


def find_predictions(
    predictions_dir: str | Path | Sequence[str | Path],
    references_dir: str | Path | None = None,
    images_dir: str | Path | None = None,
    soft: bool = False,
) -> list[Case]:
    """Predicted masks of one folder, or of several.

    Args:
        predictions_dir: a folder, or a list of folders: case ids are then ``FOLDER/CASE``.
        references_dir: folder with the reference of each case, where there is one.
        images_dir: folder with the image of each case.
        soft: also find the probabilities that nnU-Net saved beside a mask (``CASE.npz``).

    Returns:
        Cases with ``case``, ``folder``, ``label`` and, where known, ``reference``, ``probabilities`` and ``image``; a
        case whose image is missing, or whose mask or reference is ambiguous or no file, has a ``message`` that says so.

    Raises:
        InputError: a folder is missing or empty.
    """
    several = not isinstance(predictions_dir, (str, Path))
    folders = [Path(f) for f in predictions_dir] if several else [Path(predictions_dir)]  # type: ignore[union-attr, arg-type]
    if not folders:
        raise InputError("predictions_dir: the list of folders is empty")
    references = {} if references_dir is None else _label_files(Path(references_dir))
    if images_dir is not None:
        check_folder(images_dir)
    cases: list[Case] = []
    for folder, name in zip(folders, _folder_names(folders), strict=True):
        for case, paths in _label_files(folder).items():
            entry: Case = {"case": f"{name}/{case}" if several else case, "folder": name, "label": paths[0]}
            try:  # the other cases can be scored
                entry["label"] = _preferred(case, paths)
                if case in references:
                    entry["reference"] = _preferred(case, references[case])
                if soft and os.path.lexists(probabilities := folder / f"{case}.npz"):
                    entry[SOFT] = _regular(probabilities)
                if images_dir is not None:
                    entry["image"] = find_images(images_dir, case)
            except InputError as error:
                entry["message"] = str(error)
            cases.append(entry)
    return cases


def check_enough(cases: Sequence[Case]) -> None:
    """Raises InputError for fewer than 8 references, which leave nothing to learn from."""
    if len(cases) < 8:
        folder = f"{Path(cases[0]['label']).parent}: " if cases else ""
        raise InputError(f"{folder}at least 8 reference label maps are needed, found {len(cases)}")


def split_references(
    cases: Sequence[Case],
    seed: int = 0,
    selection: float = 0.14,
    calibration: float = 0.26,
    structured: Sequence[bool] | None = None,
) -> list[Case]:
    """Gives every reference one ``use``: training of the network, selection of the score's rule, or its calibration.

    A reference has no second use. The models of shapes (:mod:`gnsm_monai.fitting.shapes`) are an exception: they may
    learn from held-out references, but judge none that they have seen. References without a structure are dealt out in
    proportion, so that every part has some with structures: nothing can fail in an empty one.

    Args:
        cases: reference cases.
        seed: of the shuffle.
        selection: share for validation in training, the choice and fit of the rule, and the predicted Dice.
        calibration: share for p-values and the interval of the predicted Dice.
        structured: whether each case has a structure; all by default.

    Raises:
        InputError: fewer than 8 cases, or fewer than 3 with a structure, one for each use.
    """
    check_enough(cases)
    filled = np.ones(len(cases), dtype=bool) if structured is None else np.asarray(structured, dtype=bool)
    if filled.sum() < 3:
        raise InputError(
            f"{Path(cases[0]['label']).parent}: structures are needed in at least 3 label maps, to train on, to select "
            f"the score on and to calibrate it on; found them in {filled.sum()}"
        )
    total = np.array([max(2, round(share * len(cases))) for share in (selection, calibration)])
    least = min(2, filled.sum() // 3)
    of_filled = np.maximum(least, np.rint(total * filled.mean()).astype(int))
    uses, rng = np.empty(len(cases), dtype=object), np.random.default_rng(seed)
    for where, held_out in ((filled, of_filled), (~filled, total - of_filled)):
        dealt = np.repeat(["train", "selection", "calibration"], [where.sum() - held_out.sum(), *held_out])
        rng.shuffle(dealt)
        uses[where] = dealt
    return [{**case, "use": str(use)} for case, use in zip(cases, uses, strict=True)]


def _folder_names(folders: Sequence[Path]) -> list[str]:
    """Last part of each path, with as many parents as tell the folders apart (``fold_0/validation``)."""
    resolved = [folder.resolve() for folder in folders]
    if len(set(resolved)) < len(resolved):
        raise InputError(f"predictions_dir: the same folder is given twice: {[str(f) for f in folders]}")
    depth = 1
    while len({r.parts[-depth:] for r in resolved}) < len(resolved):
        depth += 1
    return ["/".join(r.parts[-depth:]) for r in resolved]


def find_spatial_dims(labels_dir: str | Path) -> int:
    """3 as soon as one label file of a folder has three axes of more than one voxel, else 2.

    Only headers are read. An unreadable file is skipped, because reading it in full will report it. If no file can be
    read, the answer is 3.

    Raises:
        InputError: no such folder, or no label map in it.
    """
    dims = 0
    for path in find_label_maps(labels_dir).values():
        axes = _long_axes(path)
        if axes >= 3:
            return 3
        dims = max(dims, axes)
    return 2 if dims else 3


def _long_axes(path: Path) -> int:
    """Axes of a file up to the last one that is longer than a voxel; 0 where it cannot be read."""
    try:
        shape = file_shape(str(path))
    except Exception:  # each reader raises its own kinds
        return 0
    return max((axis + 1 for axis, size in enumerate(shape) if size > 1), default=0)
