"""What damaged images cost: the table of detection quality with and without the masks whose image is damaged.

    python scripts/benchmarks/damaged_images.py --data DATA

Some of the hippocampus's corrupted images were written as integers too narrow for their values, which fill the range of
their type since: noise, whatever was done to the image before. That is seen without a mask or a reference. Beside each
stands about what a model compares with the references' images, on its own grid: the resemblance of neighbouring voxels.
Scores are those of segmentation_qc.py, nothing is trained. Writes docs/benchmarks/damaged_images.md.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from markdown import cell, table
from methods import METHODS
from qc_data import Dataset, load_dataset
from scores import Scores, load_all, mean_with_interval
from steps import ROOT

from gnsm_monai.data.datalist import find_images, find_label_maps
from gnsm_monai.scoring.reference_images import ReferenceImages, smoothness

PAGE = ROOT / "docs" / "benchmarks" / "damaged_images.md"
DATASET = "hippocampus"
SHOWN = ("Spearman", "Pearson", "AURC left")
FULL = 0.99
"""Share of the range of an integer type of two bytes or more that no scanner's values fill."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    arguments = parser.parse_args()
    dataset = load_dataset(DATASET, arguments.data.resolve(), Path())
    damaged, lines = damaged_images(dataset)
    text = page(lines, quality(load_all(ROOT / "docs" / "benchmarks" / "segmentation_qc", DATASET), damaged))
    print(text)
    PAGE.write_text(text)


def damaged_images(dataset: Dataset) -> tuple[dict[str, set[str]], list[str]]:
    """Cases whose integers overflowed, by folder of masks, and a table of what a model would say of their images."""
    references = find_label_maps(dataset.folder / "labelsTr")
    known = ReferenceImages.fit(
        np.stack([_smoothness(dataset, dataset.folder / "imagesTr", case) for case in references])
    )
    damaged: dict[str, set[str]] = {}
    rows = []
    for name, folder in dataset.images.items():
        cases = sorted(find_label_maps(dataset.references))
        damaged[name] = {case for case in cases if any(map(overflowed, find_images(folder, case)))}
        values = {case: _smoothness(dataset, folder, case) for case in cases}
        named = [case for case in cases if "rougher" in known.finding(values[case])]
        rows.append(
            [
                name,
                ", ".join(f"{case} ({values[case][0]:.2f})" for case in sorted(damaged[name])) or "none",
                ", ".join(f"{case} ({values[case][0]:.2f})" for case in named if case not in damaged[name]) or "none",
            ]
        )
    return damaged, table(["folder", "integers overflowed", "named as rougher besides"], rows)


def overflowed(path: Path) -> bool:
    """Whether the integers of a NIfTI file fill the range of their type, which must be wider than a byte."""
    stored = np.asanyarray(nib.load(path).dataobj.get_unscaled())  # type: ignore[attr-defined]
    if stored.dtype.kind not in "iu" or stored.dtype.itemsize < 2:
        return False
    kind = np.iinfo(stored.dtype)
    return float(stored.max()) - float(stored.min()) > FULL * (float(kind.max) - float(kind.min))


def _smoothness(dataset: Dataset, folder: Path, case: str) -> np.ndarray:
    image = torch.from_numpy(np.stack([dataset.read_map(path) for path in find_images(folder, case)]))
    return smoothness(image, torch.ones(1, *image.shape[1:], dtype=torch.bool))


def quality(methods: Mapping[str, list[Scores]], damaged: Mapping[str, set[str]]) -> list[str]:
    """Each trained method's figures on all masks and on those whose image is sound."""
    rows = []
    for name in METHODS:  # in the order of the tables
        seeds = methods.get(name, [])
        if not seeds or not METHODS[name].trained or set(seeds[0].folder) != set(damaged):
            continue
        sound = np.array([c not in damaged[f] for f, c in zip(seeds[0].folder, seeds[0].case, strict=True)])
        every, rest = (mean_with_interval(chosen, SHOWN) for chosen in (seeds, [s.select(sound) for s in seeds]))
        figures = [cell(found[metric]) for metric in SHOWN for found in (every, rest)]
        rows.append([METHODS[name].title, len(seeds), int(sound.sum()), *figures])
    parts = [f"{metric}, {part}" for metric in SHOWN for part in ("all", "sound")]
    return table(["method", "trainings", "sound", *parts], rows)


def page(images: list[str], figures: list[str]) -> str:
    lines = [
        "# What damaged images cost",
        "",
        "`python scripts/benchmarks/damaged_images.py --data DATA`",
        "",
        "Images whose integers overflowed when they were written, with the correlation of neighbouring voxels, and",
        "others that a model would name as far rougher than the references'.",
        "",
        *images,
        "",
        "All 250 masks, and those whose image is sound; -1, -1 and 0 are best:",
        "",
        *figures,
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
