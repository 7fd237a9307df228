"""Graded, realistic failures of a segmenter, made from a good label map, or from every one of a folder.

Each kind draws its random geometry once (seed points, direction, displacement, which structures) and then has a single
amount in [0, 1] that makes the failure larger. The amount is searched so that the mean foreground Dice against the good
map falls to a wanted value: a severity means the same damage for every kind, case and grid.
"""

from __future__ import annotations

import csv
import hashlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gnsm_monai.data._scene import LabelMap, Scene
from gnsm_monai.data.class_index import class_index
from gnsm_monai.data.compare import mean_foreground_dice
from gnsm_monai.data.constants import IGNORE_INDEX
from gnsm_monai.data.degradation_plans import DICE_RANGE, PLANS
from gnsm_monai.data.nnunet import LabelScheme, read_label_scheme
from gnsm_monai.errors import InputError
from gnsm_monai.files import check_folder

__all__ = ["KINDS", "degrade", "degrade_folder", "degrade_like_a_segmenter", "false_structures"]

KINDS: tuple[str, ...] = tuple(PLANS)
"""The kinds of failure, in the order of the tables."""

SEGMENTER_DRIFT = (0.07, 0.3)
"""Severities of the boundary drift that every copy like a segmenter's has: Dice 0.95 to 0.79, as of good networks."""

SCAN_STEPS, BISECTIONS = 8, 12


def degrade(
    label: LabelMap,
    kind: str,
    severity: float,
    rng: np.random.Generator,
    num_classes: int,
    spacing: Sequence[float] | None = None,
) -> LabelMap:
    """Copy of a label map with one failure, of mean foreground Dice near 1 - 0.7 * severity against the original.

    Args:
        label: label indices 0..num_classes-1, `IGNORE_INDEX` where ignored, shape (*spatial); not modified.
        kind: one of `KINDS`.
        severity: in [0, 1], higher = worse; 0 gives the map unchanged.
        rng: the same state gives the same failure, and for rising severity the same failure growing.
        num_classes: classes with background.
        spacing: voxel size in mm per axis; 1 where not given.

    Returns:
        Label map of the same shape and dtype, ignored voxels as they were. Where the kind cannot reach the Dice aimed
        at (a coarse grid, a swap among an odd number of structures), the nearest that it reaches; a map without
        foreground comes back unchanged.

    Raises:
        InputError: unknown kind, severity outside [0, 1], labels that are no integers of 0..num_classes-1, or a spacing
            that is not one positive number per axis.
    """
    if kind not in PLANS:
        raise InputError(f"kind: '{kind}' is unknown; known are {', '.join(KINDS)}")
    if not 0 <= severity <= 1:
        raise InputError(f"severity: must lie in [0, 1], got {severity}")
    if not np.issubdtype(label.dtype, np.integer):
        raise InputError(f"label: must hold integers, got {label.dtype}")
    spacing = [1.0] * label.ndim if spacing is None else [float(s) for s in spacing]
    if len(spacing) != label.ndim or not all(s > 0 for s in spacing):
        raise InputError(f"spacing: must be {label.ndim} positive numbers, got {spacing}")
    ignored = label == IGNORE_INDEX
    observed: LabelMap = np.where(ignored, 0, label).astype(label.dtype)
    if observed.size and (observed.min() < 0 or observed.max() >= num_classes):
        raise InputError(f"label: values must lie in 0..{num_classes - 1}, got {observed.min()}..{observed.max()}")
    if severity == 0 or not observed.any():
        return np.array(label)
    plan = PLANS[kind](Scene(observed, num_classes, spacing, rng))

    def at(amount: float) -> tuple[float, LabelMap]:
        failed = plan(amount)
        np.copyto(failed, label, where=ignored)
        return mean_foreground_dice(label, failed, num_classes), failed

    return _search(at, label.copy(), 1 - DICE_RANGE * severity)


