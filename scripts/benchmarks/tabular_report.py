"""The page of the tabular benchmark: tables of means and deviations, and who wins where."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from gnsm_monai.files import write_atomically

OURS = "GNSM (default)"
SETS = ("bank", "census", "chess", "cmc", "probe", "u2r", "solar", "cars", "mushrooms", "nursery")
QUOTED = ("CBRW", "PairNLL", "DeepSVDD")
TIE = 0.5  # points of AUROC within which two methods count as equal

HEAD = """\
# Anomalies in categorical tables

Written by `python scripts/benchmarks/tabular.py --data DIR` (Python {python}), whose head states the protocol.
Mean ± standard deviation over the seeds that were run (their number in parentheses where it is not five), in percent;
anomalies are the positive class. Methods marked * were not run here: they are figures of baselines.json, measured
elsewhere on the same protocol (five seeds, census three). `GNSM (published)` has the published noise, loss and density
on this network, not the published network of 20 layers and up to two million steps.
"""


def write_report(path: Path, results: Mapping[str, Any], baselines: Mapping[str, Any], python: str) -> None:
    """Markdown of ``results`` (``METHOD | SET | SEED`` -> figures) beside the quoted baselines."""
    methods = list(dict.fromkeys(key.split(" | ")[0] for key in results))
    lines = [HEAD.format(python=python)]
    for metric, title in (("auroc", "AUROC"), ("ap", "Average precision")):
        lines += [f"## {title}", "", *_table(results, baselines, methods, metric), ""]
    lines += ["## The default beside the best baseline of each set", "", *_margins(results, baselines, methods), ""]
    lines += [
        "## Cost: fit and score, seconds (one thread, on a machine that was busy with other work)",
        "",
        *_cost(results, methods),
        "",
        *_rates(results),
    ]
    write_atomically(path, "\n".join(lines).encode())


def values(results: Mapping[str, Any], method: str, name: str, metric: str) -> list[float]:
    keys = (key.split(" | ") for key in results)
    return [results[" | ".join(key)][metric] for key in keys if key[0] == method and key[1] == name]


def _quoted(baselines: Mapping[str, Any], method: str, name: str, metric: str) -> tuple[float, float]:
    figures = baselines[name]["methods"][method]
    return figures[f"{metric}_mean"], figures[f"{metric}_std"]


def _table(results: Mapping[str, Any], baselines: Mapping[str, Any], methods: list[str], metric: str) -> list[str]:
    rows = []
    for method in methods:
        found = {name: values(results, method, name, metric) for name in SETS}
        cells = [_cell(found[name]) for name in SETS]
        means = [np.mean(found[name]) for name in SETS if found[name]]
        rows.append([method, *cells, f"{np.mean(means):.2f}" if len(means) == len(SETS) else ""])
    for method in QUOTED:
        found_there = [_quoted(baselines, method, name, metric) for name in SETS]
        cells = [f"{mean:.1f}±{deviation:.1f}" for mean, deviation in found_there]
        rows.append([f"{method}*", *cells, f"{np.mean([mean for mean, _ in found_there]):.2f}"])
    return _markdown(["", *SETS, "mean"], rows)


def _cell(found: list[float]) -> str:
    if not found:
        return ""
    if len(found) == 1:  # one seed has no deviation
        return f"{found[0]:.1f} (1)"
    count = "" if len(found) == 5 else f" ({len(found)})"
    return f"{np.mean(found):.1f}±{np.std(found):.1f}{count}"


def _margins(results: Mapping[str, Any], baselines: Mapping[str, Any], methods: list[str]) -> list[str]:
    """Best baseline per set: of all baselines in baselines.json, by their mean there."""
    rows, score = [], {"win": 0, "tie": 0, "loss": 0}
    for name in SETS:
        own = values(results, OURS, name, "auroc")
        if not own:
            continue
        best = max(baselines[name]["methods"], key=lambda method: _quoted(baselines, method, name, "auroc")[0])
        theirs = _quoted(baselines, best, name, "auroc")[0]
        difference = float(np.mean(own)) - theirs
        outcome = "tie" if abs(difference) <= TIE else "win" if difference > 0 else "loss"
        score[outcome] += 1
        rows.append([name, f"{np.mean(own):.2f}", f"{best}* {theirs:.2f}", f"{difference:+.2f}", outcome])
    summary = f"{score['win']} wins, {score['tie']} ties (within {TIE} points), {score['loss']} losses."
    return [*_markdown(["set", OURS, "best baseline", "difference", ""], rows), "", summary]


def _cost(results: Mapping[str, Any], methods: list[str]) -> list[str]:
    rows = []
    for method in methods:
        found = [values(results, method, name, "seconds") for name in SETS]
        rows.append([method, *(f"{np.mean(seconds):.1f}" if seconds else "" for seconds in found)])
    return _markdown(["", *SETS], rows)


def _rates(results: Mapping[str, Any]) -> list[str]:
    """Rows of the test part per second, by ``decision_function``, where it was measured."""
    rates = [
        f"{name} {found['rows_scored_per_second']:,} rows per second on {found['threads']} threads"
        for key, found in results.items()
        for method, name, _ in [key.split(" | ")]
        if method == OURS and "rows_scored_per_second" in found
    ]
    return [f"`decision_function` of {OURS} alone: {', '.join(rates)}.", ""] if rates else []


def _markdown(columns: list[str], rows: list[list[str]]) -> list[str]:
    return ["| " + " | ".join(line) + " |" for line in [columns, ["---"] * len(columns), *rows]]
