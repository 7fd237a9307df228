"""Eight labelling errors, planted among the references of an nnU-Net data set, for an audit to find.

    python scripts/benchmarks/plant_errors.py --dataset nnUNet_raw/DatasetXXX_Name --output OUT [--seed 0]

Writes OUT/labelsTr (every case, eight of them with an error), OUT/dataset.json and OUT/planted.json (case -> error,
with its measures). NIfTI label maps of a structure 1 (anterior) and 2 (posterior). The source is only read.
"""

from __future__ import annotations

import argparse
import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from scipy import ndimage

from gnsm_monai.data.compare import mean_foreground_dice
from gnsm_monai.errors import InputError, exit_on_input_error
from gnsm_monai.files import load_json, save_json, write_atomically

SHIFT_MM, ISLAND_MM, ISLAND_VOXELS, BALL_MM, MARGIN = 6.0, 12.0, 200, 10.0, 2
DIRECTIONS = (("left", "right"), ("back", "front"), ("bottom", "top"))
"""Low and high end of each axis of an array in RAS."""

Planted = tuple[np.ndarray, dict[str, Any]]
"""Label map with the error, and its measures."""


def swap(label: np.ndarray, spacing: np.ndarray, rng: np.random.Generator) -> Planted:
    """Structures 1 and 2 exchange their labels."""
    return np.where((label == 1) | (label == 2), 3 - label, label), {}


def shift(label: np.ndarray, spacing: np.ndarray, rng: np.random.Generator) -> Planted:
    """Everything lies 6 mm away, along a random axis on which there is room, else along the one with most room."""
    steps = np.maximum(np.rint(SHIFT_MM / spacing).astype(int), 1)
    room = np.array([(s.start, n - s.stop) for s, n in zip(_box(label), label.shape, strict=True)])
    spare = room - steps[:, None]
    choices = np.argwhere(spare >= min(0, spare.max()))
    axis, side = (int(i) for i in rng.choice(choices))
    offset = [int(steps[axis]) * (1 if side else -1) if i == axis else 0 for i in range(3)]
    moved = ndimage.shift(label, offset, order=0)
    lost = int(np.count_nonzero(label) - np.count_nonzero(moved))
    return moved, {"mm": float(steps[axis] * spacing[axis]), "to": DIRECTIONS[axis][side], "voxels_lost": lost}


