"""Tables of the page on quality control of nnU-Net folders, each from files that ``gnsm`` has written."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import rivals
from markdown import table
from scipy.stats import betabinom, ks_2samp, spearmanr
from sklearn.metrics import f1_score

from gnsm_monai.rules.anomaly import AnomalyModel
from gnsm_monai.rules.calibration import p_values
from gnsm_monai.rules.levels import stored_levels

WORST = 10
AUDIT_WORST = 12
ALPHA = 0.05


def ranking(folder: Path) -> list[dict[str, str]]:
    """Rows of ranking.csv that were scored, worst first."""
    with open(folder / "ranking.csv", newline="", encoding="utf-8") as file:
        return [row for row in csv.DictReader(file) if row["status"] == "ok"]


def numbers(rows: Sequence[Mapping[str, str]], column: str) -> np.ndarray:
    return np.array([float(row[column]) for row in rows])


def folders(results: Path, predictions: Sequence[Path], dataset: Path) -> list[str]:
    """Per folder the worst ten by rank among those by Dice, our Dice against scikit-learn's, and the predicted Dice."""
    num_classes = len(json.loads((dataset / "dataset.json").read_text())["labels"])
    prior = rivals.VoxelwisePrior()
    prior.fit([_read(path) for path in sorted((dataset / "labelsTr").glob("*.nii.gz"))], num_classes)
    lines, every = [], []
    for path in predictions:
        rows = ranking(results / path.name)
        every += rows
        dice, masks = numbers(rows, "dice"), [_read(path / f"{row['case']}.nii.gz") for row in rows]
        truth = [_read(dataset / "labelsTs" / f"{row['case']}.nii.gz") for row in rows]
        theirs = np.array([_dice(mask, true, num_classes) for mask, true in zip(masks, truth, strict=True)])
        scores = {"ours": numbers(rows, "anomaly_score"), "prior": np.array([prior.score(mask) for mask in masks])}
        found = [_found(score, dice) for score in scores.values()]
        rank = [f"{spearmanr(score, dice).statistic:.3f}" for score in scores.values()]
        lines.append([path.name, len(rows), *found, *rank, f"{np.abs(dice - theirs).max():.1e}"])
    head = ["folder", "masks", f"of the worst {WORST}: ours", "voxelwise prior", "Spearman: ours", "voxelwise prior"]
    text = table([*head, "Dice, ours - scikit-learn's"], lines)
    dice, guess = numbers(every, "dice"), numbers(every, "predicted_dice")
    low, high = numbers(every, "predicted_dice_low"), numbers(every, "predicted_dice_high")
    inside = (low <= dice) & (dice <= high)
    return [
        *text,
        "",
        f"Predicted Dice of the {len(every)} masks: mean absolute error {np.abs(guess - dice).mean():.3f} (their mean,"
        f" which nobody knows, would get {np.abs(dice - dice.mean()).mean():.3f}); intervals meant for 90 % cover"
        f" {inside.mean():.1%}, {np.mean(high - low):.3f} wide on average.",
    ]


def soft(results: Path, hard: Path, names: Sequence[str]) -> list[str]:
    """Scores of probabilities beside those of the masks made from them."""
    lines = []
    for name in names:
        rows, plain = ranking(results / name), {row["case"]: row for row in ranking(hard / name)}
        scored_soft = json.loads((results / name / "summary.json").read_text())["soft"]["cases"]
        same = [plain[row["case"]] for row in rows]
        score, other, dice = numbers(rows, "anomaly_score"), numbers(same, "anomaly_score"), numbers(rows, "dice")
        cells = [spearmanr(score, dice), spearmanr(other, dice), spearmanr(score, other)]
        lines.append([name, scored_soft, *(f"{cell.statistic:.3f}" for cell in cells)])
    return table(["folder", "cases scored soft", "Spearman with Dice: soft", "hard", "soft with hard"], lines)


def calibration(models: Mapping[str, tuple[Path, Path]]) -> list[str]:
    """Unseen references against the calibration references of models with other splits."""
    lines, shares = [], []
    for split, (model, results) in models.items():
        with np.load(model / "reference_statistics.npz", allow_pickle=False) as arrays:
            known, rule = arrays["calibration_scores"], str(arrays["rule"])
            fitting = AnomalyModel.from_arrays(arrays).score(stored_levels(arrays, "fit"))
        rows = ranking(results)
        test = ks_2samp(numbers(rows, "anomaly_score"), known)
        flagged = sum(row["flag"] in ("1", "True", "true") for row in rows)
        kept_out = int((p_values(fitting, known) <= ALPHA).sum())
        shares.append((flagged / len(rows), kept_out / len(fitting)))
        cells = [len(known), len(rows), f"{test.statistic:.3f}", f"{test.pvalue:.3f}", flagged]
        lines.append([split, rule, *cells, f"{kept_out} of {len(fitting)}"])
    head = ["split", "rule", "calibration references", "unseen", "KS", "KS p-value", f"flagged at {ALPHA}"]
    head += ["references kept for fitting, flagged"]
    # A flag needs p <= alpha, so at most this many calibration scores above: an order statistic, hence the beta.
    above = int(ALPHA * (len(known) + 1))
    expected = betabinom(len(rows), above, len(known) + 1 - above)
    mean, fitted = (f"{share:.1%}" for share in np.mean(shares, axis=0))
    return [
        *table(head, lines),
        "",
        f"Flagged on average: {mean} of the unseen, {fitted} of those kept for fitting. Of exchangeable masks"
        f" {len(known)} calibration references flag {expected.mean() / len(rows):.1%} on average; in nine splits of ten"
        f" {expected.ppf(0.05):.0f} to {expected.ppf(0.95):.0f} of {len(rows)}. The splits share their unseen masks.",
    ]


def audits(plantings: Sequence[tuple[int, Path, Mapping[str, Mapping[str, Any]]]]) -> list[str]:
    """Where the audit of each planting (seed, results, errors by case) ranks the planted errors."""
    lines, sums = [], []
    for seed, results, planted in plantings:
        place = {row["case"]: row for row in ranking(results)}
        for case in sorted(planted, key=lambda case: int(place[case]["rank"])):
            row, error = place[case], planted[case]
            lines.append([seed, row["rank"], error["error"], error["dice"], row["p_value"], row["worst_structure"]])
        worst = sum(int(place[case]["rank"]) <= AUDIT_WORST for case in planted)
        sums.append(f"Seed {seed}: {worst} of {len(planted)} among the worst {AUDIT_WORST} of {len(place)} references.")
    head = ["seed", "rank", "planted error", "Dice with the true map", "p-value", "worst structure"]
    return [*table(head, lines), "", *sums]


def _found(score: np.ndarray, dice: np.ndarray) -> int:
    worst = np.argsort(-score, kind="stable")[:WORST]
    return len(set(worst.tolist()) & set(np.argsort(dice, kind="stable")[:WORST].tolist()))


def _dice(mask: np.ndarray, truth: np.ndarray, num_classes: int) -> float:
    structures = list(range(1, num_classes))
    each = f1_score(truth.ravel(), mask.ravel(), labels=structures, average=None, zero_division=np.nan)
    return float(np.nanmean(each))


def _read(path: Path) -> np.ndarray:
    return np.asarray(nib.as_closest_canonical(nib.load(path)).dataobj).astype(np.int16)
