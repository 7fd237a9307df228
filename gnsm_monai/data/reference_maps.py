"""The maps of references in memory: every file is decoded once, however often its map is asked for."""

from __future__ import annotations

import copy
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor

from gnsm_monai.data.class_index import class_index, scheme_values
from gnsm_monai.data.constants import IMAGE, LABEL, LABEL_NAMES
from gnsm_monai.data.contacts import contact_areas
from gnsm_monai.data.datalist import Case
from gnsm_monai.data.geometry import lay_on
from gnsm_monai.data.nnunet import LabelScheme
from gnsm_monai.data.transforms import ToSpacingd
from gnsm_monai.errors import InputError
from gnsm_monai.files import one_line

__all__ = ["MAX_IMAGE_BYTES", "CaseMaps", "PackedMap", "ReferenceMaps"]

MAX_IMAGE_BYTES = 2 << 30
"""Bytes of images that are kept; those beyond are decoded again whenever they are asked for."""

Load = Callable[[Any], Any]


@dataclass(frozen=True)
class PackedMap:
    """A label map ``(1, *spatial)`` as run lengths, compressed, without loss.

    Of 512 x 512 x 400 voxels 0.2 MB for one organ, 3 MB where one voxel in fifty lies beside another label (measured).

    Args:
        runs: values and lengths of the runs in the order of memory, int64, compressed.
        dtype: of the map.
        shape: of the map with its axes in the order of memory.
        axes: that bring them to ``(1, *spatial)``. A map comes back in the order of memory in which it was read, as
            sums of floating-point numbers depend on it.
        meta: MONAI's: affine, spatial shape, file.
    """

    runs: bytes
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    axes: tuple[int, ...]
    meta: Mapping[str, Any]

    @classmethod
    def pack(cls, label: MetaTensor) -> PackedMap:
        array = label.as_tensor().numpy()
        order = np.argsort([-abs(step) for step in array.strides], kind="stable")
        inner = array.transpose(order)
        flat = inner.ravel()
        starts = np.concatenate([[0], np.flatnonzero(flat[1:] != flat[:-1]) + 1])
        runs = np.stack([flat[starts], np.diff(starts, append=flat.size)])
        axes = tuple(int(axis) for axis in np.argsort(order))
        return cls(zlib.compress(runs.data, 1), array.dtype, inner.shape, axes, copy.deepcopy(label.meta))

    def indexed(self, scheme: LabelScheme) -> PackedMap:
        """File values replaced by class indices, int16."""
        values, lengths = self._values_and_lengths()
        meta = dict(self.meta)
        path = meta.get("filename_or_obj", "label map")
        index = class_index(scheme_values(values, meta.pop(LABEL_NAMES, {}), scheme, path), scheme, path)
        runs = np.stack([index.astype(np.int64), lengths])
        return replace(self, runs=zlib.compress(runs.data, 1), dtype=index.dtype, meta=meta)

    def _values_and_lengths(self) -> np.ndarray:
        return np.frombuffer(zlib.decompress(self.runs), np.int64).reshape(2, -1)

    def unpack(self) -> MetaTensor:
        values, lengths = self._values_and_lengths()
        inner = np.repeat(values.astype(self.dtype), lengths).reshape(self.shape)
        return MetaTensor(torch.from_numpy(inner.transpose(self.axes)), meta=copy.deepcopy(dict(self.meta)))


class ReferenceMaps:
    """Maps of references at the model's voxel size.

    Label maps are kept packed, images as float32 up to :data:`MAX_IMAGE_BYTES` in all. Before the voxel size is known
    the label maps are kept packed at the size of their files, and no image is decoded.

    Args:
        load: transform of a case of paths to a case of maps ``(C, *spatial)``, as
            :func:`gnsm_monai.data.transforms.load_case`; it is called with one key at a time.
        voxel_size: mm per axis.
        scheme: the classes, for contacts; without it they are not measured. Nor are they where a label map has ignored
            voxels, which masks lack, of fewer than three structures, or of structures that share classes.
    """

    def __init__(self, load: Load, voxel_size: Sequence[float], scheme: LabelScheme | None = None) -> None:
        self.load, self.resample = load, ToSpacingd([LABEL, IMAGE], voxel_size)
        self.touching = 0 if scheme is None else _touching(scheme)
        self.contacts: dict[str, np.ndarray] = {}
        """Contact areas ``(K, K)`` of each case's file at its full size, by its id, if they are measured."""
        self.channels: dict[str, int] = {}
        """Channels of each case's image, by its id."""
        self.apart = 0.0
        """Largest distance in mm by which headers place an image and its label map apart, which fit by their voxels."""
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
        if self.touching and bool((label < 0).any()):
            self.touching = 0
            self.contacts.clear()
        if self.touching:
            spacing = label.pixdim.tolist()[: label.ndim - 1]
            self.contacts[case["case"]] = contact_areas(label[0].numpy(), spacing, self.touching)
        resampled: MetaTensor = self.resample({LABEL: label})[LABEL]
        self._labels[case["case"]] = PackedMap.pack(resampled)
        if IMAGE in case:
            try:
                self._keep(case["case"], self._read_image(case, label))
            except Exception as error:  # each reader raises its own kinds
                raise InputError(one_line(error, case[LABEL])) from error
        return resampled

    def label(self, case: Case) -> MetaTensor:
        """Class indices ``(1, *spatial)``, int16."""
        return self._labels[case["case"]].unpack()

    def image(self, case: Case) -> MetaTensor:
        """The image ``(C, *spatial)``, float32, of a case that names one; raises what its reader raises."""
        if case["case"] in self._images:
            return self._images[case["case"]]
        return self._read_image(case, self.label(case))

    def _read_image(self, case: Case, label: MetaTensor) -> MetaTensor:
        """The image at the model's voxel size, turned as its label map; raises InputError where it does not fit."""
        laid = lay_on(label, self.load({IMAGE: case[IMAGE]})[IMAGE], IMAGE)
        if np.any(laid.missing) or np.any(laid.lacking):
            raise InputError(f"{case[IMAGE][0]}: shows another part of the body than its label map")
        self.apart = max(self.apart, laid.apart)
        resampled: MetaTensor = self.resample({IMAGE: laid.values})[IMAGE]
        return resampled

    def _keep(self, case: str, image: MetaTensor) -> None:
        self.channels[case] = len(image)
        size = image.numel() * image.element_size()
        if size <= self._room:
            self._room -= size
            self._images[case] = image


def _touching(scheme: LabelScheme) -> int:
    """``K`` of structures that may touch two others each, and share no class; else 0."""
    members = [index for classes in scheme.structure_classes for index in classes]
    apart = len(members) == len(set(members)) and len(scheme.structure_classes) > 2
    return scheme.num_classes if apart else 0


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
