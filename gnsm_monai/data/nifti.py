"""Maps as NIfTI files, in the geometry that another file has."""

from __future__ import annotations

import gzip
from collections.abc import Collection
from pathlib import Path

import nibabel as nib
import numpy as np

from gnsm_monai.files import write_atomically

__all__ = ["keep_only", "nifti_affine", "save_nifti", "small_integers"]

ENDING = ".nii.gz"


def nifti_affine(image: nib.nifti1.Nifti1Image) -> np.ndarray:
    """Voxel index to mm in RAS, ``(4, 4)``, as ITK takes it where a file says nothing of its place.

    Without an sform and a qform (codes 0) nibabel takes an image for LAS about its centre, ITK for LPS from its first
    voxel. One tool writes as it has read, the other too, and their masks of one patient would be mirrored. So a file
    without codes, and one with the place that nibabel makes up, are read as ITK reads the former. The NIfTI standard
    (method 1) leaves this open. Of an sform and a qform that differ, the sform counts, as for nibabel.
    """
    affine = np.asarray(image.affine, dtype=np.float64)
    if not np.allclose(affine, image.header.get_base_affine(), rtol=1e-5, atol=1e-3):
        return affine
    spacing = np.abs(np.diag(affine)[:3])
    return np.diag([-spacing[0], -spacing[1], spacing[2], 1.0])


def save_nifti(path: str | Path, values: np.ndarray, affine: np.ndarray) -> None:
    """Writes a map ``(*spatial)`` of 2 or 3 axes; a picture becomes a volume of one slice.

    Equal maps give equal files: there is no time stamp inside.

    Args:
        path: ends in ``.nii.gz``.
        values: of a type that NIfTI knows.
        affine: voxel index to mm in RAS, ``(D + 1, D + 1)``.
    """
    dims = values.ndim
    placed = np.eye(4)
    placed[:dims, :dims], placed[:dims, 3] = affine[:dims, :dims], affine[:dims, dims]
    image = nib.Nifti1Image(values.reshape(*values.shape, *[1] * (3 - dims)), placed)
    image.header.set_xyzt_units("mm")
    write_atomically(path, gzip.compress(image.to_bytes(), compresslevel=4, mtime=0))


def small_integers(values: np.ndarray) -> np.ndarray:
    """Whole numbers in the smallest type that viewers take for a segmentation: uint8, int16 or int32."""
    kinds = (np.uint8, np.int16, np.int32)
    least, most = (int(values.min()), int(values.max())) if values.size else (0, 0)
    fitting = (kind for kind in kinds if np.iinfo(kind).min <= least and most <= np.iinfo(kind).max)
    return values.astype(next(fitting, np.int32))


def keep_only(folder: Path, names: Collection[str]) -> None:
    """Removes the files ``NAME.nii.gz`` of a folder whose name is not among ``names``, and what is then empty.

    A name may hold folders, as in ``fold_0/case_1``.
    """
    for path in [*sorted(folder.rglob("*"), reverse=True), folder]:  # what lies deeper comes first
        if path.is_dir() and not any(path.iterdir()):
            path.rmdir()
        elif path.name.endswith(ENDING) and path.relative_to(folder).as_posix().removesuffix(ENDING) not in names:
            path.unlink()
