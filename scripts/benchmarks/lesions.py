"""Sets in which some references hold no lesion: where correct empty masks rank, what is flagged, and at what price.

    OMP_NUM_THREADS=1 python scripts/benchmarks/lesions.py --work DIR [--seeds 0 1 2 3 4]

Generated lesions (lesion_sets.py), small models of one epoch. Each set is trained on with all its references, and with
those alone that hold lesions. A run that was stopped continues where it was.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from bench import Benchmark, Content
from lesion_lines import ALPHA, SEEDS, STEPS, WORST, lines, plan
from lesion_sets import FOLDERS, write_lesion_set
from monai.bundle import run
from package_commands import scored_rows
from scipy.stats import spearmanr

from gnsm_monai.cli import main
from gnsm_monai.data.compare import foreground_dice
from gnsm_monai.files import load_arrays, load_json
from gnsm_monai.model.files import SETTINGS, STATISTICS_FILE
from gnsm_monai.paths import bundle_root
from gnsm_monai.rules.held_out import HeldOut
from gnsm_monai.rules.levels import stored_levels

SMALL: Mapping[str, Any] = {
    "epochs": 1,
    "network_def::channels": [8, 16],
    "fit::shapes::steps": 0,
    "fit::failures::copies": 4,
    "fit::failures::calibration_copies": 2,
}

GRADED = ("truth full", "graded0 full", "graded1 full", "graded2 full")
"""Masks whose scores are compared with Dice."""


def measure(options: argparse.Namespace, earlier: Content) -> Iterator[Content]:
    runs = dict(earlier.get("runs", {}))
    for name, setting in plan(options.seeds).items():
        if name not in runs:
            runs[name] = _run(options.work, *setting)
            yield {"command": options.command, "runs": runs}
    yield {"command": options.command, "runs": runs}


def _run(work: Path, share: float, seed: int, kind: str, without: bool) -> dict[str, Any]:
    """Figures of one model. With ``without`` the empty references are left out of its training."""
    dataset = work / f"Dataset{800 + round(100 * share)}_Lesions{seed}"
    none = write_lesion_set(dataset, share, seed)
    place = work / f"{kind}_{share:.0%}_{seed}{'_without' if without else ''}"
    model, ranks = place / "model", place / "ranks"
    if not (model / SETTINGS).is_file():
        options = {
            "dataset_dir": str(dataset), "model_dir": str(model), "steps_per_epoch": STEPS[kind], "seed": seed,
            "condition_on_image": kind == "images", "failures": "auto" if kind == "images" else "copies",
            "exclude_cases": none if without else [], "resume": True,
        }  # fmt: skip
        # In this process: starting another one takes longer than training so small a model.
        run("training", config_file=str(bundle_root() / "configs" / "train.yaml"), **SMALL, **options)
    folders = [folder for folder in FOLDERS if not without or f"{folder} full" in GRADED]
    masks = [str(dataset / "predictions" / folder) for folder in folders]
    images = ["--images", str(dataset / "imagesTs")] if kind == "images" else []
    # Without references: the intervals of figures that are not used here take longer than the ranking.
    main(["rank", "--model", str(model), "--predictions", *masks, *images, "--output", str(ranks)])
    rows = [{**row, "dice": _dice(dataset, row["case"])} for row in scored_rows(ranks / "ranking.csv")]
    arrays = load_arrays(model / STATISTICS_FILE)
    word = HeldOut.from_arrays(arrays).strength
    return {**figures(rows, load_json(model / SETTINGS), arrays), "word": word}


def _dice(dataset: Path, mask: str) -> str:
    """Of a mask ``FOLDER/CASE`` to its reference; ``nan`` where both are empty."""
    paths = dataset / "predictions" / mask, dataset / "labelsTs" / mask.split("/")[1]
    maps = [np.asarray(nib.load(f"{path}.nii.gz").dataobj) for path in paths]  # type: ignore[attr-defined]
    return str(float(foreground_dice(*maps, 2)[0]))


def figures(
    rows: Sequence[Mapping[str, str]], settings: Mapping[str, Any], arrays: Mapping[str, np.ndarray]
) -> dict[str, Any]:
    """How many masks of each group are among the worst and flagged, and Spearman over cases with lesions."""
    groups: dict[str, list[Mapping[str, str]]] = {}
    for row in rows:
        folder, case = row["case"].split("/")
        groups.setdefault(f"{folder} {case.split('_')[0]}", []).append(row)
    filled = [row for name, group in groups.items() for row in group if name in GRADED]
    pairs = np.array([(float(row["anomaly_score"]), float(row["dice"])) for row in filled])
    scores = arrays["calibration_scores"]
    empty = arrays.get("calibration_empty", np.zeros(len(scores), dtype=bool))
    disagreement = stored_levels(arrays, "calibration")["disagreement"][:, -1]
    return {
        "rule": settings["anomaly_score"],
        "flags_by": str(arrays.get("flag_statistic", "peak")) if "flag_scale" in arrays else "score",
        "calibration": len(scores),
        "calibration_empty": int(empty.sum()),
        "reading": round(float(1 - disagreement[~empty].mean()), 4),
        "spearman": round(float(spearmanr(*pairs.T).statistic), 4),
        "groups": {
            name: {
                "masks": len(group),
                "among_worst": sum(int(row["rank"]) <= WORST * len(rows) for row in group),
                "flagged": sum(float(row["p_value"]) <= ALPHA for row in group),
                "p_value": round(float(np.median([float(row["p_value"]) for row in group])), 4),
            }
            for name, group in groups.items()
        },
    }


BENCHMARK = Benchmark(
    "lesions",
    "References without a structure",
    measure,
    lines,
    {
        "--work": {"type": Path, "required": True},
        "--seeds": {"type": int, "nargs": "+", "default": list(SEEDS)},
    },
    __doc__,
)

if __name__ == "__main__":
    BENCHMARK.run()
