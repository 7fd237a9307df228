"""The masks of some folders, at one voxel size; one that cannot be read costs a line of the ranking."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from monai.data import MetaTensor

from gnsm_monai.data.case_names import without_folder
from gnsm_monai.data.compare import CompareToReference
from gnsm_monai.data.constants import IMAGE, LABEL, REFERENCE, UNSEEN_IMAGE
from gnsm_monai.data.datalist import find_predictions, find_spatial_dims
from gnsm_monai.data.images import find_images
from gnsm_monai.data.layouts import AUTO
from gnsm_monai.data.named_scheme import named_scheme
from gnsm_monai.data.nnunet import LabelScheme, check_same_labels, read_label_scheme
from gnsm_monai.data.notes import spared
from gnsm_monai.data.reference_maps import PackedMap
from gnsm_monai.data.reference_measures import MapMeasures, grid_of
from gnsm_monai.data.transforms import ToSpacingd, load_case
from gnsm_monai.errors import InputError
from gnsm_monai.files import one_line
from gnsm_monai.folder.resuming import StoredMap, each_once
from gnsm_monai.scoring.journal import Journal
from gnsm_monai.scoring.result import FailedCase

__all__ = ["FolderMask", "FolderMasks", "NothingNewError", "ReadOptions", "declared_scheme", "read_masks"]

MAX_VOXELS = 300_000
"""Voxels that a mask's structures may take at the common voxel size, as in training."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class FolderMask:
    """One mask.

    Args:
        case: id, ``folder``, ``volume_ml`` ``(S,)``, and ``dice`` ``(S,)`` and ``note`` where there are any.
        packed: class indices at the common voxel size.
        image: paths of its image; empty without one.
    """

    case: Mapping[str, Any]
    packed: PackedMap
    image: tuple[Path, ...] = ()

    @property
    def name(self) -> str:
        """The id without the folder: several models' masks of one image share it."""
        return without_folder(self.case["case"])

    @property
    def empty(self) -> bool:
        """Whether it holds no structure."""
        return not np.any(self.case["volume_ml"])

    @property
    def digest(self) -> str:
        """The same for masks that are equal voxel by voxel. Each empty one has its own: it is a copy of none."""
        of_empty = os.fsencode(self.case["case"]) if self.empty else b""
        return hashlib.sha256(self.packed.runs + repr(self.packed.shape).encode() + of_empty).hexdigest()

    def label(self) -> MetaTensor:
        """Class indices ``(1, *spatial)``, -1 where ignored."""
        return self.packed.unpack()


@dataclass(frozen=True)
class FolderMasks:
    """All masks that could be read.

    Args:
        masks: in the order of their folders and ids.
        failed: those that could not be read.
        scheme: their classes.
        voxel_size: mm per axis.
    """

    masks: Sequence[FolderMask]
    failed: Sequence[FailedCase]
    scheme: LabelScheme
    voxel_size: Sequence[float] = field(default=())

    def structures(self, mask: FolderMask) -> np.ndarray:
        """One-hot structures ``(S, *spatial)``, bool."""
        index = mask.label().as_tensor()[0].numpy()
        return np.stack([np.isin(index, classes) for classes in self.scheme.structure_classes])

    @property
    def one_hot(self) -> Sequence[np.ndarray]:
        """The structures of every mask, unpacked when they are asked for."""
        return _Structures(self)


class _Structures(Sequence[np.ndarray]):
    def __init__(self, masks: FolderMasks) -> None:
        self.masks = masks

    def __len__(self) -> int:
        return len(self.masks.masks)

    def __getitem__(self, number: Any) -> Any:
        return self.masks.structures(self.masks.masks[number])


class NothingNewError(InputError):
    """All masks of a folder are among those that were to be left out."""


@dataclass(frozen=True)
class ReadOptions:
    """How masks are read.

    Args:
        layout: see :func:`gnsm_monai.data.layouts.look_into`.
        scheme: classes; by default those that a dataset.json beside the masks declares, or else their values.
        voxel_size: mm per axis to bring the masks to; by default the median of theirs, or coarser.
        progress: folder of what is read so far, for a run that continues; nothing is stored without it.
        without: ids of cases that are left out.
    """

    layout: str = AUTO
    scheme: LabelScheme | None = None
    voxel_size: Sequence[float] = ()
    progress: Path | None = None
    without: Collection[str] = ()

    def journal(self, step: str, kind: type = StoredMap, **options: Any) -> Journal | None:
        """Of one step of reading, which makes a dataclass of this kind of every case."""
        if self.progress is None:
            return None
        return Journal(self.progress / step, (), options, kind=kind, done=step)


