"""From a file to an array, its place in the world, and what its header says of labels: one reader per format."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import tifffile
from monai.data import NibabelReader
from monai.utils import MetaKeys, SpaceKeys
from PIL import BmpImagePlugin, PngImagePlugin

from gnsm_monai.data.constants import EMPTY_LEFT_OUT, LABEL_NAMES, LOST_CLAIMS, VALUE_STEP
from gnsm_monai.data.dicom_seg import is_dicom, read_segmentation
from gnsm_monai.data.file_checks import check_checksum, check_claimed_size, check_meta_image, check_spacing
from gnsm_monai.data.label_names import names_in_xml
from gnsm_monai.data.nifti import nifti_affine
from gnsm_monai.data.notes import add_note
from gnsm_monai.data.segments import join_layers, say_overlap, slicer_segments
from gnsm_monai.data.structure_files import read_structures, structure_files
from gnsm_monai.errors import InputError
from gnsm_monai.files import load_json

__all__ = ["read_file", "read_header"]

Content = tuple[np.ndarray, dict[str, Any]]

NIFTI = (".nii", ".nii.gz")
NIBABEL = (*NIFTI, ".mgz", ".mgh")
TIFF = (".tif", ".tiff")
PICTURES = {".png": PngImagePlugin.PngImageFile, ".bmp": BmpImagePlugin.BmpImageFile}

TABLE_CODES = (0, 30)
"""Header extensions that may hold a table of labels: of no kind (TotalSegmentator), and Caret's."""

COLOURS = ("S",)
"""tifffile's name of the axis of samples: the colours of a pixel, or the slices of a stack of three or four."""


def read_file(name: str, spatial_dims: int, is_image: bool = False) -> Content:
    """Reads a map.

    The format alone decides who reads: nibabel (NIfTI, FreeSurfer), tifffile (TIFF), Pillow (PNG and BMP), highdicom
    (DICOM SEG), SimpleITK (all others). A folder has a file per structure. ITK silently reads NaN as 0 in NIfTI and
    refuses sheared affines. It reads 1-bit pictures as 0 and 255, palettes as colours, and TIFF stacks of three or four
    slices as colours, too.

    Args:
        name: of the file.
        spatial_dims: 2 or 3, which tells a colour picture from a stack.
        is_image: whether it is an image or a label map.

    Returns:
        Array ``(x, y[, z][, C])``, and metadata: ``affine`` (index to mm in RAS), ``original_channel_dim``, and
        where the header tells them ``label_names`` (of numbers) and ``value_step`` (see :data:`VALUE_STEP`).

    Raises:
        Exception: of many kinds, for a file that cannot be read.
    """
    lower = name.lower()
    if Path(name).is_dir():
        return read_structures(Path(name), lambda path: read_file(str(path), spatial_dims))  # type: ignore[no-any-return]
    if lower.endswith(NIBABEL):
        return _read_nibabel(name)
    if lower.endswith(TIFF):
        return _read_tiff(name, spatial_dims, is_image)
    if lower.endswith(".bmp") or (lower.endswith(".png") and not is_image):  # colours of 16 bits: ITK alone
        return _read_picture(name, is_image)
    if is_dicom(name):
        values, affine, names, lost = read_segmentation(name)
        meta = {**_meta(affine, values.shape), LABEL_NAMES: {n: label for label, n in names.items()}}
        return values, {**meta, LOST_CLAIMS: lost, EMPTY_LEFT_OUT: True}
    return _read_itk(name)


def read_header(name: str) -> tuple[tuple[int, ...], np.ndarray]:
    """Voxels per axis of a label map or image, and index to mm in RAS, by its header alone where the format allows it.

    Raises:
        Exception: of many kinds, for a file that cannot be read.
    """
    lower = name.lower()
    if Path(name).is_dir():
        return read_header(str(next(iter(structure_files(Path(name)).values()))))
    if lower.endswith(NIBABEL):
        image: Any = nib.load(name)
        return tuple(image.shape), nifti_affine(image) if lower.endswith(NIFTI) else image.affine
    if lower.endswith(TIFF):
        with tifffile.TiffFile(name) as file:
            series = file.series[0]
            shape = tuple(reversed(series.shape[: 2 if series.axes == "YXS" else None]))
        return shape, _lps(_stack_spacing(name) if len(shape) == 3 else np.ones(2))
    if is_dicom(name):
        values, affine, *_ = read_segmentation(name)
        return values.shape, affine
    header, _ = _itk_header(name)
    affine = _itk_affine(header)
    return tuple(header.GetSize()), _lps(np.ones(2)) if lower.endswith(tuple(PICTURES)) else affine


def _read_nibabel(name: str) -> Content:
    reader = NibabelReader()
    image: Any = reader.read(name)  # so far no more than the header
    check_claimed_size(name, image.shape)
    nifti = name.lower().endswith(NIFTI)
    if nifti:
        check_spacing(name)
    check_checksum(name, image)
    array, meta = reader.get_data(image)
    if nifti:
        meta[MetaKeys.AFFINE] = nifti_affine(image)
    stored = image.dataobj
    if stored.dtype.kind in "iu":
        meta[VALUE_STEP] = abs(float(stored.slope))
    for extension in getattr(image.header, "extensions", ()):
        if extension.get_code() in TABLE_CODES:
            content = getattr(extension, "content", None)  # nibabel 5.3 and later
            meta[LABEL_NAMES] = names_in_xml(extension.get_content() if content is None else content)
    return array, meta


