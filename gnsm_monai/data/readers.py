"""Reading of the formats that nibabel does not know."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk  # noqa: N813
from monai.config import PathLike
from monai.data import ImageReader
from monai.utils import MetaKeys, SpaceKeys

__all__ = ["SimpleITKReader"]


class SimpleITKReader(ImageReader):
    """Thin MONAI reader for ``.mha``, ``.mhd``, ``.nrrd``, ``.png`` and ``.tif`` by SimpleITK.

    Arrays come with axis 0 = x, as nibabel gives NIfTI arrays, and with a RAS affine, so that one orientation rule
    serves all formats. Channels of a colour image come last.
    """

    ENDINGS = (".mha", ".mhd", ".nrrd", ".png", ".tif", ".tiff", ".bmp")

    def verify_suffix(self, filename: Sequence[PathLike] | PathLike) -> bool:
        names = [filename] if isinstance(filename, (str, Path)) else list(filename)  # type: ignore[arg-type]
        return all(str(name).lower().endswith(self.ENDINGS) for name in names)

    def read(self, data: Sequence[PathLike] | PathLike, **kwargs: Any) -> sitk.Image | list[sitk.Image]:
        names = [data] if isinstance(data, (str, Path)) else list(data)  # type: ignore[arg-type]
        images = [sitk.ReadImage(str(name)) for name in names]
        return images if len(images) > 1 else images[0]

    def get_data(self, img: sitk.Image | list[sitk.Image]) -> tuple[np.ndarray, dict[str, Any]]:
        images = img if isinstance(img, list) else [img]
        arrays = [self._array(image) for image in images]
        first = images[0]
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
