"""This version beside version 0.2 (commit 1e27609): seconds of the processor, wall time and memory, task by task.

    OMP_NUM_THREADS=1 python scripts/benchmarks/against_before.py --data DATA [--tasks help rank_two cohort ...]
        [--repeats 3] [--count 1000] [--model MODEL] [--work runs/against_before]

Makes a worktree of that commit from the history, and an environment for it over the packages that run this script: what
differs is this package alone. Both versions then do each task in turns, in processes of their own, on as many threads
as OMP_NUM_THREADS says. Seconds of the processor (user and system, children included) are what the work takes on a
machine that other work shares. A run that is stopped continues with the runs that are missing; delete the JSON to
measure anew. Both versions rank by one model of version 0.2; it is trained by that version if none is given.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from against_before_notes import NOTES
from bench import DATA, MISSING, ROOT, Benchmark, Content, table
from cohort import cohort
from max_minutes import HIPPOCAMPUS
from package_commands import rows_of
from scipy.stats import spearmanr

COMMIT = "1e27609"
BEFORE, AFTER = "before", "after"
FOLDERS = ("epoch08", "epoch12", "epoch20", "epoch12_corrupted_images", "epoch20_corrupted_images")
BLOOD = Path("blood_cell")

TIMER = """
import json, resource, subprocess, sys, time
start = time.monotonic()
with open(sys.argv[1], "wb") as log:
    status = subprocess.call(sys.argv[2:], stdout=log, stderr=log)
