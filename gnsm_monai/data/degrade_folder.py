"""Degrade a folder of label files: one copy per kind of failure, of random severity, with a table of the true Dice."""

from __future__ import annotations

import csv
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk  # noqa: N813

from gnsm_monai.data.class_index import class_index
from gnsm_monai.data.degradations import KINDS, degrade, mean_foreground_dice
from gnsm_monai.data.nnunet import LabelScheme, read_label_scheme
from gnsm_monai.errors import InputError
from gnsm_monai.files import check_folder

__all__ = ["degrade_folder"]

ENDINGS = (".nii.gz", ".nii", ".mha", ".nrrd", ".png", ".tif")
COLUMNS = ("folder", "case", "kind", "severity", "dice")


def degrade_folder(
    labels_dir: str | os.PathLike[str],
    output_dir: str | os.PathLike[str],
    seed: int = 0,
    kinds: Sequence[str] = KINDS,
) -> list[dict[str, Any]]:
    """Write one degraded copy per kind of every label file to `output_dir/KIND/CASE.ext`.

    Geometry and pixel type are kept. Severities are uniform in [0, 1] and depend on (seed, case, kind) alone, so that a
    case is degraded alike in any folder. Classes are those of a dataset.json in the folder or its parent, whose ignore
    label stays where it is; without one, the number of classes is the largest label of the folder plus one.

    Args:
        labels_dir: folder of label files (.nii.gz, .nii, .mha, .nrrd, .png, .tif); its subfolders are not read.
        output_dir: made where missing; files of the same name are overwritten.
        seed: seed of severities and failures.
        kinds: the kinds to make, of `KINDS`.

    Returns:
        The rows of `output_dir/degradations.csv`: folder (= kind), case, kind, severity, and dice, the mean Dice of
        the structures against the original (1 = identical, NaN for a map without foreground).

    Raises:
        InputError: no such folder, no label file in it, an unreadable file, values that are no labels, unknown kind.
    """
    labels_dir, output_dir = Path(labels_dir), Path(output_dir)
    unknown = [kind for kind in kinds if kind not in KINDS]
    if unknown:
        raise InputError(f"kinds: '{unknown[0]}' is unknown; known are {', '.join(KINDS)}")
    check_folder(labels_dir)
    files = {p: end for p in sorted(labels_dir.iterdir()) if p.is_file() and (end := _ending(p.name))}
    if not files:
        raise InputError(f"{labels_dir}: no label file ({', '.join(ENDINGS)}) in this folder")
    scheme = read_label_scheme(labels_dir) or read_label_scheme(labels_dir.resolve().parent)
    if scheme is None:
        # The number of classes is known after the last file: reading twice is cheaper than keeping all.
        scheme = LabelScheme.from_values(range(max(int(_read(path)[1].max()) for path in files) + 1))
    rows: list[dict[str, Any]] = []
    for path, ending in files.items():
        case = path.name[: -len(ending)]
        image, values = _read(path)
        label = class_index(values, scheme, path)
        for kind in kinds:
            rng = _generator(seed, case, kind)
            severity = float(rng.uniform())
            failed = degrade(label, kind, severity, rng, scheme.num_classes, image.GetSpacing()[::-1])
            _write(scheme.to_values(failed), image, output_dir / kind / path.name)
            dice = mean_foreground_dice(label, failed, scheme.num_classes, scheme.structure_classes)
            rows.append(dict(zip(COLUMNS, (kind, case, kind, round(severity, 6), round(dice, 6)), strict=True)))
    with open(output_dir / "degradations.csv", "w", newline="", encoding="utf-8") as table:
        writer = csv.DictWriter(table, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    return rows


def _ending(name: str) -> str:
    """The label file ending of a name, "" if it has none."""
    return next((ending for ending in ENDINGS if name.endswith(ending)), "")


def _generator(seed: int, case: str, kind: str) -> np.random.Generator:
    """Generator of one (seed, case, kind), the same in every run: Python's own hash of a string is not."""
    digest = hashlib.sha256(f"{seed}\n{case}\n{kind}".encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "little"))


def _read(path: Path) -> tuple[Any, npt.NDArray[np.integer[Any]]]:
    """SimpleITK image and its labels, axes (z, y, x); a float file of whole numbers is read as int."""
    try:
        image: Any = sitk.ReadImage(str(path))
    except RuntimeError as error:
        raise InputError(f"{path}: cannot be read as an image") from error
    array = sitk.GetArrayFromImage(image)
    if image.GetNumberOfComponentsPerPixel() != 1:
        raise InputError(f"{path}: has {image.GetNumberOfComponentsPerPixel()} values per pixel, a label map has one")
    if np.issubdtype(array.dtype, np.floating):
        if not np.array_equal(array, np.rint(array)):
            raise InputError(f"{path}: holds values that are no whole numbers, so it is no label map")
        array = array.astype(np.int32)
    return image, array


def _write(label: npt.NDArray[np.integer[Any]], like: Any, path: Path) -> None:
    image: Any = sitk.GetImageFromArray(label.astype(sitk.GetArrayViewFromImage(like).dtype))
    image.CopyInformation(like)
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(image, str(path))
