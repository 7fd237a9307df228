"""Quality control of real nnU-Net folders: worst ten, predicted Dice, soft masks, calibration, audit.

    python scripts/benchmarks/nnunet_qc.py --data DATA [--work runs/nnunet_qc] [--model MODEL] [--epochs N] [--only ...]

DATA holds ``hippocampus/``: an nnU-Net raw data set, and the predictions of five networks. Every step is a ``gnsm``
command (a training with another seed is one of the bundle); what is done already is not done again, and what was
stopped is continued. The page shows all parts that are done; a part that is run again by the same command takes the
place of its last run.

``--model`` is a finished model of the data set, else one is trained. ``--epochs`` shortens the further trainings:
of the models with other splits, and of the audit's folds.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import plant_errors
import rivals
from bench import ROOT, Benchmark, Content
from nnunet_qc_lines import ALPHA, WORST, lines
from package_commands import gnsm, scored_rows, train
from scipy.stats import ks_2samp, spearmanr
from sklearn.metrics import f1_score

from gnsm_monai.files import load_arrays, load_json
from gnsm_monai.rules.anomaly import AnomalyModel
from gnsm_monai.rules.calibration import p_values
from gnsm_monai.rules.levels import stored_levels

SPLITS = [1, 2, 3, 4]  # seeds; 0 is the split of the model itself


def measure(options: argparse.Namespace, earlier: Content) -> Iterator[Content]:
    folder, work = options.data / "hippocampus", options.work
    (dataset,) = (folder / "nnUNet_raw").iterdir()
    predictions = sorted(path for path in (folder / "predictions").iterdir() if path.is_dir())
    model = options.model or work / "model"
    if set(options.only) != {"audit"} and not (model / "settings.json").is_file():
        gnsm("train", "--dataset", dataset, "--output", model, "--resume")
    for part in options.only:
        if part == "folders":
            run = folders(model, predictions, dataset, work)
        elif part == "soft":
            run = soft(model, [path for path in predictions if any(path.glob("*.npz"))], dataset, work)
        elif part == "calibration":
            run = calibration(model, dataset, work, options.splits, options.epochs)
        else:
            run = audit(dataset, work, options.plantings, options.epochs)
        run["command"] = _command(part, options)
        others = [
            r for r in earlier.get(part, []) if r["command"] != run["command"] or {"introduction", "setting"} & set(r)
        ]
        earlier = {**earlier, part: [run, *others]}
        yield earlier


def _command(part: str, options: argparse.Namespace) -> str:
    """The command of a part alone, with the options that it reads."""
    words = ["python scripts/benchmarks/nnunet_qc.py --data DATA --only", part]
    if part in ("calibration", "audit"):
        words += [] if options.epochs is None else ["--epochs", str(options.epochs)]
        seeds = {"calibration": ("--splits", options.splits), "audit": ("--plantings", options.plantings)}[part]
        words += [seeds[0], *map(str, seeds[1])]
    return " ".join(words)


def folders(model: Path, predictions: Sequence[Path], dataset: Path, work: Path) -> Content:
    """Per folder the worst ten by rank among those by Dice, our Dice against scikit-learn's, and the predicted Dice."""
    num_classes = len(load_json(dataset / "dataset.json")["labels"])
    prior = rivals.VoxelwisePrior()
    prior.fit([_read(path) for path in sorted((dataset / "labelsTr").glob("*.nii.gz"))], num_classes)
    every, rows = [], []
    for path in predictions:
        ranked = _rank(model, path, work / "hard" / path.name, "--references", dataset / "labelsTs", "--soft", "off")
        every += ranked
        dice, masks = numbers(ranked, "dice"), [_read(path / f"{row['case']}.nii.gz") for row in ranked]
        references = [_read(dataset / "labelsTs" / f"{row['case']}.nii.gz") for row in ranked]
        sklearns = np.array([sklearn_dice(*pair, num_classes) for pair in zip(masks, references, strict=True)])
        scores = [numbers(ranked, "anomaly_score"), np.array([prior.score(mask) for mask in masks])]
        rows.append(
            {
                "folder": path.name,
                "masks": len(ranked),
                "worst": [worst_in_common(score, dice) for score in scores],
                "spearman": [float(spearmanr(score, dice).statistic) for score in scores],
                "dice_difference": float(np.abs(dice - sklearns).max()),
            }
        )
    dice, predicted = numbers(every, "dice"), numbers(every, "predicted_dice")
    low, high = numbers(every, "predicted_dice_low"), numbers(every, "predicted_dice_high")
    return {
        "rows": rows,
        "predicted_dice": {
            "masks": len(every),
            "error": float(np.abs(predicted - dice).mean()),
            "error_of_mean": float(np.abs(dice - dice.mean()).mean()),
            "cover": float(((low <= dice) & (dice <= high)).mean()),
            "width": float(np.mean(high - low)),
        },
    }


def soft(model: Path, predictions: Sequence[Path], dataset: Path, work: Path) -> Content:
    """Scores of probabilities beside those of the masks made from them."""
    rows = []
    for path in predictions:
        output, references = work / "soft" / path.name, dataset / "labelsTs"
        ranked = _rank(model, path, output, "--references", references)
        hard = _rank(model, path, work / "hard" / path.name, "--references", references, "--soft", "off")
        hard_of = {row["case"]: row for row in hard}
        score, dice = numbers(ranked, "anomaly_score"), numbers(ranked, "dice")
        other = numbers([hard_of[row["case"]] for row in ranked], "anomaly_score")
        pairs = (score, dice), (other, dice), (score, other)
        spearman = [float(spearmanr(*pair).statistic) for pair in pairs]
        cases = load_json(output / "summary.json")["soft"]["cases"]
        rows.append({"folder": path.name, "soft_cases": cases, "spearman": spearman})
    return {"rows": rows}