def degrade_like_a_segmenter(
    label: LabelMap,
    kind: str,
    rng: np.random.Generator,
    num_classes: int,
    spacing: Sequence[float] | None = None,
) -> LabelMap:
    """Copy with one failure of random severity, on a mask whose boundaries err a little everywhere.

    A segmenter never equals the reference to the voxel away from its failure. Copies that did would teach that a mask
    without an obvious failure has a Dice of 1. Arguments and errors are those of :func:`degrade`.
    """
    drifted = degrade(label, "boundary_drift", rng.uniform(*SEGMENTER_DRIFT), rng, num_classes, spacing)
    return degrade(drifted, kind, rng.uniform(), rng, num_classes, spacing)


MAX_FALSE = 25
"""Most copies of a reference's structures that are put where there is none."""


def false_structures(label: LabelMap, pieces: Sequence[LabelMap], rng: np.random.Generator) -> LabelMap:
    """A map with some structures of others at random places in its background: one to :data:`MAX_FALSE`, mostly few.

    Args:
        label: label indices, `IGNORE_INDEX` where ignored, shape (*spatial); not modified.
        pieces: structures of other maps, each cut out as a box of label indices; at least one.
        rng: the same state gives the same map.
    """
    failed = np.array(label)
    for _ in range(round(MAX_FALSE ** rng.uniform())):
        piece = pieces[int(rng.integers(len(pieces)))]
        piece = np.flip(piece, tuple(axis for axis in range(piece.ndim) if rng.random() < 0.5))
        piece = piece[tuple(slice(n) for n in label.shape)]  # what is larger than the map is cut
        corner = [rng.integers(n - m + 1) for n, m in zip(label.shape, piece.shape, strict=True)]
        place = failed[tuple(slice(c, c + m) for c, m in zip(corner, piece.shape, strict=True))]
        np.copyto(place, piece, where=(piece > 0) & (place == 0))
    return failed


def _search(at: Callable[[float], tuple[float, LabelMap]], unchanged: LabelMap, target: float) -> LabelMap:
    """Map whose Dice is nearest to the target: bisection of the first interval of a scan that passes it.

    The scan makes severities graded for kinds whose Dice does not fall all the way (a part shifted onto another).
    """
    best, nearest = unchanged, 1 - target
    low, high = 0.0, 1.0

    def passes(amount: float) -> bool:
        nonlocal best, nearest
        dice, failed = at(amount)
        if abs(dice - target) < nearest:
            best, nearest = failed, abs(dice - target)
        return dice <= target

    for step in range(1, SCAN_STEPS + 1):
        if passes(step / SCAN_STEPS):
            low, high = (step - 1) / SCAN_STEPS, step / SCAN_STEPS
            break
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        low, high = (low, middle) if passes(middle) else (middle, high)
    return best


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
    import SimpleITK as sitk  # noqa: N813  # tens of megabytes, which tables and NIfTI do not need

    try:
        image: Any = sitk.ReadImage(str(path))
    except RuntimeError as error:
        raise InputError(f"{path}: cannot be read as an image") from error
    array = sitk.GetArrayFromImage(image)
    if (number := image.GetNumberOfComponentsPerPixel()) != 1:
        raise InputError(f"{path}: has {number} values per pixel, a label map has one")
    floating = np.issubdtype(array.dtype, np.floating)
    if floating and not np.array_equal(array, np.rint(array)):
        raise InputError(f"{path}: holds values that are no whole numbers, so it is no label map")
    return image, array.astype(np.int32) if floating else array


def _write(label: npt.NDArray[np.integer[Any]], like: Any, path: Path) -> None:
    import SimpleITK as sitk  # noqa: N813  # tens of megabytes, which tables and NIfTI do not need

    image: Any = sitk.GetImageFromArray(label.astype(sitk.GetArrayViewFromImage(like).dtype))
    path.parent.mkdir(parents=True, exist_ok=True)
    image.CopyInformation(like)
    sitk.WriteImage(image, str(path))
