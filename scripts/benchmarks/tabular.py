"""Anomalies in ten categorical tables: the detector beside classical ones, on the paper's protocol.

    python scripts/benchmarks/tabular.py --data DATA            # ten sets, five seeds; continues where it stopped
    python scripts/benchmarks/tabular.py --data DATA --quick    # three small sets

DATA holds ``datasets.json`` (how each set is read), the sets themselves, and ``baselines.json`` (methods that neither
scikit-learn nor PyOD has, measured elsewhere on the same protocol and marked as such).

Protocol: inliers are split 80/10/10 by ``torch.utils.data.random_split`` with the seed; detectors are fitted to the
first two parts; the test rows are the third part and all anomalies, which are the positive class. Categories that
fitting does not show are unknown to every detector.

Every result is kept in docs/benchmarks/tabular.json as soon as it is there. Baselines of PyOD, and CBRW of
``coupled-biased-random-walks``, are left out where these are not installed.
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import itertools
import json
import platform
import resource
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from bench import Benchmark, Content
from sklearn.ensemble import IsolationForest
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.neighbors import LocalOutlierFactor, NearestNeighbors
from tabular_lines import lines

from gnsm_monai.files import load_json
from gnsm_monai.tabular import GNSMDetector, TableEncoder

SEEDS = (42, 43, 44, 45, 46)
QUICK = ("cmc", "solar", "cars")
SMALL_FIRST = ("cmc", "solar", "cars", "nursery", "mushrooms", "u2r", "probe", "chess", "bank", "census")
MAX_NEIGHBOURS_OF = 5000  # rows that kNN and LOF are fitted to, as in baselines.json
DENSE_LIMIT = 30_000_000  # one-hot values above which the distance-based and per-column baselines are left out

Split = tuple[pd.DataFrame, pd.DataFrame, np.ndarray, list[int]]


def split(data: Path, name: str, seed: int) -> Split:
    """Rows to fit, rows to score, their labels, and the positions of numerical columns."""
    about = load_json(data / "datasets.json")[name]
    text = dict.fromkeys(about["categorical_features"], str)
    table = pd.read_csv(data / about["file"], dtype=text, keep_default_na=False)
    label = table.pop("label").to_numpy()
    inliers, anomalies = np.flatnonzero(label == 0), np.flatnonzero(label == 1)
    generator = torch.Generator().manual_seed(seed)
    parts = torch.utils.data.random_split(range(len(inliers)), [0.8, 0.1, 0.1], generator=generator)  # type: ignore[arg-type]
    train, validation, test = (inliers[list(part.indices)] for part in parts)
    rows = np.concatenate([test, anomalies])
    numerical = [table.columns.get_loc(column) for column in about["numerical_features"]]
    return table.iloc[np.concatenate([train, validation])], table.iloc[rows], label[rows], numerical


def ours(**settings: Any) -> Callable[..., tuple[np.ndarray, float]]:
    """As users get it who say nothing of columns: whole numbers are categories. With processor seconds of scoring."""

    def run(fit: pd.DataFrame, test: pd.DataFrame, numerical: list[int], seed: int) -> tuple[np.ndarray, float]:
        detector = GNSMDetector(random_state=seed, **settings).fit(fit)
        start = time.process_time()
        return detector.decision_function(test), time.process_time() - start

    return run


def one_hot(detector: Callable[[np.ndarray, np.ndarray, int], np.ndarray | None]) -> Callable[..., np.ndarray | None]:
    def run(fit: pd.DataFrame, test: pd.DataFrame, numerical: list[int], seed: int) -> np.ndarray | None:
        encoder = TableEncoder(numerical).fit(fit)
        if len(fit) * sum(encoder.cardinalities) > DENSE_LIMIT and detector is not isolation_forest:
            return None
        known, new = (
            np.concatenate(
                [np.eye(k, dtype=np.float32)[own] for own, k in zip(codes.T, encoder.cardinalities, strict=True)],
                axis=1,
            )
            for codes in (encoder.transform(fit), encoder.transform(test))
        )
        return detector(known, new, seed)

    return run


def isolation_forest(known: np.ndarray, new: np.ndarray, seed: int) -> np.ndarray:
    return -IsolationForest(random_state=seed).fit(known).score_samples(new)


def nearest_neighbours(known: np.ndarray, new: np.ndarray, seed: int) -> np.ndarray:
    distances, _ = NearestNeighbors(n_neighbors=5).fit(_some(known, seed)).kneighbors(new)
    return distances.mean(1)


def local_outlier_factor(known: np.ndarray, new: np.ndarray, seed: int) -> np.ndarray:
    return -LocalOutlierFactor(20, novelty=True).fit(_some(known, seed)).score_samples(new)


def _some(rows: np.ndarray, seed: int) -> np.ndarray:
    return rows[np.random.default_rng(seed).permutation(len(rows))[:MAX_NEIGHBOURS_OF]]


def pyod(module: str, name: str) -> Callable[[np.ndarray, np.ndarray, int], np.ndarray | None]:
    def run(known: np.ndarray, new: np.ndarray, seed: int) -> np.ndarray | None:
        kind = getattr(__import__(f"pyod.models.{module}", fromlist=[name]), name)
        detector = kind(random_state=seed) if "random_state" in inspect.signature(kind).parameters else kind()
        try:
            return detector.fit(known).decision_function(new)
        except ValueError:  # CBLOF refuses rows that do not cluster
            return None

    return run


def marginal(fit: pd.DataFrame, test: pd.DataFrame, numerical: list[int], seed: int) -> np.ndarray:
    """Sum over features of -log frequency, with half a row added per category; numbers are categories."""
    encoder = TableEncoder([]).fit(fit)
    known, new = encoder.transform(fit), encoder.transform(test)
    counts = [np.bincount(own, minlength=k) + 0.5 for own, k in zip(known.T, encoder.cardinalities, strict=True)]
    return sum(-np.log(count / count.sum())[own] for own, count in zip(new.T, counts, strict=True))


def pairs(fit: pd.DataFrame, test: pd.DataFrame, numerical: list[int], seed: int) -> np.ndarray:
    """Sum over pairs of features of -log joint frequency, with half a row added per pair; numbers are categories."""
    encoder = TableEncoder([]).fit(fit)
    known, new = (encoder.transform(rows).astype(np.int64) for rows in (fit, test))
    total = np.zeros(len(new))
    for (one, k), (other, m) in itertools.combinations(enumerate(encoder.cardinalities), 2):
        count = np.bincount(known[:, one] * m + known[:, other], minlength=k * m) + 0.5
        total -= np.log(count / count.sum())[new[:, one] * m + new[:, other]]
    return total


def coupled_walks(fit: pd.DataFrame, test: pd.DataFrame, numerical: list[int], seed: int) -> np.ndarray:
    """Coupled biased random walks (Pang, Cao & Chen, IJCAI 2016) by PyPI's ``coupled-biased-random-walks``.

    Numbers are categories. A category that no random walk reaches, as fitting does not show it, counts as much as the
    worst row of those.
    """
    detect = importlib.import_module("coupled_biased_random_walks.detect")
    encoder = TableEncoder([]).fit(fit)
    known, new = (encoder.transform(rows) for rows in (fit, test))
    features = range(known.shape[1])
    walks = detect.CBRW().add_observations(dict(zip(features, row, strict=True)) for row in known.tolist()).fit()
    tables = [np.full(k, np.nan) for k in encoder.cardinalities]
    for feature, table in enumerate(tables):
        for code in np.unique(known[:, feature]).tolist():
            table[code] = walks._value_scores({feature: code})[feature]
    worst = max(sum(table[own] for own, table in zip(known.T, tables, strict=True)))
    return sum(np.nan_to_num(table, nan=worst)[own] for own, table in zip(new.T, tables, strict=True))


PUBLISHED = {"noise": "temperature", "objective": "kl", "anomaly_score": "score_norm_gmm"}

Method = Callable[..., np.ndarray | tuple[np.ndarray, float] | None]

METHODS: dict[str, Method] = {
    "GNSM (default)": ours(),
    "GNSM (misfit alone)": ours(anomaly_score="context_misfit"),
    "IForest": one_hot(isolation_forest),
    "MarginalNLL": marginal,
    "kNN5": one_hot(nearest_neighbours),
    "LOF20": one_hot(local_outlier_factor),
    "CBRW": coupled_walks,
    "ECOD": one_hot(pyod("ecod", "ECOD")),
    "COPOD": one_hot(pyod("copod", "COPOD")),
    "HBOS": one_hot(pyod("hbos", "HBOS")),
    "CBLOF": one_hot(pyod("cblof", "CBLOF")),
    "INNE": one_hot(pyod("inne", "INNE")),
    "PairNLL": pairs,
    "GNSM (published)": ours(**PUBLISHED),
}


def measure(options: argparse.Namespace, earlier: Content) -> Iterator[Content]:
    baselines = {name: entry["methods"] for name, entry in load_json(options.data / "baselines.json").items()}
    head = {"command": "python scripts/benchmarks/tabular.py --data DATA", "baselines": _figures_alone(baselines)}
    head["setting"] = f"Python {platform.python_version()}"
    results = earlier.get("results", {})
    for seed in options.seeds:
        for name in options.sets or (QUICK if options.quick else SMALL_FIRST):
            wanted = [m for m in options.methods or METHODS if f"{m} | {name} | {seed}" not in results]
            parts = split(options.data, name, seed) if wanted else None
            for method in wanted:
                figures = _measure(METHODS[method], parts, seed)
                if figures is not None:
                    results = {**results, f"{method} | {name} | {seed}": figures}
                    print(f"{method:18s} {name:10s} {seed}: {json.dumps(figures)}", flush=True)
                    yield {**head, "results": results}
    yield {**head, "results": results}


def _figures_alone(baselines: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Means and standard deviations of each set and method, without how they were measured."""
    keys = ("auroc_mean", "auroc_std", "ap_mean", "ap_std")
    return {
        name: {method: {key: figures[key] for key in keys} for method, figures in methods.items()}
        for name, methods in baselines.items()
    }


