"""Copies of label maps with other values: everything else of the file stays as it is."""

from __future__ import annotations

import gzip
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt

__all__ = ["Change", "data_files", "save_changed"]

Change = Callable[[npt.NDArray[Any]], npt.NDArray[Any]]
"""Values of a file, (*spatial) with axis 0 = x, to values of the same shape."""


def save_changed(source: Path, target: Path, change: Change) -> None:
    """Writes a copy of a label map with changed values, in the format, geometry and number type of the file.

    Of a NIfTI file all bytes but those of the voxels are copied, extensions and scaling among them.

    Args:
        source: the file; it is only read.
        target: the copy, whole or not at all; its name ends as that of the source.
        change: old values to new ones, as the header scales them.

    Raises:
        ValueError: source and target are one file, or the source is no single map of numbers.
        RuntimeError: of ITK, which cannot read or write the format.
    """
    if target.resolve() == source.resolve():
        raise ValueError(f"{source}: a mask is not replaced by its copy")
    if source.is_dir():
        raise ValueError(f"{source}: a folder with a file per structure holds no numbers to change")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".") as folder:
        # ITK writes to a path, tells the format by its ending, and names the voxels' file in a header apart from them.
        temporary = Path(folder) / target.name
        write = _write_nifti if source.name.lower().endswith((".nii", ".nii.gz")) else _write_by_itk
        write(source, temporary, change)
        for path in [*data_files(temporary), temporary]:
            os.chmod(path, 0o644)
            os.replace(path, target.parent / path.name)


def data_files(path: Path) -> list[Path]:
    """The files that hold the voxels of a MetaImage header, as ITK writes them beside it; none for other formats."""
    if path.suffix.lower() != ".mhd":
        return []
    return [data for data in (path.with_suffix(".raw"), path.with_suffix(".zraw")) if data.is_file()]


def _write_nifti(source: Path, target: Path, change: Change) -> None:
    image: Any = nib.load(source)
    proxy = image.dataobj
    raw = np.asarray(proxy.get_unscaled())
    changed = change(np.asarray(proxy).reshape(_spatial(raw.shape))).reshape(raw.shape)
    if proxy.slope != 1 or proxy.inter != 0:
        changed = (changed - proxy.inter) / proxy.slope
    if raw.dtype.kind in "iu":
        changed = np.rint(changed)
    voxels = changed.astype(raw.dtype).tobytes(order="F")
    content = source.read_bytes()
    compressed = content[:2] == b"\x1f\x8b"
    content = gzip.decompress(content) if compressed else content
    content = content[: proxy.offset] + voxels + content[proxy.offset + len(voxels) :]
    target.write_bytes(gzip.compress(content, compresslevel=6, mtime=0) if compressed else content)


def _write_by_itk(source: Path, target: Path, change: Change) -> None:
    import SimpleITK as sitk  # noqa: N813  # tens of megabytes, which tables and NIfTI do not need

    image = sitk.ReadImage(str(source))
    if image.GetNumberOfComponentsPerPixel() > 1 or sitk.ImageFileReader.GetImageIOFromFileName(str(source)) == _DICOM:
        raise ValueError(f"{source}: its segments lie in several layers or frames, or are colours")
    array = sitk.GetArrayFromImage(image)
    x_first = array.transpose(*reversed(range(array.ndim)))
    changed = change(x_first.reshape(_spatial(x_first.shape))).reshape(x_first.shape)
    copy = sitk.GetImageFromArray(np.ascontiguousarray(changed.transpose(*reversed(range(array.ndim))), array.dtype))
    copy.CopyInformation(image)
    for key in image.GetMetaDataKeys():
        copy.SetMetaData(key, image.GetMetaData(key))
    sitk.WriteImage(copy, str(target), useCompression=True)


_DICOM = "GDCMImageIO"


def _spatial(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Without further axes of one voxel at the end, as masks are read: a slice that is stored as a volume."""
    while len(shape) > 2 and shape[-1] == 1:
        shape = shape[:-1]
    return shape
