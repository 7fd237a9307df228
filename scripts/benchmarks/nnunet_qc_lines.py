"""The page on quality control of nnU-Net folders: its tables, and what they come to in a sentence."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from bench import Content, table
from scipy.stats import betabinom

__all__ = ["ALPHA", "WORST", "lines"]

WORST, AUDIT_WORST = 10, 12
"""Masks, and references of an audit, that count as the worst."""

ALPHA = 0.05
"""Rate at which exchangeable masks are flagged."""


def lines(content: Content) -> list[str]:
    """Every run of every part: an introduction where it has one, its command and setting, its tables, a remark."""
    text: list[str] = []
    for part, (title, part_lines) in PARTS.items():
        text += [f"## {title}", ""] if part in content else []
        for run in content.get(part, []):
            text += [run["introduction"], ""] if "introduction" in run else []
            setting = f", {run['setting']}" if "setting" in run else ""
            text += [f"`{run['command']}`{setting}", "", *part_lines(run)]
            text[-1] += f" {run['remark']}" if "remark" in run else ""
            text.append("")
    return text


def _folders(run: Content) -> list[str]:
    rows = [
        [row["folder"], row["masks"], *row["worst"], *_three(row["spearman"]), f"{row['dice_difference']:.1e}"]
        for row in run["rows"]
    ]
    head = ["folder", "masks", f"of the worst {WORST}: ours", "voxelwise prior", "Spearman: ours", "voxelwise prior"]
    predicted = run["predicted_dice"]
    return [
        *table([*head, "Dice, ours - scikit-learn's"], rows),
        "",
        f"Predicted Dice of the {predicted['masks']} masks: mean absolute error {predicted['error']:.3f} (their mean,"
        f" which nobody knows, would get {predicted['error_of_mean']:.3f}); intervals meant for 90 % cover"
        f" {predicted['cover']:.1%}, {predicted['width']:.3f} wide on average.",
    ]


def _soft(run: Content) -> list[str]:
    head = ["folder", "cases scored soft", "Spearman with Dice: soft", "hard", "soft with hard"]
    return table(head, [[row["folder"], row["soft_cases"], *_three(row["spearman"])] for row in run["rows"]])


def _calibration(run: Content) -> list[str]:
    rows, head = (
        run["rows"],
        ["split", "rule", "calibration references", "unseen", "KS", "KS p-value", f"flagged at {ALPHA}"],
    )
    cells = [
        [
            *(row[key] for key in ("split", "rule", "calibration", "unseen")),
            *_three((row["ks"], row["ks_p"])),
            row["flagged"],
            f"{row['fitting_flagged']} of {row['fitting']}",
        ]
        for row in rows
    ]
    # A flag needs p <= alpha, so at most this many calibration scores above: an order statistic, hence the beta.
    calibration, unseen = rows[-1]["calibration"], rows[-1]["unseen"]
    above = int(ALPHA * (calibration + 1))
    expected = betabinom(unseen, above, calibration + 1 - above)
    shares = [(row["flagged"] / row["unseen"], row["fitting_flagged"] / row["fitting"]) for row in rows]
    mean, fitting = (f"{share:.1%}" for share in np.mean(shares, axis=0))
    return [
        *table([*head, "references kept for fitting, flagged"], cells),
        "",
        f"Flagged on average: {mean} of the unseen, {fitting} of those kept for fitting. Of exchangeable masks"
        f" {calibration} calibration references flag {expected.mean() / unseen:.1%} on average; in nine splits of ten"
        f" {expected.ppf(0.05):.0f} to {expected.ppf(0.95):.0f} of {unseen}. The splits share their unseen masks.",
    ]


def _audit(run: Content) -> list[str]:
    rows, sums = [], []
    for planting in run["plantings"]:
        seed, errors = planting["seed"], planting["errors"]
        rows += [[seed, *error.values()] for error in errors]
        worst = sum(error["rank"] <= AUDIT_WORST for error in errors)
        found = f"{worst} of {len(errors)} among the worst {AUDIT_WORST} of {planting['references']} references"
        sums.append(f"Seed {seed}: {found}.")
    head = ["seed", "rank", "planted error", "Dice with the true map", "p-value", "worst structure"]
    return [*table(head, rows), "", *sums]


def _three(values: list[float] | tuple[float, ...]) -> list[str]:
    """Figures of three digits."""
    return [f"{value:.3f}" for value in values]


PARTS: Mapping[str, tuple[str, Callable[[Content], list[str]]]] = {
    "folders": ("Worst ten and predicted Dice", _folders),
    "soft": ("Soft masks", _soft),
    "calibration": ("Calibration", _calibration),
    "audit": ("Audit", _audit),
}
