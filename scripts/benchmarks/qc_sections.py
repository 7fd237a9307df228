"""Further sections of the page of detection quality: anomaly maps, what pieces are worth, and how trainings agree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
from bench import MISSING, table
from methods import ABLATED, DATASETS, METHODS, OURS, VARIED_FIELD_OF_VIEW
from scipy.stats import rankdata
from scores import METRICS, Scores, check_same_masks

from gnsm_monai.evaluation.metrics import spearman

__all__ = ["ablation", "best_rival", "maps", "mask_only_rivals", "mean_spearman", "summary", "trainings"]

IMAGES = "gnsm_image"

MAP_HEAD = ("AUPRC", "per mask", "chance", "pointing rate", "chance", "masks asked")
MAP_KEYS = ("auprc", "auprc_per_mask", "error_share", "pointing_rate", "pointing_chance", "pointed")
MAP_TEXT = """\
Within two voxels of mask or reference. AUPRC: average precision of the anomaly per voxel against the voxels whose label
is wrong, over all voxels of a folder, and as the mean of each mask's own; its chance is the share of wrong voxels.
Pointing rate: share of the masks with Dice >= 0.7 whose voxel of the highest anomaly is wrong; its chance is that
of a voxel drawn at random. Means over seeds.
"""

TRAININGS_TEXT = """\
Spearman between the scores of two trainings that differ in their seed (mean over pairs, 1 is best), of each training's
scores with Dice (mean over trainings, -1 is best), and of the mean of their ranks with Dice: scores of two models
have no common scale. What that mean lacks is hardly luck in training.
"""

SUMMARY_TEXT = """\
Spearman over all masks / mean over the folders of each network. The best mask-only rival of each set is that over all
masks; the last row has the one whose mean over the sets is best, of those that were run on all of them.
"""
GENERATED = "phantoms"
"""Sets of this beginning are generated, and count in no mean over sets."""

Methods = Mapping[str, list[Scores]]
Found = Mapping[str, Methods]


def summary(found: Found) -> list[str]:
    """One row per set of real masks: labels alone, images, and the best rival that sees the mask alone."""
    sets = {
        name: methods
        for name, methods in found.items()
        if OURS in methods and name != VARIED_FIELD_OF_VIEW and not name.startswith(GENERATED)
    }
    rows = []
    for name, methods in sets.items():
        rival = best_rival(methods)
        title = METHODS[rival].title if rival else MISSING
        ours = [_pooled_and_within(methods.get(method)) for method in (OURS, IMAGES, rival)]
        rows.append([DATASETS[name], *ours, title])
    everywhere = set.intersection(*(set(mask_only_rivals(methods)) for methods in sets.values())) if sets else set()
    if len(sets) > 1 and everywhere:
        means = {m: np.mean([mean_spearman(methods[m]) for methods in sets.values()]) for m in (OURS, *everywhere)}
        best = min(everywhere, key=lambda m: means[m])
        cells = [f"{means[OURS]:.3f}", MISSING, f"{means[best]:.3f}", METHODS[best].title]
        rows.append([f"mean over the {len(sets)} sets", *cells])
    head = ["set", "gnsm", "gnsm with images", "best mask-only rival", "which"]
    return ["## All sets", "", *SUMMARY_TEXT.splitlines(), "", *table(head, rows), ""] if rows else []


def best_rival(methods: Methods) -> str | None:
    """The method with the lowest pooled Spearman among the mask-only rivals; None without one."""
    rivals = mask_only_rivals(methods)
    return min(rivals, key=lambda m: mean_spearman(methods[m])) if rivals else None


def mask_only_rivals(methods: Methods) -> list[str]:
    return [m for m in methods if METHODS[m].sees == "mask" and m.split("_")[0] != OURS]


def mean_spearman(seeds: Sequence[Scores]) -> float:
    """Over all masks of each seed."""
    return float(np.mean([METRICS["Spearman"](s.score, s.dice) for s in seeds]))


def _pooled_and_within(seeds: Sequence[Scores] | None) -> str:
    if not seeds:
        return MISSING
    folders = [[s.in_folder(folder) for s in seeds] for folder in dict.fromkeys(map(str, seeds[0].folder))]
    return f"{mean_spearman(seeds):.3f} / {np.mean([mean_spearman(members) for members in folders]):.3f}"


def maps(found: Found) -> list[str]:
    """How well maps of anomaly point at errors, and the scores of single structures."""
    lines = []
    for name, methods in found.items():
        own = {m: [s.more["maps"] for s in seeds if "maps" in s.more] for m, seeds in methods.items()}
        own = {m: seeds for m, seeds in own.items() if seeds}
        if own:
            rows = [
                [
                    folder,
                    METHODS[m].title,
                    *(_mean([s[folder][key] for s in seeds if folder in s]) for key in MAP_KEYS),
                ]
                for folder in dict.fromkeys(f for seeds in own.values() for f in seeds[0])
                for m, seeds in own.items()
                if folder in seeds[0]
            ]
            lines += [f"### {DATASETS[name]}", "", *table(["folder", "map of", *MAP_HEAD], rows), ""]
            lines += _structures(methods)
    return ["## Maps and structures", "", *MAP_TEXT.splitlines(), "", *lines] if lines else []


def _structures(methods: Mapping[str, list[Scores]]) -> list[str]:
    own = {m: [s.more["structures"] for s in seeds if s.more.get("structures")] for m, seeds in methods.items()}
    own = {m: seeds for m, seeds in own.items() if seeds}
    if not own:
        return []
    names = list(dict.fromkeys(n for seeds in own.values() for members in seeds[0].values() for n in members))
    rows = []
    for m, seeds in own.items():
        for folder in seeds[0]:
            cells = [_mean([s[folder][n]["spearman"] for s in seeds if n in s.get(folder, {})]) for n in names]
            rows.append([METHODS[m].title, folder, *cells])
    return ["Spearman of a structure's anomaly with its Dice:", "", *table(["method", "folder", *names], rows), ""]


def ablation(found: Found) -> list[str]:
    """Every statistic at every level, ways to weigh levels, and rules: means over seeds, without and with images."""
    lines = []
    for name, methods in found.items():
        for method in ABLATED:
            seeds = [s.more for s in methods.get(method, []) if "levels" in s.more]
            if seeds:
                title = DATASETS[name] if method == OURS else f"{DATASETS[name]}: {METHODS[method].title}"
                lines += [f"### {title}", "", *_levels([more["levels"] for more in seeds]), ""]
                lines += _choices("weights of levels", [more.get("weights", []) for more in seeds])
                lines += _choices("rule (one seed's own choice in bold)", [more.get("rules", []) for more in seeds])
    text = "Spearman / Pearson with Dice of the masks, means over seeds; they judge the pieces and have chosen none."
    return ["## What each piece is worth", "", text, "", *lines] if lines else []


def trainings(found: Found) -> list[str]:
    """How trainings that differ in their seed agree, and what their mean score is worth: what luck costs."""
    rows = []
    for name, methods in found.items():
        for method, seeds in methods.items():
            if len(seeds) < 2 or name == VARIED_FIELD_OF_VIEW:  # the same models again, on parts of the same masks
                continue
            check_same_masks(seeds)
            for folder in dict.fromkeys(map(str, seeds[0].folder)):
                own = [s.in_folder(folder) for s in seeds]
                rows.append([name, METHODS[method].title, folder, len(seeds), *_agreement(own)])
    head = ["data set", "method", "folder", "trainings", "one with another", "one with Dice", "their mean with Dice"]
    return ["## How trainings agree", "", *TRAININGS_TEXT.splitlines(), "", *table(head, rows), ""] if rows else []


def _agreement(seeds: Sequence[Scores]) -> list[str]:
    dice = seeds[0].dice
    between = [spearman(a.score, b.score) for a, b in combinations(seeds, 2)]
    single = [spearman(s.score, dice) for s in seeds]
    together = spearman(np.mean([rankdata(s.score) for s in seeds], axis=0), dice)
    return [f"{np.mean(values):.3f}" for values in (between, single, together)]


def _levels(seeds: Sequence[Sequence[Mapping[str, Any]]]) -> list[str]:
    figures: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for rows in seeds:
        for row in rows:
            figures.setdefault((row["level"], row["statistic"]), []).append((row["spearman"], row["pearson"]))
    levels, statistics = (list(dict.fromkeys(key[i] for key in figures)) for i in (0, 1))
    rows_out = [[level, *(_pair(figures.get((level, s), [])) for s in statistics)] for level in levels]
    return table(["level", *statistics], rows_out)


def _choices(title: str, seeds: Sequence[Sequence[Mapping[str, Any]]]) -> list[str]:
    rows = []
    for choice in dict.fromkeys(row["name"] for rows in seeds for row in rows):
        own = [row for rows in seeds for row in rows if row["name"] == choice]
        used = any(row.get("used") for row in own)
        cells = [_mean([row[key] for row in own]) for key in ("references", "spearman", "pearson")]
        rows.append([f"**{choice}**" if used else choice, *cells])
    head = [title, "Spearman on failures of references", "on the masks", "Pearson on the masks"]
    return [*table(head, rows), ""] if rows else []


def _pair(values: Sequence[tuple[float, float]]) -> str:
    return " / ".join(f"{v:.3f}" for v in np.mean(values, axis=0)) if values else MISSING


def _mean(values: Sequence[Any]) -> str:
    """Three digits, or a whole number of counts; a figure that some seed lacks is missing."""
    if not values or any(value is None for value in values):
        return MISSING
    return str(values[0]) if all(isinstance(value, int) for value in values) else f"{np.mean(values):.3f}"
