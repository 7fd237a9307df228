"""From the files of a case to maps in memory; an unreadable one costs one line that names it."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import EnsureChannelFirst, MapTransform, Transform
from monai.utils import ImageMetaKey

from gnsm_monai.data.constants import FILE_AFFINE, FILE_SHAPE, IMAGE, LABEL, LABEL_NAMES, VALUE_STEP
from gnsm_monai.data.geometry import Grid
from gnsm_monai.data.label_names import name_label_map
from gnsm_monai.data.notes import spared
from gnsm_monai.data.readers import read_file, read_header
from gnsm_monai.errors import InputError
from gnsm_monai.files import one_line

__all__ = ["CaughtErrors", "LoadMapsd", "read_grid"]


class CaughtErrors(Transform):
    """Runs a transform on a case; a case that fails comes back as ``{"case", "folder", "message"}``.

    A case that already has a ``message``, because one of its files was not loaded, is returned unchanged.
    """

    def __init__(self, transform: Callable[[Any], Any]) -> None:
        self.transform = transform

    def __call__(self, case: Mapping[str, Any]) -> dict[str, Any]:
        message = case.get("message")
        if message is None:
            try:
                return dict(self.transform(dict(case)))
            except Exception as error:  # every reader raises its own kinds
                message = one_line(error, case[LABEL])
        return {"case": case["case"], "folder": case.get("folder", ""), "message": message}


class LoadMapsd(MapTransform):
    """Reads files as maps ``(C, *spatial)``: images as float32, label maps with the numbers of the file.

    :func:`gnsm_monai.data.readers.read_file` reads a file, by its format. MONAI's ``LoadImage`` would try one reader
    after another on a damaged file and report the reason of none. A label map's ``meta`` has ``label_names`` where its
    header or a table beside it names its numbers.

    Args:
        keys: which maps; the value of each is a path, a list of paths, one per channel, or a map from :meth:`load`.
        spatial_dims: 2 or 3. A further, last axis of one voxel (a slice stored as a volume) is dropped.

    Raises:
        InputError: on call; a file is missing, damaged, or without a usable spacing and orientation, or an image has
            another number of axes or holds NaN. A reference costs a note in its case instead.
    """

    def __init__(self, keys: KeysCollection, spatial_dims: int, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        self.spatial_dims = spatial_dims

    def __call__(self, data: Mapping[Any, Any]) -> dict[Hashable, Any]:
        case = dict(data)
        for key in self.key_iterator(case):
            if isinstance(case[key], MetaTensor):  # read before, and perhaps changed since
                continue
            with spared(case, key):
                case[key] = self.load(case[key], is_image=key == IMAGE)
        return case

    def load(self, paths: Any, is_image: bool = False) -> MetaTensor:
        names = [str(paths)] if isinstance(paths, (str, Path)) else [str(path) for path in paths]
        path = names[0]
        try:
            channels = [self._read(name, is_image) for name in names]
            loaded: Any = channels[0] if len(channels) == 1 else _together(channels)
            if not is_image:
                name_label_map(loaded, Path(path))
        except InputError:
            raise
        except Exception as error:  # each reader raises its own kinds
            raise InputError(one_line(error, path)) from error
        if loaded.ndim == self.spatial_dims + 2 and loaded.shape[-1] == 1:
            loaded = loaded[..., 0]
        if is_image:
            self._check_image(loaded, path)
        if loaded.ndim == self.spatial_dims + 1:
            loaded.meta[FILE_SHAPE] = tuple(loaded.shape[1:])
            affine = _checked_affine(np.asarray(loaded.affine, dtype=np.float64), self.spatial_dims, path)
            loaded.affine = loaded.meta[FILE_AFFINE] = affine
        return loaded  # type: ignore[no-any-return]

    def _read(self, name: str, is_image: bool) -> Any:
        """``(C, *spatial)`` of one file."""
        array, meta = read_file(name, self.spatial_dims, is_image)
        meta[ImageMetaKey.FILENAME_OR_OBJ] = name
        if is_image:  # which has no labels
            meta = {key: value for key, value in meta.items() if key not in (LABEL_NAMES, VALUE_STEP)}
        plain = _plain_type(np.asarray(array), is_image)
        return EnsureChannelFirst()(MetaTensor.ensure_torch_and_prune_meta(plain, meta))

    def _check_image(self, image: MetaTensor, path: str) -> None:
        if image.ndim != self.spatial_dims + 1:
            raise InputError(
                f"{path}: an image of {self.spatial_dims} axes is needed, found shape {tuple(image.shape[1:])}"
            )
        if not torch.isfinite(image).all():
            raise InputError(f"{path}: NaN or infinite values in an image")


def _together(channels: list[MetaTensor]) -> MetaTensor:
    """The channels of several files as one image, in the place of the first.

    Raises:
        ValueError: they differ in size, or lie more than 0.01 mm apart.
    """
    first = channels[0]
    if any(channel.shape[1:] != first.shape[1:] for channel in channels):
        raise ValueError(f"its channels differ in size: {[tuple(channel.shape[1:]) for channel in channels]}")
    if not all(torch.allclose(channel.affine, first.affine, rtol=0, atol=1e-2) for channel in channels):
        raise ValueError("its channels differ in spacing, orientation or origin")
    return MetaTensor(torch.cat([channel.as_tensor() for channel in channels]), meta=first.meta)


def read_grid(path: str | Path, spatial_dims: int) -> Grid:
    """Shape and place of an image, as :class:`LoadMapsd` takes them, by its header.

    Raises:
        InputError: it cannot be read.
    """
    try:
        shape, affine = read_header(str(path))
        return Grid(shape[:spatial_dims], _checked_affine(affine, spatial_dims, str(path)).numpy())
    except Exception as error:  # of many kinds
        raise InputError(one_line(error, path)) from error


def _plain_type(array: np.ndarray, is_image: bool) -> np.ndarray:
    """A type that torch computes with: it knows unsigned integers of 16 bits and more by name only.

    Raises:
        ValueError: complex numbers, of which numpy would drop one part, or the colours of a NIfTI file.
    """
    if array.dtype.kind not in "iubf":
        raise ValueError(f"numbers are needed, found voxels of type {'colour' if array.dtype.names else array.dtype}")
    if is_image:
        return array.astype(np.float32)
    if array.dtype.kind in "iub":
        wide = array.dtype.itemsize > 4 or array.dtype == np.uint32
        return array.astype(np.int64 if wide else np.int32)
    return array.astype(np.float64 if array.dtype.itemsize > 4 else np.float32)


def _checked_affine(affine: np.ndarray, dims: int, path: str) -> torch.Tensor:
    """Affine ``(dims + 1, dims + 1)``; a slice that does not lie across the third axis keeps its voxel size only."""
    lengths = np.linalg.norm(affine[:-1, :dims], axis=0)
    if affine.shape[0] > dims + 1:
        axes = [*range(dims), affine.shape[0] - 1]
        affine = affine[np.ix_(axes, axes)]
        if not np.allclose(np.linalg.norm(affine[:dims, :dims], axis=0), lengths, rtol=1e-3):
            affine = np.diag([*lengths, 1.0])
    # The volume of a voxel against that of a box with its edges: 0 where two axes of the file point the same way.
    if not (np.isfinite(affine).all() and abs(np.linalg.det(affine[:dims, :dims])) > 1e-6 * lengths.prod()):
        raise InputError(f"{path}: spacing and orientation in its header are unusable (an affine without inverse)")
    return torch.from_numpy(affine)
