"""Reading of the formats that nibabel does not know, and what must be known of a file before it is trusted."""

from __future__ import annotations

import gzip
import math
import os
import re
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk  # noqa: N813
from monai.config import PathLike
from monai.data import ImageReader
from monai.utils import MetaKeys, SpaceKeys
from nibabel import Nifti1Header, Nifti2Header
from nibabel.openers import ImageOpener

__all__ = ["SimpleITKReader", "check_checksum", "check_claimed_size", "check_memory", "check_spacing"]

MAX_VOXELS = 1 << 32
"""Most voxels of a file, whatever its size: more would not fit in memory as whole numbers."""

SMALL, MAX_COMPRESSION = 10**8, 2000
"""Voxels that any machine can hold, and most voxels per byte: gzip and LZW reach fewer for a constant map."""

BYTES_PER_VOXEL = 16
"""Memory per voxel that reading and checking a label map takes, all copies included (13 bytes were measured)."""

BLOCK = 1 << 20
"""Bytes that are unpacked at once."""


def check_claimed_size(name: str, shape: Sequence[int]) -> None:
    """Checks that a file can hold what its header claims, before memory is allocated for it.

    Raises:
        ValueError: more voxels than fit in memory, or than the bytes of the file can be unpacked to.
    """
    voxels = math.prod(int(n) for n in shape)
    size = Path(name).stat().st_size
    claim = f"its header claims {' x '.join(str(n) for n in shape)} voxels"
    if voxels > max(SMALL, MAX_COMPRESSION * size):
        raise ValueError(f"{claim}, which a file of {size} bytes cannot hold")
    if voxels > MAX_VOXELS:
        raise ValueError(f"{claim}, and {MAX_VOXELS} are the most that can be read")
    check_memory(voxels * BYTES_PER_VOXEL, claim)


def check_memory(needed: float, what: str) -> None:
    """Checks that something fits in this machine's memory. A process that takes more is killed, and all its cases are
    lost.

    Raises:
        ValueError: more than there is; the message begins with ``what``.
    """
    if not hasattr(os, "sysconf") or "SC_PHYS_PAGES" not in os.sysconf_names:  # Windows
        return
    there = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if needed > there:
        raise ValueError(f"{what}, which take {needed / 2**30:.1f} GiB of memory, and there are {there / 2**30:.1f}")


def check_spacing(name: str) -> None:
    """Checks the spacing of a NIfTI file whose geometry depends on it; nibabel would read 0 as 1 mm.

    Raises:
        ValueError: a spacing of 0, or one that is no number.
    """
    with ImageOpener(name) as file:
        start = file.read(4)
        kind = Nifti1Header if int.from_bytes(start, "little") in (348, 0x5C010000) else Nifti2Header
        file.seek(0)
        header = kind.from_fileobj(file, check=False)
    spacing = header["pixdim"][1 : 1 + min(3, int(header["dim"][0]))]
    if not header["sform_code"] and not (np.isfinite(spacing).all() and (spacing != 0).all()):
        raise ValueError(f"its spacing is {' x '.join(f'{mm:g}' for mm in spacing)} mm")


def check_checksum(name: str, image: Any) -> None:
    """Checks the checksum of a compressed NIfTI file; nibabel stops reading before it.

    Args:
        name: of the file; one that is not compressed has no checksum.
        image: nibabel's, of which the header alone is needed.

    Raises:
        ValueError: a damaged file, or one that unpacks to more than its header claims.
        OSError, EOFError, zlib.error: no gzip file, or one that ends early.
    """
    if not name.lower().endswith(".gz"):
        return
    due = image.dataobj.offset + math.prod(int(n) for n in image.shape) * image.dataobj.dtype.itemsize
    with gzip.open(name) as file:
        try:
            while block := file.read(BLOCK):
                due -= len(block)
                if due < -BLOCK:
                    raise ValueError("it unpacks to more than its header claims")
        except gzip.BadGzipFile as error:
            if str(error).startswith(("CRC", "Incorrect length")):
                raise ValueError("damaged: what it unpacks to does not match its checksum") from None
            raise