wall, used = time.monotonic() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps([status, used.ru_utime + used.ru_stime, wall, used.ru_maxrss / 1024]))
"""
"""Runs a command from a small process: a child starts with the peak memory of the process that it was forked from."""

Words = list[Any]
Run = dict[str, Any]


@dataclass(frozen=True)
class Task:
    """Something that users do.

    Args:
        title: in the table.
        words: the words behind ``gnsm`` of one version, by the options of this script, the version and a new folder.
        facts: plain values that the folder tells of the result.
        after_words: further words of this version alone.
        versions: that do it.
    """

    title: str
    words: Callable[[argparse.Namespace, Path], Words]
    facts: Callable[[argparse.Namespace, Path, str], dict[str, Any]] | None = None
    after_words: tuple[str, ...] = ()
    versions: tuple[str, ...] = (BEFORE, AFTER)


def measure(options: argparse.Namespace, earlier: Content) -> Iterator[Content]:
    tasks = earlier.get("tasks", {})
    every = argparse.Namespace(**{**vars(options), "tasks": list(dict.fromkeys([*tasks, *options.tasks]))})
    content: Content = {
        "command": BENCHMARK.command(every),  # of all tasks of the page, of which these may be some
        "setting": f"torch {torch.__version__}, {os.cpu_count()} cores shared with other work",
        "tasks": tasks,
    }
    options.work = options.work.absolute()
    environment(options.work)
    for name in options.tasks:
        entry = content["tasks"].setdefault(name, {"runs": []})
        for number in range(options.repeats):
            for version in TASKS[name].versions:
                if sum(run["version"] == version for run in entry["runs"]) <= number:
                    entry["runs"].append(run(TASKS[name], version, options))
                    yield content
    yield content


def environment(work: Path) -> Path:
    """The interpreter of version 0.2: its commit as a worktree, over the packages of this process."""
    folder = work / "version_0.2"
    if not (folder / "setup.cfg").is_file():
        subprocess.run(["git", "worktree", "prune"], check=True, cwd=ROOT)
        subprocess.run(["git", "worktree", "add", "--detach", folder.absolute(), COMMIT], check=True, cwd=ROOT)
    python = folder / ".venv" / "bin" / "python"
    if not python.is_file():
        venv.create(folder / ".venv", with_pip=False)
        packages = [path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")]
        (target,) = (folder / ".venv").glob("lib/python*/site-packages")
        (target / "packages.pth").write_text("\n".join([str(folder.absolute()), *packages]) + "\n")
    return python


def home(version: str, work: Path) -> Path:
    """The folder in which a version runs: its own, for ``python -m`` looks there first."""
    return work / "version_0.2" if version == BEFORE else ROOT


def gnsm_of(version: str, work: Path, words: Words) -> list[str]:
    """The command line of ``gnsm`` of a version."""
    python = environment(work) if version == BEFORE else Path(sys.executable)
    return [str(python.absolute()), "-m", "gnsm_monai", *map(str, words)]


def run(task: Task, version: str, options: argparse.Namespace) -> Run:
    """One run of a task by one version: seconds, memory and facts."""
    output = options.work / "output"
    shutil.rmtree(output, ignore_errors=True)
    words = task.words(options, output) + (list(task.after_words) if version == AFTER else [])
    command, log = gnsm_of(version, options.work, words), options.work / "log.txt"
    timer = [sys.executable, "-S", "-c", TIMER, str(log), *command]
    told = subprocess.run(timer, cwd=home(version, options.work), check=True, stdout=subprocess.PIPE).stdout
    status, *values = json.loads(told)
    if status:
        raise SystemExit(f"{version}: {' '.join(command)} ended with {status}:\n{log.read_text()[-2000:]}")
    figures = dict(zip(("cpu", "wall", "mib"), values, strict=True))
    facts = {} if task.facts is None else task.facts(options, output, version)
    return {"version": version, **figures, **facts}


def model(options: argparse.Namespace) -> Path:
    """A model of version 0.2 of the hippocampus references."""
    folder: Path = options.model or options.work / "model"
    if not (folder / "settings.json").is_file():
        words = ["train", "--dataset", options.data / HIPPOCAMPUS, "--output", folder.absolute(), "--resume"]
        subprocess.run(gnsm_of(BEFORE, options.work, words), check=True, cwd=home(BEFORE, options.work))
    return folder.absolute()


def masks(options: argparse.Namespace, count: int) -> Path:
    """So many masks of the hippocampus networks."""
    sources = [options.data / "hippocampus" / "predictions" / folder for folder in FOLDERS]
    return cohort(sources, options.work / f"masks_{count}", count).absolute()


def ranking(count: int | None) -> Callable[[argparse.Namespace, Path], Words]:
    def words(options: argparse.Namespace, output: Path) -> Words:
        number = options.count if count is None else count
        predictions = masks(options, number)
        return ["rank", "--model", model(options), "--predictions", predictions, "--output", output]

    return words


def training(dataset: Path, *more: str) -> Callable[[argparse.Namespace, Path], Words]:
    def words(options: argparse.Namespace, output: Path) -> Words:
        return ["train", "--dataset", options.data / dataset, "--output", output, "--device", "cpu", *more]

    return words


def scores(options: argparse.Namespace, output: Path, version: str) -> dict[str, Any]:
    """The scores, by which the two versions are compared."""
    return {"scores": {row["case"]: float(row["anomaly_score"]) for row in rows_of(output / "ranking.csv")}}


def worth(
    predictions: Path, references: Path, *images: Any
) -> Callable[[argparse.Namespace, Path, str], dict[str, Any]]:
    """Spearman correlation of a trained model's scores with Dice, of all masks and by folder, by its own version."""

    def facts(options: argparse.Namespace, output: Path, version: str) -> dict[str, Any]:
        folders = sorted(folder for folder in (options.data / predictions).iterdir() if folder.is_dir())
        results = options.work / "ranked"
        shutil.rmtree(results, ignore_errors=True)
        words = ["rank", "--model", output, "--predictions", *folders, "--output", results.absolute()]
        words += ["--references", options.data / references, *images]
        command = gnsm_of(version, options.work, words)
        subprocess.run(command, check=True, cwd=home(version, options.work), stdout=subprocess.DEVNULL)
        rows = [row for row in rows_of(results / "ranking.csv") if row["status"] == "ok"]
        groups = {"pooled": rows}
        for row in rows:
            groups.setdefault(row["case"].split("/")[0], []).append(row)
        return {"spearman": {name: _spearman(group) for name, group in groups.items()}}

    return facts


def _spearman(rows: list[dict[str, str]]) -> float:
    pairs = [(float(row["anomaly_score"]), float(row["dice"])) for row in rows if row["dice"]]
    return float(spearmanr(*zip(*pairs, strict=True)).statistic)


OF_HIPPOCAMPUS = worth(Path("hippocampus") / "predictions", HIPPOCAMPUS / "labelsTs")

