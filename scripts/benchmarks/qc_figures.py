"""Figures of the page of detection quality, as small PNG files without a time stamp."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from scores import METRICS, Scores

from gnsm_monai.evaluation.metrics import risk_coverage_curve

__all__ = ["risk_coverage", "save", "scatter"]


def scatter(path: Path, methods: Mapping[str, Scores]) -> None:
    """Anomaly score against Dice, one panel per method, one colour per folder."""
    figure, panels = plt.subplots(1, len(methods), figsize=(4.5 * len(methods), 3.6), sharey=True, layout="constrained")
    for panel, (title, scores) in zip(np.atleast_1d(panels), methods.items(), strict=True):
        for folder in dict.fromkeys(scores.folder.tolist()):
            own = scores.in_folder(folder)
            panel.scatter(own.score, own.dice, s=9, alpha=0.7, label=folder)
        panel.set_title(f"{title}: Spearman {METRICS['Spearman'](scores.score, scores.dice):.3f}", fontsize=9)
        panel.set_xlabel("anomaly score")
    np.atleast_1d(panels)[0].set_ylabel("Dice")
    np.atleast_1d(panels)[-1].legend(fontsize=7)
    save(figure, path)


def risk_coverage(path: Path, methods: Mapping[str, Scores]) -> None:
    """Mean 1 - Dice of the masks with the lowest anomaly, by their share, beside the best curve there is."""
    figure, panel = plt.subplots(figsize=(8.6, 4), layout="constrained")
    lines = ("-", "--", "-.", ":")
    for number, (title, scores) in enumerate(methods.items()):
        curve = risk_coverage_curve(scores.score, 1 - scores.dice)
        panel.plot(*curve, lines[number // 10 % len(lines)], label=title, linewidth=1.3)
    if methods:
        dice = next(iter(methods.values())).dice
        panel.plot(*risk_coverage_curve(-dice, 1 - dice), color="black", linewidth=1, label="by Dice itself")
    panel.set_xlabel("coverage: share of masks accepted")
    panel.set_ylabel("selective risk: mean 1 - Dice")
    figure.legend(loc="outside right upper", fontsize=7, frameon=False)
    save(figure, path)


def save(figure: Figure, path: Path) -> None:
    """Writes and closes a figure."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=80, metadata={"Software": None})
    plt.close(figure)
