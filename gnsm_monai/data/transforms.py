"""From a label file to class indices on the model's grid."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import (
    ClipIntensityPercentilesd,
    Compose,
    EnsureChannelFirstd,
    LoadImaged,
    MapTransform,
    NormalizeIntensityd,
    Orientationd,
    RandAffined,
    RandFlipd,
    ResizeWithPadOrCrop,
    Spacingd,
    Transform,
)
from torch import Tensor

from gnsm_monai.data.constants import IGNORE_INDEX
from gnsm_monai.data.nnunet import LabelScheme
from gnsm_monai.data.readers import SimpleITKReader
from gnsm_monai.errors import InputError

__all__ = [
    "CaughtErrors",
    "FitToGridd",
    "ToClassIndexd",
    "augmentation",
    "centred_extent",
    "encode_labels",
    "load_case",
    "one_line",
    "resample",
]

IMAGE, LABEL, REFERENCE = "image", "label", "reference"


def load_case(scheme: LabelScheme | None, spatial_dims: int, keys: Sequence[str] = (LABEL,)) -> Compose:
    """Reads label maps (and images) of a case, volumes in RAS orientation, at the case's own spacing.

    Args:
        scheme: the classes; ``None`` keeps the values of the file.
        spatial_dims: 2 or 3.
        keys: which of ``label``, ``reference`` and ``image`` to read, where a case has them.

    Returns:
        Transform of a case of paths to a case of tensors: label maps ``(1, *spatial)`` int16 class indices with
        ``IGNORE_INDEX`` where ignored, images ``(C, *spatial)`` float32 with zero mean and unit deviation.
    """
    maps = [key for key in keys if key != IMAGE]
    steps: list[Callable[..., Any]] = [
        LoadImaged(keys, reader=SimpleITKReader, image_only=True, allow_missing_keys=True),
        EnsureChannelFirstd(keys, allow_missing_keys=True),
        ToClassIndexd(maps, scheme, spatial_dims, allow_missing_keys=True),
    ]
    if spatial_dims == 3:
        steps.append(Orientationd(keys, axcodes="RAS", labels=None, allow_missing_keys=True))
    if IMAGE in keys:
        # A few voxels of metal or artefact must not set the scale of all others.
        steps += [
            ClipIntensityPercentilesd(IMAGE, lower=0.5, upper=99.5, channel_wise=True, allow_missing_keys=True),
            NormalizeIntensityd(IMAGE, channel_wise=True, allow_missing_keys=True),
        ]
    return Compose(steps)


def resample(spacing: Sequence[float] | None, keys: Sequence[str] = (LABEL,)) -> Compose:
    """To ``spacing`` in mm per axis, label maps by nearest neighbour; ``None`` keeps each case's own."""
    if spacing is None:
        return Compose([])
    modes = ["bilinear" if key == IMAGE else "nearest" for key in keys]
    return Compose([Spacingd(keys, pixdim=spacing, mode=modes, allow_missing_keys=True)])


class FitToGridd(Transform):
    """Centres a case in a grid; what lies outside the field of view counts nowhere (``IGNORE_INDEX``).

    Args:
        spatial_size: voxels per axis.
        grow: make the grid larger where structures of the label map lie outside it (scoring: nothing of a mask may be
            lost), or cut them (training: cases are batched).
        keys: label maps and images.
    """

    def __init__(self, spatial_size: Sequence[int], grow: bool = False, keys: Sequence[str] = (LABEL,)) -> None:
        self.spatial_size, self.grow, self.keys = tuple(spatial_size), grow, tuple(keys)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        size: Sequence[int] = self.spatial_size
        if self.grow:
            size = np.maximum(size, centred_extent(np.asarray(data[LABEL])[0])).tolist()
        case = dict(data)
        for key in self.keys:
            if key in case:
                fit = ResizeWithPadOrCrop(size, value=0 if key == IMAGE else IGNORE_INDEX)
                case[key] = fit(case[key])
        return case


def centred_extent(label: np.ndarray) -> np.ndarray:
    """Least size per axis of a box around the centre of ``label`` ``(*spatial)`` that holds all its structures."""
    places = np.argwhere(label > 0)
    if not len(places):
        return np.ones(label.ndim, dtype=np.int64)
    centre = (np.array(label.shape) - 1) / 2
    return np.ceil(2 * np.abs(places - centre).max(0)).astype(np.int64) + 1


