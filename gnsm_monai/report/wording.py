"""Numbers and names as a reader wants them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

import numpy as np

__all__ = [
    "METRICS", "MISSING", "ScoreFormat", "budget_entries", "budget_lines", "folder_names", "metric_parts",
    "metric_title", "noise_text", "number", "p_text", "share",
]  # fmt: skip

MISSING = "–"
METRICS = {
    "spearman": ("Spearman", "do both rank the masks alike? −1 is best, 0 is chance"),
    "pearson": ("Pearson", "linear correlation of score and Dice. −1 is best, 0 is chance"),
    "kendall": ("Kendall", "share of pairs ranked alike less those ranked otherwise. −1 is best, 0 is chance"),
    "auroc": ("AUROC", "how often a failed mask scores above a sound one. 1 is best, 0.5 is chance"),
    "average_precision": ("Average precision", "how pure the top of the ranking is in failed masks. 1 is best"),
    "norm_aurc": ("Normalised AURC", "how much of what a perfect ranking saves is saved. 1 is best, 0 is chance"),
    "aurc": ("AURC", "area under the risk-coverage curve. 0 is best"),
    "e_aurc": ("Excess AURC", "AURC less that of a perfect ranking. 0 is best"),
    "augrc": ("AUGRC", "mean risk of failures that slip through, over all coverages. 0 is best"),
}
"""Metrics in the order in which they are shown: title, and what it tells, with its direction."""


def number(value: Any) -> float | None:
    """A finite number, or None for what is absent, NaN or no number."""
    if value is None or isinstance(value, (str, bool)):
        return None
    return float(value) if math.isfinite(value) else None


def p_text(value: float | None) -> str:
    if value is None:
        return MISSING
    return f"{value:.3f}" if value >= 0.001 else f"{value:.1g}"


def share(value: float | None) -> str:
    """Dice and the like, two digits."""
    return MISSING if value is None else f"{value:.2f}"


class ScoreFormat:
    """Writes anomaly scores with as many decimals as are needed to tell them apart: three digits of their spread."""

    def __init__(self, scores: Sequence[float]) -> None:
        low, high = np.quantile(scores, [0.1, 0.9]) if len(scores) else (0.0, 1.0)
        spread = float(high - low) or max(map(abs, scores), default=1.0) or 1.0
        self.decimals = int(np.clip(2 - math.floor(math.log10(spread)), 0, 6))

    def __call__(self, value: float | None) -> str:
        return MISSING if value is None else f"{value:.{self.decimals}f}".replace("-", "−")


def metric_parts(name: str) -> tuple[str, str]:
    """``auroc_0.7`` as ``("auroc", "0.7")``: the metric and the Dice below which a mask counts as failed, if any."""
    base, _, limit = name.rpartition("_")
    return (base, limit) if base in METRICS and limit[:1].isdigit() else (name, "")


def metric_title(name: str) -> tuple[str, str]:
    """Title and meaning of a metric of summary.json."""
    base, limit = metric_parts(name)
    title, meaning = METRICS.get(base, (base, ""))
    return (f"{title}, Dice < {limit}" if limit else title), meaning


def folder_names(setting: Any) -> list[str]:
    """``predictions_dir`` of the settings, one folder or a list, as the last two parts of each path."""
    folders = [] if not setting else [setting] if isinstance(setting, (str, PurePath)) else list(setting)
    return ["/".join(PurePath(folder).parts[-2:]) for folder in map(str, folders)]


def budget_entries(summary: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The review budget of summary.json; without a failed mask there is no share of failures to find, and no entry."""
    entries = (summary.get("review_budget") or {}).get("budget") or []
    return [entry for entry in entries if number(entry.get("share_found")) is not None]


def budget_lines(entries: Sequence[Mapping[str, Any]], most: int) -> list[Mapping[str, Any]]:
    """At most so many entries of a review budget, evenly spread up to the first that finds every failure."""
    ends = [i for i, entry in enumerate(entries) if entry["share_found"] >= 1]
    last = ends[0] if ends else len(entries) - 1
    return [entries[i] for i in np.unique(np.linspace(0, last, min(most, last + 1)).round().astype(int))]


def noise_text(noise: Any) -> str:
    """A noise schedule in a few words: number of levels, and the range of what varies over them."""
    if not isinstance(noise, Mapping) or not noise.get("betas"):
        return "" if noise is None else str(noise)
    betas, taus = noise["betas"], noise["temperatures"]
    parts = [f"{len(betas)} levels"]
    if any(betas):
        parts.append(f"label smoothing {min(betas):.3g} to {max(betas):.3g}")
    if max(taus) > min(taus):
        parts.append(f"temperature {min(taus):.3g} to {max(taus):.3g}")
    return ", ".join(parts)