def read_masks(
    folders: Sequence[Path],
    references_dir: Path | None = None,
    images_dir: Path | None = None,
    options: ReadOptions | None = None,
) -> FolderMasks:
    """Reads the masks of folders; with references, Dice is measured, and nothing is learnt from them.

    Args:
        folders: of predictions; several make ids ``FOLDER/CASE``.
        references_dir: to measure Dice.
        images_dir: images of the cases; one that is missing costs a note.
        options: by default, those of :class:`ReadOptions`.

    Raises:
        InputError: no masks, none that can be read, or folders of different labels.
    """
    options = options or ReadOptions()
    several = folders[0] if len(folders) == 1 else list(folders)
    cases = find_predictions(several, references_dir, layout=options.layout)
    if images_dir is not None:
        _add_images(cases, images_dir)
    cases = [case for case in cases if case["case"] not in options.without]
    if not cases:
        raise NothingNewError(f"{folders[0]}: all masks here were ranked before, and there is none to add")
    scheme = options.scheme or next(filter(None, map(declared_scheme, folders)), None)
    if scheme is not None:
        for folder in folders:
            check_same_labels(folder, scheme)
    spatial_dims = find_spatial_dims(folders[0], bare=True, layout=options.layout)
    load = load_case(scheme, spatial_dims)
    journal = options.journal("read", scheme=repr(scheme), spatial_dims=spatial_dims)
    read = each_once(cases, lambda case: _read(case, load), journal)
    failed = [one for one in read if isinstance(one, FailedCase)]
    loaded = [case for case, one in zip(cases, read, strict=True) if isinstance(one, StoredMap)]
    packed = [one.packed for one in read if isinstance(one, StoredMap)]
    if not loaded:
        raise InputError(f"{failed[0].message} ({folders[0]} holds no mask that can be read)")
    measured = [MapMeasures.of(one.unpack()) for one in packed]
    if scheme is None:
        scheme = named_scheme(measured, loaded, folders[0])
        packed = [one.indexed(scheme) for one in packed]
        measured = [m.indexed(scheme, case[LABEL]) for m, case in zip(measured, loaded, strict=True)]
    voxel_size = options.voxel_size or grid_of(measured, MAX_VOXELS)[0]
    compare = _Comparison(scheme, spatial_dims, voxel_size, {c["case"]: p for c, p in zip(loaded, packed, strict=True)})
    journal = options.journal("measured", scheme=repr(scheme), voxel_size=list(voxel_size))
    masks = [_mask(case, one) for case, one in zip(loaded, each_once(loaded, compare, journal), strict=True)]
    return FolderMasks(masks, failed, scheme, voxel_size)


def declared_scheme(folder: Path) -> LabelScheme | None:
    """The classes that a dataset.json declares where nnU-Net leaves it; None without one."""
    place = folder.resolve()
    return read_label_scheme(place.parent.parent if place.name == "validation" else place)


def _add_images(cases: Sequence[dict[Any, Any]], images_dir: Path) -> None:
    """A mask can be ranked without its image. Raises InputError where none is there of any mask."""
    names = [without_folder(case["case"]) for case in cases]
    images = find_images(images_dir, names, [case[LABEL] for case in cases])
    for name, case in zip(names, cases, strict=True):
        with spared(case, UNSEEN_IMAGE):
            case[IMAGE] = images.of(name)


def _read(case: Mapping[str, Any], load: Any) -> StoredMap | FailedCase:
    try:
        if "message" in case:
            raise InputError(case["message"])
        label = load({LABEL: case[LABEL]})[LABEL]
        MapMeasures.of(label)  # what cannot be measured cannot be compared
        return StoredMap.of(case["case"], PackedMap.pack(label), {})
    except Exception as error:  # each reader raises its own kinds
        failed = FailedCase(case["case"], case["folder"], one_line(error, case[LABEL]))
        logger.warning("%s: %s", failed.case, failed.message)
        return failed


def _mask(case: Mapping[str, Any], stored: StoredMap | FailedCase) -> FolderMask:
    assert isinstance(stored, StoredMap)
    return FolderMask({"case": stored.case, **stored.values}, stored.packed, tuple(case.get(IMAGE, ())))


class _Comparison:
    """A mask with its volumes, Dice where it has a reference, at the common voxel size."""

    def __init__(
        self, scheme: LabelScheme, spatial_dims: int, voxel_size: Sequence[float], packed: Mapping[str, PackedMap]
    ) -> None:
        self.load = load_case(scheme, spatial_dims, [REFERENCE])
        self.compare = CompareToReference(scheme.num_classes, scheme.structure_classes)
        self.resample = ToSpacingd([LABEL], voxel_size)
        self.packed = packed

    def __call__(self, case: Mapping[str, Any]) -> StoredMap:
        maps: dict[Any, Any] = {key: value for key, value in case.items() if key != IMAGE}
        maps = self.load(maps) if REFERENCE in maps else maps
        maps = self.resample(self.compare({**maps, LABEL: self.packed[case["case"]].unpack()}))
        label = maps.pop(LABEL)
        values = {str(key): value for key, value in maps.items() if key != "case"}
        return StoredMap.of(case["case"], PackedMap.pack(label), values)
