"""What damaged images cost: the table of detection quality with and without the masks whose image is damaged.

    python scripts/benchmarks/damaged_images.py --data DATA

Some of the hippocampus's corrupted images were written as integers too narrow for their values, which fill the range of
their type since: noise, whatever was done to the image before. That is seen without a mask or a reference. Beside each
stands about what a model compares with the references' images, on its own grid: the resemblance of neighbouring voxels.
Scores are those of segmentation_qc.py, nothing is trained. Writes docs/benchmarks/damaged_images.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import hippocampus_scores
import markdown
import nibabel as nib
import numpy as np
import numpy.typing as npt
import torch
from hippocampus_scores import Cases, belongs
from methods import METHODS
from qc_data import Dataset
from scores import Scores, mean_with_interval

from gnsm_monai.data.datalist import find_images, find_label_maps
from gnsm_monai.scoring.reference_images import FAR, ReferenceImages, smoothness

SHOWN = ("Spearman", "Pearson", "AURC left")
FULL = 0.99
"""Share of the range of an integer type of two bytes or more that no scanner's values fill."""


def damaged_cases(dataset: Dataset) -> Cases:
    """Cases with an image whose integers overflowed, by folder of masks."""
    cases = find_label_maps(dataset.references)
    found = {
        folder: {case for case in cases if any(map(overflowed, find_images(folder, case)))}
        for folder in set(dataset.images.values())
    }
    return {name: found[folder] for name, folder in dataset.images.items()}


def overflowed(path: Path) -> bool:
    """Whether the integers of a NIfTI file fill the range of their type, which must be wider than a byte."""
    stored = np.asanyarray(nib.load(path).dataobj.get_unscaled())  # type: ignore[attr-defined]
    if stored.dtype.kind not in "iu" or stored.dtype.itemsize < 2:
        return False
    kind = np.iinfo(stored.dtype)
    return float(stored.max()) - float(stored.min()) > FULL * (float(kind.max) - float(kind.min))


def images_lines(dataset: Dataset, damaged: Cases) -> list[str]:
    """What a model would say of the images of each folder of masks, and how far from saying it sound ones are."""
    references = _smoothness(dataset, dataset.folder / "imagesTr", dataset.folder / "labelsTr")
    known = ReferenceImages.fit(np.stack(list(references.values())))
    by_images = {
        folder: _smoothness(dataset, folder, dataset.references) for folder in dict.fromkeys(dataset.images.values())
    }
    rows = []
    for name, folder in dataset.images.items():
        values = by_images[folder]
        named = [case for case, value in values.items() if known.finding(value)]
        lists = (sorted(damaged[name]), [case for case in named if case not in damaged[name]])
        rows.append([name, *(", ".join(f"{case} ({values[case][0]:.2f})" for case in own) or "none" for own in lists)])
    spreads = [(value - known.centre)[0] / known.spread[0] for own in by_images.values() for value in own.values()]
    far = np.sort(spreads)
    named, sound = far[far < -FAR], far[far >= -FAR]
    return [
        *markdown.table(["folder", "integers overflowed", "named as rougher besides"], rows),
        "",
        f"References: {known.centre[0]:.3f}, spread {known.spread[0]:.3f}. Of what is named, the nearest lies"
        f" {-named.max():.0f} spreads below; of all else, the roughest {-sound.min():.1f}.",
    ]


def _smoothness(dataset: Dataset, images: Path, labels: Path) -> dict[str, npt.NDArray[np.float64]]:
    """Smoothness ``(C,)`` of each case's image, as it is in its file."""
    found = {}
    for case in sorted(find_label_maps(labels)):
        image = torch.from_numpy(np.stack([dataset.read_map(path) for path in find_images(images, case)]))
        found[case] = smoothness(image, torch.ones(1, *image.shape[1:], dtype=torch.bool))
    return found


def quality(methods: Mapping[str, list[Scores]], damaged: Cases) -> list[str]:
    """Each trained method's figures on all masks and on those whose image is sound."""
    rows = []
    for name in METHODS:  # in the order of the tables
        seeds = methods.get(name, [])
        if not seeds or not METHODS[name].trained or set(seeds[0].folder) != set(damaged):
            continue
        sound = ~belongs(seeds[0], damaged)
        every, rest = (mean_with_interval(chosen, SHOWN) for chosen in (seeds, [s.select(sound) for s in seeds]))
        figures = [markdown.cell(found[metric]) for metric in SHOWN for found in (every, rest)]
        rows.append([METHODS[name].title, len(seeds), int(sound.sum()), *figures])
    parts = [f"{metric}, {part}" for metric in SHOWN for part in ("all", "sound")]
    return markdown.table(["method", "trainings", "sound", *parts], rows)


def page(dataset: Dataset, methods: Mapping[str, list[Scores]]) -> str:
    damaged = damaged_cases(dataset)
    lines = [
        "Images whose integers overflowed when they were written, with the correlation of neighbouring voxels, and",
        "others that a model would name as far rougher than the references'.",
        "",
        *images_lines(dataset, damaged),
        "",
        "All 250 masks, and those whose image is sound; -1, -1 and 0 are best:",
        "",
        *quality(methods, damaged),
    ]
    return markdown.page("What damaged images cost", "damaged_images.py --data DATA", lines)


if __name__ == "__main__":
    hippocampus_scores.write_page("damaged_images", __doc__, page)
