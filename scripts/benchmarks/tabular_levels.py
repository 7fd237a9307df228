"""What each noise level, rule, number of draws and training is worth in the tabular benchmark: where it is limited.

    python scripts/benchmarks/tabular_levels.py --data DATA [--sets cmc solar chess] [--seed 42]

The detector is trained once per set, on the protocol of ``tabular.py``; its test rows are then scored in several ways.
On small sets it is trained otherwise, too: narrower, wider, longer, and several times with other seeds.
These figures look at anomalies: they explain, and choose nothing.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from bench import Benchmark, Content, table
from sklearn.base import clone
from sklearn.metrics import average_precision_score, roc_auc_score
from tabular import PUBLISHED, SMALL_FIRST, split

from gnsm_monai.rules.rule import rule_named
from gnsm_monai.tabular import GNSMDetector
from gnsm_monai.tabular.batches import TrainingTable
from gnsm_monai.tabular.row_rules import ROW_RULES
from gnsm_monai.tabular.rows import RowScorer

Way = tuple[str, np.ndarray, float | None]
"""Name, scores ``(N,)`` and held-out loss."""

DRAWS = (4, 16)
MAX_DRAWN = 5000  # test rows above which draws are left out
MAX_TRAINED = 5000  # rows to fit above which a set is trained once
TRAININGS = 5
PUBLISHED_LONGER = 10


def variants(detector: GNSMDetector, codes: np.ndarray, train: np.ndarray) -> Iterator[Way]:
    """Each way to score, with the held-out loss of a single level."""
    network, losses = detector.network_, detector.validation_loss_
    statistics = detector.scorer_(codes)
    yield "the default", detector.model_.scores(codes), float(losses.mean())
    yield "all levels, without coupled frequencies", statistics.sum(2).mean(1), float(losses.mean())
    for level, beta in enumerate(network.schedule.betas):
        yield f"contextual misfit at beta {beta}", statistics[:, level].sum(1), float(losses[level])
    yield "features by the square root of their misfit", np.sqrt(statistics.mean(1)).sum(1), None
    scaled = rule_named("context_misfit_scaled", ROW_RULES).fit(detector.scorer_(train), train)
    yield "features in units of their spread", scaled.score(statistics, codes), None
    own = RowScorer(network, "misfit")
    yield "misfit that sees the feature's own value", own(codes).sum(2).mean(1), None
    for draws in DRAWS if len(codes) <= MAX_DRAWN else ():
        drawn = RowScorer(network, num_draws=draws, seed=1)
        yield f"mean over {draws} draws of the noise", drawn(codes).sum(2).mean(1), None


def trainings(detector: GNSMDetector, fit: pd.DataFrame, test: pd.DataFrame) -> Iterator[Way]:
    """Other trainings, all with the default score."""
    table = TrainingTable(detector.encoder_, {"train": detector.encoder_.transform(fit)})
    width, steps = table.default_width(), table.default_steps(detector.batch_size)

    def again(**settings: Any) -> tuple[np.ndarray, float]:
        other = clone(detector).set_params(**settings).fit(fit)
        return other.decision_function(test), float(other.validation_loss_.mean())

    yield f"width {width // 2} in place of {width}", *again(width=width // 2)
    yield f"width {2 * width}", *again(width=2 * width)
    yield "a fifth of the units left out in training", *again(dropout=0.2)
    yield f"{3 * steps} steps in place of {steps}", *again(max_steps=3 * steps)
    seeds = range(detector.random_state + 1, detector.random_state + TRAININGS)
    scores = [detector.decision_function(test), *(again(random_state=seed)[0] for seed in seeds)]
    yield f"mean of {TRAININGS} trainings", np.mean(scores, axis=0), None
    yield "published noise, loss and density", *again(**PUBLISHED)
    yield (
        f"the same, {PUBLISHED_LONGER} times the steps",
        *again(**PUBLISHED, max_steps=PUBLISHED_LONGER * steps, patience=12),
    )
    yield "the same, four times as wide, two more blocks", *again(**PUBLISHED, width=4 * width, depth=4)


def measure(options: argparse.Namespace, earlier: Content) -> Iterator[Content]:
    content: Content = {"command": options.command, "sets": {}}
    for name in options.sets:
        fit, test, label, _ = split(options.data, name, options.seed)
        detector = GNSMDetector(random_state=options.seed).fit(fit)
        codes, train = (detector.encoder_.transform(rows) for rows in (test, fit[:5000]))
        fitted_rows = set(map(tuple, detector.encoder_.transform(fit).tolist()))
        identical = sum(tuple(row) in fitted_rows for row in codes[label == 1].tolist())
        ways = variants(detector, codes, train)
        if len(fit) <= MAX_TRAINED:
            ways = chain(ways, trainings(detector, fit, test))
        rows = [
            [text, 100 * roc_auc_score(label, scores), 100 * average_precision_score(label, scores), loss]
            for text, scores, loss in ways
        ]
        content["sets"][name] = {"rows": rows, "identical": identical, "anomalies": int(label.sum())}
        yield content


def lines(content: Content) -> list[str]:
    text = ["One training of each set, but where a row says otherwise; one seed."]
    for name, found in content["sets"].items():
        rows = [
            [way, f"{auroc:.1f}", f"{ap:.1f}", "" if loss is None else f"{loss:.3f}"]
            for way, auroc, ap, loss in found["rows"]
        ]
        text += ["", f"## {name}", "", *table(["score", "AUROC", "AP", "held-out loss"], rows)]
        same = f"{found['identical']} of {found['anomalies']} anomalies"
        text += ["", f"{same} are identical to a row that was fitted to."]
    return text


BENCHMARK = Benchmark(
    "tabular_levels",
    "What limits the score on tables",
    measure,
    lines,
    {
        "--data": {"type": Path, "required": True, "help": "folder with datasets.json and the sets"},
        "--sets": {"nargs": "+", "choices": SMALL_FIRST, "default": ["cmc", "solar", "chess"]},
        "--seed": {"type": int, "default": 42},
    },
    __doc__,
)

if __name__ == "__main__":
    BENCHMARK.run()
