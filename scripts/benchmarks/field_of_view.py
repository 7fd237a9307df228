"""The same cases in another field of view: every side cropped or padded, as another protocol or scanner would.

One draw per case: a scan's field of view is its own, so that all networks' masks, the reference and the image of a case
are cut alike. Label maps are padded with background; images with their edge values, as a block of zeros would
be a border that no scan has, and would move the mean and deviation that images are brought to.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
import numpy.typing as npt

from gnsm_monai.data.datalist import find_label_maps
from gnsm_monai.data.images import Images
from gnsm_monai.files import save_json

__all__ = ["MIN_VOXELS", "SHARE", "draw_margins", "vary", "write_varied"]

SHARE = 0.25
"""Largest change per side, as a share of the axis."""

MIN_VOXELS = 8
"""What a crop leaves of an axis at least, if the axis has as many."""


def write_varied(
    references: Path, predictions: Sequence[Path], images: Sequence[Path], output: Path, seed: int = 0
) -> list[str]:
    """Writes NIfTI copies to ``output/references``, ``output/predictions/FOLDER`` and ``output/images/FOLDER``.

    What is done already, by the same seed, is not done again.

    Args:
        references: folder of reference label maps; its cases are the cases.
        predictions: folders of masks.
        images: folders of images.
        output: of the copies.
        seed: of the margins.

    Returns:
        Cases that are left out, because their reference has no structure left.

    Raises:
        ValueError: a mask or image does not lie voxel on voxel over its reference.
    """
    done = output / "field_of_view.json"
    if done.is_file() and (kept := json.loads(done.read_text()))["seed"] == seed:
        return list(kept["skipped"])
    margins: dict[str, list[list[int]]] = {}
    skipped: list[str] = []
    masks_of = {folder: find_label_maps(folder) for folder in predictions}
    for case, path in find_label_maps(references).items():
        reference = nib.load(path)
        drawn = draw_margins(reference.shape, _generator(seed, case))
        varied = vary(reference, drawn)
        if not np.asanyarray(varied.dataobj).any():
            skipped.append(case)
            continue
        margins[case] = drawn.tolist()
        _save(varied, output / "references" / path.name)
        for folder, masks in masks_of.items():
            if case in masks:
                mask = vary(_alike(masks[case], reference), drawn)
                _save(mask, output / "predictions" / folder.name / masks[case].name)
        for folder in images:
            for image in Images.of_folder(folder, [case]).of(case):
                cut = vary(_alike(image, reference), drawn, mode="edge")
                _save(cut, output / "images" / folder.name / image.name)
    save_json(done, {"seed": seed, "skipped": skipped, "margins": margins})
    return skipped


def draw_margins(shape: Sequence[int], generator: np.random.Generator) -> npt.NDArray[np.int64]:
    """Voxels to add, or where negative to take away, before and behind each axis, (axes, 2).

    Uniform within +- `SHARE` of the axis length, each side for itself; crops are shortened where they would leave fewer
    than `MIN_VOXELS` voxels.
    """
    lengths = np.array(shape)
    margins = np.rint(generator.uniform(-SHARE, SHARE, (len(lengths), 2)) * lengths[:, None]).astype(np.int64)
    for axis, length in enumerate(lengths):
        while margins[axis].min() < 0 and length + margins[axis].sum() < MIN_VOXELS:
            margins[axis, margins[axis].argmin()] += 1
    return margins


def vary(image: nib.Nifti1Image, margins: npt.NDArray[np.int64], mode: str = "constant") -> nib.Nifti1Image:
    """A cropped and padded copy in which every voxel that is kept stays where it was, in mm.

    Args:
        image: with axes (x, y, z).
        margins: (3, 2), as `draw_margins` gives them.
        mode: of `numpy.pad`; constant is 0.
    """
    array = np.asanyarray(image.dataobj)
    kept = tuple(slice(max(-low, 0), n - max(-high, 0)) for n, (low, high) in zip(array.shape, margins, strict=True))
    varied = np.pad(array[kept], np.maximum(margins, 0), mode=mode)  # type: ignore[call-overload]
    affine = image.affine.copy()
    affine[:3, 3] -= affine[:3, :3] @ margins[:, 0]
    header = image.header.copy()
    header.set_slope_inter(1, 0)
    header.set_data_dtype(varied.dtype)
    return nib.Nifti1Image(varied, affine, header)


def _generator(seed: int, case: str) -> np.random.Generator:
    """Its own stream per case, so that a case is cut alike whatever the others are."""
    return np.random.default_rng([seed, int.from_bytes(hashlib.sha256(case.encode()).digest()[:8], "big")])


def _alike(path: Path, reference: nib.Nifti1Image) -> nib.Nifti1Image:
    """Margins are counted along the file's axes, so that files must agree in them."""
    image = nib.load(path)
    if image.shape != reference.shape or not np.allclose(image.affine, reference.affine, atol=1e-2):
        raise ValueError(f"{path}: shape or place differs from its reference's")
    return image


def _save(image: nib.Nifti1Image, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(image, path)
