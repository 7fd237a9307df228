"""Folders of masks ranked by themselves, beside rivals that need no references either, and what references would give.

The package's settings are its defaults. They were taken after alternatives were compared by Dice on these sets
(docs/no_references.md), so that the figures are those of development. `--sets` measures some data sets and keeps what
earlier runs have measured of the others.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from bench import DATA, MISSING, Benchmark, Content, table
from rivals import CentreOfMassZScore, VolumeZScore
from scipy.stats import spearmanr

from gnsm_monai.data.compare import mean_foreground_dice
from gnsm_monai.data.datalist import find_label_maps, find_spatial_dims
from gnsm_monai.data.degradations import KINDS, degrade
from gnsm_monai.data.nnunet import LabelScheme, read_label_scheme
from gnsm_monai.data.patients import patients_of
from gnsm_monai.data.transforms import load_case
from gnsm_monai.folder.consensus import Consensus, deal
from gnsm_monai.folder.judging import COMPONENTS
from gnsm_monai.scoring.linear_shape import FRAMES, CoarseGrid, LinearShape, disagreement

SETS = ("hippocampus", "heart", "blood_cell", "pancreas", "chest_xray_landmarks")
FAILED = (0.1, 0.25, 0.5)
"""Shares of the chest maps that are damaged."""

SEEDS = 3
PROTOTYPE_LEFT_OUT, PROTOTYPE_ROUNDS, PROTOTYPE_COMPONENTS = 0.4, 3, 10

METHODS = ("folder itself", "prototype", "volume", "centre of mass", "mean shape", "references")
TITLES = ("the folder itself", "linear prototype", "volume z", "centre of mass z", "mean shape", "references")

Label = npt.NDArray[np.integer[Any]]
Labels = Sequence[Label]
Scores = npt.NDArray[np.float64]


def measure(options: argparse.Namespace, earlier: Content) -> Iterator[Content]:
    command = earlier.get("command", options.command)  # of all sets, of which this may be some
    rows = [row for row in earlier.get("rows", []) if row["set"] not in options.sets]
    for name in options.sets:
        (dataset,) = (options.data / name / "nnUNet_raw").iterdir()
        scheme = read_label_scheme(dataset)
        assert scheme is not None
        read = _Reader(dataset, scheme)
        learnt = _ByReferences(read.folder(dataset / "labelsTr").values(), scheme.num_classes)
        for folder, masks, truth in _folders(options.data / name, dataset, read, scheme):
            dice = [mean_foreground_dice(m, t, scheme.num_classes) for m, t in zip(masks.values(), truth, strict=True)]
            for seed in range(SEEDS):
                rows.append(_row(name, folder, seed, masks, np.array(dice), scheme.num_classes, learnt))
            yield {"command": command, "rows": sorted(rows, key=lambda row: SETS.index(row["set"]))}


class _Reader:
    def __init__(self, dataset: Path, scheme: LabelScheme) -> None:
        self.load = load_case(scheme, find_spatial_dims(dataset))

    def folder(self, folder: Path) -> dict[str, npt.NDArray[np.integer[Any]]]:
        """Class indices (*spatial) of every label map by case; what is ignored is background."""
        paths = find_label_maps(folder)
        return {case: np.maximum(np.asarray(self.load({"label": path})["label"][0]), 0) for case, path in paths.items()}


def _folders(
    data: Path, dataset: Path, read: _Reader, scheme: LabelScheme
) -> Iterator[tuple[str, Mapping[str, Label], Labels]]:
    """Name, masks by case, and their references, of every folder."""
    truth = read.folder(dataset / "labelsTs")
    if (data / "predictions").is_dir():
        for folder in sorted(path for path in (data / "predictions").iterdir() if path.is_dir()):
            masks = read.folder(folder)
            yield folder.name, masks, [truth[case] for case in masks]
        return
    for share in FAILED:
        rng = np.random.default_rng(0)
        damaged = set(rng.permutation(len(truth))[: round(share * len(truth))].tolist())
        masks = {
            case: degrade(label, KINDS[rng.integers(len(KINDS))], rng.uniform(0.1, 1), rng, scheme.num_classes)
            if number in damaged
            else label
            for number, (case, label) in enumerate(truth.items())
        }
        yield f"{share:.0%} damaged", masks, list(truth.values())


def _row(
    name: str,
    folder: str,
    seed: int,
    masks: Mapping[str, Label],
    dice: Scores,
    num_classes: int,
    learnt: _ByReferences,
) -> dict[str, Any]:
    labels = list(masks.values())
    one_hot = [_one_hot(mask, num_classes) for mask in labels]
    consensus = Consensus.of(one_hot, patients_of(list(masks)), seed)
    rivals: dict[str, Callable[[], Scores]] = {
        "prototype": lambda: prototype(one_hot, seed),
        "volume": lambda: _z_scores(VolumeZScore(), labels, num_classes),
        "centre of mass": lambda: _z_scores(CentreOfMassZScore(), labels, num_classes),
        "mean shape": lambda: mean_shape(one_hot),
        "references": lambda: learnt.scores(one_hot),
    }
    measured = np.isfinite(dice)
    scores = {"folder itself": consensus.scores, **{method: score() for method, score in rivals.items()}}
    return {
        "set": name, "folder": folder, "seed": seed, "masks": int(measured.sum()),
        "mean_dice": float(dice[measured].mean()), "apart": float(consensus.probability_apart.sum()),
        "failed": int((dice < 0.7).sum()),
        "spearman": {method: _spearman(values[measured], dice[measured]) for method, values in scores.items()},
    }  # fmt: skip


def _spearman(scores: Scores, dice: Scores) -> float | None:
    return None if np.ptp(scores) == 0 else float(spearmanr(scores, dice)[0])


def _one_hot(mask: npt.NDArray[np.integer[Any]], num_classes: int) -> npt.NDArray[np.bool_]:
    return np.stack([mask == k for k in range(1, num_classes)])


def prototype(masks: Sequence[npt.NDArray[np.bool_]], seed: int) -> Scores:
    """A linear model in the frame of the volume, in five folds: fitted three times, without the worst 40 %."""
    grid = CoarseGrid.holding(masks)
    maps = [grid.coarse(mask) for mask in masks]
    folds, usual = deal(range(len(masks)), seed) % 5, np.ones(len(masks), dtype=bool)
    scores = np.zeros(len(masks))
    for _ in range(PROTOTYPE_ROUNDS):
        for fold in range(5):
            others = np.flatnonzero(usual & (folds != fold)).tolist()
            model = LinearShape.fit([maps[i] for i in others], PROTOTYPE_COMPONENTS)
            for i in np.flatnonzero(folds == fold):
                scores[i] = model.score(maps[i])
        usual = scores <= np.quantile(scores, 1 - PROTOTYPE_LEFT_OUT)
    return scores


def mean_shape(masks: Sequence[npt.NDArray[np.bool_]]) -> Scores:
    """1 - soft Dice with the mean of all masks, in the frame of the volume."""
    grid = CoarseGrid.holding(masks)
    maps = [grid.coarse(mask) for mask in masks]
    model = LinearShape.fit(maps, 0)
    return np.array([model.score(one) for one in maps])


def _z_scores(rival: VolumeZScore | CentreOfMassZScore, masks: Labels, num_classes: int) -> Scores:
    """By mean and standard deviation of the folder itself; a structure that no mask has is left out."""
    present = [k for k in range(1, num_classes) if any((mask == k).any() for mask in masks)]
    table_of = np.zeros(num_classes, dtype=np.int64)
    table_of[present] = range(1, len(present) + 1)
    some = [table_of[mask] for mask in masks]
    rival.fit(some, len(present) + 1)
    return np.array([rival.score(mask) for mask in some])


class _ByReferences:
    """The same models of shape, fitted to references: what these would give."""

    def __init__(self, labels: Any, num_classes: int) -> None:
        masks = [_one_hot(label, num_classes) for label in labels]
        self.grids = [CoarseGrid.holding(masks, frame) for frame in FRAMES]
        self.models = [LinearShape.fit([grid.coarse(mask) for mask in masks], max(COMPONENTS)) for grid in self.grids]

    def scores(self, masks: Sequence[npt.NDArray[np.bool_]]) -> Scores:
        return np.array([self._score(mask) for mask in masks])

    def _score(self, mask: npt.NDArray[np.bool_]) -> float:
        if not mask.any():
            return 1.0
        parts = []
        for grid, model in zip(self.grids, self.models, strict=True):
            coarse = grid.coarse(mask)
            for number in COMPONENTS:
                answer = LinearShape(model.mean, model.directions[:number]).rebuilt(coarse)
                parts.append(np.nanmean(disagreement(coarse, answer)))
        return float(np.mean(parts))


def lines(content: Content) -> list[str]:
    """A table per data set: every folder, mean over the seeds."""
    rows = content["rows"]
    text = [
        "Spearman of score and Dice (-1 is best), mean over three seeds of the folds. All but the last two columns see",
        "nothing but the folder: the score of `gnsm rank` without `--model`; a linear model with the worst 40 % left",
        "out; size and centre against the folder's mean and deviation; overlap with the folder's mean shape. The last",
        "columns have the same linear models fitted to the references of the data set, and the share of that which",
        "the folder gives. Apart: how many masks are estimated to stand apart; failed: how many have a Dice below 0.7.",
    ]
    for name in dict.fromkeys(row["set"] for row in rows):
        some = [row for row in rows if row["set"] == name]
        cells = [_cells([row for row in some if row["folder"] == folder]) for folder in _names(some)]
        ahead = sum(_ahead([row for row in some if row["folder"] == folder]) for folder in _names(some))
        text += ["", f"## {name}", "", f"Ahead of every rival in {ahead} of {len(cells)} folders.", ""]
        text += table(["folder", "masks", "mean Dice", "failed", "apart", *TITLES, "share"], cells)
    return text


def _names(rows: Sequence[dict[str, Any]]) -> list[str]:
    return list(dict.fromkeys(row["folder"] for row in rows))


def _means(rows: Sequence[dict[str, Any]]) -> dict[str, float | None]:
    values = {method: [row["spearman"][method] for row in rows] for method in METHODS}
    return {method: None if None in each else float(np.mean(each)) for method, each in values.items()}


def _ahead(rows: Sequence[dict[str, Any]]) -> bool:
    """Whether the folder itself is nearer to -1 than every rival without references."""
    means = _means(rows)
    rivals = [means[method] for method in METHODS[1:-1]]
    itself = means["folder itself"]
    return itself is not None and all(rival is None or itself < rival for rival in rivals)


def _cells(rows: Sequence[dict[str, Any]]) -> list[str]:
    first, means = rows[0], _means(rows)
    apart = float(np.mean([row["apart"] for row in rows]))
    figures = [MISSING if (value := means[method]) is None else f"{value:.3f}" for method in METHODS]
    return [
        first["folder"],
        str(first["masks"]),
        f"{first['mean_dice']:.2f}",
        str(first["failed"]),
        f"{apart:.0f}",
        *figures,
        _share(means["folder itself"], means["references"]),
    ]


def _share(itself: float | None, references: float | None) -> str:
    """Of what references give; of what ranks no better than chance there is none."""
    negative = itself is not None and references is not None and itself < 0 and references < 0
    return f"{itself / references:.0%}" if negative else MISSING


BENCHMARK = Benchmark(
    "no_references",
    "A folder ranked by itself, without references",
    measure,
    lines,
    {**DATA, "--sets": {"nargs": "+", "default": list(SETS), "choices": SETS}},
    __doc__,
)

if __name__ == "__main__":
    BENCHMARK.run()
