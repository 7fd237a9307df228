"""Is one damaged structure seen in a whole head of 31, by the score, the worst structure and the map of anomaly?

    OMP_NUM_THREADS=2 python scripts/benchmarks/local_failures.py --data DATA

Masks of DATA/brain: three heads that no reference is of, as they are (``clean``), and each with one local failure of
every kind. A model of label maps is trained by default settings, unless it lies in --work, and ranks all of them.
*Damaged* are the structures that lose the most Dice by a failure: at least half of the greatest loss.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from bench import DATA, Benchmark, Content, table
from package_commands import gnsm, rows_of, train, watched
from scipy import ndimage

from gnsm_monai.data.compare import foreground_dice
from gnsm_monai.files import load_json
from gnsm_monai.model.files import SETTINGS

CLEAN, DATASET, MODEL = "clean", "Dataset601_Brain", "brain"
NEAR_MM = 5.0
"""How near to a damaged voxel the greatest anomaly of a map must lie."""


def measure(options: argparse.Namespace, earlier: Content) -> Iterator[Content]:
    brain, model, output = options.data / "brain", options.work / MODEL, options.work / f"{MODEL}_rank"
    minutes = train(model, {"dataset_dir": brain / "nnUNet_raw" / DATASET, "device": "cpu"})
    folders = sorted(path for path in (brain / "predictions").iterdir() if path.is_dir())
    rank = ["rank", "--model", model, "--predictions"]
    if not (output / "results.json").is_file():
        gnsm(*rank, *folders, "--maps", "--output", output)
    alone = options.work / "one_mask"
    alone.mkdir(exist_ok=True)
    mask = min((brain / "predictions" / CLEAN).glob("*.nii.gz"))
    if not (alone / mask.name).exists():
        (alone / mask.name).symlink_to(mask.absolute())
    command = [sys.executable, "-m", "gnsm_monai", *rank, alone, "--output", options.work / f"{MODEL}_one"]
    yield {
        "command": options.command,
        "minutes": minutes,
        "one_mask": watched(command),
        "rule": load_json(model / SETTINGS)["anomaly_score"],
        "failures": [of_failure(brain, folder, output) for folder in folders if folder.name != CLEAN],
    }


def of_failure(brain: Path, folder: Path, output: Path) -> dict[str, Any]:
    """The failures of one kind, a head each."""
    names = load_json(brain / "nnUNet_raw" / DATASET / "dataset.json")["labels"]
    ranked = {row["case"]: row for row in rows_of(output / "ranking.csv")}
    heads = []
    for path in sorted(folder.glob("*.nii.gz")):
        case = path.name.removesuffix(".nii.gz")
        mask, clean = (np.asarray(nib.load(p).dataobj) for p in (path, brain / "predictions" / CLEAN / path.name))
        failed, sound = (ranked[f"{kind}/{case}"] for kind in (folder.name, CLEAN))
        anomaly = nib.load(output / "maps" / folder.name / path.name)
        heads.append(
            {
                "case": case,
                "score": float(failed["anomaly_score"]),
                "clean_score": float(sound["anomaly_score"]),
                "worst_structure": failed["worst_structure"],
                "damaged": damaged(mask, clean, names),
                "distance_mm": distance(np.asarray(anomaly.dataobj), mask != clean, anomaly.header.get_zooms()[:3]),
            }
        )
    return {"kind": folder.name, "heads": heads}


def damaged(mask: np.ndarray, clean: np.ndarray, names: dict[str, int]) -> list[str]:
    """Structures that lose at least half of the greatest loss of Dice; ``names`` has the value of each."""
    loss = 1 - foreground_dice(mask, clean, max(names.values()) + 1)
    limit = np.nanmax(loss) / 2
    return [name for name, value in names.items() if value and loss[value - 1] >= limit]


def distance(anomaly: np.ndarray, changed: np.ndarray, spacing: tuple[float, ...]) -> float:
    """From the place of the greatest anomaly to the nearest voxel that was changed, in mm."""
    away = ndimage.distance_transform_edt(~changed, sampling=spacing)
    return float(away[np.unravel_index(np.nanargmax(anomaly), anomaly.shape)])


def lines(content: Content) -> list[str]:
    """The page."""
    rows, totals = [], np.zeros(4, dtype=int)
    for failure in content["failures"]:
        heads = failure["heads"]
        counts = np.array([
            len(heads),
            sum(head["score"] > head["clean_score"] for head in heads),
            sum(head["worst_structure"] in head["damaged"] for head in heads),
            sum(head["distance_mm"] <= NEAR_MM for head in heads),
        ])  # fmt: skip
        totals += counts
        named = sorted({name for head in heads for name in head["damaged"]})
        away = ", ".join(f"{head['distance_mm']:.0f}" for head in heads)
        shown = ", ".join(named) if len(named) <= 4 else f"{len(named)} structures"
        worst = ", ".join(sorted({head["worst_structure"] for head in heads}))
        rows.append([f"`{failure['kind']}`", shown, *counts[1:3], worst, counts[3], away])
    one = content["one_mask"]
    took = "" if content["minutes"] is None else f"Training took {content['minutes']:.0f} minutes. "
    return [
        f"{took}The rule is `{content['rule']}`. One mask of 256 x 256 x 256 voxels and 31 structures is ranked in "
        f"{one['seconds']:.0f} s and {one['gib']:.1f} GiB, start to exit.",
        "",
        *table(
            ["failure", "damaged", "worse than the clean mask", "worst structure is damaged", "worst structures",
             f"greatest anomaly within {NEAR_MM:.0f} mm", "its distance, mm"],
            [*rows, ["all", "", *(f"{count} of {totals[0]}" for count in totals[1:3]), "",
                     f"{totals[3]} of {totals[0]}", ""]],
        ),
    ]  # fmt: skip


BENCHMARK = Benchmark(
    "local_failures",
    "One damaged structure in a whole head",
    measure,
    lines,
    {**DATA, "--work": {"type": Path, "default": Path("runs/local_failures")}},
    __doc__,
)

if __name__ == "__main__":
    BENCHMARK.run()
