"""Pictures or volumes, from the headers of label files."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import SimpleITK as sitk  # noqa: N813

from gnsm_monai.data.datalist import find_label_maps

__all__ = ["find_spatial_dims"]


def find_spatial_dims(labels_dir: str | Path) -> int:
    """3 as soon as one label file of a folder has three axes of more than one voxel, else 2.

    Only headers are read. An unreadable file is skipped, because reading it in full will report it. If no file can be
    read, the answer is 3.

    Raises:
        InputError: no such folder, or no label map in it.
    """
    found = 0
    for path in find_label_maps(labels_dir).values():
        axes = _long_axes(path)
        if axes >= 3:
            return 3
        found = max(found, axes)
    return 2 if found else 3


def _long_axes(path: Path) -> int:
    """Axes of a file up to the last one that is longer than a voxel; 0 where it cannot be read."""
    try:
        if path.name.lower().endswith((".nii", ".nii.gz")):
            shape = tuple(nib.load(path).shape)  # type: ignore[attr-defined]
        else:
            reader = sitk.ImageFileReader()
            reader.SetFileName(str(path))
            reader.ReadImageInformation()
            shape = tuple(reader.GetSize())
    except Exception:  # each reader raises its own kinds
        return 0
    return max((axis + 1 for axis, size in enumerate(shape) if size > 1), default=0)
