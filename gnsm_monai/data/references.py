"""What a model must know of its reference label maps before training: classes, grid, geometry, splits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from gnsm_monai.data.class_index import distinct_values
from gnsm_monai.data.compare import check_geometry
from gnsm_monai.data.constants import IMAGE, LABEL
from gnsm_monai.data.datalist import Case, find_images, find_label_maps, split_references
from gnsm_monai.data.failures import one_line
from gnsm_monai.data.field_of_view import FieldsOfView, Place, place_of
from gnsm_monai.data.nnunet import LabelScheme, read_label_scheme
from gnsm_monai.data.transforms import centred_extent, load_maps
from gnsm_monai.errors import InputError
from gnsm_monai.files import check_folder

__all__ = ["References", "read_references"]

SIZE_MULTIPLE = 8
"""Grids are rounded up to it, so that three halvings leave nothing to pad."""

MARGIN = 2
"""Voxels of background kept on each side of the outermost structure."""

COARSE_SIZE = 24
"""Voxels per axis of the maps whose symmetry is examined."""

MOST_STRUCTURES = 255
"""Without dataset.json, files with more values than this are taken for images that were put in the wrong folder."""


@dataclass(frozen=True)
class References:
    """Reference label maps, checked and measured.

    Args:
        cases: every case with ``case``, ``label``, ``use`` and, where asked for, ``image``.
        labels: the classes.
        voxel_size: mm per axis of the model's grid, to which cases of another spacing are resampled, references as well
            as what is scored later.
        spatial_size: voxels per axis that hold the structures of every reference, centred on its field of view.
        fields_of_view: how much the maps show, and where that lies in the world.
        always_present: per structure, whether every reference has it.
        never_empty: whether every reference has some structure.
        flip_axes: axes along which mirrored references look like references.
        image_channels: channels of the images, 0 without.
        name: of the folder they are from.
        images_dir: folder with an image of every case, whether the network sees it or not; None where it lacks one.
    """

    cases: list[Case]
    labels: LabelScheme
    voxel_size: list[float]
    spatial_size: list[int]
    fields_of_view: FieldsOfView
    always_present: list[bool]
    never_empty: bool
    flip_axes: list[int]
    image_channels: int = 0
    name: str = ""
    images_dir: Path | None = None

    @property
    def band_voxels(self) -> list[int]:
        """Half-width per axis of the band around structures: two of the finest voxels, and one voxel at least."""
        return [max(1, round(2 * min(self.voxel_size) / mm)) for mm in self.voxel_size]

    def used_for(self, use: str) -> list[Case]:
        """The cases of one ``use``: ``train``, ``fit`` or ``calibration``."""
        return [case for case in self.cases if case["use"] == use]


def read_references(
    dataset_dir: str | Path,
    spatial_dims: int = 3,
    with_images: bool = False,
    max_voxels: int = 300_000,
    seed: int = 0,
    flip_axes: Sequence[int] | str = "auto",
    bare: bool = False,
    exclude: Sequence[str] = (),
) -> References:
    """Finds, reads and measures the reference label maps of an nnU-Net dataset.

    Args:
        dataset_dir: folder with ``labelsTr`` and, if there is one, ``dataset.json``.
        spatial_dims: 2 or 3.
        with_images: also find each case's image in ``imagesTr``.
        max_voxels: the grid is made coarser until it holds no more voxels, so that the network sees a map as a whole.
        seed: of the split.
        flip_axes: axes to mirror in augmentation, or ``auto``.
        bare: the label maps lie in ``dataset_dir`` itself, without images.
        exclude: ids of cases that are left out of everything, such as those that are to be scored without having been
            seen.

    Raises:
        InputError: no labels, too few cases, an unreadable file, a value outside the declared labels, or an image that
            is missing or shows another place; the message names the file.
    """
    folder = Path(dataset_dir)
    labels_dir = folder if bare else folder / "labelsTr"
    if bare and with_images:
        raise InputError("condition_on_image: images are found in a data set only: give dataset_dir, not labels_dir")
    check_folder(folder)
    if not labels_dir.is_dir():
        raise InputError(f"{folder}: no folder labelsTr with reference label maps")
    scheme = read_label_scheme(folder)
    # Before the files are read, which takes a while.
    found = find_label_maps(labels_dir)
    if unknown := [case for case in exclude if case not in found]:
        raise InputError(f"exclude_cases: {labels_dir} has no case '{unknown[0]}'")
    cases = split_references([{"case": k, LABEL: v} for k, v in found.items() if k not in set(exclude)], seed)
    if with_images:
        cases = [{**case, IMAGE: find_images(folder / "imagesTr", case["case"])} for case in cases]
    measured = _measure_all(cases, scheme, spatial_dims)
    if scheme is None:
        scheme = LabelScheme.from_values({value for m in measured for value in m.values})
        if scheme.num_classes > MOST_STRUCTURES + 1:
            raise InputError(
                f"{labels_dir}: the label maps hold {scheme.num_classes} different values and no dataset.json "
                "declares them: are these images?"
            )
        measured = [m.indexed(scheme) for m in measured]
    if not any(value > 0 for m in measured for value in m.values):
        raise InputError(f"{labels_dir}: the label maps hold no structure, only background")

    voxel_size, spatial_size = _grid(measured, max_voxels)
    return References(
        cases=cases,
        labels=scheme,
        voxel_size=voxel_size.tolist(),
        spatial_size=spatial_size.tolist(),
        fields_of_view=FieldsOfView.of([m.place for m in measured]),
        always_present=[all(m.values.intersection(s) for m in measured) for s in scheme.members],
        never_empty=all(any(value > 0 for value in m.values) for m in measured),
        flip_axes=(
            _symmetric_axes([m.coarse for m in measured], scheme.num_classes)
            if flip_axes == "auto"
            else [int(axis) for axis in flip_axes]
        ),
        image_channels=measured[0].image_channels,
        name=folder.resolve().name,
        images_dir=None if bare else _images_dir(folder / "imagesTr", [case for case in cases if IMAGE not in case]),
    )


def _images_dir(folder: Path, cases: Sequence[Case]) -> Path | None:
    """The folder, if it has an image of every one of these cases."""
    try:
        for case in cases:
            find_images(folder, case["case"])
    except InputError:
        return None
    return folder


@dataclass(frozen=True)
class _Measured:
    """What is kept of one label map: all maps of a data set at full size may not fit in memory.

    Args:
        extent: see :func:`centred_extent`.
        spacing: mm per axis.
        place: of the field of view.
        values: class indices that occur (file values as long as the classes are not known).
        coarse: the map at ``COARSE_SIZE`` voxels per axis.
        image_channels: channels of the case's image, 0 without.
    """

    extent: np.ndarray
    spacing: np.ndarray
    place: Place
    values: frozenset[int]
    coarse: np.ndarray
    image_channels: int

    def indexed(self, scheme: LabelScheme) -> _Measured:
        """File values replaced by class indices."""
        index = {value: i for i, value in enumerate(scheme.values)}
        coarse = np.searchsorted(scheme.values, self.coarse)  # the values are in order
        return replace(self, values=frozenset(index[value] for value in self.values), coarse=coarse)


def _measure_all(cases: Sequence[Case], scheme: LabelScheme | None, spatial_dims: int) -> list[_Measured]:
    load = load_maps(scheme, spatial_dims, [key for key in (LABEL, IMAGE) if key in cases[0]])
    measured: list[_Measured] = []
    for case in cases:
        try:
            measured.append(_measure(load(case)))
        except Exception as error:  # each reader raises its own kinds
            raise InputError(one_line(error, case[LABEL])) from error
        if measured[-1].image_channels != measured[0].image_channels:
            raise InputError(
                f"{case[IMAGE][0]}: an image of {measured[-1].image_channels} channels, where that of case "
                f"'{cases[0]['case']}' has {measured[0].image_channels}"
            )
    return measured


def _measure(case: Case) -> _Measured:
    label = case[LABEL]
    if IMAGE in case:
        check_geometry(label, case[IMAGE], IMAGE)
    array = label.as_tensor()[0].numpy()
    coarse = array[np.ix_(*[_sampled(n) for n in array.shape])]
    spacing = label.pixdim.numpy().astype(np.float64)
    return _Measured(
        extent=centred_extent(array),
        spacing=spacing,
        place=place_of(label),
        values=frozenset(distinct_values(array)[0].tolist()),
        coarse=coarse,
        image_channels=len(case[IMAGE]) if IMAGE in case else 0,
    )


def _sampled(size: int) -> np.ndarray:
    """``COARSE_SIZE`` voxels of an axis, evenly spread and mirror-symmetric: else a symmetric map would not look so."""
    low = (2 * np.arange(COARSE_SIZE // 2) + 1) * size // (2 * COARSE_SIZE)
    return np.concatenate([low, size - 1 - low[::-1]])


def _grid(measured: Sequence[_Measured], max_voxels: int) -> tuple[np.ndarray, np.ndarray]:
    """Voxel size in mm, the median (nnU-Net's rule) or coarser, and voxels per axis, at most ``max_voxels`` in all."""
    spacings = np.stack([m.spacing for m in measured])
    extents = np.stack([m.extent for m in measured]) * spacings
    voxel_size = np.median(spacings, axis=0)
    if max_voxels < SIZE_MULTIPLE ** len(voxel_size):
        raise InputError(f"max_voxels: must be at least {SIZE_MULTIPLE ** len(voxel_size)}, got {max_voxels}")
    while True:
        needed = (extents / voxel_size).max(0) + 2 * MARGIN
        size = np.ceil(np.round(needed, 3) / SIZE_MULTIPLE).astype(int) * SIZE_MULTIPLE
        if np.prod(size) <= max_voxels:
            return voxel_size, size
        voxel_size = voxel_size * 1.01


def _symmetric_axes(maps: Sequence[np.ndarray], num_classes: int) -> list[int]:
    """Axes along which mirrored maps fit the voxelwise frequencies of the maps no worse than the maps themselves.

    Frequencies come from one half of the maps, the comparison from the other: a mirrored map must be within half a
    standard deviation of the usual log-likelihood. Left and right structures with labels of their own fail at once.
    """
    indices = [np.maximum(m, 0).astype(np.intp)[None] for m in maps]  # ignored counts as background
    learnt, compared = indices[::2], indices[1::2]
    frequency = np.zeros((num_classes, *maps[0].shape))
    for index in learnt:
        np.put_along_axis(frequency, index, np.take_along_axis(frequency, index, 0) + 1 / len(learnt), 0)
    log_prior = np.log(frequency * 0.999 + 0.001 / num_classes)

    def log_likelihood(samples: Sequence[np.ndarray]) -> np.ndarray:
        return np.array([np.take_along_axis(log_prior, sample, 0).mean() for sample in samples])

    usual = log_likelihood(compared)
    limit = usual.mean() - 0.5 * usual.std(ddof=1) - 1e-9  # identical maps have no spread, only rounding
    mirrored = [log_likelihood([np.flip(m, axis + 1) for m in compared]).mean() for axis in range(maps[0].ndim)]
    return [axis for axis, value in enumerate(mirrored) if value >= limit]
