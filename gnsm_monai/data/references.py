"""What a model must know of its reference label maps before training: classes, grid, geometry, maps, splits."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from monai.data import MetaTensor
from monai.transforms import Compose

from gnsm_monai.data.alignment import FieldsOfView
from gnsm_monai.data.constants import IMAGE, LABEL
from gnsm_monai.data.datalist import Case, find_references
from gnsm_monai.data.images import Images
from gnsm_monai.data.layouts import AUTO
from gnsm_monai.data.named_scheme import named_scheme
from gnsm_monai.data.nnunet import LabelScheme, read_label_scheme
from gnsm_monai.data.patients import FROM_NAMES, with_patients
from gnsm_monai.data.reference_maps import CaseMaps, PackedMap, ReferenceMaps
from gnsm_monai.data.reference_measures import MapMeasures, any_way_up, grid_of, symmetric_axes
from gnsm_monai.data.splits import check_enough, split_references
from gnsm_monai.data.transforms import load_case
from gnsm_monai.errors import InputError
from gnsm_monai.files import one_line

__all__ = ["References", "read_references"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class References:
    """Reference label maps, checked and measured, and kept in memory.

    Args:
        cases: every case with ``case``, ``label``, ``patient``, ``use`` and, where asked for, ``image``.
        scheme: the classes.
        voxel_size: mm per axis of the model's grid. Cases of another spacing are resampled to it, in training and in
            scoring.
        spatial_size: voxels per axis that hold the structures of every reference, centred on its field of view.
        fields_of_view: how much the maps show, and where that lies in the world.
        always_present: per structure, whether every reference has it.
        never_empty: whether every reference has some structure.
        flip_axes: axes along which mirrored references look like references.
        any_way_up: whether references are pictures that look alike when they are turned by any angle.
        stored: the maps at the model's voxel size.
        image_channels: channels of the images, 0 without.
        name: of the folder they are from.
        images: of every case, whether the network sees them or not; None where one is missing.
    """

    cases: list[Case]
    scheme: LabelScheme
    voxel_size: list[float]
    spatial_size: list[int]
    fields_of_view: FieldsOfView
    always_present: list[bool]
    never_empty: bool
    flip_axes: list[int]
    any_way_up: bool
    stored: ReferenceMaps = field(repr=False, compare=False)
    image_channels: int = 0
    name: str = ""
    images: Images | None = field(default=None, repr=False, compare=False)

    @property
    def band_voxels(self) -> list[int]:
        """Half-width per axis of the band around structures: two of the finest voxels, and one voxel at least."""
        return [max(1, round(2 * min(self.voxel_size) / mm)) for mm in self.voxel_size]

    @property
    def keys(self) -> list[str]:
        """Keys of the maps that the network sees."""
        return [LABEL, IMAGE] if self.image_channels else [LABEL]

    def used_for(self, use: str) -> list[Case]:
        """The cases of one ``use``: ``train``, ``selection`` (of the score's rule) or ``calibration``."""
        return [case for case in self.cases if case["use"] == use]

    def has_structure(self, case: Case) -> bool:
        """Whether the map of a case shows any structure at the model's voxel size."""
        return bool((self.stored.label(case) > 0).any())

    @cached_property
    def training_cases(self) -> list[Case]:
        """What the network learns from: with images, cases that hold structures come so often that they are half of it.

        A network that meets little but empty maps learns to give nothing, whatever the image shows: that is right at
        nearly every voxel. Without images nothing but the frequency tells an empty map, and every case comes once. So
        it does where half of the training cases or more hold structures.
        """
        cases = self.used_for("train")
        if self.never_empty or not self.image_channels:
            return cases
        filled = [case for case in cases if self.has_structure(case)]
        times = math.ceil((len(cases) - len(filled)) / len(filled)) if filled else 1
        return cases + filled * (times - 1)

    def maps(self, use: str) -> CaseMaps:
        """:meth:`maps_of` the cases of one ``use``."""
        return self.maps_of(self.used_for(use))

    def maps_of(self, cases: Sequence[Case]) -> CaseMaps:
        """The maps that the network sees: the whole field of view at the model's voxel size, volumes in RAS.

        ``label`` ``(1, *spatial)`` int16 class indices, ``IGNORE_INDEX`` where ignored, and ``image`` ``(C, *spatial)``
        float32. :class:`gnsm_monai.data.transforms.FitToGridd` places them on the model's grid.
        """
        return CaseMaps(self.stored, cases)

    def maps_with_image(self, case: Case) -> dict[str, MetaTensor]:
        """Both maps of a case, whether the network sees images or not; raises what the image's reader raises."""
        assert self.images is not None
        images = {IMAGE: self.images.of(case["case"])}
        maps: dict[str, MetaTensor] = self.maps_of([{**images, **case}])[0]
        return maps


def read_references(
    dataset_dir: str | Path,
    spatial_dims: int = 3,
    with_images: bool = False,
    max_voxels: int = 300_000,
    seed: int = 0,
    bare: bool = False,
    exclude: Sequence[str] = (),
    loading: Sequence[Callable[..., Any]] | None = None,
    layout: str = AUTO,
    patients: str = FROM_NAMES,
) -> References:
    """Finds, reads, measures and keeps the reference label maps of an nnU-Net dataset.

    Every file is decoded once. The voxel size is known only after all label maps were measured: until then they are
    kept at full size, packed (:class:`gnsm_monai.data.reference_maps.PackedMap`), and no image is decoded. One case at
    a time is in memory at full size.

    Args:
        dataset_dir: folder with ``labelsTr`` and, if there is one, ``dataset.json``.
        spatial_dims: 2 or 3.
        with_images: also read each case's image in ``imagesTr``.
        max_voxels: the grid is made coarser until it holds no more voxels, so that the network sees a map as a whole.
        seed: of the split.
        bare: the label maps lie in ``dataset_dir`` itself, without images.
        exclude: ids of cases that are not used at all, for example because the model is to score them later.
        loading: transforms of a case of paths to a case of maps, called with ``label`` alone and with ``image`` alone;
            by default those of :func:`gnsm_monai.data.transforms.load_case`.
        layout: of the label maps, see :func:`gnsm_monai.data.layouts.look_into`.
        patients: which maps are of one patient, see :func:`gnsm_monai.data.patients.patients_of`.

    Raises:
        InputError: no labels, too few cases, an unreadable file, a value outside the declared labels, or an image that
            is missing or shows another place; the message names the file.
    """
    folder = Path(dataset_dir)
    labels_dir = folder if bare else folder / "labelsTr"
    if bare and with_images:
        raise InputError("condition_on_image: images are found in a data set only: give dataset_dir, not labels_dir")
    cases, images = find_references(folder, bare, layout)
    scheme = read_label_scheme(folder)
    cases = with_patients(_used_cases(cases, labels_dir, exclude), patients, cases)
    if with_images:
        cases = _with_images(cases, images, folder)
    load = Compose(loading) if loading is not None else load_case(scheme, spatial_dims, [LABEL, IMAGE])
    packed, measured = _read_labels(cases, load)
    if scheme is None:
        scheme = named_scheme(measured, cases, labels_dir)
        packed = [p.indexed(scheme) for p in packed]
        measured = [m.indexed(scheme, case[LABEL]) for m, case in zip(measured, cases, strict=True)]
    if not any(value > 0 for m in measured for value in m.values):
        raise InputError(f"{labels_dir}: the label maps hold no structure, only background")
    voxel_size, spatial_size = grid_of(measured, max_voxels)
    stored = ReferenceMaps(load, voxel_size, None if with_images else scheme)
    structured = _store(stored, cases, packed)
    if stored.apart:
        text = "%s: headers of images and label maps differ by up to %.2g mm: taken voxel by voxel"
        logger.warning(text, labels_dir, stored.apart)
    return References(
        cases=split_references(cases, seed, structured=structured),
        scheme=scheme,
        voxel_size=voxel_size,
        spatial_size=spatial_size,
        fields_of_view=FieldsOfView.of([m.place for m in measured]),
        always_present=[all(m.values.intersection(s) for m in measured) for s in scheme.structure_classes],
        never_empty=all(any(value > 0 for value in m.values) for m in measured),
        flip_axes=symmetric_axes([m.coarse for m in measured], scheme.num_classes),
        any_way_up=any_way_up(measured, scheme.num_classes),
        stored=stored,
        image_channels=stored.channels.get(cases[0]["case"], 0),
        name=folder.resolve().name,
        images=images if with_images or _is_complete(images, cases) else None,
    )


def _used_cases(cases: list[Case], labels_dir: Path, exclude: Sequence[str]) -> list[Case]:
    """The cases to be read; what is wrong with their number or names is said before that, as reading takes a while."""
    if unknown := [name for name in exclude if name not in {case["case"] for case in cases}]:
        raise InputError(f"exclude_cases: {labels_dir} has no case '{unknown[0]}'")
    used = [case for case in cases if case["case"] not in set(exclude)]
    check_enough(used)
    return used


def _with_images(cases: list[Case], images: Images | None, folder: Path) -> list[Case]:
    if images is None:
        raise InputError(f"{folder / 'imagesTr'}: no such folder")
    return [{**case, IMAGE: images.of(case["case"])} for case in cases]


def _is_complete(images: Images | None, cases: Sequence[Case]) -> bool:
    """Whether there is an image of every case; what is missing is logged."""
    if images is None:
        return False
    try:
        for case in cases:
            images.of(case["case"])
    except InputError as error:
        logger.warning("%s: the images are not used, as not every reference has one", error)
        return False
    return True


def _read_labels(cases: Sequence[Case], load: Callable[[Any], Any]) -> tuple[list[PackedMap], list[MapMeasures]]:
    packed, measured = [], []
    for case in cases:
        try:
            label = load({LABEL: case[LABEL]})[LABEL]
            measured.append(MapMeasures.of(label))
        except Exception as error:  # each reader raises its own kinds
            raise InputError(one_line(error, case[LABEL])) from error
        packed.append(PackedMap.pack(label))
    return packed, measured


def _store(stored: ReferenceMaps, cases: Sequence[Case], packed: list[PackedMap]) -> list[bool]:
    """Fills ``stored`` and empties ``packed``; whether each case has a structure at the model's voxel size."""
    structured = []
    for case in cases:
        label = stored.add(case, packed.pop(0).unpack())
        structured.append(bool((label > 0).any()))
        if IMAGE in case and stored.channels[case["case"]] != stored.channels[cases[0]["case"]]:
            raise InputError(
                f"{case[IMAGE][0]}: an image of {stored.channels[case['case']]} channels, where that of case "
                f"'{cases[0]['case']}' has {stored.channels[cases[0]['case']]}"
            )
    return structured
