"""The page of the tabular benchmark: tables of means and deviations, and who wins where."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from bench import Content, table
from scipy.stats import wilcoxon

OURS = "GNSM (default)"
SETS = ("bank", "census", "chess", "cmc", "probe", "u2r", "solar", "cars", "mushrooms", "nursery")
QUOTED = ("CBRW", "PairNLL", "DeepSVDD")
MASK_DIFFUSION = {"solar": 87.7, "cmc": 58.7, "cars": 99.9, "nursery": 100.0, "mushrooms": 100.0, "chess": 67.7}
"""AUROC of MaskDiff-AD (arXiv 2605.30046): its authors' code with its defaults, measured elsewhere on one seed."""
MIN_PAIRED = 6  # sets below which no difference can be significant at 5 %
TIE = 0.5  # points of AUROC within which two methods count as equal

HEAD = """\
The head of the script states the protocol. Mean ± standard deviation over the seeds that were run (their number in
parentheses where it is not five), in percent; anomalies are the positive class. Methods marked * were not run here:
they are figures of baselines.json, measured elsewhere on the same protocol (five seeds, census three). `GNSM
(published)` has the published noise, loss and density on this network, not the published network of 20 layers and up
to two million steps.

`GNSM (misfit alone)` is the default without its term of coupled frequencies, as trained by version 0.2. `GNSM (0.2
training)` is the default with that training: one cycle of 600 to 3000 steps. Where fewer than five seeds of the default
were run, its difference to the best baseline is one between unequal seeds. `PairNLL` is that of the script, `PairNLL*`
that of baselines.json. PyOD 3 recommends `IForest`, `ECOD`, `KNN`, `LOF`, `CBLOF`, `COPOD` and `INNE` for tables.
One-hot rows of census are more than the methods that need them all at once can hold here: of PyOD's, `IForest` alone
has run on it. `CBLOF` refuses rows that do not cluster. `DeepSVDD` and `MaskDiff-AD` were not run, and are quoted.
"""


PAIRED = """\
Sets won, tied (within half a point of AUROC) and lost by the default. Means are over the seeds that both were run on,
or over all seeds where those of the other are not known (*). p: Wilcoxon signed-rank test, two-sided, each set a pair
(Demšar, JMLR 2006); it is not given for fewer than six sets. `MaskDiff-AD` is the code of arXiv 2605.30046 with its
defaults, one seed: figures as read, not a run of this script.
"""


def lines(content: Content) -> list[str]:
    """Markdown of ``content["results"]`` (``METHOD | SET | SEED`` -> figures) beside the quoted baselines."""
    results, baselines = content["results"], content["baselines"]
    methods = list(dict.fromkeys(key.split(" | ")[0] for key in results))
    text = HEAD.splitlines()
    for metric, title in (("auroc", "AUROC"), ("ap", "Average precision")):
        text += ["", f"## {title}", "", *_means(results, baselines, methods, metric)]
    text += ["", "## The default beside the best baseline of each set", "", *_margins(results, baselines)]
    text += [
        "",
        "## The default beside each baseline",
        "",
        *PAIRED.splitlines(),
        "",
        *_paired(results, baselines, methods),
    ]
    text += [
        "",
        "## Cost: fit and score, seconds of wall clock (one thread, on a machine that was busy with other work)",
        "",
    ]
    return [*text, *_cost(results, methods), "", *_rates(results)]


def values(results: Mapping[str, Any], method: str, name: str, metric: str) -> list[float]:
    keys = (key.split(" | ") for key in results)
    return [results[" | ".join(key)][metric] for key in keys if key[0] == method and key[1] == name]


def _quoted(baselines: Mapping[str, Any], method: str, name: str, metric: str) -> tuple[float, float]:
    figures = baselines[name][method]
    return figures[f"{metric}_mean"], figures[f"{metric}_std"]


def _means(results: Mapping[str, Any], baselines: Mapping[str, Any], methods: list[str], metric: str) -> list[str]:
    rows = []
    for method in methods:
        seeds = [values(results, method, name, metric) for name in SETS]
        cells = [_cell(figures) for figures in seeds]
        means = [np.mean(figures) for figures in seeds if figures]
        rows.append([method, *cells, f"{np.mean(means):.2f}" if len(means) == len(SETS) else ""])
    for method in QUOTED:
        quoted = [_quoted(baselines, method, name, metric) for name in SETS]
        cells = [f"{mean:.1f}±{deviation:.1f}" for mean, deviation in quoted]
        rows.append([f"{method}*", *cells, f"{np.mean([mean for mean, _ in quoted]):.2f}"])
    return table(["", *SETS, "mean"], rows)


