"""Masks that the tests of folders make."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np


def blob(centre: tuple[float, float], radii: tuple[float, float], shape: tuple[int, int] = (24, 28)) -> np.ndarray:
    """An ellipse whose left half is one structure and whose right half is another, ``(2, *shape)``."""
    rows, columns = np.indices(shape)
    inside = ((rows - centre[0]) / radii[0]) ** 2 + ((columns - centre[1]) / radii[1]) ** 2 <= 1
    return np.stack([inside & (columns < centre[1]), inside & (columns >= centre[1])])


def usual_masks(number: int, seed: int = 0) -> list[np.ndarray]:
    """Ellipses that differ a little in place and size."""
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(number):
        (row, column), (height, width) = rng.normal((12, 14), 0.5), rng.normal((6, 8), 0.4)
        made.append(blob((row, column), (height, width)))
    return made


def write(folder: Path, masks: dict[str, np.ndarray], spacing: float = 1.0) -> Path:
    """NIfTI files ``NAME.nii.gz``."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, values in masks.items():
        nib.save(nib.Nifti1Image(values, np.diag([-spacing, -spacing, spacing, 1])), folder / f"{name}.nii.gz")
    return folder
