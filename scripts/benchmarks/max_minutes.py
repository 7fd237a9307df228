"""Whether `gnsm train --max-minutes M` ends in time, and what becomes of its parts.

    OMP_NUM_THREADS=1 python scripts/benchmarks/max_minutes.py --data DATA [--minutes 1 2 5] [--clock cpu]
        [--work runs/max_minutes]

Trains on the hippocampus references, and on 40 generated stacks of 112 x 112 x 16 voxels with images, in a process of
its own each, with the default options. The seconds are those of the whole command, the interpreter's start included.
``--clock cpu`` counts the seconds that the process computes, in limit and result: on a machine that other work shares,
these are what its own work takes.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from bench import DATA, Benchmark, Content, table
from package_commands import computed_seconds

from gnsm_monai.data.nifti import save_nifti
from gnsm_monai.data.phantoms import LABELS, make_phantom
from gnsm_monai.files import save_json
from gnsm_monai.model.trained import TrainedModel

HIPPOCAMPUS = Path("hippocampus") / "nnUNet_raw" / "Dataset504_HippocampusQC"
SIZE, COUNT, SPACING = (112, 112, 16), 40, (1.25, 1.25, 8.75)
TRAIN = """
import sys, time
from pathlib import Path
from gnsm_monai import cli, cli_commands
cli.speak_plainly()
limit = {"max_minutes": float(sys.argv[3]), "time_limit::spent": time.process_time()}
limit["time_limit::clock"] = time.process_time
cli_commands.train(Path(sys.argv[2]), dataset_dir=Path(sys.argv[1]), device="cpu", **limit)
"""
"""`gnsm train` by the clock of its own process."""

SLACK = 60
"""Seconds beyond the limit that count as in time."""


def measure(options: argparse.Namespace, earlier: Content) -> Iterator[Content]:
    datasets = {"hippocampus": options.data / HIPPOCAMPUS, "stacks": write_stacks(options.work / "Dataset900_Stacks")}
    cores = f"{os.cpu_count()} cores shared with other work"
    content: Content = {"command": options.command, "setting": f"torch {torch.__version__}, {cores}", "runs": []}
    for minutes in options.minutes:
        for name, dataset in datasets.items():
            content["runs"].append(
                {"data": name, "minutes": minutes, **limited(dataset, options.work, minutes, options.clock)}
            )
            yield content


def write_stacks(folder: Path) -> Path:
    """An nnU-Net data set of stacks of few slices, such as cine MRI has them."""
    for part in ("labelsTr", "imagesTr"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    for number in range(COUNT):
        label, image = make_phantom(np.random.default_rng([0, number]), 3, SIZE)
        for array, path in ((label, folder / "labelsTr" / f"stack_{number:02d}.nii.gz"),
                            (image, folder / "imagesTr" / f"stack_{number:02d}_0000.nii.gz")):  # fmt: skip
            save_nifti(path, array, np.diag([*SPACING, 1.0]))
    save_json(folder / "dataset.json", {"channel_names": {"0": "MRI"}, "labels": LABELS, "numTraining": COUNT,
                                        "file_ending": ".nii.gz"})  # fmt: skip
    return folder


def limited(dataset: Path, work: Path, minutes: float, clock: str) -> dict[str, Any]:
    """Seconds of a training with a limit, what it said of its parts, and what its model is worth."""
    model = work / f"{dataset.name}_{minutes:g}"
    shutil.rmtree(model, ignore_errors=True)
    words = [sys.executable, "-c", TRAIN, dataset, model, minutes]
    if clock == "wall":
        words = [sys.executable, "-m", "gnsm_monai", "train", "--dataset", dataset, "--output", model]
        words += ["--max-minutes", minutes, "--device", "cpu"]
    start, load, computed = time.monotonic(), os.getloadavg()[0], computed_seconds()
    done = subprocess.run([*map(str, words)], check=True, capture_output=True, text=True)
    seconds = time.monotonic() - start if clock == "wall" else computed_seconds() - computed
    said = [line for line in done.stdout.splitlines() if any(words in line for words in ("allowed", "time", "minutes"))]
    trained = TrainedModel.load(model)
    return {
        "seconds": seconds,
        "load": load,
        "said": [line.replace(str(model), "MODEL") for line in said],
        "spearman": trained.held_out.spearman,
        "strength": trained.held_out.strength,
        "calibration": len(trained.calibration.scores),
    }


def lines(content: Content) -> list[str]:
    runs: list[Mapping[str, Any]] = content["runs"]
    late = [run for run in runs if run["seconds"] > 60 * run["minutes"] + SLACK]
    head = ["data", "limit", "load", "whole command", "beyond the limit", "calibration references",
            "Spearman on held-out failures", "score"]  # fmt: skip
    rows = [
        [run["data"], f"{run['minutes']:g} min", f"{run['load']:.0f}", f"{run['seconds']:.0f} s",
         f"{run['seconds'] - 60 * run['minutes']:+.0f} s", run["calibration"], f"{run['spearman']:.3f}",
         run["strength"]]
        for run in runs
    ]  # fmt: skip
    return [
        f"{len(runs) - len(late)} of {len(runs)} trainings end within a minute after their limit.",
        "",
        "Load: processes that wanted a core as the training began, of this and other work.",
        "",
        *table(head, rows),
        "",
        "## What the trainings said of their parts",
        "",
        *[line for run in runs for line in (f"{run['data']}, {run['minutes']:g} min:", "", *quoted(run["said"]), "")],
    ]


def quoted(said: list[str]) -> list[str]:
    return [f"    {line}" for line in said] or ["    (every part had all its time)"]


BENCHMARK = Benchmark(
    "max_minutes",
    "Trainings with a time limit",
    measure,
    lines,
    {
        **DATA,
        "--minutes": {"type": float, "nargs": "+", "default": [1.0, 2.0, 5.0]},
        "--clock": {"choices": ["wall", "cpu"], "default": "wall"},
        "--work": {"type": Path, "default": Path("runs/max_minutes")},
    },
    __doc__,
)

if __name__ == "__main__":
    BENCHMARK.run()
