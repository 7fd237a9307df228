"""The main job on real label maps: train, rank, compare with Dice, beside the published noise and mask-only rivals.

    python scripts/benchmarks/main_job.py --data DATA [--work runs/main_job] [--only hippocampus chest]

DATA holds ``hippocampus/`` and ``chest_xray_landmarks/`` (nnU-Net raw data sets; for hippocampus the predictions of
five networks beside them). Every step is a command of the bundle; what is done already is not done again, and a
training that was stopped goes on. Writes docs/benchmarks/main_job_hippocampus.md and main_job_chest.md.
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import rivals
from level_weights import weights_table

from gnsm_monai.data.degrade_folder import degrade_folder
from gnsm_monai.data.overlap import mean_foreground_dice
from gnsm_monai.data.transforms import load_case
from gnsm_monai.evaluation.summary import correlation_summary

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = ROOT / "bundles" / "segmentation_qc" / "configs"
EVALUATE = f"['{CONFIGS / 'train.yaml'}','{CONFIGS / 'evaluate.yaml'}']"
"""Of the bundle's evaluation."""
# What is trained on each data set. The published noise has five levels, as in the figures it is compared with.
RUNS: dict[str, dict[str, list[str]]] = {
    "hippocampus": {
        "mixing": [],
        "temperature": ["--noise", "{'name':'temperature','num_levels':5}", "--loss", "kl"],
    },
    "chest": {"mixing": ["--spatial_dims", "2"]},
}
METRICS = ("spearman", "pearson", "norm_aurc", "auroc_0.7")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=ROOT / "runs" / "main_job")
    parser.add_argument("--only", nargs="+", choices=list(RUNS), default=list(RUNS))
    parser.add_argument("--noise", nargs="+", default=["mixing", "temperature"], help="which noises to train")
    arguments = parser.parse_args()
    sections = []
    for name in arguments.only:
        folder = _dataset(arguments.data, name)
        predictions = _predictions(arguments.data, name, folder, arguments.work)
        results = {
            run: _run(name, run, folder, predictions, arguments.work) for run in RUNS[name] if run in arguments.noise
        }
        sections.append(_section(name, results, _rivals(folder, predictions)))
        page = ROOT / "docs" / "benchmarks" / f"main_job_{name}.md"
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text(sections[-1])
        print(sections[-1])


def _dataset(data: Path, name: str) -> Path:
    folders = {"hippocampus": "hippocampus", "chest": "chest_xray_landmarks"}
    (folder,) = (data / folders[name] / "nnUNet_raw").iterdir()
    return folder


def _predictions(data: Path, name: str, dataset: Path, work: Path) -> list[Path]:
    """Folders of masks: of real networks, or every reference of the test set in one copy per kind of failure."""
    if name == "hippocampus":
        return sorted(p for p in (data / "hippocampus" / "predictions").iterdir() if p.is_dir())
    output = work / name / "degraded"
    if not (output / "degradations.csv").is_file():
        degrade_folder(dataset / "labelsTs", output, seed=0)
    return sorted(p for p in output.iterdir() if p.is_dir())


def _run(name: str, run: str, dataset: Path, predictions: list[Path], work: Path) -> dict[str, Any]:
    """Trains and evaluates; returns the summary, with the seconds that the training took and the table per level."""
    model, output = work / name / run / "model", work / name / run / "results"
    options = RUNS[name][run]
    if not (model / "settings.json").is_file():
        start = time.monotonic()
        arguments = ["--dataset_dir", str(dataset), "--model_dir", str(model), "--resume", "True", *options]
        _bundle("training", str(CONFIGS / "train.yaml"), arguments)
        (model / "seconds.json").write_text(json.dumps({"training": time.monotonic() - start}))
    if not (output / "summary.json").is_file():
        folders = "[" + ",".join(f"'{p}'" for p in predictions) + "]"
        arguments = ["--predictions_dir", folders, "--references_dir", str(dataset / "labelsTs")]
        _bundle("evaluating", EVALUATE, ["--model_dir", str(model), "--output_dir", str(output), *arguments])
    summary: dict[str, Any] = json.loads((output / "summary.json").read_text())
    with open(output / "levels.csv", newline="") as file:
        summary["levels"] = [row for row in csv.DictReader(file) if row["masks"] == "pooled"]
    if run == "mixing":  # the published losses are no uncertainties: all levels count equally
        summary["weights"] = weights_table(model, output)
    seconds = model / "seconds.json"
    summary["training_seconds"] = json.loads(seconds.read_text())["training"] if seconds.is_file() else None
    return summary


