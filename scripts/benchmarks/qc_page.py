"""The page of the benchmark of detection quality, from scores alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from bench import MISSING, cell, table
from methods import DATASETS, METHODS, OURS, VARIED_FIELD_OF_VIEW
from qc_figures import risk_coverage, scatter
from qc_sections import ablation, best_rival, maps, mean_spearman, summary, trainings
from scores import METRICS, Scores, mean_with_interval

__all__ = ["dataset_section", "draw_figures", "field_of_view_section", "page_lines"]

INTRODUCTION = """\
Correlations of the anomaly score with Dice: -1 is best. AURC left = 1 - norm_aurc: 0 is best. Means over the seeds of
trainings, with 95 % bootstrap intervals over patients; the seeds' own figures stand below each table. All methods are
trained on, or fitted to, the same references (one row to 24 of them, which its title says), and score the same masks;
where a method sees fewer masks, the table says how many. Figures leave out what was tried on the way to the default.
VAE(seg) is scored by its negative ELBO, as Zenk et al. 2024 (arXiv 2406.03323) do it, or by the Dice to its
reconstruction, as Liu et al. 2019 (arXiv 1903.10645) do; centred on the mask's own structures as published, or on a
fixed grid, where position is known. Softmax scores are means over the voxels in which a structure has a probability
of at least 1 %.
"""

Methods = Mapping[str, list[Scores]]


def page_lines(found: Mapping[str, Methods]) -> list[str]:
    """Markdown of all data sets that have scores, below the page's title and command."""
    lines = [*INTRODUCTION.splitlines(), "", *summary(found)]
    for name, methods in found.items():
        lines += dataset_section(name, methods)
    if {"hippocampus", VARIED_FIELD_OF_VIEW} <= set(found):
        lines += field_of_view_section(found["hippocampus"], found[VARIED_FIELD_OF_VIEW])
    return [*lines, *maps(found), *ablation(found), *trainings(found), *_costs(found)]


def draw_figures(found: Mapping[str, Methods], root: Path) -> None:
    """Writes ``root/NAME-scatter.png`` and ``root/NAME-risk_coverage.png`` of each data set."""
    for name, methods in found.items():
        rival = best_rival(methods)
        if rival and OURS in methods:
            scatter(root / f"{name}-scatter.png", {METHODS[m].title: methods[m][0] for m in (OURS, rival)})
        whole = {m: seeds[0] for m, seeds in methods.items() if len(seeds[0].score) == _most_masks(methods)}
        curves = {METHODS[m].title: scores for m, scores in whole.items() if not METHODS[m].variant}
        risk_coverage(root / f"{name}-risk_coverage.png", curves)


def dataset_section(name: str, methods: Methods) -> list[str]:
    """Tables of one data set, and links to its figures."""
    skipped = next(iter(methods.values()))[0].more.get("skipped", 0)
    text = f"{_most_masks(methods)} masks of {len(_patients(methods))} cases."
    if name == VARIED_FIELD_OF_VIEW:
        text += f" Left out, as no structure of the reference is in the field of view: {skipped} cases."
    lines = [f"## {DATASETS[name]}", "", text, ""]
    rows, seeds_rows = [], []
    for method, seeds in methods.items():
        figures = mean_with_interval(seeds)
        title = METHODS[method].title
        rows.append([title, METHODS[method].sees, len(seeds[0].score), *(cell(f) for f in figures.values())])
        if len(seeds) > 1:
            seeds_rows.append([title, *(_list(f["seeds"]) for f in figures.values())])
    lines += [*table(["method", "sees", "masks", *METRICS], rows), ""]
    if seeds_rows:
        lines += ["Seeds:", "", *table(["method", *METRICS], seeds_rows), ""]
    folders = sorted({str(f) for seeds in methods.values() for f in seeds[0].folder})
    rows = [[METHODS[m].title, *(_in_folder(seeds, folder) for folder in folders)] for m, seeds in methods.items()]
    lines += ["Spearman per folder:", "", *table(["method", *folders], rows), ""]
    if best_rival(methods) and OURS in methods:
        lines += [f"![Anomaly score against Dice](segmentation_qc/{name}-scatter.png)", ""]
    return [*lines, f"![Risk-coverage curves, seed 0](segmentation_qc/{name}-risk_coverage.png)", ""]


def field_of_view_section(fixed: Methods, varied: Methods) -> list[str]:
    """What each method loses, on the masks that both data sets have, by the same models."""
    rows = []
    for method in fixed:
        pairs = [_common(a, b) for a in fixed[method] for b in varied.get(method, []) if a.seed == b.seed]
        if pairs:
            before, after = (mean_spearman(side) for side in zip(*pairs, strict=True))
            masks = len(pairs[0][0].score)
            rows.append(
                [METHODS[method].title, len(pairs), masks, *(f"{v:.3f}" for v in (before, after, after - before))]
            )
    return [
        "## What a varying field of view costs",
        "",
        "Every side of every case (masks, reference, image) cropped or padded by up to 25 % of the axis, references to",
        "learn from not; the same models; Dice against the cropped reference. Spearman, mean over the",
        "trainings that have seen both:",
        "",
        *table(["method", "trainings", "masks", "constant field of view", "varying", "loss"], rows),
        "",
    ]


def _costs(found: Mapping[str, Methods]) -> list[str]:
    rows = []
    for name, methods in found.items():
        for method, seeds in methods.items():
            minutes = [s.training_minutes for s in seeds if s.training_minutes is not None]
            if minutes and name != VARIED_FIELD_OF_VIEW:
                seconds = [s.seconds_per_case for s in seeds if s.seconds_per_case is not None]
                cells = [
                    f"{np.mean(minutes):.1f}",
                    f"{max(minutes):.1f}",
                    f"{np.mean(seconds):.2f}" if seconds else MISSING,
                ]
                rows.append([name, METHODS[method].title, *cells])
    if not rows:
        return []
    head = ["data set", "method", "training, min", "longest", "scoring, s per case"]
    return [
        "## Time",
        "",
        "On a machine shared with other work; scoring with anomaly maps.",
        "",
        *table(head, rows),
        "",
    ]


def _most_masks(methods: Methods) -> int:
    """Masks of the methods that see them all."""
    return max(len(seeds[0].score) for seeds in methods.values())


def _patients(methods: Methods) -> set[str]:
    return {str(case) for seeds in methods.values() for case in seeds[0].case}


def _in_folder(seeds: Sequence[Scores], folder: str) -> str:
    own = [s.in_folder(folder) for s in seeds]
    return MISSING if len(own[0].score) < 3 else f"{mean_spearman(own):.3f}"


def _common(a: Scores, b: Scores) -> tuple[Scores, Scores]:
    """Both, of the masks that are in both, in the same order."""
    keys = [[f"{f}/{c}" for f, c in zip(s.folder, s.case, strict=True)] for s in (a, b)]
    both = set(keys[0]) & set(keys[1])
    kept = [s.select(np.array([key in both for key in own])) for s, own in zip((a, b), keys, strict=True)]
    return kept[0], kept[1]


def _list(values: Sequence[Any]) -> str:
    return " ".join(f"{value:.3f}" for value in values)
