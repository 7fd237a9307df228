"""Copies of label maps with other values: everything else of the file stays as it is."""

from __future__ import annotations

import gzip
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt
import tifffile
from PIL import Image

from gnsm_monai.data.case_names import case_id
from gnsm_monai.data.label_names import TABLE_ENDINGS
from gnsm_monai.data.readers import NIBABEL, NIFTI, PICTURES, TIFF, read_file
from gnsm_monai.data.structure_files import structure_files

__all__ = ["Change", "files_of_copy", "place_of_copy", "save_changed", "save_moved_structures"]

Change = Callable[[npt.NDArray[Any]], npt.NDArray[Any]]
"""Values of a file, (*spatial) with axis 0 = x, to values of the same shape."""


def save_changed(source: Path, target: Path, change: Change) -> None:
    """Writes a copy of a label map with changed values, in the format, geometry and number type of the file.

    Of a NIfTI file all bytes but those of the voxels are copied, extensions and scaling among them. With a file goes
    what lies beside it under its name and says how to read it: the spacing of a TIFF stack, a table of names.

    Args:
        source: the file; it is only read.
        target: the copy, whole or not at all; its name ends as that of the source.
        change: old values to new ones, as the header scales them.

    Raises:
        ValueError: source and target are one file, or the source is no single map of numbers.
        RuntimeError: of ITK, which cannot read or write the format.
    """
    _check_apart(source, target)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".") as folder:
        # ITK writes to a path, tells the format by its ending, and names the voxels' file in a header apart from them.
        temporary = Path(folder) / target.name
        _writer(source)(source, temporary, change)
        for path in _companions(source):
            ending = path.name[len(case_id(source) or "") :]
            shutil.copyfile(path, temporary.with_name(f"{case_id(target)}{ending}"))
        for path in [*_data_files(temporary), *_companions(temporary), temporary]:
            os.chmod(path, 0o644)
            os.replace(path, target.parent / path.name)


def save_moved_structures(source: Path, target: Path, moves: Sequence[tuple[int, int]], axis: int | None) -> None:
    """Writes a copy of a folder with a file per structure, in which structures have changed their names.

    The file of a structure then holds the voxels of those that were called otherwise by mistake. Voxels that several
    files claim are kept in all of them.

    Args:
        source: the folder; it is only read.
        target: the copy, whole or not at all.
        moves: numbers before and after, as :func:`gnsm_monai.data.structure_files.read_structures` gives them.
        axis: of the files, along which all are turned round; None for none.

    Raises:
        ValueError: source and target are one folder.
        RuntimeError: of ITK, which cannot read or write the format.
    """
    _check_apart(source, target)
    files, after = list(structure_files(source).values()), dict(moves)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".") as folder:
        whole = Path(folder) / target.name
        whole.mkdir()
        for number, path in enumerate(files, start=1):
            origins = [other for n, other in enumerate(files, start=1) if after.get(n, n) == number]
            if origins == [path] and axis is None:
                for part in files_of_copy(path):
                    shutil.copyfile(part, whole / part.name)
            else:
                save_changed(path, whole / path.name, _union_of(origins, axis))
        os.replace(whole, target)


def place_of_copy(case: str, source: Path) -> Path:
    """Where the copy of a mask lies below others: as the mask does in its folder.

    ``CASE/mri/aseg.mgz`` is there of every case, and the folder of a case holds a file per structure.
    """
    folder, name = Path(case).parent, Path(case).name
    source = source.absolute()
    of_case = next((place for place in (source, *source.parents) if place.name == name), source)
    return folder / source.relative_to(of_case.parent)


def files_of_copy(path: Path) -> list[Path]:
    """All files of a label map: it, or one per structure; its voxels apart from it, and what says how to read it."""
    if path.is_dir():
        return [part for file in structure_files(path).values() for part in files_of_copy(file)]
    return [one for one in (*_data_files(path), *_companions(path), path) if one.is_file()]


def _check_apart(source: Path, target: Path) -> None:
    if target.resolve() == source.resolve():
        raise ValueError(f"{source}: a mask is not replaced by its copy")


def _union_of(origins: Sequence[Path], axis: int | None) -> Change:
    """What the files of several structures claim together, marked as the file that it is written to marks it."""

    def change(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        claims = [read_file(str(path), 3)[0].reshape(values.shape) for path in origins]
        marks = [one[np.nonzero(one)][0] for one in (values, *claims) if np.any(one)]
        union = np.zeros_like(values)
        for claim in claims:
            union[claim != 0] = marks[0]
        return union if axis is None else np.flip(union, axis)

    return change


def _data_files(path: Path) -> list[Path]:
    """The files that hold the voxels of a MetaImage header, as ITK writes them beside it; none for other formats."""
    if path.suffix.lower() != ".mhd":
        return []
    return [data for data in (path.with_suffix(".raw"), path.with_suffix(".zraw")) if data.is_file()]


def _companions(path: Path) -> list[Path]:
    endings = (*TABLE_ENDINGS, ".json") if path.name.lower().endswith(TIFF) else TABLE_ENDINGS
    beside = (path.with_name(f"{case_id(path)}{ending}") for ending in endings)
    return [one for one in beside if one.is_file()]


def _writer(source: Path) -> Callable[[Path, Path, Change], None]:
    name = source.name.lower()
    if name.endswith(NIFTI):
        return _write_nifti
    if name.endswith(NIBABEL):
        return _write_freesurfer
    if name.endswith(TIFF):
        return _write_tiff
    return _write_picture if name.endswith(tuple(PICTURES)) else _write_by_itk


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


def _write_freesurfer(source: Path, target: Path, change: Change) -> None:
    image: Any = nib.load(source)
    values = np.asarray(image.dataobj)
    changed = change(values.reshape(_spatial(values.shape))).reshape(values.shape)
    nib.save(nib.MGHImage(changed.astype(values.dtype), image.affine, image.header), target)


def _write_tiff(source: Path, target: Path, change: Change) -> None:
    """A stack of three or four slices is no colour picture, as which ITK would read it."""
    with tifffile.TiffFile(source) as file:
        array = file.series[0].asarray(maxworkers=1)
    x_first = array.transpose()
    changed = change(x_first.reshape(_spatial(x_first.shape))).reshape(x_first.shape).transpose()
    kind = "minisblack" if array.dtype != bool else None
    tifffile.imwrite(target, np.ascontiguousarray(changed, array.dtype), compression="zlib", photometric=kind)


def _write_picture(source: Path, target: Path, change: Change) -> None:
    """1 bit stays 1 bit, and a palette stays with its indices; ITK would read 255, and colours."""
    with Image.open(source) as picture:
        array, palette = np.asarray(picture), picture.getpalette()
    if array.ndim != 2:
        raise ValueError(f"{source}: its segments are colours")
    copy = Image.fromarray(np.ascontiguousarray(change(array.T).T, array.dtype))
    if palette is not None:
        copy.putpalette(palette)
    copy.save(target)


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