def calibration(model: Path, dataset: Path, work: Path, splits: Sequence[int], epochs: int | None) -> Content:
    """Unseen references against the calibration references of models with other splits."""
    models = {"the model": model, **{str(seed): work / f"split_{seed}" for seed in splits}}
    rows = []
    for split, other in models.items():
        if other is not model:  # the seed deals the references into those for training, fitting and calibration
            shorter = {} if epochs is None else {"epochs": epochs}
            train(other, {"dataset_dir": dataset, "seed": int(split), **shorter})
        rows.append(calibration_row(split, other, _rank(other, dataset / "labelsTs", work / "self" / other.name)))
    return {"rows": rows}


def calibration_row(split: str, model: Path, ranked: Sequence[Mapping[str, str]]) -> dict[str, Any]:
    """How the scores of unseen references compare with those that a model is calibrated by."""
    arrays = load_arrays(model / "reference_statistics.npz")
    scores, fitting = arrays["calibration_scores"], AnomalyModel.from_arrays(arrays).score(stored_levels(arrays, "fit"))
    test = ks_2samp(numbers(ranked, "anomaly_score"), scores)
    return {
        "split": split,
        "rule": str(arrays["rule"]),
        "calibration": len(scores),
        "unseen": len(ranked),
        "ks": float(test.statistic),
        "ks_p": float(test.pvalue),
        "flagged": sum(row["flag"] in ("1", "True", "true") for row in ranked),
        "fitting": len(fitting),
        "fitting_flagged": int((p_values(fitting, scores) <= ALPHA).sum()),
    }


def audit(dataset: Path, work: Path, seeds: Sequence[int], epochs: int | None) -> Content:
    """Where the audit of each planting ranks the planted errors."""
    plantings = []
    for seed in seeds:
        planted, results = work / f"planted_{seed}", work / f"audit_{seed}"
        if not (planted / "planted.json").is_file():
            plant_errors.plant(dataset, planted, seed=seed)
        if not (results / "summary.json").is_file():
            gnsm("audit", "--dataset", planted, "--output", results, *([] if epochs is None else ["--epochs", epochs]))
        ranked = scored_rows(results / "ranking.csv")
        plantings.append(audit_ranks(seed, ranked, load_json(planted / "planted.json")))
    return {"plantings": plantings}


def audit_ranks(seed: int, ranked: Sequence[Mapping[str, str]], planted: Mapping[str, Any]) -> dict[str, Any]:
    """The planted errors (by case) in the order of the ranking."""
    rows = [
        {
            "rank": int(row["rank"]),
            **{key: planted[row["case"]][key] for key in ("error", "dice")},
            "p_value": float(row["p_value"]),
            "worst_structure": row["worst_structure"],
        }
        for row in ranked
        if row["case"] in planted
    ]
    return {"seed": seed, "references": len(ranked), "errors": sorted(rows, key=lambda row: row["rank"])}


def _rank(model: Path, predictions: Path, output: Path, *options: Any) -> list[dict[str, str]]:
    if not (output / "summary.json").is_file():
        gnsm("rank", "--model", model, "--predictions", predictions, "--output", output, *options)
    return scored_rows(output / "ranking.csv")


def numbers(rows: Sequence[Mapping[str, str]], column: str) -> np.ndarray:
    return np.array([float(row[column]) for row in rows])


def worst_in_common(score: np.ndarray, dice: np.ndarray) -> int:
    """How many of the worst ten masks by Dice are among the worst ten by score."""
    worst = np.argsort(-score, kind="stable")[:WORST]
    return len(set(worst.tolist()) & set(np.argsort(dice, kind="stable")[:WORST].tolist()))


def sklearn_dice(mask: np.ndarray, reference: np.ndarray, num_classes: int) -> float:
    """Mean foreground Dice, by scikit-learn."""
    structures = list(range(1, num_classes))
    each = f1_score(reference.ravel(), mask.ravel(), labels=structures, average=None, zero_division=np.nan)
    return float(np.nanmean(each))


def _read(path: Path) -> np.ndarray:
    return np.asarray(nib.as_closest_canonical(nib.load(path)).dataobj).astype(np.int16)


BENCHMARK = Benchmark(
    "nnunet_qc",
    "Quality control of nnU-Net folders: hippocampus",
    measure,
    lines,
    {
        "--data": {"type": Path, "required": True},
        "--work": {"type": Path, "default": ROOT / "runs" / "nnunet_qc"},
        "--model": {"type": Path},
        "--epochs": {"type": int},
        "--only": {"nargs": "+", "choices": ("folders", "soft", "calibration", "audit"),
                   "default": ["folders", "soft", "calibration", "audit"]},
        "--plantings": {"type": int, "nargs": "+", "default": [0], "help": "seeds of the planted errors"},
        "--splits": {"type": int, "nargs": "+", "default": SPLITS, "help": "seeds of the further splits"},
    },
    __doc__,
)  # fmt: skip

if __name__ == "__main__":
    BENCHMARK.run()
