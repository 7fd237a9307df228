"""Same seed, same numbers; and what must not matter, does not: chunk size, workers, order and neighbours of masks."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from reliability_checks.common import Finding, Forked, dataset, rank, same_files, train, trained_model
from reliability_checks.kills import RANKED, TRAINED

TOLERANCE = 1e-5
"""Relative, of scores where sums are taken in another order."""


def examine(work: Path) -> list[Finding]:
    """Lines for training, repeated ranking, and rankings with other chunks, workers, order and neighbours."""
    folder, model = dataset(work), trained_model(work)
    shutil.rmtree(work / "same", ignore_errors=True)
    again = work / "same" / "model"
    code = Forked(train(folder, again), work / "same.log").end()
    wrong = same_files(model, again, TRAINED) if code == 0 else [f"exit code {code}"]
    found = [Finding("training twice with one seed", f"{', '.join(TRAINED)} bit-equal", tuple(wrong))]

    masks = _masks(folder, work / "same" / "masks")
    scores = {"first": _scores(model, masks, work / "same" / "first")}
    scores["again"] = _scores(model, masks, work / "same" / "again")
    wrong = same_files(work / "same" / "first", work / "same" / "again", RANKED[:3])
    found.append(Finding("ranking twice", f"{', '.join(RANKED[:3])} bit-equal", tuple(wrong)))

    others: dict[str, dict[str, Any]] = {
        "1 noise level at once in place of 2": {"chunk_size": 1},
        "3 noise levels at once": {"chunk_size": 3},
        "2 reading processes in place of none": {"num_workers": 2},
    }
    for number, (what, options) in enumerate(others.items()):
        found.append(_compare(what, scores["first"], _scores(model, masks, work / "same" / f"o{number}", **options)))
    reverse = work / "same" / "reverse"
    reverse.mkdir()
    names = sorted(path.name for path in masks.iterdir())
    for number, name in enumerate(reversed(names)):
        shutil.copy(masks / name, reverse / f"{number:03d}_{name}")
    turned = {case[4:]: value for case, value in _scores(model, reverse, work / "same" / "turned").items()}
    found.append(_compare("masks in the opposite order", scores["first"], turned))
    alone = work / "same" / "alone"
    alone.mkdir()
    shutil.copy(masks / names[0], alone)
    found.append(_compare("a mask alone", scores["first"], _scores(model, alone, work / "same" / "one"), of=1))
    return found


def _masks(folder: Path, target: Path) -> Path:
    target.mkdir(parents=True)
    for path in sorted((folder / "predictions").rglob("*.png")):
        shutil.copy(path, target / f"{path.parent.name}_{path.name}")
    return target


def _scores(model: Path, masks: Path, output: Path, **options: Any) -> dict[str, float]:
    run = Forked(rank(model, masks, output, **options), output.parent / f"{output.name}.log")
    if run.end():
        raise RuntimeError(run.text)
    with open(output / "ranking.csv", newline="") as file:
        return {row["case"]: float(row["anomaly_score"]) for row in csv.DictReader(file)}


def _compare(what: str, one: dict[str, float], other: dict[str, float], of: int | None = None) -> Finding:
    wrong = [] if len(other) == (of or len(one)) and set(other) <= set(one) else ["other cases"]
    pairs = np.array([(one[case], value) for case, value in other.items() if case in one])
    largest = float((np.abs(pairs[:, 0] - pairs[:, 1]) / np.maximum(np.abs(pairs[:, 0]), 1e-12)).max())
    wrong += [f"scores differ by {largest:.2g}"] if largest > TOLERANCE else []
    figure = (
        f"scores of {len(pairs)} masks differ by at most {largest:.1g} (relative)"
        if largest
        else (f"scores of {len(pairs)} masks are equal")
    )
    return Finding(what, figure, tuple(wrong))