def erase_posterior_half(label: np.ndarray, spacing: np.ndarray, rng: np.random.Generator) -> Planted:
    """The half of all labelled voxels that lies at the posterior end of the object's long axis becomes background."""
    points = np.argwhere(label) * spacing
    axis = np.linalg.svd(np.cov(points.T))[0][:, 0]
    along = points @ (axis if axis[1] > 0 else -axis)  # +y is anterior
    erased = label.copy()
    values = erased[label > 0]  # in the order of argwhere
    values[np.argsort(along, kind="stable")[: len(values) // 2]] = 0
    erased[label > 0] = values
    return erased, {"voxels_erased": int(np.count_nonzero(label) - np.count_nonzero(erased))}


def island(label: np.ndarray, spacing: np.ndarray, rng: np.random.Generator) -> Planted:
    """A ball of 200 voxels, its nearest voxel 12 mm from the object, or as far away as the field of view lets it."""
    return _ball(label, spacing, rng, ISLAND_VOXELS, ISLAND_MM)


def fill_ball(label: np.ndarray, spacing: np.ndarray, rng: np.random.Generator) -> Planted:
    """A ball of background, 10 mm across, at a random place where it fits, gets the label of a structure."""
    voxels = round(np.pi / 6 * BALL_MM**3 / float(np.prod(spacing)))
    return _ball(label, spacing, rng, voxels, None)


def dilate(label: np.ndarray, spacing: np.ndarray, rng: np.random.Generator) -> Planted:
    """Background at most 2 voxels from the object gets the label of the nearest structure."""
    away, nearest = ndimage.distance_transform_edt(label == 0, return_indices=True)
    grown = np.where(away <= MARGIN, label[tuple(nearest)], 0)
    return grown, {"voxels_added": int(np.count_nonzero(grown) - np.count_nonzero(label))}


def erode(label: np.ndarray, spacing: np.ndarray, rng: np.random.Generator) -> Planted:
    """Labelled voxels at most 2 voxels from the background become background."""
    depth = ndimage.distance_transform_edt(label > 0)
    shrunk = np.where(depth > MARGIN, label, 0)
    return shrunk, {"voxels_erased": int(np.count_nonzero(label) - np.count_nonzero(shrunk))}


def mirror(label: np.ndarray, spacing: np.ndarray, rng: np.random.Generator) -> Planted:
    """The object is flipped end to end along the axis on which it is longest, and stays in its bounding box."""
    box = _box(label)
    axis = int(np.argmax([(s.stop - s.start) * mm for s, mm in zip(box, spacing, strict=True)]))
    mirrored = np.zeros_like(label)
    mirrored[box] = np.flip(label[box], axis)
    return mirrored, {"axis": "-".join(DIRECTIONS[axis])}


ERRORS: dict[str, Callable[[np.ndarray, np.ndarray, np.random.Generator], Planted]] = {
    "swap anterior and posterior": swap,
    "shift by 6 mm": shift,
    "erase the posterior half": erase_posterior_half,
    "island of 200 voxels 12 mm away": island,
    "dilate by 2 voxels": dilate,
    "mirror along the long axis": mirror,
    "erode by 2 voxels": erode,
    "fill a 10 mm ball of background": fill_ball,
}
"""From a label map in RAS, mm per axis and a generator to the label map with the error."""


def _box(label: np.ndarray) -> tuple[slice, ...]:
    return tuple(slice(int(i.min()), int(i.max()) + 1) for i in np.nonzero(label))


def _ball(
    label: np.ndarray, spacing: np.ndarray, rng: np.random.Generator, voxels: int, distance: float | None
) -> Planted:
    """Labels a ball where it is all background, as near to a distance from the object as can be, or anywhere."""
    reach = np.ceil(2 * (voxels * np.prod(spacing)) ** (1 / 3) / spacing).astype(int)
    offsets = np.stack(np.meshgrid(*[np.arange(-r, r + 1) for r in reach], indexing="ij"), axis=-1).reshape(-1, 3)
    offsets = offsets[np.argsort(np.linalg.norm(offsets * spacing, axis=1), kind="stable")[:voxels]]
    footprint = np.zeros(2 * np.abs(offsets).max(axis=0) + 1, dtype=bool)
    footprint[tuple((offsets + np.abs(offsets).max(axis=0)).T)] = True
    away = ndimage.distance_transform_edt(label == 0, sampling=spacing)
    # Of a ball around each voxel: the distance between object and ball, 0 where it overlaps or leaves the map.
    gap = ndimage.minimum_filter(away, footprint=footprint, mode="constant", cval=0)
    if not gap.any():
        raise InputError(f"no room for a ball of {voxels} voxels in the background")
    if distance is None:
        fits = gap > 0
    else:
        error = np.abs(np.where(gap > 0, gap, np.inf) - distance)
        fits = error <= error.min() + 1e-6
    centre = rng.choice(np.argwhere(fits))
    structure = int(rng.choice(np.unique(label[label > 0])))
    planted = label.copy()
    planted[tuple((centre + offsets).T)] = structure
    return planted, {"voxels": voxels, "mm_from_object": round(float(gap[tuple(centre)]), 2), "label": structure}


def plant(dataset: Path, output: Path, seed: int = 0) -> dict[str, dict[str, Any]]:
    """Copies the references of a data set and plants every error of `ERRORS` in a case of its own.

    Returns:
        The content of planted.json: case -> error, its measures, and the mean Dice with the true label map.

    Raises:
        InputError: no NIfTI references, fewer than there are errors, or an output that holds other files or is
            the data set itself.
    """
    description = load_json(dataset / "dataset.json")
    ending = str(description.get("file_ending", ".nii.gz"))
    if ending not in (".nii.gz", ".nii"):
        raise InputError(f"{dataset / 'dataset.json'}: file_ending {ending} is not supported, errors need NIfTI")
    files = sorted((dataset / "labelsTr").glob(f"*{ending}"))
    if len(files) < len(ERRORS):
        raise InputError(f"{dataset / 'labelsTr'}: {len(files)} references, at least {len(ERRORS)} are needed")
    target = output / "labelsTr"
    if target.resolve() == (dataset / "labelsTr").resolve():
        raise InputError(f"{output}: is the data set itself, which must stay as it is")
    if target.is_dir() and any(target.iterdir()) and not (output / "planted.json").is_file():
        raise InputError(f"{target}: holds files that this script did not write")
    cases = np.random.default_rng(seed).choice(len(files), len(ERRORS), replace=False)
    planted: dict[str, dict[str, Any]] = {}
    contents: dict[Path, bytes] = {}
    for index, error in sorted(zip(cases.tolist(), ERRORS, strict=True)):
        path = files[index]
        contents[path], measures = _with_error(path, error, np.random.default_rng([seed, index]))
        planted[path.name[: -len(ending)]] = {"error": error, **measures}
    save_json(output / "planted.json", planted)  # first: it marks the folder as this script's own
    for path in files:
        write_atomically(target / path.name, contents.get(path) or path.read_bytes())
    save_json(output / "dataset.json", description)
    return planted


def _with_error(path: Path, error: str, rng: np.random.Generator) -> tuple[bytes, dict[str, Any]]:
    """The file with the error: same geometry, pixel type and header."""
    image = nib.load(path)
    stored = np.asanyarray(image.dataobj)
    if stored.ndim != 3 or not {1, 2} <= set(np.unique(stored).tolist()):
        raise InputError(f"{path}: a 3D label map with the labels 1 and 2 is needed")
    to_ras = nib.orientations.io_orientation(image.affine)
    label = nib.orientations.apply_orientation(stored, to_ras).astype(np.int16)
    spacing = np.zeros(3)
    spacing[to_ras[:, 0].astype(int)] = image.header.get_zooms()[:3]
    wrong, measures = ERRORS[error](label, spacing, rng)
    dice = mean_foreground_dice(label, wrong, int(label.max()) + 1)
    back = nib.orientations.ornt_transform(nib.orientations.axcodes2ornt("RAS"), to_ras)
    array = nib.orientations.apply_orientation(wrong, back).astype(stored.dtype)
    content = type(image)(array, image.affine, image.header).to_bytes()
    packed = gzip.compress(content, mtime=0) if path.name.endswith(".gz") else content  # no time: equal bytes again
    return packed, {**measures, "dice": round(dice, 4)}


@exit_on_input_error()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    print(json.dumps(plant(arguments.dataset, arguments.output, arguments.seed), indent=2))


if __name__ == "__main__":
    main()
