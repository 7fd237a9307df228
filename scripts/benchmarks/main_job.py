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
from pathlib import Path
from typing import Any

from level_weights import rules_table, weights_table
from markdown import cell, table
from methods import METHODS
from qc_data import Dataset, load_dataset
from rival_methods import MASK_ONLY, score_rival
from steps import ROOT, bundle, train

from gnsm_monai.evaluation.summary import correlation_summary

# What is trained on each data set. The published noise has five levels, as in the figures it is compared with.
RUNS: dict[str, dict[str, dict[str, Any]]] = {
    "hippocampus": {"mixing": {}, "temperature": {"noise": "{'name':'temperature','num_levels':5}", "objective": "kl"}},
    "chest": {"mixing": {"spatial_dims": 2}},
}
NOISES = list(RUNS["hippocampus"])
METRICS = ("spearman", "pearson", "norm_aurc", "auroc_0.7")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=ROOT / "runs" / "main_job")
    parser.add_argument("--only", nargs="+", choices=list(RUNS), default=list(RUNS))
    parser.add_argument("--noise", nargs="+", default=NOISES, choices=NOISES, help="which noises to train")
    arguments = parser.parse_args()
    sections = []
    for name in arguments.only:
        dataset = load_dataset(name, arguments.data, arguments.work)
        results = {run: _run(dataset, run, arguments.work) for run in RUNS[name] if run in arguments.noise}
        sections.append(_section(name, results, _rivals(dataset, arguments.work)))
        page = ROOT / "docs" / "benchmarks" / f"main_job_{name}.md"
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text(sections[-1])
        print(sections[-1])


def _run(dataset: Dataset, run: str, work: Path) -> dict[str, Any]:
    """Trains and evaluates; returns the summary, with the minutes that the training took and the table per level."""
    model, output = work / dataset.name / run / "model", work / dataset.name / run / "results"
    minutes = train(model, {"dataset_dir": dataset.folder, **RUNS[dataset.name][run]})
    if not (output / "summary.json").is_file():
        folders = "[" + ",".join(f"'{path}'" for path in dataset.predictions) + "]"
        asked = {"predictions_dir": folders, "references_dir": dataset.references}
        bundle("evaluating", "inference.yaml,evaluate.yaml", {"model_dir": model, "output_dir": output, **asked})
    summary: dict[str, Any] = json.loads((output / "summary.json").read_text())
    with open(output / "levels.csv", newline="") as file:
        summary["levels"] = [row for row in csv.DictReader(file) if row["masks"] == "pooled"]
    if run == "mixing":  # the published losses are no uncertainties: all levels count equally
        summary["weights"] = weights_table(model, output)
        summary["rules"] = rules_table(model, output)
    summary["training_minutes"] = minutes
    return summary


def _rivals(dataset: Dataset, work: Path) -> dict[str, dict[str, Any]]:
    """Metrics of each mask-only rival, fitted to all references, pooled and per folder."""
    found = {}
    for method in MASK_ONLY:
        scores = score_rival(dataset, method, 0, work)
        assert scores is not None
        found[METHODS[method].title] = {
            "metrics": correlation_summary(scores.score, scores.dice, groups=scores.case),
            "metrics_per_folder": {
                path.name: correlation_summary(own.score, own.dice)
                for path in dataset.predictions
                for own in [scores.in_folder(path.name)]
            },
        }
    return found


def _section(name: str, results: dict[str, dict[str, Any]], others: dict[str, dict[str, Any]]) -> str:
    """One data set's tables as Markdown."""
    chosen = "" if set(results) == set(RUNS[name]) else f" --noise {' '.join(results)}"
    ours = {f"gnsm, {run} noise ({r['settings']['anomaly_score']})": r for run, r in results.items()}
    masks = next(iter(results.values()))["with_reference"]
    lines = [
        f"# Main job: {name}",
        "",
        f"`python scripts/benchmarks/main_job.py --data DATA --only {name}{chosen}`",
        "",
    ]
    lines += [f"{masks} masks, one training each, seed 0. Correlations of the anomaly score with Dice: -1 is best;"]
    lines += [
        "norm_aurc: 1 is best. 95 % bootstrap intervals over patients. All settings come from references alone.",
        "",
    ]
    rows = [[method, *(cell(r["metrics"][m]) for m in METRICS)] for method, r in {**ours, **others}.items()]
    lines += table(["method", *METRICS], rows)
    folders = list(next(iter(results.values()))["metrics_per_folder"])
    lines += ["", "Spearman per folder:", ""]
    rows = [
        [method, *(f"{r['metrics_per_folder'][folder]['spearman']['value']:.3f}" for folder in folders)]
        for method, r in {**ours, **others}.items()
    ]
    lines += table(["method", *folders], rows)
    for run, result in results.items():
        lines += ["", f"Every statistic at every level, {run} noise (Spearman / Pearson, pooled):", ""]
        statistics = list(dict.fromkeys(row["statistic"] for row in result["levels"]))
        levels = list(dict.fromkeys(row["level"] for row in result["levels"]))
        cells = {(r["level"], r["statistic"]): (float(r["spearman"]), float(r["pearson"])) for r in result["levels"]}
        rows = [[level, *("{:.3f} / {:.3f}".format(*cells[level, s]) for s in statistics)] for level in levels]
        lines += table(["level", *statistics], rows)
        if "weights" in result:
            lines += [
                "",
                "The rules that make one number of all statistics and levels (Spearman on failures of references that",
            ]
            lines += ["fitted nothing; Spearman and Pearson on the masks, which judge and choose nothing):", ""]
            lines += result["rules"]
            lines += ["", "What the levels count in a mean of disagreement:", ""]
            lines += result["weights"]
        minutes = result["training_minutes"]
        training = "" if minutes is None else f"Training {minutes:.1f} min. "
        seconds = f"{result['seconds_per_case']:.2f} s per mask, on a machine shared with other work."
        lines += ["", f"{training}Scoring {seconds}"]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
