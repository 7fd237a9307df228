"""Generated sets of lesions: bright blobs in any number at any place of a brain, and references without any.

No lesion has a form, place or number of its own. A brain without lesions is normal, and its correct mask is empty.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import nibabel as nib
import numpy as np
import numpy.typing as npt
from scipy import ndimage

from gnsm_monai.data.degradations import KINDS, degrade_like_a_segmenter
from gnsm_monai.files import save_json

__all__ = ["FOLDERS", "REFERENCES", "TESTS", "make_brain", "write_lesion_set"]

SIZE, SPACING = (24, 24, 6), (1.2, 1.2, 4.0)
"""Voxels per axis, and their size in mm: few, thick slices."""

REFERENCES, TESTS = 100, 8
"""References of a set, and its test cases with lesions; as many test cases have none where some reference has none."""

MANY, OUTSIDE = 25, 3
"""False lesions of a mask in the folder ``many``, and of one in ``outside``."""

FOLDERS = ("truth", "graded0", "graded1", "graded2", "missed", "many", "outside")
"""Masks of the test cases: their references; degraded ones; empty ones of cases with lesions; references with false
lesions in the brain; references with lesions outside of it."""

Label = npt.NDArray[np.uint8]


def make_brain(rng: np.random.Generator, empty: bool) -> tuple[Label, npt.NDArray[np.float32], Label]:
    """Lesions, image and brain of one case, of shape :data:`SIZE`; one to four lesions, or none if ``empty``."""
    axes = rng.uniform(0.36, 0.42, 3) * SIZE * SPACING
    centre = np.array(SIZE) * SPACING / 2 + rng.uniform(-1, 1, 3)
    brain = (((_grid() - centre) / axes) ** 2).sum(-1) < 1
    lesions = np.zeros_like(brain)
    if not empty:
        lesions = _blobs(rng, brain, int(rng.integers(1, 5)))
    image = ndimage.gaussian_filter(100.0 * brain + 80.0 * lesions, [0.6 / mm for mm in SPACING])
    image += rng.uniform(4, 9) * rng.standard_normal(brain.shape)
    return lesions.astype(np.uint8), image.astype(np.float32), brain.astype(np.uint8)


def _blobs(rng: np.random.Generator, where: npt.NDArray[np.bool_], count: int) -> npt.NDArray[np.bool_]:
    """So many ellipsoids with centres in ``where``, radii of about 1.5 to 4 mm; what leaves ``where`` is cut off."""
    grid, blobs = _grid(), np.zeros_like(where)
    for index in rng.choice(np.flatnonzero(where), count, replace=False):
        radii = rng.uniform(1.5, 4) * rng.uniform(0.8, 1.25, 3)
        blobs |= (((grid - grid.reshape(-1, 3)[index]) / radii) ** 2).sum(-1) < 1
    return blobs & where


def _grid() -> npt.NDArray[np.float64]:
    """Place of every voxel's centre in mm."""
    return (np.indices(SIZE).transpose(1, 2, 3, 0) + 0.5) * SPACING


def write_lesion_set(folder: Path, share: float, seed: int) -> list[str]:
    """Writes an nnU-Net data set with images, and the masks of :data:`FOLDERS` in ``predictions``.

    Args:
        folder: of the data set; a finished one is left as it is.
        share: of the references without lesions.
        seed: of all cases and masks.

    Returns:
        Ids of the references without lesions.
    """
    none = [f"case_{i:03d}" for i in range(round(share * REFERENCES))]
    if (folder / "dataset.json").is_file():
        return none
    for i in range(REFERENCES):
        label, image, _ = make_brain(np.random.default_rng([seed, 0, i]), i < len(none))
        _write(folder / "labelsTr" / f"case_{i:03d}.nii.gz", label)
        _write(folder / "imagesTr" / f"case_{i:03d}_0000.nii.gz", image)
    for i in range(2 * TESTS if none else TESTS):
        rng = np.random.default_rng([seed, 1, i])
        label, image, brain = make_brain(rng, i >= TESTS)
        case = f"{'full' if i < TESTS else 'none'}_{i % TESTS:02d}"
        _write(folder / "labelsTs" / f"{case}.nii.gz", label)
        _write(folder / "imagesTs" / f"{case}_0000.nii.gz", image)
        for name, mask in _masks(rng, label, brain, i).items():
            _write(folder / "predictions" / name / f"{case}.nii.gz", mask)
    description = {"channel_names": {"0": "MRI"}, "labels": {"background": 0, "lesion": 1}, "file_ending": ".nii.gz"}
    save_json(folder / "dataset.json", {**description, "numTraining": REFERENCES})
    return none


def _masks(rng: np.random.Generator, label: Label, brain: Label, number: int) -> Mapping[str, Label]:
    inside = brain.astype(bool)
    away = ndimage.distance_transform_edt(~inside, sampling=SPACING) > 2
    masks = {
        "truth": label,
        "many": label | _blobs(rng, inside, MANY).astype(np.uint8),
        "outside": label | _blobs(rng, away, OUTSIDE).astype(np.uint8),
    }
    if label.any():
        for i in range(3):
            kind = KINDS[(3 * number + i) % len(KINDS)]
            masks[f"graded{i}"] = degrade_like_a_segmenter(label, kind, rng, 2, SPACING)
        masks["missed"] = np.zeros_like(label)
    return masks


def _write(path: Path, values: npt.NDArray[np.uint8] | npt.NDArray[np.float32]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(values, np.diag([*SPACING, 1.0])), path)  # type: ignore[attr-defined]
