"""What a ranking saves: failures found, and mean Dice reached, by the number of masks that somebody looks at.

    python scripts/benchmarks/review.py [--minutes 3]

A reviewer looks at the masks of a data set in the order of a method, the worst first, and corrects each: the reference
takes its place. Scores are those that segmentation_qc.py stored, so nothing is trained, and no data is read.
"""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import numpy.typing as npt
from bench import MISSING, PAGES, Benchmark, Content, table
from methods import DATASETS, METHODS, VARIED_FIELD_OF_VIEW
from qc_figures import save
from scipy.stats import rankdata
from scores import FAILURE_DICE, Scores, load_all

from gnsm_monai.evaluation.budget import measured_budget

Floats = npt.NDArray[np.float64]

SHARE = 0.9
"""Of the failures that are to be found."""

BUDGETS = (0.1, 0.2, 0.3)
"""Shares of the masks that are corrected."""

RESAMPLES = 300
POOLED = "all"
RANDOM, BEST = "random", "best"
TITLES = {RANDOM: "random order", BEST: "by Dice itself, the least possible"}
SHOWN = ("gnsm_image", "gnsm", "vae_dice", "voxelwise_prior", "volume", RANDOM, BEST)
"""Methods of the picture, if a data set has them."""


def measure(options: argparse.Namespace, earlier: Content) -> Iterator[Content]:
    sets = {name: whole(load_all(PAGES / "segmentation_qc", name)) for name in DATASETS if name != VARIED_FIELD_OF_VIEW}
    sets = {name: methods for name, methods in sets.items() if methods}
    sets[POOLED] = pooled(sets)
    yield {
        "command": options.command,
        "minutes": options.minutes,
        "sets": {name: of_set(methods) for name, methods in sets.items()},
    }


def whole(methods: Mapping[str, Sequence[Scores]]) -> dict[str, list[Scores]]:
    """The methods that score every mask that any method scores. Those that were tried on the way are left out."""
    most = max((len(seeds[0].score) for seeds in methods.values()), default=0)
    return {
        name: list(seeds)
        for name, seeds in methods.items()
        if len(seeds[0].score) == most and not METHODS[name].variant
    }


def pooled(sets: Mapping[str, Mapping[str, Sequence[Scores]]]) -> dict[str, list[Scores]]:
    """One data set of all, by the methods that each has. A score counts by its place among those of its data set.

    Scores of models of different anatomies have no common unit, and a reviewer of two cohorts would take the same
    share of each.
    """
    common = [name for name in METHODS if all(name in methods for methods in sets.values())]
    return {name: [_joined([methods[name][0] for methods in sets.values()])] for name in common}


def _joined(parts: Sequence[Scores]) -> Scores:
    folder = np.concatenate([part.folder for part in parts])
    case = np.concatenate([np.char.add(f"{part.dataset}/", part.case) for part in parts])
    dice = np.concatenate([part.dice for part in parts])
    place = np.concatenate([rankdata(part.score) / len(part.score) for part in parts])
    patient = np.concatenate([np.char.add(f"{part.dataset}/", part.patient) for part in parts])
    return Scores(POOLED, parts[0].method, parts[0].seed, folder, case, dice, place, patient=patient)


def of_set(methods: Mapping[str, Sequence[Scores]]) -> Content:
    """What each order finds, with 95 % intervals over patients: the mean over the trainings of a method."""
    first = next(iter(methods.values()))[0]
    orders = {name: [s.score for s in seeds] for name, seeds in methods.items()}
    orders |= {RANDOM: [np.zeros_like(first.dice)], BEST: [-first.dice]}
    dice = {name: methods[name][0].dice if name in methods else first.dice for name in orders}
    draws = [np.repeat(np.arange(len(first.dice)), counts) for counts in first.draws(RESAMPLES)]
    return {
        "masks": len(first.dice),
        "failures": int((first.dice < FAILURE_DICE).sum()),
        "mean_dice": float(first.dice.mean()),
        "orders": {name: of_order(scores, dice[name], draws) for name, scores in orders.items()},
    }


def of_order(scores: Sequence[Floats], dice: Floats, draws: Sequence[npt.NDArray[np.intp]]) -> Content:
    needed = float(np.mean([reviews_needed(score, dice) for score in scores]))
    resampled = [np.mean([reviews_needed(score[rows], dice[rows]) for score in scores]) for rows in draws]
    found, after = np.mean([curves(score, dice) for score in scores], axis=0)
    counts = [round(share * len(dice)) for share in BUDGETS]
    return {
        "seeds": len(scores),
        "reviews": needed,
        "ci95": np.quantile(resampled, [0.025, 0.975]).tolist(),
        "dice_after": [float(after[count]) for count in counts],
        "found": [round(float(found[count]), 4) for count in np.linspace(0, len(dice), 51).round().astype(int)],
    }


