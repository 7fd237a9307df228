#!/usr/bin/env python3
"""What each noise level, rule and number of draws is worth in the tabular benchmark: where the score is limited.

    python scripts/benchmarks/tabular_levels.py --data DIR [--sets cmc solar chess] [--seed 42]

The detector is trained once per set, on the protocol of ``tabular.py``; its test rows are then scored in several ways.
These figures look at anomalies: they explain, and choose nothing. Writes ``docs/benchmarks/tabular_levels.md``.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from sklearn.metrics import average_precision_score, roc_auc_score
from tabular import RESULTS, SMALL_FIRST, split

from gnsm_monai.files import write_atomically
from gnsm_monai.scoring.row_anomaly import RowAnomalyModel
from gnsm_monai.scoring.rows import RowScorer
from gnsm_monai.tabular import GNSMDetector

DRAWS = (4, 16)
MOST_DRAWN = 5000  # test rows above which draws are left out


def variants(detector: GNSMDetector, codes: np.ndarray, train: np.ndarray) -> Iterator[tuple[str, np.ndarray, str]]:
    """Name and scores ``(N,)`` of each way to score, and the held-out loss of a single level."""
    schedule, cardinalities = detector.scorer_.schedule, detector.encoder_.cardinalities
    network, losses = detector.network_, detector.validation_loss_
    statistics = detector.scorer_(network, codes)
    yield "all levels (the default)", statistics.sum(2).mean(1), f"{losses.mean():.3f}"
    for level, beta in enumerate(schedule.betas):
        yield f"contextual misfit at beta {beta}", statistics[:, level].sum(1), f"{losses[level]:.3f}"
    scaled = RowAnomalyModel.fit(detector.scorer_(network, train), "context_misfit_scaled")
    yield "features in units of their spread", scaled.score(statistics), ""
    own = RowScorer(schedule, cardinalities, "misfit")
    yield "misfit that sees the feature's own value", own(network, codes).sum(2).mean(1), ""
    for draws in DRAWS if len(codes) <= MOST_DRAWN else ():
        drawn = RowScorer(schedule, cardinalities, num_draws=draws, seed=1)
        yield f"mean over {draws} draws of the noise", drawn(network, codes).sum(2).mean(1), ""


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
        fit, test, label, numerical = split(options.data, name, options.seed)
        detector = GNSMDetector(numerical_features=numerical, random_state=options.seed).fit(fit)
        codes, train = (detector.encoder_.transform(rows) for rows in (test, fit[:5000]))
        lines += ["", f"## {name}", "", "| score | AUROC | AP | held-out loss |", "| --- | --- | --- | --- |"]
        known = set(map(tuple, detector.encoder_.transform(fit).tolist()))
        same = sum(tuple(row) in known for row in codes[label == 1].tolist())
        for text, scores, loss in variants(detector, codes, train):
            figures = 100 * roc_auc_score(label, scores), 100 * average_precision_score(label, scores)
            lines.append(f"| {text} | {figures[0]:.1f} | {figures[1]:.1f} | {loss} |")
            print(name, lines[-1], flush=True)
        lines += ["", f"{same} of {int(label.sum())} anomalies are identical to a row that was fitted to."]
    write_atomically(options.output / "tabular_levels.md", ("\n".join(lines) + "\n").encode())


if __name__ == "__main__":
    main()
