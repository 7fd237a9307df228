"""Sets in which some references hold no lesion: where correct empty masks rank, what is flagged, and at what price.

    OMP_NUM_THREADS=1 python scripts/benchmarks/lesions.py --work DIR [--seeds 0 1 2 3 4]

Generated lesions (lesion_sets.py), small models of one epoch. Each set is trained on with all its references, and with
those alone that hold lesions. A run that was stopped continues where it was.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from bench import MISSING, Benchmark, Content, table
from lesion_sets import FOLDERS, REFERENCES, TESTS, write_lesion_set
from monai.bundle import run
from package_commands import scored_rows
from scipy.stats import spearmanr

from gnsm_monai.cli import main
from gnsm_monai.data.compare import foreground_dice
from gnsm_monai.files import load_arrays, load_json
from gnsm_monai.model.files import SETTINGS, STATISTICS_FILE
from gnsm_monai.paths import bundle_root
from gnsm_monai.rules.levels import stored_levels

SHARES = (0.3, 0.6, 0.9, 0.0)
STEPS = {"images": 500, "labels": 60}
"""Steps of training, one epoch: with 200, a network with images reads no lesion of a held-out reference. A model of
label maps has copies of references as failures, as without images."""

SMALL: Mapping[str, Any] = {
    "epochs": 1,
    "network_def::channels": [8, 16],
    "fit::shapes::steps": 0,
    "fit::failures::copies": 4,
    "fit::failures::calibration_copies": 2,
}

ALPHA = 0.05
WORST = 0.1
"""Share of a ranking that counts as its worst masks."""

FLAGGED_BY = {None: MISSING, False: "score", True: "score or one place"}
"""What p-values are of, in words."""

GRADED = ("truth full", "graded0 full", "graded1 full", "graded2 full")
"""Masks whose scores are compared with Dice."""

FLAGS = {
    "correct empty": ("truth none",),
    "correct with lesions": ("truth full",),
    "missed": ("missed full",),
    "25 false lesions": ("many full", "many none"),
    "outside the brain": ("outside full", "outside none"),
}
"""Masks whose flags are counted, and the groups that they are in: a folder, and whether the case has lesions."""


def measure(options: argparse.Namespace, earlier: Content) -> Iterator[Content]:
    runs = dict(earlier.get("runs", {}))
    for seed in options.seeds:
        for kind, share, without in itertools.product(STEPS, SHARES, (False, True)):
            name = f"{kind} {share:.0%} seed {seed}{' without' if without else ''}"
            if name not in runs and (share or not without):
                runs[name] = _run(options.work, share, seed, kind, without)
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
    return figures(rows, load_json(model / SETTINGS), load_arrays(model / STATISTICS_FILE))


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
        "flags_one_place": "flag_scale" in arrays,
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


def lines(content: Content) -> list[str]:
    runs: Mapping[str, Mapping[str, Any]] = content["runs"]
    images, labels = STEPS.values()
    text = [
        f"Generated brains of 24 x 24 x 6 voxels (scripts/benchmarks/lesion_sets.py), {REFERENCES} references, of",
        f"which a share holds no lesion; {TESTS} test cases with lesions, as many without. One epoch of {labels} steps",
        f"(labels) or {images} (images) of a network of 8 and 16 channels. *Correct*: the references themselves.",
        "*Missed*: empty masks of cases with lesions. The others are references with 25 false lesions in the brain,",
        "or with three outside of it. Spearman with Dice is over correct and degraded masks of cases with lesions.",
        "*Reading*: soft Dice of calibration references with lesions and what the network expects at the strongest",
        "noise, where it sees little but the image.",
        "",
        "*Flags by*: what a p-value is of, the anomaly score, or the worse of it and the misfit in one place, as",
        "failures of references decide; a dash for runs before that.",
        "",
        f"Masks are flagged at `alpha` {ALPHA}: {ALPHA:.0%} of correct masks may be. The worst tenth is that of the",
        "whole ranking. From labels alone a missed lesion and a correct empty mask are the same mask.",
        "",
    ]
    head = ["model", "empty", "seeds", "correct empty masks in the worst tenth", *(f"flagged: {k}" for k in FLAGS)]
    head += ["reading", "Spearman", "the same, trained without empty references"]
    rows = [
        [
            kind,
            f"{share:.0%}",
            len(seeds),
            *_counts(seeds),
            *_means("reading", seeds),
            *_means("spearman", seeds),
            _means("spearman", alone)[0] + (f" (seeds: {len(alone)})" if 0 < len(alone) != len(seeds) else ""),
        ]
        for kind in STEPS
        for share in sorted(SHARES)
        for seeds, alone in [(_of(runs, kind, share, False), _of(runs, kind, share, True))]
        if seeds or alone
    ]
    each = [
        [
            *(name, run["rule"], FLAGGED_BY[run.get("flags_one_place")]),
            f"{run['calibration_empty']} of {run['calibration']}",
            *(*_counts([] if name.endswith("without") else [run]), run["reading"], run["spearman"]),
        ]
        for name, run in sorted(runs.items())
    ]
    every = ["run", "rule", "flags by", "empty calibration references", *head[3:-1]]
    return [*text, *table(head, rows), "", "## Every run", "", *table(every, each)]


def _of(runs: Mapping[str, Mapping[str, Any]], kind: str, share: float, without: bool) -> list[Mapping[str, Any]]:
    start = f"{kind} {share:.0%} "
    return [run for name, run in runs.items() if name.startswith(start) and name.endswith("without") == without]


def _counts(runs: Sequence[Mapping[str, Any]]) -> list[str]:
    """Correct empty masks among the worst, and flags of every kind, summed over runs."""
    return [_count(runs, "among_worst", FLAGS["correct empty"]), *(_count(runs, "flagged", g) for g in FLAGS.values())]


def _count(runs: Sequence[Mapping[str, Any]], what: str, names: Sequence[str]) -> str:
    groups = [run["groups"][name] for run in runs for name in names if name in run["groups"]]
    return f"{sum(g[what] for g in groups)} of {sum(g['masks'] for g in groups)}" if groups else MISSING


def _means(what: str, *groups: Sequence[Mapping[str, Any]]) -> list[str]:
    return [f"{np.mean([run[what] for run in runs]):.3f}" if runs else MISSING for runs in groups]


BENCHMARK = Benchmark(
    "lesions",
    "References without a structure",
    measure,
    lines,
    {
        "--work": {"type": Path, "required": True},
        "--seeds": {"type": int, "nargs": "+", "default": [0, 1, 2, 3, 4]},
    },
    __doc__,
)

if __name__ == "__main__":
    BENCHMARK.run()