TASKS: dict[str, Task] = {
    "help": Task("`gnsm --help`", lambda options, output: ["--help"]),
    "rank_two": Task("rank two masks, start to exit", ranking(2), scores),
    "cohort": Task("rank a cohort", ranking(None), scores),
    "cohort_all": Task("the same with `--all-statistics`", ranking(None), scores, ("--all-statistics",)),
    "train": Task("train, hippocampus labels", training(HIPPOCAMPUS), OF_HIPPOCAMPUS),
    "quick": Task("train `--quick`", training(HIPPOCAMPUS), OF_HIPPOCAMPUS, ("--quick",), (AFTER,)),
}
"""By name; another module may add its own."""


def lines(content: Content) -> list[str]:
    head = ["task", "runs", "0.2, s", "now, s", "times as fast", "by wall time", "0.2, MiB", "now, MiB"]
    rows = [row(TASKS[name].title, entry["runs"]) for name, entry in content["tasks"].items()]
    return [
        "Seconds of the processor, median of the runs and their range; peak memory of the largest process. `times as",
        "fast` is the ratio of the medians, with the least and the greatest ratio of two runs in turn.",
        "",
        *table(head, rows),
        "",
        *[line for name, entry in content["tasks"].items() for line in agreement(TASKS[name].title, entry["runs"])],
        *NOTES,
    ]


def row(title: str, runs: list[Run]) -> list[Any]:
    """A line of the table."""
    both = {version: [r for r in runs if r["version"] == version] for version in (BEFORE, AFTER)}
    pairs = list(zip(both[BEFORE], both[AFTER], strict=False))
    ratios = {}
    for clock in ("cpu", "wall"):
        each = [old[clock] / new[clock] for old, new in pairs]
        middle = median(r[clock] for r in both[BEFORE]) / median(r[clock] for r in both[AFTER]) if pairs else 0
        ratios[clock] = f"{middle:.2f} ({min(each):.2f} to {max(each):.2f})" if pairs else MISSING
    seconds, mib = (
        [figure([r[name] for r in both[version]], digits) for version in (BEFORE, AFTER)]
        for name, digits in (("cpu", 1), ("mib", 0))
    )
    return [title, len(pairs) or max(map(len, both.values())), *seconds, ratios["cpu"], ratios["wall"], *mib]


def figure(values: list[float], digits: int) -> str:
    """Median and range, such as ``5.1 (5.0 to 5.3)``."""
    if not values:
        return MISSING
    digits = 2 if digits and max(values) < 1 else digits
    low, middle, high = (f"{value:.{digits}f}" for value in (min(values), median(values), max(values)))
    return middle if low == high else f"{middle} ({low} to {high})"


def agreement(title: str, runs: list[Run]) -> list[str]:
    """What the versions' results have in common."""
    scored = {r["version"]: r["scores"] for r in runs if "scores" in r}
    text = []
    if len(scored) == 2:
        old, new = (np.array([scored[version][case] for case in sorted(scored[BEFORE])]) for version in (BEFORE, AFTER))
        text = [f"- {title}: {len(old)} scores, greatest difference {np.abs(old - new).max():.2g},"]
        text += [f"  Spearman correlation of the two {spearmanr(old, new).statistic:.6f}."] if len(old) > 2 else []
    for version in (BEFORE, AFTER):
        for correlations in [r["spearman"] for r in runs if r["version"] == version and "spearman" in r]:
            values = ", ".join(f"{name} {value:.3f}" for name, value in correlations.items())
            text.append(f"- {title}, {'0.2' if version == BEFORE else 'now'}: Spearman with Dice: {values}.")
    return [*text, ""] if text else []


BENCHMARK = Benchmark(
    "against_before",
    "Against version 0.2",
    measure,
    lines,
    {
        **DATA,
        "--tasks": {"nargs": "+", "default": ["help", "rank_two", "cohort"], "choices": sorted(TASKS)},
        "--repeats": {"type": int, "default": 3},
        "--count": {"type": int, "default": 1000, "help": "masks of a cohort"},
        "--model": {"type": Path, "default": None, "help": "of version 0.2, of the hippocampus references"},
        "--work": {"type": Path, "default": ROOT / "runs" / "against_before"},
    },
    __doc__,
)

if __name__ == "__main__":
    BENCHMARK.run()
