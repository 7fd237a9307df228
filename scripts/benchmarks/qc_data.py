"""The data sets of the segmentation benchmarks: references, folders of masks, and what is read of them."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import field_of_view
import numpy as np
import numpy.typing as npt
from methods import VARIED_FIELD_OF_VIEW
from monai.data import MetaTensor
from monai.transforms import Orientation

from gnsm_monai.data.case_names import without_folder
from gnsm_monai.data.compare import mean_foreground_dice
from gnsm_monai.data.constants import IMAGE, SOFT
from gnsm_monai.data.datalist import find_label_maps, find_predictions
from gnsm_monai.data.degradations import degrade_folder
from gnsm_monai.data.images import Images
from gnsm_monai.data.loading import LoadMapsd
from gnsm_monai.data.nnunet import LabelScheme, read_label_scheme
from gnsm_monai.data.phantoms import write_phantom_dataset
from gnsm_monai.data.transforms import load_case

__all__ = ["Dataset", "Mask", "load_dataset"]

REAL: Mapping[str, tuple[str, tuple[str, ...], str]] = {
    "heart_unet": ("heart", ("unet_*",), ""),
    "heart_atlas": ("heart", ("atlas_*", "unet_early"), "heart_unet"),
    "pancreas": ("pancreas", ("*",), ""),
    "liver_tumour": ("liver_tumour", ("*",), ""),
    "blood_cell": ("blood_cell", ("*",), ""),
}
"""Real masks of other anatomies: folder of the data, patterns of the folders of masks, data set of the models."""


@dataclass(frozen=True)
class Mask:
    """One predicted mask beside its reference: class indices (*spatial), -1 where ignored; volumes in RAS."""

    folder: str
    case: str
    label: npt.NDArray[np.int16]
    reference: npt.NDArray[np.int16]
    dice: float
    probabilities: Path | None = None


@dataclass(frozen=True)
class Dataset:
    """What is trained on and scored.

    Args:
        name: of the results.
        folder: nnU-Net raw data set with the references to learn from.
        references: folder of the masks' references.
        predictions: folders of masks.
        images: folder of the masks' images, by name of the folder of masks; none where there are no images.
        trained_on: name of the data set whose models score this one.
        segmenter_cases: the reference cases that the segmenter was trained on, where known.
        pairs: folders of two networks' masks of the same images.
        skipped: cases left out, as nothing of their structures is left in the field of view.
    """

    name: str
    folder: Path
    references: Path
    predictions: tuple[Path, ...]
    images: Mapping[str, Path] = field(default_factory=dict)
    trained_on: str = ""
    segmenter_cases: tuple[str, ...] = ()
    pairs: tuple[tuple[str, str], ...] = ()
    skipped: int = 0

    @property
    def models(self) -> str:
        """Name of the data set whose models score this one."""
        return self.trained_on or self.name

    @cached_property
    def scheme(self) -> LabelScheme:
        scheme = read_label_scheme(self.folder)
        if scheme is None:
            raise ValueError(f"{self.folder}: no dataset.json")
        return scheme

    @cached_property
    def spatial_dims(self) -> int:
        return 2 if any((self.folder / "labelsTr").glob("*.png")) else 3

    @cached_property
    def training_maps(self) -> list[npt.NDArray[np.int16]]:
        """The references to learn from, (*spatial) each."""
        return [self.read(path) for path in find_label_maps(self.folder / "labelsTr").values()]

    @cached_property
    def masks(self) -> list[Mask]:
        """Every mask with a Dice: one that has a reference, and a structure in either of them."""
        masks, references = [], {}
        for case in find_predictions(list(self.predictions), self.references, soft=True):
            if "reference" not in case:
                continue
            name = without_folder(case["case"])
            if name not in references:
                references[name] = self.read(case["reference"])
            label, reference = self.read(case["label"]), references[name]
            dice = mean_foreground_dice(label, reference, self.scheme.num_classes, self.scheme.structure_classes)
            if not math.isnan(dice):
                masks.append(Mask(case["folder"], name, label, reference, dice, case.get(SOFT)))
        return masks

    def read(self, path: Path) -> npt.NDArray[np.int16]:
        """Class indices of a label file, (*spatial)."""
        return np.asarray(load_case(self.scheme, self.spatial_dims)({"label": path})["label"][0]).astype(np.int16)

    @cached_property
    def training_images(self) -> list[npt.NDArray[np.float32]]:
        """The images of `training_maps`, (C, *spatial) each."""
        return self._images(self.folder / "imagesTr", find_label_maps(self.folder / "labelsTr"))

    def images_of(self, folder: str) -> dict[str, npt.NDArray[np.float32]]:
        """The images of a folder's masks by case, (C, *spatial) each."""
        cases = [mask.case for mask in self.masks if mask.folder == folder]
        return dict(zip(cases, self._images(self.images[folder], cases), strict=True))

    def _images(self, folder: Path, cases: Iterable[str]) -> list[npt.NDArray[np.float32]]:
        images = Images.of_folder(folder, cases := list(cases))
        load = LoadMapsd(IMAGE, self.spatial_dims)
        channels = [[self._in_ras(load.load(path, is_image=True)) for path in images.of(case)] for case in cases]
        return [np.concatenate(each).astype(np.float32) for each in channels]

    def read_map(self, path: Path) -> npt.NDArray[np.float32]:
        """Anomaly per voxel of a file that ``gnsm rank --maps`` wrote, placed as `read` places its mask."""
        return self._in_ras(LoadMapsd(IMAGE, self.spatial_dims).load(path, is_image=True))[0]

    def _in_ras(self, image: MetaTensor) -> npt.NDArray[np.float32]:
        turned = Orientation(axcodes="RAS", labels=None)(image) if self.spatial_dims == 3 else image
        return np.asarray(turned)


