"""What images, five references and other models' masks add to a folder that is ranked by itself.

The draws of the five references, the folds and the voxels that are read have three seeds. `--parts` and `--sets`
measure some, and keep what earlier runs have measured of the others.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from bench import DATA, MISSING, Benchmark, Content, table
from folder_network import network_scores
from folder_times import FOLDERS, time_lines, time_rows
from scipy.stats import rankdata, spearmanr

from gnsm_monai.data.compare import mean_dice
from gnsm_monai.data.nnunet import read_label_scheme
from gnsm_monai.folder.consensus import Consensus, frames_of
from gnsm_monai.folder.few_references import FewReferences
from gnsm_monai.folder.images import with_images
from gnsm_monai.folder.models import disagreements
from gnsm_monai.folder.ranking import groups_of
from gnsm_monai.folder.reading import FolderMasks, ReadOptions, read_masks

SETS = ("hippocampus", "heart", "pancreas", "blood_cell")
SEEDS, REFERENCES = 3, 5
PARTS = {
    "images": ("hippocampus", "heart", "blood_cell"),
    "few": ("hippocampus",),
    "models": ("hippocampus", "heart", "pancreas"),
    "network": ("hippocampus",),
    "times": tuple(FOLDERS),
}
"""What is measured, of which sets."""

IMAGES: dict[str, tuple[str, ...]] = {
    "hippocampus": (),
    "heart": ("unet_best",),
    "blood_cell": ("unet_epoch05",),
}
"""Folders whose images are read, all of a set where none is named. The others were named before they were measured."""

Scores = npt.NDArray[np.float64]


def measure(options: argparse.Namespace, earlier: Content) -> Iterator[Content]:
    command = earlier.get("command", options.command)  # of all sets and parts, of which this may be some
    again = {(name, part) for name in options.sets for part in options.parts}
    rows = [row for row in earlier.get("rows", []) if (row["set"], row["part"]) not in again]
    for name in options.sets:
        (dataset,) = (options.data / name / "nnUNet_raw").iterdir()
        folders = sorted(path for path in (options.data / name / "predictions").iterdir() if path.is_dir())
        parts = {part for part in options.parts if name in PARTS[part]}
        if "models" in parts:
            rows += _models(name, dataset, folders)
            yield {"command": command, "rows": rows}
        if "times" in parts:
            for row in time_rows(name, dataset, folders):
                rows.append(row)
                yield {"command": command, "rows": rows}
        for folder in folders if parts - {"models", "times"} else ():
            masks = _read(dataset, [folder], options.data / name)
            for seed in range(SEEDS):
                if "few" in parts:
                    rows.append(_row(name, "few", folder, seed, masks, _few(masks, dataset, seed)))
                if "images" in parts and folder.name in (IMAGES[name] or [folder.name]):
                    rows.append(_row(name, "images", folder, seed, masks, _images(masks, seed)))
                yield {"command": command, "rows": rows}
            if "network" in parts:
                scores = _network(masks, folder, dataset, options.work / name / folder.name)
                rows.append(_row(name, "network", folder, 0, masks, scores))
                yield {"command": command, "rows": rows}


def _read(dataset: Path, folders: Sequence[Path], data: Path | None = None) -> FolderMasks:
    images = None
    if data is not None and data.name in IMAGES:
        images = data / "imagesTs_corrupted" if "corrupted" in folders[0].name else dataset / "imagesTs"
    return read_masks(folders, dataset / "labelsTs", images, ReadOptions(scheme=read_label_scheme(dataset)))


def _row(
    name: str, part: str, folder: Path, seed: int, masks: FolderMasks, scores: dict[str, Scores]
) -> dict[str, Any]:
    dice = np.array([mean_dice(mask.case["dice"]) for mask in masks.masks], dtype=np.float64)
    return {"set": name, "part": part, "folder": folder.name, "seed": seed, "spearman": _spearman(scores, dice)}


def _spearman(scores: dict[str, Scores], dice: Scores) -> dict[str, float | None]:
    defined = np.isfinite(dice)
    return {
        method: None if np.ptp(values[defined]) == 0 else float(spearmanr(values[defined], dice[defined])[0])
        for method, values in scores.items()
    }


def _images(masks: FolderMasks, seed: int) -> dict[str, Scores]:
    itself = Consensus.of(masks.one_hot, groups_of(masks), seed)
    joined = with_images(itself, masks, groups_of(masks), seed).consensus
    return {"masks": itself.scores, "images": 2 * joined.scores - itself.scores, "both": joined.scores}


def _network(masks: FolderMasks, folder: Path, dataset: Path, work: Path) -> dict[str, Scores]:
    itself = Consensus.of(masks.one_hot, groups_of(masks), 0).scores
    network = network_scores([folder / f"{mask.name}.nii.gz" for mask in masks.masks], dataset, work, 0)
    return {"masks": itself, "network": network, "both": rankdata(itself) + rankdata(network)}


def _few(masks: FolderMasks, dataset: Path, seed: int) -> dict[str, Scores]:
    """With five references that the seed draws."""
    all_of_them = read_masks(
        [dataset / "labelsTr"], options=ReadOptions(scheme=masks.scheme, voxel_size=masks.voxel_size)
    )
    drawn = np.random.default_rng(seed).choice(len(all_of_them.masks), REFERENCES, replace=False).tolist()
    references = [all_of_them.one_hot[number] for number in drawn]
    grids = frames_of([*masks.one_hot, *references])
    few = FewReferences.of(references, grids, seed)
    groups = groups_of(masks)
    itself = Consensus.of(masks.one_hot, groups, seed, grids)
    return {"masks": itself.scores, "few": Consensus.of(masks.one_hot, groups, seed, grids, few.fit()).scores}


def _models(name: str, dataset: Path, folders: Sequence[Path]) -> Iterator[dict[str, Any]]:
    """Masks of all folders in one ranking, as `gnsm rank --predictions A B` has them; figures within each folder."""
    masks = _read(dataset, folders)
    differs = np.nan_to_num(disagreements(masks), nan=0.0)
    dice = np.array([mean_dice(mask.case["dice"]) for mask in masks.masks], dtype=np.float64)
    of_folder = np.array([mask.case["folder"] for mask in masks.masks])
    for seed in range(SEEDS):
        scores = Consensus.of(masks.one_hot, groups_of(masks), seed).scores
        for folder in folders:
            some = of_folder == folder.name
            ranks = rankdata(scores[some]) + rankdata(differs[some])
            values = {"masks": scores[some], "models": differs[some], "both": ranks}
            yield {
                "set": name, "part": "models", "folder": folder.name, "seed": seed,
                "spearman": _spearman(values, dice[some]),
            }  # fmt: skip


SECTIONS = {
    "images": (
        "Images",
        "`--images`: the masks alone; 1 - soft Dice with what a small model reads, learnt from the other masks; half "
        "of each, which is the score where images help to tell held-out masks. Where they do not, all three are equal.",
        {"masks": "masks alone", "images": "images alone", "both": "half of each", "seeds": "seeds"},
    ),
    "few": (
        "Five references",
        "`--few-references` with five that each seed draws from all references of the data set.",
        {"masks": "without references", "few": "with five", "by seed": "by seed"},
    ),
    "models": (
        "Several models' masks",
        "All folders in one ranking. The score of the masks; `disagreement`, 1 - mean Dice with other models' masks of "
        "the case; and the sum of both ranks, which is not used.",
        {"masks": "the score", "models": "disagreement", "both": "sum of ranks"},
    ),
    "network": (
        "A score network per fold",
        "`gnsm train --quick` on two thirds of the folder's masks, `gnsm rank` of the others: three networks, each "
        "standardised by its own calibration masks as `gnsm audit` does. One run, tried once.",
        {"masks": "linear models (the score)", "network": "score networks", "both": "sum of ranks"},
    ),
}


def lines(content: Content) -> list[str]:
    """A table per part and data set: every folder, mean over the seeds."""
    text = ["Spearman with Dice within each folder (-1 is best), mean over three seeds, or as many as a table says."]
    for part, (title, words, columns) in SECTIONS.items():
        rows = [row for row in content["rows"] if row["part"] == part]
        if not rows:
            continue
        text += ["", f"## {title}", "", words]
        for name in dict.fromkeys(row["set"] for row in rows):
            some = [row for row in rows if row["set"] == name]
            cells = [
                _cells(folder, [row["spearman"] for row in some if row["folder"] == folder], columns)
                for folder in dict.fromkeys(row["folder"] for row in some)
            ]
            text += ["", f"### {name}", "", *table(["folder", *columns.values()], cells)]
    return text + time_lines(content["rows"])


def _cells(folder: str, figures: Sequence[dict[str, float | None]], columns: dict[str, str]) -> list[str]:
    cells = [folder]
    for method in columns:
        if method == "seeds":
            cells.append(str(len(figures)))
            continue
        values = [one["few" if method == "by seed" else method] for one in figures]
        if None in values:
            cells.append(MISSING)
        elif method == "by seed":
            cells.append(", ".join(f"{value:.3f}" for value in values))
        else:
            cells.append(f"{np.mean(np.array(values, dtype=np.float64)):.3f}")
    return cells


BENCHMARK = Benchmark(
    "no_references_more",
    "What images, five references and other models add to a folder",
    measure,
    lines,
    {
        **DATA,
        "--sets": {"nargs": "+", "default": list(SETS), "choices": SETS},
        "--parts": {"nargs": "+", "default": list(PARTS), "choices": PARTS},
        "--work": {"type": Path, "default": Path("runs/folder_network"), "help": "folder for networks"},
    },
    __doc__,
)

if __name__ == "__main__":
    BENCHMARK.run()
