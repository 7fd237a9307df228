"""What damaged images cost: the table of detection quality with and without the masks whose image is damaged.

    python scripts/benchmarks/damaged_images.py --data DATA

Some of the hippocampus's corrupted images were written as integers too narrow for their values, which fill the range of
their type since: noise, whatever was done to the image before. That is seen without a mask or a reference. Beside each
stands about what a model compares with the references' images, on its own grid: the resemblance of neighbouring voxels.
Scores are those of segmentation_qc.py, nothing is trained.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt
import torch
from bench import DATA, PAGES, Benchmark, Content, cell, table
from methods import METHODS
from qc_data import Dataset, load_dataset
from scores import Scores, load_all, mean_with_interval

from gnsm_monai.data.datalist import find_label_maps
from gnsm_monai.data.images import Images
from gnsm_monai.scoring.reference_images import FAR, ReferenceImages, smoothness

Cases = Mapping[str, set[str]]
"""Some cases of each folder of masks."""

SHOWN = ("Spearman", "Pearson", "AURC left")
FULL = 0.99
"""Share of the range of an integer type of two bytes or more that no scanner's values fill."""


def measure(options: argparse.Namespace, earlier: Content) -> Iterator[Content]:
    dataset = load_dataset("hippocampus", options.data.resolve(), Path())
    damaged = damaged_cases(dataset)
    quality_rows = quality(load_all(PAGES / "segmentation_qc", dataset.name), damaged)
    yield {"command": options.command, "images": images(dataset, damaged), "quality": quality_rows}


def damaged_cases(dataset: Dataset) -> Cases:
    """Cases with an image whose integers overflowed, by folder of masks."""
    cases = find_label_maps(dataset.references)
    damaged = {
        folder: {case for case in cases if any(map(overflowed, Images.of_folder(folder, [case]).of(case)))}
        for folder in set(dataset.images.values())
    }
    return {name: damaged[folder] for name, folder in dataset.images.items()}


def overflowed(path: Path) -> bool:
    """Whether the integers of a NIfTI file fill the range of their type, which must be wider than a byte."""
    stored = np.asanyarray(nib.load(path).dataobj.get_unscaled())  # type: ignore[attr-defined]
    if stored.dtype.kind not in "iu" or stored.dtype.itemsize < 2:
        return False
    kind = np.iinfo(stored.dtype)
    return float(stored.max()) - float(stored.min()) > FULL * (float(kind.max) - float(kind.min))


def images(dataset: Dataset, damaged: Cases) -> dict[str, Any]:
    """What a model would say of the images of each folder of masks, and how far from saying it of sound ones it is.

    Returns:
        ``folders``: by folder of masks, the smoothness of each case that ``overflowed`` and of those ``named`` besides;
        ``references``: mean and spread of the references' smoothness; ``nearest_named`` and ``roughest_other``: spreads
        below that mean.
    """
    references = _smoothness(dataset, dataset.folder / "imagesTr", dataset.folder / "labelsTr")
    known = ReferenceImages.fit(np.stack(list(references.values())))
    by_images = {
        folder: _smoothness(dataset, folder, dataset.references) for folder in dict.fromkeys(dataset.images.values())
    }
    folders = {}
    for name, folder in dataset.images.items():
        values = by_images[folder]
        named = [case for case, value in values.items() if known.finding(value) and case not in damaged[name]]
        lists = {"overflowed": sorted(damaged[name]), "named": named}
        folders[name] = {key: {case: float(values[case][0]) for case in cases} for key, cases in lists.items()}
    spreads = np.array([(v - known.centre)[0] / known.spread[0] for own in by_images.values() for v in own.values()])
    return {
        "folders": folders,
        "references": {"mean": float(known.centre[0]), "spread": float(known.spread[0])},
        "nearest_named": float(-spreads[spreads < -FAR].max()),
        "roughest_other": float(-spreads[spreads >= -FAR].min()),
    }


def _smoothness(dataset: Dataset, images: Path, labels: Path) -> dict[str, npt.NDArray[np.float64]]:
    """Smoothness ``(C,)`` of each case's image, as it is in its file."""
    values = {}
    for case in sorted(find_label_maps(labels)):
        image = torch.from_numpy(
            np.stack([dataset.read_map(path) for path in Images.of_folder(images, [case]).of(case)])
        )
        values[case] = smoothness(image, torch.ones(1, *image.shape[1:], dtype=torch.bool))
    return values


def quality(methods: Mapping[str, list[Scores]], damaged: Cases) -> list[dict[str, Any]]:
    """Figures of each trained method on all masks and on those whose image is sound."""
    rows = []
    for name, seeds in methods.items():
        if not METHODS[name].trained or set(seeds[0].folder) != set(damaged):
            continue
        sound = ~seeds[0].among(damaged)
        figures = {"all": mean_with_interval(seeds, SHOWN)}
        figures["sound"] = mean_with_interval([s.select(sound) for s in seeds], SHOWN)
        counts = {"trainings": len(seeds), "masks": len(sound), "sound_masks": int(sound.sum())}
        rows.append({"method": METHODS[name].title, **counts, **figures})
    return rows


def lines(content: Content) -> list[str]:
    images, parts = content["images"], ("all", "sound")
    folders = [
        [
            name,
            *(", ".join(f"{case} ({value:.2f})" for case, value in cases.items()) or "none" for cases in by.values()),
        ]
        for name, by in images["folders"].items()
    ]
    rows = [
        [row["method"], row["trainings"], row["sound_masks"]]
        + [cell(row[part][metric]) for metric in SHOWN for part in parts]
        for row in content["quality"]
    ]
    return [
        "Images whose integers overflowed when they were written, with the correlation of neighbouring voxels, and",
        "others that a model would name as far rougher than the references'.",
        "",
        *table(["folder", "integers overflowed", "named as rougher besides"], folders),
        "",
        f"References: {images['references']['mean']:.3f}, spread {images['references']['spread']:.3f}. Of what is named"
        f", the nearest lies {images['nearest_named']:.0f} spreads below; of all else, the roughest"
        f" {images['roughest_other']:.1f}.",
        "",
        f"All {content['quality'][0]['masks']} masks, and those whose image is sound; -1, -1 and 0 are best:",
        "",
        *table(["method", "trainings", "sound", *(f"{metric}, {part}" for metric in SHOWN for part in parts)], rows),
    ]


BENCHMARK = Benchmark("damaged_images", "What damaged images cost", measure, lines, DATA, __doc__)

if __name__ == "__main__":
    BENCHMARK.run()