def load_dataset(name: str, data: Path, work: Path) -> Dataset:
    """A data set by name; masks that have to be made are made once, in `work`.

    Args:
        name: of `methods.DATASETS`.
        data: folder with ``hippocampus/``, ``chest_xray_landmarks/`` and the folders of `REAL`.
        work: for what is made.
    """
    if name == "hippocampus":
        return _hippocampus(data / "hippocampus")
    if name == VARIED_FIELD_OF_VIEW:
        return _with_varied_field(_hippocampus(data / "hippocampus"), work / name / "data")
    if name == "chest":
        (folder,) = (data / "chest_xray_landmarks" / "nnUNet_raw").iterdir()
        output = work / name / "degraded"
        if not (output / "degradations.csv").is_file():
            degrade_folder(folder / "labelsTs", output, seed=0)
        return Dataset(name, folder, folder / "labelsTs", _folders(output))
    if name in REAL:
        return _real(name, data)
    folder = write_phantom_dataset(work / "phantoms", spatial_dims=3 if name == "phantoms_3d" else 2)
    predictions = _folders(folder / "predictions")
    images = {path.name: folder / "imagesTs" for path in predictions}
    return Dataset(name, folder, folder / "labelsTs", predictions, images)


def _hippocampus(root: Path) -> Dataset:
    (folder,) = (root / "nnUNet_raw").iterdir()
    predictions = _folders(root / "predictions")
    corrupted, clean = root / "imagesTs_corrupted", folder / "imagesTs"
    return Dataset(
        "hippocampus",
        folder,
        folder / "labelsTs",
        predictions,
        {path.name: corrupted if path.name.endswith("corrupted_images") else clean for path in predictions},
        segmenter_cases=tuple(json.loads((root / "split.json").read_text())["nnunet_train"]),
        pairs=(("epoch20", "epoch12"), ("epoch20_corrupted_images", "epoch12_corrupted_images")),
    )


def _real(name: str, data: Path) -> Dataset:
    """Masks of one of `REAL`; those of damaged images stand beside the sound images, which a reviewer has."""
    source, patterns, trained_on = REAL[name]
    (folder,) = (data / source / "nnUNet_raw").iterdir()
    predictions = tuple(p for p in _folders(data / source / "predictions") if any(map(p.match, patterns)))
    images = folder / "imagesTs"
    seen = {path.name: images for path in predictions} if images.is_dir() else {}
    return Dataset(name, folder, folder / "labelsTs", predictions, seen, trained_on=trained_on)


def _with_varied_field(dataset: Dataset, output: Path) -> Dataset:
    """The same masks, references and images in other fields of view, for the same models."""
    skipped = field_of_view.write_varied(
        dataset.references, dataset.predictions, tuple(dict.fromkeys(dataset.images.values())), output
    )
    return Dataset(
        VARIED_FIELD_OF_VIEW,
        dataset.folder,
        output / "references",
        tuple(output / "predictions" / path.name for path in dataset.predictions),
        {name: output / "images" / path.name for name, path in dataset.images.items()},
        trained_on=dataset.name,
        segmenter_cases=dataset.segmenter_cases,
        pairs=dataset.pairs,
        skipped=len(skipped),
    )


def _folders(root: Path) -> tuple[Path, ...]:
    return tuple(sorted(path for path in root.iterdir() if path.is_dir()))
