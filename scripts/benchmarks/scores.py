"""What a method says of every mask of a data set: one small JSON file per data set, method and seed."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from methods import METHODS
from scipy.stats import rankdata

from gnsm_monai.data.patients import patients_of
from gnsm_monai.evaluation.metrics import auroc, norm_aurc
from gnsm_monai.evaluation.resamples import resampled_metrics
from gnsm_monai.files import load_json, write_atomically
from gnsm_monai.rules.resampling import draw_cases

__all__ = [
    "FAILURE_DICE",
    "METRICS",
    "Scores",
    "check_same_masks",
    "load_all",
    "mean_with_interval",
    "path_of",
]

FAILURE_DICE = 0.7
"""A mask below it is a failure."""

DIGITS = 6
"""Significant digits of what is written."""


def _pearson(score: npt.NDArray[np.float64], dice: npt.NDArray[np.float64]) -> float:
    """As in the package, without the p-value."""
    x, y = score - score.mean(), dice - dice.mean()
    spread = float(np.sqrt((x @ x) * (y @ y)))
    return float(x @ y) / spread if spread > 0 else math.nan


def _spearman(score: npt.NDArray[np.float64], dice: npt.NDArray[np.float64]) -> float:
    return _pearson(rankdata(score), rankdata(dice))


METRICS: dict[str, Callable[[npt.NDArray[np.float64], npt.NDArray[np.float64]], float]] = {
    "Spearman": _spearman,
    "Pearson": _pearson,
    "AURC left": lambda score, dice: 1 - norm_aurc(score, dice),
    f"AUROC (Dice < {FAILURE_DICE:g})": lambda score, dice: auroc(score, dice < FAILURE_DICE),
}
"""Figures of (score, Dice). -1, -1, 0 and 1 are best."""

RESAMPLED: dict[str, Callable[[Mapping[str, npt.NDArray[np.float64]]], npt.NDArray[np.float64]]] = {
    "Spearman": lambda drawn: drawn["spearman"],
    "Pearson": lambda drawn: drawn["pearson"],
    "AURC left": lambda drawn: 1 - drawn["norm_aurc"],
    f"AUROC (Dice < {FAILURE_DICE:g})": lambda drawn: drawn[f"auroc_{FAILURE_DICE:g}"],
}
"""The same of every resample, by what `resampled_metrics` gives."""


@dataclass
class Scores:
    """Anomaly scores of one method, trained with one seed, on one data set.

    Args:
        dataset: name of the data set.
        method: name of the method.
        seed: of its training; 0 for a method that draws nothing.
        folder: of each mask, (n,).
        case: of each mask, (n,).
        dice: mean foreground Dice of each mask, (n,), in [0, 1].
        score: anomaly of each mask, (n,), higher = worse.
        training_minutes: None where nothing is trained, or where a training was stopped and went on.
        seconds_per_case: of scoring.
        more: further results, plain data: of maps, structures, levels.
        patient: of each mask, (n,); by default as the names of the cases tell.
    """

    dataset: str
    method: str
    seed: int
    folder: npt.NDArray[np.str_]
    case: npt.NDArray[np.str_]
    dice: npt.NDArray[np.float64]
    score: npt.NDArray[np.float64]
    training_minutes: float | None = None
    seconds_per_case: float | None = None
    more: dict[str, Any] = field(default_factory=dict)
    patient: npt.NDArray[np.str_] = field(default_factory=lambda: np.array([], dtype=np.str_))

    def __post_init__(self) -> None:
        if not len(self.patient):
            self.patient = np.array(patients_of(self.case.tolist()))

    def draws(self, count: int) -> npt.NDArray[np.int64]:
        """How often each of so many resamples draws each mask, ``(count, n)``: patients, each with all their masks."""
        return draw_cases(np.unique(self.patient, return_inverse=True)[1], count, seed=0)

    def select(self, keep: npt.NDArray[np.bool_]) -> Scores:
        """Scores of the masks where ``keep`` (n,) is true."""
        columns = {name: getattr(self, name)[keep] for name in ("folder", "case", "dice", "score", "patient")}
        return Scores(**{**self.__dict__, **columns})

    def in_folder(self, name: str) -> Scores:
        return self.select(self.folder == name)

    def among(self, cases: Mapping[str, Collection[str]]) -> npt.NDArray[np.bool_]:
        """Which masks are of these cases of their folder, ``(n,)``."""
        return np.array([case in cases[folder] for folder, case in zip(self.folder, self.case, strict=True)])

    def save(self, root: Path) -> None:
        """To ``root/DATASET/METHOD-SEED.json``, rounded to six significant digits."""
        cases: dict[str, dict[str, list[float]]] = {}
        for folder, case, dice, score in zip(self.folder, self.case, self.dice, self.score, strict=True):
            cases.setdefault(str(folder), {})[str(case)] = [float(dice), float(score)]
        content = {
            "dataset": self.dataset,
            "method": self.method,
            "seed": self.seed,
            "training_minutes": self.training_minutes,
            "seconds_per_case": self.seconds_per_case,
            "more": self.more,
            "columns": ["dice", "score"],
            "cases": cases,
        }
        # One line: what is read by a program only, and in a repository should be small.
        text = json.dumps(_rounded(content), separators=(",", ":"), allow_nan=False)
        write_atomically(path_of(root, self.dataset, self.method, self.seed), (text + "\n").encode())

    @classmethod
    def load(cls, path: Path) -> Scores:
        """Raises InputError where the file is missing or damaged."""
        content = load_json(path)
        rows = [(f, c, *pair) for f, members in content["cases"].items() for c, pair in members.items()]
        folder, case, dice, score = (np.array(column) for column in zip(*rows, strict=True))
        plain = ("dataset", "method", "seed", "training_minutes", "seconds_per_case", "more")
        return cls(folder=folder, case=case, dice=dice, score=score, **{name: content[name] for name in plain})


def path_of(root: Path, dataset: str, method: str, seed: int) -> Path:
    """Where the scores of one method and seed lie."""
    return root / dataset / f"{method}-{seed}.json"


def load_all(root: Path, dataset: str) -> dict[str, list[Scores]]:
    """All scores that exist of a data set: those of each method by seed, methods in the order of the tables."""
    files = [Scores.load(path) for path in sorted((root / dataset).glob("*-*.json"))]
    methods: dict[str, list[Scores]] = {name: [] for name in METHODS}
    for scores in sorted(files, key=lambda s: (s.method, s.seed)):
        methods[scores.method].append(scores)
    return {name: seeds for name, seeds in methods.items() if seeds}


def mean_with_interval(
    seeds: Sequence[Scores], metrics: Iterable[str] = METRICS, n_bootstrap: int = 1000
) -> dict[str, dict[str, Any]]:
    """Mean over seeds of each metric, with a 95 % bootstrap interval over patients.

    A resample draws patients with all their masks, the same ones for every seed, and takes the mean over seeds: how
    far the mean would move with other patients.

    Args:
        seeds: one method's scores, all of the same masks.
        metrics: names of `METRICS`.
        n_bootstrap: resamples; those on which a metric is undefined are left out of its interval.

    Returns:
        Per metric ``value``, ``ci95`` and ``seeds`` (the value of each); ``value`` None where it is undefined.
    """
    check_same_masks(seeds)
    counts = seeds[0].draws(n_bootstrap)
    each = [resampled_metrics(s.score, s.dice, counts, [FAILURE_DICE]) for s in seeds]
    figures: dict[str, dict[str, Any]] = {}
    for name in metrics:
        values = [METRICS[name](s.score, s.dice) for s in seeds]
        if math.isnan(sum(values)):
            figures[name] = {"value": None, "ci95": None, "seeds": values}
            continue
        draws = np.mean([RESAMPLED[name](drawn) for drawn in each], axis=0)
        interval = np.nanquantile(draws, [0.025, 0.975]).tolist()
        figures[name] = {"value": float(np.mean(values)), "ci95": interval, "seeds": values}
    return figures


def check_same_masks(scores: Sequence[Scores]) -> None:
    """Raises ValueError where scores are not all of the same masks in the same order."""
    first = scores[0]
    for other in scores[1:]:
        if not (np.array_equal(first.folder, other.folder) and np.array_equal(first.case, other.case)):
            raise ValueError(f"{first.dataset}, {first.method}: seeds {first.seed} and {other.seed} differ in masks")


def _rounded(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _rounded(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_rounded(entry) for entry in value]
    if isinstance(value, (float, np.floating)):
        return None if math.isnan(value) else float(f"{value:.{DIGITS}g}")
    return value
