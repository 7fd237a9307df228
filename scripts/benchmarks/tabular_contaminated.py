"""Anomalies among the rows that are fitted to: the plain fit, and fits that leave out a share of the rows.

    python scripts/benchmarks/tabular_contaminated.py --data DATA

DATA is that of ``tabular.py``. Half of the anomalies, drawn by the seed, may enter the fitted rows; the other half and
the test inliers are scored, always the same ones. So many anomalies are added that they are 0, 5 and 10 % of the fitted
rows. ``trim`` leaves out the share that a user names: it is tried at 5 and 10 % on each table, clean ones among them.
Sets are those of ``tabular.py`` with anomalies enough.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from bench import Benchmark, Content, table
from sklearn.metrics import average_precision_score, roc_auc_score
from tabular import METHODS, split

from gnsm_monai.tabular import GNSMDetector

SETS = ("nursery", "mushrooms", "probe", "bank")
SHARES = (0.0, 0.05, 0.1)
TRIMS = (None, 0.05, 0.1)
RIVALS = ("MarginalNLL", "CBRW", "IForest")
MAX_ROWS = 8000
"""Rows that are fitted to, drawn by the seed: more would change little but the time."""


def contaminated(data: Path, name: str, seed: int, share: float) -> tuple[pd.DataFrame, pd.DataFrame, np.ndarray]:
    """Rows to fit, ``share`` of them anomalies; rows to score; their labels."""
    fit, test, label, _ = split(data, name, seed)
    random = np.random.default_rng(seed)
    anomalies = random.permutation(np.flatnonzero(label == 1))
    enter, scored = np.split(anomalies, [len(anomalies) // 2])
    fit = fit.iloc[np.sort(random.permutation(len(fit))[:MAX_ROWS])]
    added = min(len(enter), round(share / (1 - share) * len(fit)))
    rows = np.concatenate([np.flatnonzero(label == 0), scored])
    return pd.concat([fit, test.iloc[enter[:added]]]), test.iloc[rows], label[rows]


def measure(options: argparse.Namespace, earlier: Content) -> Iterator[Content]:
    results: dict[str, Any] = earlier.get("results", {})
    for seed in options.seeds:
        for name in options.sets:
            for share in SHARES:
                for method in (*TRIMS, *RIVALS):
                    key = f"{name} | {share} | {method} | {seed}"
                    if key in results:
                        continue
                    fit, test, label = contaminated(options.data, name, seed, share)
                    if isinstance(method, str):
                        scores = METHODS[method](fit, test, [], seed)
                    else:
                        scores = GNSMDetector(random_state=seed, trim=method).fit(fit).decision_function(test)
                    results = {**results, key: _figures(label, scores)}
                    print(key, results[key], flush=True)
                    yield {"command": options.command, "results": results}
    yield {"command": options.command, "results": results}


def _figures(label: np.ndarray, scores: Any) -> dict[str, float]:
    return {
        "auroc": round(100 * float(roc_auc_score(label, scores)), 2),
        "ap": round(100 * float(average_precision_score(label, scores)), 2),
    }


def lines(content: Content) -> list[str]:
    results, rows = content["results"], []
    names = {None: "plain", 0.05: "trim 5 %", 0.1: "trim 10 %"} | {rival: rival for rival in RIVALS}
    for name in dict.fromkeys(key.split(" | ")[0] for key in results):
        for method, text in names.items():
            cells = []
            for share in SHARES:
                figures = [v for key, v in results.items() if key.split(" | ")[:3] == [name, str(share), str(method)]]
                means = [np.mean([figure[metric] for figure in figures]) for metric in ("auroc", "ap") if figures]
                cells.append(" / ".join(f"{mean:.1f}" for mean in means))
            rows.append([name, text, *cells])
    seeds = len({key.split(" | ")[-1] for key in results})
    return [
        "AUROC / average precision in percent by the share of anomalies among the fitted rows. The head of the script",
        f"states the protocol. Means over {seeds} seed{'s' if seeds > 1 else ''}.",
        "",
        *table(["set", "fit", "none", "5 %", "10 %"], rows),
    ]


BENCHMARK = Benchmark(
    "tabular_contaminated",
    "Anomalies among the fitted rows",
    measure,
    lines,
    {
        "--data": {"type": Path, "required": True, "help": "folder with datasets.json and the sets"},
        "--sets": {"nargs": "+", "choices": SETS, "default": list(SETS)},
        "--seeds": {"nargs": "+", "type": int, "default": [42, 43]},
    },
    __doc__,
)

if __name__ == "__main__":
    BENCHMARK.run()