def augmentation(
    spatial_dims: int,
    flip_axes: Sequence[int] = (),
    rotate: float = 0.1,
    scale: float = 0.1,
    shear: float = 0.05,
    translate: float = 2.0,
    keys: Sequence[str] = (LABEL,),
) -> Compose:
    """Small affine changes that keep anatomy, and flips along axes that the labels allow.

    Args:
        spatial_dims: 2 or 3.
        flip_axes: spatial axes whose mirror image is as good a label map.
        rotate: radians, per axis, either way. scale: share. shear: share. translate: voxels.
        keys: label maps and images.
    """
    affine = RandAffined(
        keys,
        prob=0.8,
        rotate_range=[rotate] * (1 if spatial_dims == 2 else 3),
        scale_range=[scale] * spatial_dims,
        shear_range=[shear] * (spatial_dims * (spatial_dims - 1)),
        translate_range=[translate] * spatial_dims,
        mode=["bilinear" if key == IMAGE else "nearest" for key in keys],
        padding_mode="border",
        allow_missing_keys=True,
    )
    flips = [RandFlipd(keys, prob=0.5, spatial_axis=axis, allow_missing_keys=True) for axis in flip_axes]
    return Compose([affine, *flips])


def encode_labels(label: Tensor, num_classes: int) -> tuple[Tensor, Tensor]:
    """Class indices ``(B, 1, *spatial)`` to one-hot ``(B, K, *spatial)`` and the mask of voxels that count.

    An ignored voxel is background to the network, and its mask is 0: ``(B, 1, *spatial)``, float32.
    """
    index = label.as_tensor() if isinstance(label, MetaTensor) else label
    one_hot = F.one_hot(index[:, 0].long().clamp_min(0), num_classes).movedim(-1, 1).float()
    return one_hot, (index != IGNORE_INDEX).float()


class ToClassIndexd(MapTransform):
    """File values of label maps to class indices, with every check that a wrong file deserves.

    Args:
        keys: label maps.
        scheme: the classes; ``None`` keeps the values, checked to be whole numbers >= 0.
        spatial_dims: axes that the model works on; a further axis of one voxel is dropped.

    Raises:
        InputError: on call; no voxels, wrong number of axes, NaN, fractions, or a value that is no known label.
    """

    def __init__(
        self, keys: KeysCollection, scheme: LabelScheme | None, spatial_dims: int, allow_missing_keys: bool = False
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.scheme, self.spatial_dims = scheme, spatial_dims

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        case = dict(data)
        for key in self.key_iterator(case):
            case[key] = self.convert(case[key])
        return case

    def convert(self, label: MetaTensor) -> MetaTensor:
        path = label.meta.get("filename_or_obj", "label map")
        if label.numel() == 0:
            raise InputError(f"{path}: an axis without voxels, shape {tuple(label.shape[1:])}")
        if label.ndim != self.spatial_dims + 1 or label.shape[0] != 1:
            shape = tuple(label.shape[1:] if label.shape[0] == 1 else label.shape)
            raise InputError(f"{path}: a label map of {self.spatial_dims} axes is needed, found shape {shape}")
        values = np.unique(label.numpy())
        if not np.isfinite(values).all():
            raise InputError(f"{path}: NaN or infinite values in a label map")
        if (values != np.round(values)).any():
            fraction = values[values != np.round(values)][0]
            raise InputError(f"{path}: label values must be whole numbers, found {fraction:g}")
        return self._to_index(label, values.astype(np.int64), path)

    def _to_index(self, label: MetaTensor, values: np.ndarray, path: str) -> MetaTensor:
        if self.scheme is None:
            if values.min() < 0:
                raise InputError(f"{path}: label values must not be negative, found {values.min()}")
            return label.to(torch.int16)
        known = {value: index for index, value in enumerate(self.scheme.values)}
        if self.scheme.ignore_value is not None:
            known[self.scheme.ignore_value] = IGNORE_INDEX
        unknown = [int(value) for value in values if int(value) not in known]
        if unknown:
            raise InputError(f"{path}: label value {unknown[0]} is not among the declared {sorted(known)}")
        if all(int(value) == known[int(value)] for value in values):
            return label.to(torch.int16)
        table = np.array([known[int(value)] for value in values], dtype=np.int16)
        index = table[np.searchsorted(values, label.numpy())]
        return label.new_tensor(index).to(torch.int16).copy_meta_from(label)  # type: ignore[no-any-return]


class CaughtErrors(Transform):
    """Runs a transform on a case; a case that fails comes back as ``{"case", "folder", "message"}``.

    One bad file among many must not stop the others.
    """

    def __init__(self, transform: Callable[[Any], Any]) -> None:
        self.transform = transform

    def __call__(self, case: Mapping[str, Any]) -> dict[str, Any]:
        try:
            return dict(self.transform(dict(case)))
        except Exception as error:  # every reader raises its own kinds
            return {"case": case["case"], "folder": case.get("folder", ""), "message": one_line(error, case[LABEL])}


def one_line(error: BaseException, path: Any) -> str:
    """The reason at the root of a chain of exceptions, in one line that names the file."""
    while error.__cause__ is not None and not isinstance(error, InputError):
        error = error.__cause__
    text = " ".join(str(error).split()) or type(error).__name__
    return text if isinstance(error, InputError) else f"{path}: cannot be read: {text}"
