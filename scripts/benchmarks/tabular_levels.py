#!/usr/bin/env python3
"""What each noise level, rule, number of draws and training is worth in the tabular benchmark: where it is limited.

    python scripts/benchmarks/tabular_levels.py --data DIR [--sets cmc solar chess] [--seed 42]

The detector is trained once per set, on the protocol of ``tabular.py``; its test rows are then scored in several ways.
On small sets it is trained otherwise, too: narrower, wider, longer, and several times with other seeds.
These figures look at anomalies: they explain, and choose nothing. Writes ``docs/benchmarks/tabular_levels.md``.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import clone
from sklearn.metrics import average_precision_score, roc_auc_score
from tabular import PUBLISHED, RESULTS, SMALL_FIRST, split

from gnsm_monai.files import write_atomically
from gnsm_monai.rules.rule import rule_named
from gnsm_monai.scoring.rows import RowScorer
from gnsm_monai.tabular import GNSMDetector
from gnsm_monai.tabular.row_rules import ROW_RULES
from gnsm_monai.tabular.training import default_steps, default_width

DRAWS = (4, 16)
MOST_DRAWN = 5000  # test rows above which draws are left out
MOST_TRAINED = 5000  # rows to fit above which a set is trained once
TRAININGS = 5
PUBLISHED_LONGER = 10


def variants(detector: GNSMDetector, codes: np.ndarray, train: np.ndarray) -> Iterator[tuple[str, np.ndarray, str]]:
    """Name and scores ``(N,)`` of each way to score, and the held-out loss of a single level."""
    schedule, cardinalities = detector.scorer_.schedule, detector.encoder_.cardinalities
    network, losses = detector.network_, detector.validation_loss_
    statistics = detector.scorer_(network, codes)
    yield "all levels (the default)", statistics.sum(2).mean(1), f"{losses.mean():.3f}"
    for level, beta in enumerate(schedule.betas):
        yield f"contextual misfit at beta {beta}", statistics[:, level].sum(1), f"{losses[level]:.3f}"
    yield "features by the square root of their misfit", np.sqrt(statistics.mean(1)).sum(1), ""
    scaled = rule_named("context_misfit_scaled", ROW_RULES).fit(detector.scorer_(network, train))
    yield "features in units of their spread", scaled.score(statistics), ""
    own = RowScorer(schedule, cardinalities, "misfit")
    yield "misfit that sees the feature's own value", own(network, codes).sum(2).mean(1), ""
    for draws in DRAWS if len(codes) <= MOST_DRAWN else ():
        drawn = RowScorer(schedule, cardinalities, num_draws=draws, seed=1)
        yield f"mean over {draws} draws of the noise", drawn(network, codes).sum(2).mean(1), ""


def trainings(detector: GNSMDetector, fit: pd.DataFrame, test: pd.DataFrame) -> Iterator[tuple[str, np.ndarray, str]]:
    """The same of other trainings, all with the default score."""
    codes = detector.encoder_.transform(fit)
    width, steps = default_width(codes), default_steps(codes, detector.batch_size)

    def again(**settings: Any) -> tuple[np.ndarray, str]:
        other = clone(detector).set_params(**settings).fit(fit)
        return other.decision_function(test), f"{other.validation_loss_.mean():.3f}"

    yield f"width {width // 2} in place of {width}", *again(width=width // 2)
    yield f"width {2 * width}", *again(width=2 * width)
    yield "a fifth of the units left out in training", *again(dropout=0.2)
    yield f"{3 * steps} steps in place of {steps}", *again(max_steps=3 * steps)
    seeds = range(detector.random_state + 1, detector.random_state + TRAININGS)
    scores = [detector.decision_function(test), *(again(random_state=seed)[0] for seed in seeds)]
    yield f"mean of {TRAININGS} trainings", np.mean(scores, axis=0), ""
    yield "published noise, loss and density", *again(**PUBLISHED)
    yield (
        f"the same, {PUBLISHED_LONGER} times the steps",
        *again(**PUBLISHED, max_steps=PUBLISHED_LONGER * steps, patience=12),
    )
    yield "the same, four times as wide, two more blocks", *again(**PUBLISHED, width=4 * width, depth=4)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with datasets.json and the sets")
    parser.add_argument("--sets", nargs="+", choices=SMALL_FIRST, default=["cmc", "solar", "chess"])
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder of tabular_levels.md")
    options = parser.parse_args()
    command = f"python scripts/benchmarks/tabular_levels.py --data DIR --sets {' '.join(options.sets)}"
    lines = ["# What limits the score on tables", "", f"Written by `{command} --seed {options.seed}`: one seed."]
    for name in options.sets:
        fit, test, label, _ = split(options.data, name, options.seed)
        detector = GNSMDetector(random_state=options.seed).fit(fit)
        codes, train = (detector.encoder_.transform(rows) for rows in (test, fit[:5000]))
        lines += ["", f"## {name}", "", "| score | AUROC | AP | held-out loss |", "| --- | --- | --- | --- |"]
        known = set(map(tuple, detector.encoder_.transform(fit).tolist()))
        same = sum(tuple(row) in known for row in codes[label == 1].tolist())
        rows = variants(detector, codes, train)
        if len(fit) <= MOST_TRAINED:
            rows = chain(rows, trainings(detector, fit, test))
        for text, scores, loss in rows:
            figures = 100 * roc_auc_score(label, scores), 100 * average_precision_score(label, scores)
            lines.append(f"| {text} | {figures[0]:.1f} | {figures[1]:.1f} | {loss} |")
            print(name, lines[-1], flush=True)
        lines += ["", f"{same} of {int(label.sum())} anomalies are identical to a row that was fitted to."]
    write_atomically(options.output / "tabular_levels.md", ("\n".join(lines) + "\n").encode())


if __name__ == "__main__":
    main()