class SimpleITKReader(ImageReader):
    """Thin MONAI reader for ``.mha``, ``.mhd``, ``.nrrd``, ``.png``, ``.tif`` and ``.bmp`` by SimpleITK.

    Arrays come with axis 0 = x, as nibabel gives NIfTI arrays, and with a RAS affine, so that one orientation rule
    serves all formats. Channels of a colour image come last. Pictures have 1 mm per pixel, as for nnU-Net: their
    resolution is meant for printing, and few programs that write masks pass it on.
    """

    PICTURES = (".png", ".tif", ".tiff", ".bmp")
    ENDINGS = (".mha", ".mhd", ".nrrd", *PICTURES)

    def verify_suffix(self, filename: Sequence[PathLike] | PathLike) -> bool:
        names = [filename] if isinstance(filename, (str, Path)) else list(filename)  # type: ignore[arg-type]
        return all(str(name).lower().endswith(self.ENDINGS) for name in names)

    def read(self, data: Sequence[PathLike] | PathLike, **kwargs: Any) -> sitk.Image | list[sitk.Image]:
        names = [data] if isinstance(data, (str, Path)) else list(data)  # type: ignore[arg-type]
        images = [self._read(str(name)) for name in names]
        return images if len(images) > 1 else images[0]

    @classmethod
    def _read(cls, name: str) -> sitk.Image:
        try:
            file = sitk.ImageFileReader()
            file.SetFileName(name)
            file.ReadImageInformation()
            check_claimed_size(name, file.GetSize())
            if name.lower().endswith(".mha"):
                cls._check_compressed(name)
            image: sitk.Image = file.Execute()
        except RuntimeError as error:  # the reason follows source lines and addresses in memory
            if "Unknown PixelType" in str(error):  # what ITK says of grey with transparency
                raise ValueError("its kind of pixel is not read: save it in grey, without transparency") from None
            raise ValueError(re.split(r"ERROR: (?:\w+\(0x\w+\): )?", str(error))[-1]) from None
        if name.lower().endswith(cls.PICTURES):
            image.SetSpacing([1.0] * image.GetDimension())
        if name.lower().endswith(".bmp") and image.GetNumberOfComponentsPerPixel() == 3:
            channels: list[sitk.Image] = [sitk.VectorIndexSelectionCast(image, i) for i in range(3)]
            grey = sitk.GetArrayViewFromImage(channels[0])
            # ITK gives grey bitmaps as colour.
            if all(np.array_equal(grey, sitk.GetArrayViewFromImage(channel)) for channel in channels[1:]):
                return channels[0]
        return image

    @staticmethod
    def _check_compressed(name: str) -> None:
        """Checks that the data of a MetaImage can be unpacked. If they cannot, ITK silently returns what memory holds.

        Raises:
            ValueError: damaged.
        """
        with open(name, "rb") as file:
            header = b""
            while (line := file.readline(BLOCK)) and not line.startswith(b"ElementDataFile"):
                header += line
            if not re.search(rb"^CompressedData\s*=\s*True", header, re.MULTILINE):
                return
            unpacker, data = zlib.decompressobj(), file.read(BLOCK)
            try:
                while data and not unpacker.eof:
                    unpacker.decompress(data, BLOCK)
                    data = unpacker.unconsumed_tail or file.read(BLOCK)
                damaged = not unpacker.eof
            except zlib.error:
                damaged = True
        if damaged:
            raise ValueError("damaged: its compressed data cannot be unpacked")

    def get_data(self, img: sitk.Image | list[sitk.Image]) -> tuple[np.ndarray, dict[str, Any]]:
        images = img if isinstance(img, list) else [img]
        arrays = [self._array(image) for image in images]
        first = images[0]
        if any(image.GetSize() != first.GetSize() for image in images):
            raise ValueError(f"its channels differ in size: {[image.GetSize() for image in images]}")
        channels = first.GetNumberOfComponentsPerPixel()
        meta: dict[str, Any] = {
            MetaKeys.AFFINE: self._affine(first),
            MetaKeys.ORIGINAL_AFFINE: self._affine(first),
            MetaKeys.SPACE: SpaceKeys.RAS,
            MetaKeys.SPATIAL_SHAPE: np.array(first.GetSize()),
            MetaKeys.ORIGINAL_CHANNEL_DIM: -1 if channels > 1 or len(arrays) > 1 else "no_channel",
        }
        return (arrays[0] if len(arrays) == 1 else np.stack(arrays, axis=-1)), meta

    @staticmethod
    def _array(image: sitk.Image) -> np.ndarray:
        """SimpleITK's ``(z, y, x[, channel])`` turned to ``(x, y, z[, channel])``."""
        array = sitk.GetArrayFromImage(image)
        axes = tuple(reversed(range(image.GetDimension())))
        return np.ascontiguousarray(array.transpose(*axes, *range(len(axes), array.ndim)))

    @staticmethod
    def _affine(image: sitk.Image) -> np.ndarray:
        """Voxel index to mm in RAS; ITK's own frame is LPS."""
        dims = image.GetDimension()
        affine = np.eye(dims + 1)
        direction = np.array(image.GetDirection()).reshape(dims, dims)
        affine[:dims, :dims] = direction * np.array(image.GetSpacing())
        affine[:dims, -1] = image.GetOrigin()
        affine[: min(dims, 2)] *= -1
        return affine