def reviews_needed(score: Floats, dice: Floats) -> int:
    """Fewest reviews, worst first, that find :data:`SHARE` of the failures; 0 where there is none.

    Masks of equal score come in random order, and the mean over the orders counts.
    """
    found = curves(score, dice)[0]
    return int(np.argmax(found >= SHARE - 1e-9))


def curves(score: Floats, dice: Floats) -> tuple[Floats, Floats]:
    """After 0, 1, ... n reviews: the share of failures that are found, 1 where there is none, and the mean Dice."""
    n = len(dice)
    rows = measured_budget(score, dice, FAILURE_DICE, [k / n for k in range(1, n + 1)])["budget"]
    found = [0.0, *(row["share_found"] for row in rows)] if rows[0]["share_found"] is not None else [1.0] * (n + 1)
    risk = [float((1 - dice).mean()), *(row["residual_risk"] * (n - row["reviewed"]) / n for row in rows)]
    return np.array(found), 1 - np.array(risk)


def lines(content: Content) -> list[str]:
    minutes = content["minutes"]
    shares = ", ".join(f"{100 * share:.0f}" for share in BUDGETS)
    text = [
        *textwrap.wrap(
            f"Reviews: masks to look at, the worst first, until {100 * SHARE:.0f} % of the failures (Dice below "
            f"{FAILURE_DICE:g}) are found, with a 95 % interval over patients. Ratio: to random order. Hours: of these "
            f"reviews, at {minutes:g} minutes each. Mean Dice: of all masks, after the references took the place of "
            f"the worst {shares} % of them. Several trainings of a method are averaged. The predicted Dice of a mask "
            "falls as its score rises, so it gives the same order as the score. Methods that score only some folders "
            "are left out.",
            120,
        ),
        "",
    ]
    for name, entry in content["sets"].items():
        title = "All of these sets" if name == POOLED else DATASETS[name]
        text += [f"## {title}", "", *_summary(entry), "", *_table(entry, minutes), ""]
        if name != POOLED:
            text += [f"![Failures found]({BENCHMARK.name}/{name}.png)", ""]
    return text


def _summary(entry: Content) -> list[str]:
    masks, failures = entry["masks"], entry["failures"]
    share = f"{100 * failures / masks:.0f} %"
    text = [f"{masks} masks, mean Dice {entry['mean_dice']:.3f}; {failures} ({share}) are failures."]
    if failures > masks / 2:
        text += ["Most masks are failures, so every order needs more than half of the reviews of random order."]
    return text


def _table(entry: Content, minutes: float) -> list[str]:
    random = entry["orders"][RANDOM]["reviews"]
    rows = []
    for name, order in sorted(entry["orders"].items(), key=lambda item: item[1]["reviews"]):
        reviews, (low, high) = order["reviews"], order["ci95"]
        ratio = f"{reviews / random:.2f}" if random else MISSING
        dice = [f"{value:.3f}" for value in order["dice_after"]]
        interval = f"{reviews:.0f} [{low:.0f}, {high:.0f}]"
        rows.append([title_of(name), order["seeds"], interval, ratio, f"{reviews * minutes / 60:.1f}", *dice])
    after = [f"mean Dice after {100 * share:.0f} %" for share in BUDGETS]
    return table(["order", "trainings", "reviews", "ratio", "hours", *after], rows)


def title_of(name: str) -> str:
    return TITLES[name] if name in TITLES else METHODS[name].title


def draw(content: Content, folder: Path) -> None:
    """Share of the failures that are found, by the share of masks that are reviewed."""
    for name, entry in content["sets"].items():
        if name == POOLED:
            continue
        figure, panel = plt.subplots(figsize=(6.4, 3.8), layout="constrained")
        styles: dict[str, dict[str, Any]] = {
            RANDOM: {"color": "#888888", "linestyle": ":"},
            BEST: {"color": "black", "linewidth": 1},
            "gnsm": {"linewidth": 2.4},
            "gnsm_image": {"linewidth": 2.4},
        }
        for method in SHOWN:
            if method in entry["orders"]:
                found = entry["orders"][method]["found"]
                share = np.linspace(0, 100, len(found))
                panel.plot(share, 100 * np.array(found), label=title_of(method), **styles.get(method, {}))
        panel.set_xlabel("masks reviewed, worst first, %")
        panel.set_ylabel(f"failures found (Dice < {FAILURE_DICE}), %")
        panel.set_xlim(0, 100)
        panel.set_ylim(0, 102)
        panel.legend(fontsize=8, frameon=False)
        panel.spines[["top", "right"]].set_visible(False)
        save(figure, folder / f"{name}.png")


OPTIONS = {"--minutes": {"type": float, "default": 3.0, "help": "of one review"}}
BENCHMARK = Benchmark("review", "What a ranking saves a reviewer", measure, lines, OPTIONS, __doc__, figures=draw)

if __name__ == "__main__":
    BENCHMARK.run()
