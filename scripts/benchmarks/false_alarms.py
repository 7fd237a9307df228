"""How many sound masks are flagged? References that a model has not seen, over random splits of a set.

    OMP_NUM_THREADS=1 python scripts/benchmarks/false_alarms.py --data DATA [--sets hippocampus heart chest blood_cell]
        [--sizes 40 80] [--splits 20] [--unseen 60] [--work runs/false_alarms]

Every split draws so many references at random, all maps of a patient together, trains ``gnsm train --quick`` on them,
and ranks others that were left out, as a folder of masks with the default ``--alpha 0.05``. A share of 0.05 should be
flagged. A run that is stopped continues with the splits that are missing.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from bench import DATA, Benchmark, Content, table
from package_commands import gnsm, scored_rows

from gnsm_monai.files import load_json, save_json

SETS = {
    "hippocampus": Path("hippocampus/nnUNet_raw/Dataset504_HippocampusQC"),
    "heart": Path("heart/nnUNet_raw"),
    "chest": Path("chest_xray_landmarks/nnUNet_raw/Dataset505_ChestXRayShapes"),
    "blood_cell": Path("blood_cell/nnUNet_raw"),
}
"""Data sets with enough references."""

LOWEST, HIGHEST = 0.02, 0.08
"""Between these the mean share of flagged masks should lie."""


def measure(options: argparse.Namespace, earlier: Content) -> Iterator[Content]:
    content: Content = {"command": options.command, "splits": earlier.get("splits", [])}
    done = {(split["set"], split["size"], split["seed"]) for split in content["splits"]}
    for name in options.sets:
        for seed in range(options.splits):
            for size in options.sizes:
                if (name, size, seed) not in done:
                    content["splits"].append(split(name, size, seed, options))
                    yield content
    yield content


def split(name: str, size: int, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """One training on references drawn at random, and how many of the others it flags."""
    work = options.work / f"{name}_{size}_{seed}"
    shutil.rmtree(work, ignore_errors=True)
    dataset = data_set(options.data / SETS[name])
    maps = [path for folder in ("labelsTr", "labelsTs") for path in sorted((dataset / folder).iterdir())]
    drawn, unseen = parts(maps, size, options.unseen, np.random.default_rng([seed, size]))
    for folder, paths in (("labelsTr", drawn), ("unseen", unseen)):
        (work / folder).mkdir(parents=True)
        for path in paths:
            (work / folder / path.name).symlink_to(path.absolute())
    description = load_json(dataset / "dataset.json")
    save_json(work / "dataset.json", {**description, "numTraining": len(drawn)})
    gnsm("train", "--dataset", work, "--quick", "--seed", seed, "--output", work / "model", "--device", "cpu")
    gnsm("rank", "--model", work / "model", "--predictions", work / "unseen", "--output", work / "results")
    rows = scored_rows(work / "results" / "ranking.csv")
    flagged = sum(row["flag"] == "1" for row in rows)
    rule = load_json(work / "model" / "settings.json")["anomaly_score"]
    shutil.rmtree(work)
    return {"set": name, "size": size, "seed": seed, "rule": rule, "masks": len(rows), "flagged": flagged}


def data_set(folder: Path) -> Path:
    """The folder with dataset.json: this one, or the only one in it."""
    if (folder / "dataset.json").is_file():
        return folder
    (description,) = folder.glob("*/dataset.json")
    return description.parent


def parts(maps: list[Path], size: int, most: int, rng: np.random.Generator) -> tuple[list[Path], list[Path]]:
    """``size`` maps to train on, or one patient more, and at most so many others; no patient is in both.

    A patient's maps have names that differ behind the last ``_`` alone, if there are three parts (heart_002_1).
    """
    patients: dict[str, list[Path]] = {}
    for path in maps:
        words = path.name.split(".")[0].split("_")
        patients.setdefault("_".join(words[:2]), []).append(path)
    order = [list(patients)[number] for number in rng.permutation(len(patients))]
    drawn: list[Path] = []
    while len(drawn) < size:
        drawn += patients[order.pop()]
    return drawn, [path for patient in order for path in patients[patient]][:most]


def lines(content: Content) -> list[str]:
    """The page."""
    rows = []
    for name, size in sorted({(split["set"], split["size"]) for split in content["splits"]}):
        splits = [split for split in content["splits"] if (split["set"], split["size"]) == (name, size)]
        shares = np.array([split["flagged"] / split["masks"] for split in splits])
        error = f" ± {shares.std(ddof=1) / np.sqrt(len(shares)):.3f}" if len(shares) > 1 else ""
        rules = sorted({split["rule"] for split in splits})
        rows.append([
            name, size, len(splits), sum(split["masks"] for split in splits),
            f"{shares.mean():.3f}{error}", f"{shares.min():.2f} to {shares.max():.2f}",
            "yes" if LOWEST <= shares.mean() <= HIGHEST else "no", ", ".join(f"`{rule}`" for rule in rules),
        ])  # fmt: skip
    return [
        "Masks are references that the model has not seen, so that none should be flagged but for the stated 5 %. The",
        "share is the mean over the splits, with its standard error. Single splits scatter, as so few masks and",
        "held-out references do. Below 19 held-out references (38 in all) nothing can be flagged at 0.05.",
        "",
        *table(
            ["set", "references", "splits", "masks", "share flagged", "of single splits",
             f"within {LOWEST:.2f} to {HIGHEST:.2f}", "rules"],
            rows,
        ),
    ]  # fmt: skip


BENCHMARK = Benchmark(
    "false_alarms",
    "Sound masks that are flagged",
    measure,
    lines,
    {
        **DATA,
        "--sets": {"nargs": "+", "choices": list(SETS), "default": list(SETS)},
        "--sizes": {"type": int, "nargs": "+", "default": [40, 80]},
        "--splits": {"type": int, "default": 20},
        "--unseen": {"type": int, "default": 60},
        "--work": {"type": Path, "default": Path("runs/false_alarms")},
    },
    __doc__,
)

if __name__ == "__main__":
    BENCHMARK.run()
