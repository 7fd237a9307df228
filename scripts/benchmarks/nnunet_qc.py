"""Quality control of real nnU-Net folders: worst ten, predicted Dice, soft masks, calibration, audit.

    python scripts/benchmarks/nnunet_qc.py --data DATA [--work runs/nnunet_qc] [--model MODEL] [--epochs N] [--only ...]

DATA holds ``hippocampus/``: an nnU-Net raw data set, and the predictions of five networks. Every step is a ``gnsm``
command (a training with another seed is one of the bundle); what is done already is not done again, and what was
stopped goes on. Writes docs/benchmarks/nnunet_qc.md from all parts that are done.

``--model`` is a finished model of the data set, else one is trained. ``--epochs`` shortens the further trainings:
of the models with other splits, and of the audit's folds.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import plant_errors
import qc_tables
from steps import ROOT, gnsm, train

PARTS = ("folders", "soft", "calibration", "audit")
SPLITS = [1, 2, 3, 4]  # seeds; 0 is the split of the model itself


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=ROOT / "runs" / "nnunet_qc")
    parser.add_argument("--model", type=Path)
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--plantings", type=int, nargs="+", default=[0], help="seeds of the planted errors")
    parser.add_argument("--splits", type=int, nargs="+", default=SPLITS, help="seeds of the further splits")
    arguments = parser.parse_args()
    folder = arguments.data / "hippocampus"
    (dataset,) = (folder / "nnUNet_raw").iterdir()
    predictions = sorted(path for path in (folder / "predictions").iterdir() if path.is_dir())
    length = [] if arguments.epochs is None else ["--epochs", str(arguments.epochs)]
    work = arguments.work
    model = arguments.model or work / "model"
    if set(arguments.only) != {"audit"} and not (model / "settings.json").is_file():
        gnsm("train", "--dataset", dataset, "--output", model, "--resume")
    done: dict[str, list[str]] = {}
    references = dataset / "labelsTs"
    if "folders" in arguments.only:
        for path in predictions:
            _rank(model, path, work / "hard" / path.name, "--references", references, "--soft", "off")
        done["folders"] = qc_tables.folders(work / "hard", predictions, dataset)
    if "soft" in arguments.only:
        with_npz = [path for path in predictions if any(path.glob("*.npz"))]
        for path in with_npz:
            _rank(model, path, work / "soft" / path.name, "--references", references)
        done["soft"] = qc_tables.soft(work / "soft", work / "hard", [path.name for path in with_npz])
    if "calibration" in arguments.only:
        models = {"the model": model, **{str(seed): work / f"split_{seed}" for seed in arguments.splits}}
        for name, own in models.items():
            if own is not model:
                _train_with_split(dataset, own, int(name), arguments.epochs)
            _rank(own, references, work / "self" / own.name)
        done["calibration"] = qc_tables.calibration({name: (m, work / "self" / m.name) for name, m in models.items()})
    if "audit" in arguments.only:
        plantings = [_audit(dataset, work, seed, length) for seed in arguments.plantings]
        done["audit"] = qc_tables.audits(plantings)
    seeds = {"calibration": ["--splits", *arguments.splits], "audit": ["--plantings", *arguments.plantings]}
    _write(work, done, {part: " ".join(["", *length, *map(str, own)]) for part, own in seeds.items()})


def _audit(dataset: Path, work: Path, seed: int, length: list[str]) -> tuple[int, Path, dict[str, Any]]:
    planted, results = work / f"planted_{seed}", work / f"audit_{seed}"
    if not (planted / "planted.json").is_file():
        plant_errors.plant(dataset, planted, seed=seed)
    if not (results / "summary.json").is_file():
        gnsm("audit", "--dataset", planted, "--output", results, *length)
    return seed, results, json.loads((planted / "planted.json").read_text())


def _rank(model: Path, predictions: Path, output: Path, *options: Any) -> None:
    if not (output / "summary.json").is_file():
        gnsm("rank", "--model", model, "--predictions", predictions, "--output", output, *options)


def _train_with_split(dataset: Path, model: Path, seed: int, epochs: int | None) -> None:
    """The seed deals the references into those for training, fitting and calibration."""
    train(model, {"dataset_dir": dataset, "seed": seed, **({} if epochs is None else {"epochs": epochs})})


def _write(work: Path, done: dict[str, list[str]], options: dict[str, str]) -> None:
    """The page, of the parts done now and in earlier sittings."""
    kept = work / "sections.json"
    sections: dict[str, list[str]] = json.loads(kept.read_text()) if kept.is_file() else {}
    for part, lines in done.items():
        command = f"python scripts/benchmarks/nnunet_qc.py --data DATA --only {part}"
        command += options.get(part, "")
        sections[part] = [f"`{command.strip()}`", "", *lines]
        print("\n".join(sections[part]) + "\n")
    kept.write_text(json.dumps(sections, indent=1))
    titles = dict(zip(PARTS, ("Worst ten and predicted Dice", "Soft masks", "Calibration", "Audit"), strict=True))
    text = ["# Quality control of nnU-Net folders: hippocampus", ""]
    for part in PARTS:
        if part in sections:
            text += [f"## {titles[part]}", "", *sections[part], ""]
    (ROOT / "docs" / "benchmarks" / "nnunet_qc.md").write_text("\n".join(text))


if __name__ == "__main__":
    main()
