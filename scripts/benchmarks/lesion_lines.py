"""The page on references without a structure: what is run, and its tables."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from bench import MISSING, Content, table
from lesion_sets import REFERENCES, TESTS

__all__ = ["ALPHA", "SEEDS", "STEPS", "WORST", "lines", "plan"]

SHARES = (0.0, 0.3, 0.6, 0.9)
STEPS = {"images": 500, "labels": 60}
"""Steps of training, one epoch: with 200, a network with images reads no lesion of a held-out reference. A model of
label maps has copies of references as failures, as without images."""

ALPHA = 0.05
WORST = 0.1
"""Share of a ranking that counts as its worst masks."""

SEEDS = (0, 1, 2, 3, 4)
UNSEEN = (3, 4)
"""Seeds whose masks nobody had seen when it was last decided what flags are of."""

FLAGGED_BY = {None: MISSING, "score": "score", "peak": "score or one place", "misfit": "score or misfit"}
"""What p-values are of, in words."""

FLAGS = {
    "correct empty": ("truth none",),
    "correct with lesions": ("truth full",),
    "missed": ("missed full",),
    "25 false lesions": ("many full", "many none"),
    "outside the brain": ("outside full", "outside none"),
}
"""Masks whose flags are counted, and the groups that they are in: a folder, and whether the case has lesions."""


def plan(seeds: Sequence[int]) -> dict[str, tuple[float, int, str, bool]]:
    """Share, seed, kind, and whether empty references are left out, by the name of a run.

    What says most for its time comes first: a model with images takes minutes.
    """
    parts: list[tuple[str, Sequence[float], bool]] = [
        ("images", (0.0, 0.3), False),
        ("labels", SHARES, False),
        ("labels", SHARES[1:], True),
        ("images", (0.6, 0.9), False),
        ("images", SHARES[1:], True),
    ]
    return {
        f"{kind} {share:.0%} seed {seed}{' without' if without else ''}": (share, seed, kind, without)
        for kind, shares, without in parts
        for seed, share in itertools.product(seeds, shares)
    }


def lines(content: Content) -> list[str]:
    runs: Mapping[str, Mapping[str, Any]] = content["runs"]
    images, labels = STEPS.values()
    text = [
        f"Generated brains of 24 x 24 x 6 voxels (scripts/benchmarks/lesion_sets.py), {REFERENCES} references, of",
        f"which a share holds no lesion; {TESTS} test cases with lesions, as many without. One epoch of {labels} steps",
        f"(labels) or {images} (images) of a network of 8 and 16 channels. *Correct*: the references themselves.",
        "*Missed*: empty masks of cases with lesions. The others are references with 25 false lesions in the brain,",
        "or with three outside of it. Spearman with Dice is over correct and degraded masks of cases with lesions.",
        "*Reading*: soft Dice of calibration references with lesions and what the network expects at the strongest",
        "noise, where it sees little but the image. *With and without*: mean Spearman of models that were trained with",
        "the empty references and without them, of the seeds that have both.",
        "",
        "*Flags by*: what a p-value is of, the anomaly score, or the worse of it and the misfit, in one place with",
        "images and as a whole from labels, as failures of references decide. *Word*: how far the model says that its",
        "score can be trusted. A dash in either stands for runs of an earlier version.",
        "",
        f"Masks are flagged at `alpha` {ALPHA}: {ALPHA:.0%} of correct masks may be. The worst tenth is that of the",
        "whole ranking. From labels alone a missed lesion and a correct empty mask are the same mask.",
        "",
        *_missing(runs),
    ]
    head = ["model", "empty", "seeds", "correct empty masks in the worst tenth", *(f"flagged: {k}" for k in FLAGS)]
    head += ["reading", "Spearman", "Spearman with and without"]
    each = [
        [
            *(name, run["rule"], FLAGGED_BY[run.get("flags_by")], run.get("word", MISSING)),
            f"{run['calibration_empty']} of {run['calibration']}",
            *(*_counts([] if name.endswith("without") else [run]), run["reading"], run["spearman"]),
        ]
        for name, run in sorted(runs.items())
    ]
    every = ["run", "rule", "flags by", "word", "empty calibration references", *head[3:-1]]
    unseen = {name: run for name, run in runs.items() if name.split()[3] in map(str, UNSEEN)}
    return [
        *(*text, *table(head, _summaries(runs)), "", f"## {_words('Seed', UNSEEN)} alone", ""),
        f"What flags with images are of was last decided after those of {_words('seed', sorted({*SEEDS} - {*UNSEEN}))}",
        "had been seen ([how](../notebook.md#lesions-what-the-network-must-meet-to-read)). These had not been seen.",
        "How a rule is chosen, and what flags from labels are of, was decided on references and on sets of seeds 5 to",
        "10.",
        *("", *table(head, _summaries(unseen)), "", "## Every run", "", *table(every, each)),
    ]


def _missing(runs: Mapping[str, Any]) -> list[str]:
    """A line for each kind of run that was not measured, with its seeds."""
    missing: dict[str, list[int]] = {}
    for name, (share, seed, kind, without) in plan(SEEDS).items():
        if name not in runs:
            alone = ", trained without empty references" if without else ""
            missing.setdefault(f"{kind}, {share:.0%} empty{alone}", []).append(seed)
    text = [f"- {what}: {_words('seed', seeds)}" for what, seeds in missing.items()]
    return ["Not measured yet; the same command continues:", "", *text, ""] if text else []


def _words(noun: str, numbers: Sequence[int]) -> str:
    *first, last = map(str, numbers)
    return f"{noun}s {', '.join(first)} and {last}" if first else f"{noun} {last}"


def _summaries(runs: Mapping[str, Mapping[str, Any]]) -> list[list[Any]]:
    """A row for each kind of model and share of empty references, over the seeds of these runs."""
    return [
        [
            kind,
            f"{share:.0%}",
            len(seeds),
            *_counts(seeds),
            *_means("reading", seeds),
            *_means("spearman", seeds),
            _pairs(runs, f"{kind} {share:.0%} "),
        ]
        for kind in STEPS
        for share in SHARES
        for seeds in [_of(runs, kind, share)]
        if seeds
    ]


def _pairs(runs: Mapping[str, Mapping[str, Any]], start: str) -> str:
    """Mean Spearman of models with and without empty references, over the seeds that have both."""
    both = [
        (runs[name], runs[f"{name} without"]) for name in runs if name.startswith(start) and f"{name} without" in runs
    ]
    pairs = _means("spearman", *zip(*both, strict=True))
    return f"{' and '.join(pairs)} (seeds: {len(both)})" if both else MISSING


def _of(runs: Mapping[str, Mapping[str, Any]], kind: str, share: float) -> list[Mapping[str, Any]]:
    """Runs that were trained on all references."""
    start = f"{kind} {share:.0%} "
    return [run for name, run in runs.items() if name.startswith(start) and not name.endswith("without")]


def _counts(runs: Sequence[Mapping[str, Any]]) -> list[str]:
    """Correct empty masks among the worst, and flags of every kind, summed over runs."""
    return [_count(runs, "among_worst", FLAGS["correct empty"]), *(_count(runs, "flagged", g) for g in FLAGS.values())]


def _count(runs: Sequence[Mapping[str, Any]], what: str, names: Sequence[str]) -> str:
    groups = [run["groups"][name] for run in runs for name in names if name in run["groups"]]
    return f"{sum(g[what] for g in groups)} of {sum(g['masks'] for g in groups)}" if groups else MISSING


def _means(what: str, *groups: Sequence[Mapping[str, Any]]) -> list[str]:
    return [f"{np.mean([run[what] for run in runs]):.3f}" if runs else MISSING for runs in groups]