def _read_tiff(name: str, spatial_dims: int, is_image: bool) -> Content:
    with tifffile.TiffFile(name) as file:
        series = file.series[0]
        check_claimed_size(name, series.shape)
        axes = series.axes
        try:
            array = series.asarray(maxworkers=1)
        except ValueError as error:
            if "imagecodecs" not in str(error):
                raise
            if axes.startswith(COLOURS):  # which ITK would take for colours
                raise ValueError(f"{error}: pip install imagecodecs") from None
            return _read_itk(name)
    colours = array.ndim == 3 and spatial_dims == 2
    if colours and axes.startswith(COLOURS) and is_image:  # one plane per colour
        array, axes = np.moveaxis(array, 0, -1), axes[1:] + axes[0]
    if colours and axes.endswith(COLOURS):
        return array.transpose(1, 0, 2), _meta(_lps(np.ones(2)), array.shape[1::-1], channels=True)
    values = array.transpose()
    return values, _meta(_lps(_stack_spacing(name) if array.ndim == 3 else np.ones(2)), values.shape)


def _stack_spacing(name: str) -> np.ndarray:
    """Spacing (x, y, z) in mm of a TIFF stack, from ``CASE.json`` as nnU-Net's Tiff3DIO writes it; else 1 mm."""
    stem = name[: name.rfind(".")]
    path = next(
        (p for p in (Path(f"{stem}.json"), Path(f"{re.sub('_[0-9]{4}$', '', stem)}.json")) if p.is_file()), None
    )
    if path is None:
        return np.ones(3)
    spacing = load_json(path).get("spacing")
    numbers = isinstance(spacing, list) and all(type(mm) in (int, float) and 0 < mm < np.inf for mm in spacing)
    if not numbers or len(spacing) != 3:  # type: ignore[arg-type]
        raise InputError(f"{path}: spacing must be three lengths in mm (z, y, x), got {spacing!r}")
    return np.array(spacing[::-1], dtype=np.float64)  # type: ignore[index]


def _read_picture(name: str, is_image: bool) -> Content:
    kind = PICTURES[name[name.rfind(".") :].lower()]
    with kind(name) as picture:
        check_claimed_size(name, picture.size, len(picture.getbands()))
        picture.verify()  # its checksums
    with kind(name) as picture:
        if picture.mode in ("LA", "PA"):
            raise ValueError("its kind of pixel is not read: save it in grey, without transparency")
        array = np.asarray(picture.convert("RGB") if is_image and picture.mode == "P" else picture)
    channels = array.ndim == 3
    return array.transpose(1, 0, *[2] * channels), _meta(_lps(np.ones(2)), array.shape[1::-1], channels)


def _itk_header(name: str) -> tuple[Any, dict[str, str]]:
    import SimpleITK as sitk  # noqa: N813  # tens of megabytes, which tables and NIfTI do not need

    file = sitk.ImageFileReader()
    file.SetFileName(name)
    file.ReadImageInformation()
    return file, {key: file.GetMetaData(key) for key in file.GetMetaDataKeys()}


def _read_itk(name: str) -> Content:
    """Pictures have 1 mm per pixel, as for nnU-Net: their resolution is meant for printing."""
    import SimpleITK as sitk  # noqa: N813  # tens of megabytes, which tables and NIfTI do not need

    try:
        file, header = _itk_header(name)
        data = check_meta_image(name) if name.lower().endswith((".mha", ".mhd")) else name
        check_claimed_size(str(data), file.GetSize(), file.GetNumberOfComponents())
        image: Any = file.Execute()
    except RuntimeError as error:  # the reason follows source lines and addresses in memory
        if "Unknown PixelType" in str(error):  # what ITK says of grey with transparency
            raise ValueError("its kind of pixel is not read: save it in grey, without transparency") from None
        raise ValueError(re.split(r"ERROR: (?:\w+\(0x\w+\): )?", str(error))[-1]) from None
    if name.lower().endswith((".png", *TIFF)):
        image.SetSpacing([1.0] * image.GetDimension())
    channels = image.GetNumberOfComponentsPerPixel() > 1
    array = sitk.GetArrayFromImage(image)  # (z, y, x[, channel])
    axes = tuple(reversed(range(image.GetDimension())))
    array = np.ascontiguousarray(array.transpose(*axes, *range(len(axes), array.ndim)))
    if segments := slicer_segments(header):
        if max(image.GetSize()) == 1:
            raise ValueError("a segmentation without voxels: 3D Slicer saves an empty one so, without its place")
        array, names, overlap, lost = join_layers(array if channels else array[..., None], segments)
        meta = {**_meta(_itk_affine(image), array.shape), LABEL_NAMES: names, LOST_CLAIMS: lost}
        add_note(meta, say_overlap(name, overlap))
        return array, meta
    return array, _meta(_itk_affine(image), image.GetSize(), channels)


def _itk_affine(image: Any) -> np.ndarray:
    """Voxel index to mm in RAS."""
    dims = image.GetDimension()
    affine = np.eye(dims + 1)
    affine[:dims, :dims] = np.array(image.GetDirection()).reshape(dims, dims) * np.array(image.GetSpacing())
    affine[:dims, -1] = image.GetOrigin()
    affine[: min(dims, 2)] *= -1
    return affine


def _lps(spacing: np.ndarray) -> np.ndarray:
    """Affine of a file that knows no place: ITK's frame is LPS, with the first voxel in its origin."""
    return np.diag([-spacing[0], -spacing[1], *spacing[2:], 1.0])


def _meta(affine: np.ndarray, shape: Sequence[int], channels: bool = False) -> dict[str, Any]:
    return {
        MetaKeys.AFFINE: affine,
        MetaKeys.ORIGINAL_AFFINE: affine,
        MetaKeys.SPACE: SpaceKeys.RAS,
        MetaKeys.SPATIAL_SHAPE: np.array(shape),
        MetaKeys.ORIGINAL_CHANNEL_DIM: -1 if channels else "no_channel",
    }