def _bundle(run_id: str, configs: str, arguments: list[str]) -> None:
    command = [sys.executable, "-W", "ignore", "-m", "monai.bundle", "run", run_id, "--config_file", configs]
    subprocess.run([*command, *arguments], check=True, cwd=ROOT)


def _rivals(dataset: Path, predictions: list[Path]) -> dict[str, dict[str, Any]]:
    """Metrics of each mask-only rival, fitted to all references, pooled and per folder."""
    names = json.loads((dataset / "dataset.json").read_text())["labels"]
    num_classes, dims = len(names), 2 if any((dataset / "labelsTr").glob("*.png")) else 3
    load = load_case(None, dims)

    def read(path: Path) -> np.ndarray:
        return np.asarray(load({"label": path})["label"][0])

    references = [read(path) for path in sorted((dataset / "labelsTr").iterdir())]
    truth = {path.name: read(path) for path in sorted((dataset / "labelsTs").iterdir())}
    masks = [(p.name, f, read(p / f)) for p in predictions for f in truth if (p / f).is_file()]
    dice = [mean_foreground_dice(mask, truth[f], num_classes) for _, f, mask in masks]
    folders = np.array([folder for folder, _, _ in masks])
    table = {}
    for name, rival in (
        ("voxelwise prior", rivals.VoxelwisePrior()),
        ("centre of mass z-score", rivals.CentreOfMassZScore()),
        ("volume z-score", rivals.VolumeZScore()),
    ):
        rival.fit(references, num_classes)
        scores = np.array([rival.score(mask) for _, _, mask in masks])
        cases = [f for _, f, _ in masks]
        table[name] = {"metrics": correlation_summary(scores, dice, groups=cases), "metrics_per_folder": {}}
        for folder in dict.fromkeys(folders):
            own = folders == folder
            table[name]["metrics_per_folder"][folder] = correlation_summary(scores[own], np.array(dice)[own])
    return table


def _section(name: str, results: dict[str, dict[str, Any]], others: dict[str, dict[str, Any]]) -> str:
    """One data set's tables as Markdown."""
    ours = {f"gnsm, {run} noise ({r['settings']['anomaly_score']})": r for run, r in results.items()}
    masks = next(iter(results.values()))["with_reference"]
    lines = [f"# Main job: {name}", "", f"`python scripts/benchmarks/main_job.py --data DATA --only {name}`", ""]
    lines += [f"{masks} masks, one training each, seed 0. Correlations of the anomaly score with Dice: -1 is best;"]
    lines += [
        "norm_aurc: 1 is best. 95 % bootstrap intervals over patients. All settings come from references alone.",
        "",
    ]
    rows = [[method, *(_cell(r["metrics"][m]) for m in METRICS)] for method, r in {**ours, **others}.items()]
    lines += _table(["method", *METRICS], rows)
    folders = list(next(iter(results.values()))["metrics_per_folder"])
    lines += ["", "Spearman per folder:", ""]
    rows = [
        [method, *(f"{r['metrics_per_folder'][folder]['spearman']['value']:.3f}" for folder in folders)]
        for method, r in {**ours, **others}.items()
    ]
    lines += _table(["method", *folders], rows)
    for run, result in results.items():
        lines += ["", f"Every statistic at every level, {run} noise (Spearman / Pearson, pooled):", ""]
        statistics = list(dict.fromkeys(row["statistic"] for row in result["levels"]))
        levels = list(dict.fromkeys(row["level"] for row in result["levels"]))
        cells = {(r["level"], r["statistic"]): (float(r["spearman"]), float(r["pearson"])) for r in result["levels"]}
        rows = [[level, *("{:.3f} / {:.3f}".format(*cells[level, s]) for s in statistics)] for level in levels]
        lines += _table(["level", *statistics], rows)
        if "weights" in result:
            lines += ["", "What the levels count (Spearman on degraded references, the masks judge):", ""]
            lines += result["weights"]
        took = result["training_seconds"]
        training = "" if took is None else f"Training {took / 60:.1f} min. "
        seconds = f"{result['seconds_per_case']:.2f} s per mask, on a machine shared with other work."
        lines += ["", f"{training}Scoring {seconds}"]
    return "\n".join(lines) + "\n"


def _cell(metric: dict[str, Any]) -> str:
    if metric["value"] is None:
        return "–"
    low, high = metric["ci95"]
    return f"{metric['value']:.3f} [{low:.3f}, {high:.3f}]"


def _table(head: list[str], rows: list[list[str]]) -> list[str]:
    return [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows)]


if __name__ == "__main__":
    main()