def _cell(figures: list[float]) -> str:
    if not figures:
        return ""
    if len(figures) == 1:  # one seed has no deviation
        return f"{figures[0]:.1f} (1)"
    count = "" if len(figures) == 5 else f" ({len(figures)})"
    return f"{np.mean(figures):.1f}±{np.std(figures):.1f}{count}"


def _margins(results: Mapping[str, Any], baselines: Mapping[str, Any]) -> list[str]:
    """The default beside the baseline with the highest mean of each set."""
    rows, score = [], {"win": 0, "tie": 0, "loss": 0}
    for name in SETS:
        own = values(results, OURS, name, "auroc")
        if not own:
            continue
        best = max(baselines[name], key=lambda method: _quoted(baselines, method, name, "auroc")[0])
        theirs = _quoted(baselines, best, name, "auroc")[0]
        difference = float(np.mean(own)) - theirs
        outcome = "tie" if abs(difference) <= TIE else "win" if difference > 0 else "loss"
        score[outcome] += 1
        rows.append([name, f"{np.mean(own):.2f}", f"{best}* {theirs:.2f}", f"{difference:+.2f}", outcome])
    summary = f"{score['win']} wins, {score['tie']} ties (within {TIE} points), {score['loss']} losses."
    best = [
        np.mean([max(_quoted(baselines, method, name, metric)[0] for method in baselines[name]) for name in SETS])
        for metric in ("auroc", "ap")
    ]
    whole = f"Over all ten sets the best of each has a mean AUROC of {best[0]:.2f} and a mean AP of {best[1]:.2f}:"
    summary += f"\n{whole}\nno one baseline reaches that, as another one is best on each set."
    return [*table(["set", OURS, "best baseline", "difference", ""], rows), "", *summary.splitlines()]


def _paired(results: Mapping[str, Any], baselines: Mapping[str, Any], methods: list[str]) -> list[str]:
    """Win, tie and loss over sets, and the paired test, for each method in turn."""
    quoted = {f"{method}*": {n: _quoted(baselines, method, n, "auroc")[0] for n in SETS} for method in QUOTED}
    rows = []
    for method, means in {**dict.fromkeys(methods), **quoted, "MaskDiff-AD*": MASK_DIFFUSION}.items():
        if method == OURS:
            continue
        differences = []
        for name in SETS:
            ours = _by_seed(results, OURS, name)
            theirs = _by_seed(results, method, name) if means is None else dict.fromkeys(ours, means.get(name))
            pairs = [ours[seed] - value for seed, value in theirs.items() if seed in ours and value is not None]
            differences += [float(np.mean(pairs))] if pairs else []
        if not differences:
            continue
        won, lost = (sum(sign * value > TIE for value in differences) for sign in (1, -1))
        tested = len(differences) >= MIN_PAIRED and any(differences)
        p = f"{wilcoxon(differences, zero_method='zsplit').pvalue:.3f}" if tested else ""
        tied = len(differences) - won - lost
        rows.append([method, len(differences), won, tied, lost, f"{np.mean(differences):+.2f}", p])
    return table(["baseline", "sets", "won", "tied", "lost", "mean difference", "p"], rows)


def _by_seed(results: Mapping[str, Any], method: str, name: str) -> dict[str, float]:
    keys = (key.split(" | ") for key in results)
    return {seed: results[f"{m} | {n} | {seed}"]["auroc"] for m, n, seed in keys if (m, n) == (method, name)}


def _cost(results: Mapping[str, Any], methods: list[str]) -> list[str]:
    rows = []
    for method in methods:
        taken = [values(results, method, name, "seconds") for name in SETS]
        rows.append([method, *(f"{np.mean(seconds):.1f}" if seconds else "" for seconds in taken)])
    return table(["", *SETS], rows)


def _rates(results: Mapping[str, Any]) -> list[str]:
    """Rows of the test part that ``decision_function`` scores in a second, the median over seeds, where measured."""
    rates = []
    for name in SETS:
        own = [v for key, v in results.items() if key.split(" | ")[:2] == [OURS, name]]
        figures = [v for v in own if {"processor_seconds", "rows_scored_per_second"} <= v.keys()]
        if figures:
            rates.append(f"{name} {np.median([v['rows_scored_per_second'] for v in figures]):,.0f}")
    return [f"Rows that `decision_function` scores per processor second: {', '.join(rates)}.", ""] if rates else []
