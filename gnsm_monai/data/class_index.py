"""File values to class indices."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform
from monai.utils import convert_to_dst_type

from gnsm_monai.data.constants import IGNORE_INDEX
from gnsm_monai.data.nnunet import LabelScheme
from gnsm_monai.errors import InputError

__all__ = ["ToClassIndexd", "class_index", "distinct_values"]

TABLE_SIZE = 1 << 16
"""Range of values up to which counting is used: many times faster on a scan than the sorting of np.unique."""

ROUNDING = 1e-3
"""Distance from a whole number that the slope of a header leaves behind; what is further away is a real fraction."""

MAX_LISTED = 256
"""Most declared values that a message lists."""


class ToClassIndexd(MapTransform):
    """Turns the file values of label maps into class indices, and refuses wrong files.

    Args:
        keys: label maps ``(1, *spatial)``.
        scheme: the classes, which gives int16 indices; ``None`` keeps the values, checked to be whole numbers >= 0, as
            int32.
        spatial_dims: axes that the model works on.

    Raises:
        InputError: on call; no voxels, wrong number of axes, NaN, fractions, or a value that is no known label.
    """

    def __init__(
        self, keys: KeysCollection, scheme: LabelScheme | None, spatial_dims: int, allow_missing_keys: bool = False
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.scheme, self.spatial_dims = scheme, spatial_dims

    def __call__(self, data: Mapping[Any, Any]) -> dict[Hashable, Any]:
        case = dict(data)
        for key in self.key_iterator(case):
            case[key] = self.convert(case[key])
        return case

    def convert(self, label: MetaTensor) -> MetaTensor:
        path = label.meta.get("filename_or_obj", "label map")
        shape = tuple(label.shape[1:]) if label.shape[0] == 1 else (*label.shape[1:], label.shape[0])
        if label.numel() == 0:
            raise InputError(f"{path}: an axis without voxels, shape {shape}")
        if label.ndim != self.spatial_dims + 1 or label.shape[0] != 1:
            raise InputError(f"{path}: a label map of {self.spatial_dims} axes is needed, found shape {shape}")
        index = self._to_index(_whole_numbers(np.asarray(label), path), path)
        return convert_to_dst_type(index, label, dtype=index.dtype)[0]

    def _to_index(self, label: np.ndarray, path: str) -> torch.Tensor:
        if self.scheme is None:
            if label.min() < 0:
                raise InputError(f"{path}: label values must not be negative, found {label.min()}")
            return torch.from_numpy(label)
        return torch.from_numpy(class_index(label, self.scheme, path))


def class_index(label: np.ndarray, scheme: LabelScheme, path: str | Path) -> np.ndarray:
    """Class indices, int16, of the values of a file, ``IGNORE_INDEX`` where ignored.

    Raises:
        InputError: a value that is no known label; the message names ``path``.
    """
    values, places = distinct_values(label)
    index_of = {value: index for index, value in enumerate(scheme.values)}
    if scheme.ignore_value is not None:
        index_of[scheme.ignore_value] = IGNORE_INDEX
    unknown = [int(value) for value in values if int(value) not in index_of]
    if unknown:
        declared = sorted(index_of) if len(index_of) <= MAX_LISTED else f"{len(index_of)} values"
        raise InputError(f"{path}: label value {unknown[0]} is not among the declared {declared}")
    indices: np.ndarray = np.array([index_of[int(value)] for value in values], dtype=np.int16)[places]
    return indices


def distinct_values(label: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What ``np.unique(label, return_inverse=True)`` gives for integers, faster: sorted values, place of each voxel."""
    low = int(label.min())
    span = int(label.max()) - low + 1
    if span > TABLE_SIZE:
        values, places = np.unique(label, return_inverse=True)
        return values, places.reshape(label.shape)  # flat before numpy 2
    offsets = label - low
    present = np.bincount(offsets.ravel(), minlength=span) > 0
    return np.flatnonzero(present) + low, (np.cumsum(present, dtype=np.int32) - 1)[offsets]


def _whole_numbers(label: np.ndarray, path: str) -> np.ndarray:
    """The label map as int32."""
    if label.dtype.kind == "f":
        if not np.isfinite(label).all():
            raise InputError(f"{path}: NaN or infinite values in a label map")
        whole = np.rint(label)
        broken = np.abs(label - whole) > ROUNDING
        if broken.any():
            raise InputError(f"{path}: label values must be whole numbers, found {float(label[broken][0])!r}")
        label = whole
    limits = np.iinfo(np.int32)
    for value in (label.min(), label.max()):
        if not limits.min <= value <= limits.max:
            raise InputError(f"{path}: {value:g} is no label value")
    return label.astype(np.int32)