def _measure(method: Method, parts: Split | None, seed: int) -> dict[str, float] | None:
    assert parts is not None
    fit, test, label, numerical = parts
    start, processor = time.perf_counter(), time.process_time()
    try:
        outcome = method(fit, test, numerical, seed)
    except ImportError:  # neither PyOD nor that of the random walks is a requirement
        return None
    if outcome is None:
        return None
    scores, *scoring = outcome if isinstance(outcome, tuple) else (outcome,)
    return {
        "auroc": round(100 * float(roc_auc_score(label, scores)), 3),
        "ap": round(100 * float(average_precision_score(label, scores)), 3),
        "seconds": round(time.perf_counter() - start, 2),
        "processor_seconds": round(time.process_time() - processor, 2),
        "rows": len(fit) + len(test),
        "peak_memory_gib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
        "threads": torch.get_num_threads(),
        **({"rows_scored_per_second": round(len(test) / scoring[0])} if scoring else {}),
    }


BENCHMARK = Benchmark(
    "tabular",
    "Anomalies in categorical tables",
    measure,
    lines,
    {
        "--data": {"type": Path, "required": True, "help": "folder with datasets.json and the sets"},
        "--quick": {"action": "store_true", "help": f"three small sets: {', '.join(QUICK)}"},
        "--sets": {"nargs": "+", "choices": SMALL_FIRST, "help": "these sets alone"},
        "--methods": {"nargs": "+", "choices": list(METHODS), "help": "these methods alone"},
        "--seeds": {"nargs": "+", "type": int, "default": list(SEEDS)},
    },
    __doc__,
)

if __name__ == "__main__":
    BENCHMARK.run()
