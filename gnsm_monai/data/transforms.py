"""From a label file to class indices on the model's grid."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import (
    ClipIntensityPercentilesd,
    Compose,
    MapTransform,
    NormalizeIntensityd,
    Orientationd,
    Pad,
    Spacing,
    SpatialCrop,
    Transform,
)
from torch import Tensor

from gnsm_monai.data.class_index import ToClassIndexd
from gnsm_monai.data.constants import IGNORE_INDEX, IMAGE, LABEL, SOFT
from gnsm_monai.data.loading import LoadMapsd
from gnsm_monai.data.nnunet import LabelScheme
from gnsm_monai.data.soft import LoadSoftd
from gnsm_monai.errors import InputError

__all__ = ["FitToGridd", "ToSpacingd", "centred_extent", "encode_labels", "label_keys", "load_case", "outside_value"]

MAX_RESAMPLED, MAX_GROWTH = 10**8, 64
"""Most voxels after resampling, as a number and per voxel of the file: more means a wrong unit in the header."""

SAME_SPACING = 0.01
"""Relative difference of spacings up to which a map is not resampled: it comes from rounding in file headers."""


def load_case(scheme: LabelScheme | None, spatial_dims: int, keys: Sequence[str] = (LABEL,)) -> Compose:
    """Reads the maps of a case, volumes in RAS orientation, at the case's own spacing.

    Args:
        scheme: the classes; ``None`` keeps the values of the file.
        spatial_dims: 2 or 3.
        keys: which of ``label``, ``reference``, ``image`` and ``probabilities`` to read, where a case has them.

    Returns:
        Transform of a case of paths to a case of tensors: label maps ``(1, *spatial)`` int16 class indices with
        ``IGNORE_INDEX`` where ignored (int32 values without a scheme), images ``(C, *spatial)`` float32 of zero mean
        and unit deviation per channel, probabilities ``(K, *spatial)`` float32.
    """
    files = [key for key in keys if key != SOFT]
    steps: list[Callable[..., Any]] = [LoadMapsd(files, spatial_dims, allow_missing_keys=True)]
    if maps := label_keys(keys):
        steps.append(ToClassIndexd(maps, scheme, spatial_dims, allow_missing_keys=True))
    if SOFT in keys and scheme is not None:
        steps.append(LoadSoftd(scheme))
    if spatial_dims == 3:
        steps.append(Orientationd(keys, axcodes="RAS", labels=None, allow_missing_keys=True))
    if IMAGE in keys:
        # A few voxels of metal or artefact must not set the scale of all others.
        steps += [
            ClipIntensityPercentilesd(IMAGE, lower=0.5, upper=99.5, channel_wise=True, allow_missing_keys=True),
            NormalizeIntensityd(IMAGE, channel_wise=True, allow_missing_keys=True),
        ]
    return Compose(steps)


def label_keys(keys: Sequence[str]) -> list[str]:
    """Those of the keys that hold label maps."""
    return [key for key in keys if key not in (IMAGE, SOFT)]


def outside_value(key: str) -> int:
    """What a map of that key has outside the field of view: nothing in images and probabilities, no label in others."""
    return 0 if key in (IMAGE, SOFT) else IGNORE_INDEX


class ToSpacingd(MapTransform):
    """Resamples to ``spacing`` in mm per axis: label maps by nearest neighbour, images and probabilities linearly.

    A map whose spacing differs by no more than 1 % is not touched. Types stay as they are.

    Raises:
        InputError: on call; the map would get so many voxels that its spacing cannot be meant in mm.
    """

    def __init__(self, keys: KeysCollection, spacing: Sequence[float]) -> None:
        super().__init__(keys, allow_missing_keys=True)
        self.spacing = tuple(float(mm) for mm in spacing)

    def __call__(self, data: Mapping[Any, Any]) -> dict[Hashable, Any]:
        case = dict(data)
        for key in self.key_iterator(case):
            if not np.allclose(case[key].pixdim.numpy(), self.spacing, rtol=SAME_SPACING, atol=0):
                self._check_size(case[key])
                mode = "bilinear" if key in (IMAGE, SOFT) else "nearest"
                kind = case[key].dtype
                case[key] = Spacing(self.spacing, mode=mode)(case[key]).to(kind)
        return case

    def _check_size(self, image: MetaTensor) -> None:
        lengths = np.array(image.shape[1:]) * image.pixdim.numpy()
        if np.prod(lengths / self.spacing) > max(MAX_RESAMPLED, MAX_GROWTH * np.prod(image.shape[1:])):
            size = " x ".join(f"{mm:.0f}" for mm in lengths)
            path = image.meta.get("filename_or_obj", "map")
            raise InputError(f"{path}: its field of view has {size} mm: is its spacing in mm?")


class FitToGridd(Transform):
    """Centres a case in a grid. Voxels outside the field of view are not observed (``IGNORE_INDEX``).

    Args:
        spatial_size: voxels per axis.
        grow: whether to enlarge the grid if structures lie outside it (scoring: the whole mask counts) or to cut them
            (training: cases of a batch have one size). It grows by as much on either side, so that the grid lies in its
            middle.
        keys: label maps, images and probabilities, which are 0 outside the field of view.
    """

    def __init__(self, spatial_size: Sequence[int], grow: bool = False, keys: Sequence[str] = (LABEL,)) -> None:
        self.spatial_size, self.grow, self.keys = tuple(spatial_size), grow, tuple(keys)

    def __call__(self, data: Mapping[Any, Any]) -> dict[Hashable, Any]:
        size: Sequence[int] = self.spatial_size
        if self.grow:
            more = np.maximum(centred_extent(np.asarray(data[LABEL])[0]) - size, 0)
            size = (np.array(size) + more + more % 2).tolist()
        case = dict(data)
        for key in self.keys:
            if key in case:
                case[key] = _centre(case[key], size, outside_value(key))
        return case


def _centre(image: MetaTensor, size: Sequence[int], value: int) -> MetaTensor:
    """``(C, *spatial)`` cropped and padded to ``(C, *size)``, voxel 0 of each axis coming to (new - old) // 2.

    MONAI's ResizeWithPadOrCrop rounds half voxels down when it pads and up when it crops, so a padded and a cropped
    case would lie one voxel apart.
    """
    old = image.shape[1:]
    shifts = [(n - m) // 2 for n, m in zip(size, old, strict=True)]
    overlap = [slice(max(0, -s), min(m, n - s)) for s, n, m in zip(shifts, size, old, strict=True)]
    added = [(max(0, s), max(0, n - m - s)) for s, n, m in zip(shifts, size, old, strict=True)]
    pad: Any = Pad([(0, 0), *added], value=value)  # type: ignore[arg-type]
    return pad(SpatialCrop(roi_slices=overlap)(image))  # type: ignore[no-any-return]


def centred_extent(label: np.ndarray) -> np.ndarray:
    """Least size per axis of a box around the centre of ``label`` ``(*spatial)`` that holds all its structures."""
    inside = label > 0
    if not inside.any():
        return np.ones(label.ndim, dtype=np.int64)
    size = []
    for axis, n in enumerate(label.shape):
        hit = np.flatnonzero(inside.any(tuple(a for a in range(label.ndim) if a != axis)))
        size.append(max(n - 1 - 2 * hit[0], 2 * hit[-1] - (n - 1)) + 1)  # twice the reach from (n - 1) / 2
    return np.array(size, dtype=np.int64)


def encode_labels(label: Tensor, num_classes: int, soft: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Class indices ``(B, 1, *spatial)`` to one-hot ``(B, K, *spatial)``, and which voxels are observed.

    An ignored voxel is background to the network, and its mask is 0: ``(B, 1, *spatial)``, float32.

    Args:
        label: class indices.
        num_classes: classes ``K``, background included.
        soft: class probabilities ``(B, K, *spatial)``, which stand in for the one-hot map where voxels count.
    """
    index = label.as_tensor() if isinstance(label, MetaTensor) else label
    one_hot = torch.zeros(len(index), num_classes, *index.shape[2:], device=index.device)
    one_hot.scatter_(1, index.long().clamp_min(0), 1.0)  # without one_hot's detour by int64
    counts = index != IGNORE_INDEX
    if soft is not None:
        one_hot = torch.where(counts, soft.as_tensor() if isinstance(soft, MetaTensor) else soft, one_hot)
    return one_hot, counts.float()
