"""The maps of references in memory: every file is decoded once, however often its map is asked for."""

from __future__ import annotations

import copy
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor

from gnsm_monai.data.compare import check_geometry
from gnsm_monai.data.constants import IMAGE, LABEL
from gnsm_monai.data.datalist import Case
from gnsm_monai.data.failures import one_line
from gnsm_monai.data.transforms import resample
from gnsm_monai.errors import InputError

__all__ = ["MAX_IMAGE_BYTES", "CaseMaps", "PackedMap", "ReferenceMaps"]

MAX_IMAGE_BYTES = 2 << 30
"""Bytes of images that are kept; those beyond are decoded again whenever they are asked for."""

Load = Callable[[Any], Any]


@dataclass(frozen=True)
class PackedMap:
    """A label map ``(1, *spatial)``, compressed without loss: about 0.5 % of the int16 map of an abdominal CT.

    Args:
        content: the voxels, compressed.
        shape: of the array in the order of its memory.
        axes: that bring this array to ``(1, *spatial)``. A map comes back in the order of memory in which it was read:
            sums of floating-point numbers depend on it.
        dtype: of the voxels.
        meta: MONAI's: affine, spatial shape, file.
    """

    content: bytes
    shape: tuple[int, ...]
    axes: tuple[int, ...]
    dtype: str
    meta: Mapping[str, Any]

    @classmethod
    def pack(cls, label: MetaTensor) -> PackedMap:
        array = label.as_tensor().numpy()
        order = np.argsort([-abs(step) for step in array.strides], kind="stable")
        inner = np.ascontiguousarray(array.transpose(order))
        axes = tuple(int(axis) for axis in np.argsort(order))
        return cls(zlib.compress(inner.data, 1), inner.shape, axes, inner.dtype.str, copy.deepcopy(label.meta))

    def unpack(self) -> MetaTensor:
        inner = np.frombuffer(bytearray(zlib.decompress(self.content)), self.dtype).reshape(self.shape)
        return MetaTensor(torch.from_numpy(inner.transpose(self.axes)), meta=copy.deepcopy(dict(self.meta)))


class ReferenceMaps:
    """Maps of references at the model's voxel size.

    Label maps are kept packed, images as float32 up to :data:`MAX_IMAGE_BYTES` in all. Before the voxel size is known
    the label maps are kept packed at the size of their files, and no image is decoded.

    Args:
        load: transform of a case of paths to a case of maps ``(C, *spatial)``, as
            :func:`gnsm_monai.data.transforms.load_case`; it is called with one key at a time.
        voxel_size: mm per axis.
    """

    def __init__(self, load: Load, voxel_size: Sequence[float]) -> None:
        self.load, self.resample = load, resample(voxel_size, [LABEL, IMAGE])
        self.channels: dict[str, int] = {}
        """Of each case's image."""
        self._labels: dict[str, PackedMap] = {}
        self._images: dict[str, MetaTensor] = {}
        self._room = MAX_IMAGE_BYTES

    def add(self, case: Case, label: MetaTensor) -> MetaTensor:
        """Keeps a case's label map, given as it was read, and its image where the case names one.

        Returns:
            The label map at the model's voxel size.

        Raises:
            InputError: the image cannot be read, or shows another place.
        """
        resampled: MetaTensor = self.resample({LABEL: label})[LABEL]
        self._labels[case["case"]] = PackedMap.pack(resampled)
        if IMAGE in case:
            try:
                loaded = self.load({IMAGE: case[IMAGE]})
                check_geometry(label, loaded[IMAGE], IMAGE)
            except Exception as error:  # each reader raises its own kinds
                raise InputError(one_line(error, case[LABEL])) from error
            self._keep(case["case"], self.resample(loaded)[IMAGE])
        return resampled

    def label(self, case: Case) -> MetaTensor:
        """Class indices ``(1, *spatial)``, int16."""
        return self._labels[case["case"]].unpack()

    def image(self, case: Case) -> MetaTensor:
        """The image ``(C, *spatial)``, float32, of a case that names one; raises what its reader raises."""
        if case["case"] in self._images:
            return self._images[case["case"]]
        found: MetaTensor = self.resample(self.load({IMAGE: case[IMAGE]}))[IMAGE]
        return found

    def _keep(self, case: str, image: MetaTensor) -> None:
        self.channels[case] = len(image)
        size = image.numel() * image.element_size()
        if size <= self._room:
            self._room -= size
            self._images[case] = image


class CaseMaps(Sequence[dict[str, MetaTensor]]):
    """The maps of some references, unpacked when they are asked for: what MONAI's datasets take for a list of cases.

    Each is a ``label`` and, where a case names one, an ``image``.
    """

    def __init__(self, maps: ReferenceMaps, cases: Sequence[Case]) -> None:
        self.maps, self.cases = maps, cases

    def __len__(self) -> int:
        return len(self.cases)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return CaseMaps(self.maps, self.cases[index])
        case = self.cases[index]
        image = {IMAGE: self.maps.image(case)} if IMAGE in case else {}
        return {LABEL: self.maps.label(case), **image}

    def __iter__(self) -> Iterator[dict[str, MetaTensor]]:
        return (self[index] for index in range(len(self)))
