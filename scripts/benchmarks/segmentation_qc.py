"""Detection quality: every method trained and scored on the same data in the same run, beside its rivals.

    python scripts/benchmarks/segmentation_qc.py --data DATA [--work runs/segmentation_qc] [--seeds 0 1 2]
        [--only hippocampus ...] [--only-methods gnsm ...]

DATA holds ``hippocampus/`` (an nnU-Net raw data set, the predictions of five networks, their images) and
``chest_xray_landmarks/``; phantoms are made. Each (data set, method, seed) is one file of scores in
docs/benchmarks/segmentation_qc; what is there is not run again, so that several sittings add up to one page. To run a
method again, delete its file of scores, its folder in WORK/DATASET, and in the data sets that its models score.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from bench import PAGES, ROOT, Benchmark, Content
from methods import DATASETS, METHODS
from qc_page import draw_figures, page_lines
from scores import load_all, path_of


class ScoresBenchmark(Benchmark):
    """Its content, all scores by data set and method, lies in a folder with a file of each method and seed."""

    def load(self, pages: Path = PAGES) -> Content:
        found = {name: load_all(pages / self.name, name) for name in DATASETS}
        command = f"python scripts/benchmarks/{self.name}.py --data DATA"
        return {"command": command, "datasets": {name: methods for name, methods in found.items() if methods}}

    def store(self, content: Content, pages: Path = PAGES) -> None:
        """`run` has stored each method's scores."""


def measure(options: argparse.Namespace, earlier: Content) -> Iterator[Content]:
    for name in options.only:
        # Seed by seed, so that a short sitting has all methods.
        wanted = [
            (method, seed)
            for seed in sorted(set(options.seeds or range(3)) | {0})
            for method in options.only_methods
            if seed in seeds_of(method, options.seeds)
        ]
        run(name, wanted, options.data.resolve(), options.work.resolve(), PAGES / "segmentation_qc")
    yield BENCHMARK.load()


def seeds_of(method: str, asked: list[int] | None) -> tuple[int, ...]:
    """The seeds that a method is run with: what draws nothing has one."""
    return tuple(asked) if asked and METHODS[method].trained else METHODS[method].seeds


def run(name: str, wanted: list[tuple[str, int]], data: Path, work: Path, output: Path) -> None:
    """Writes the scores of one data set that are not there yet, in the order of ``wanted``."""
    missing = [(method, seed) for method, seed in wanted if not path_of(output, name, method, seed).is_file()]
    if not missing:
        return
    # Only now: a page alone needs neither torch nor data.
    from gnsm_methods import GNSM, score_gnsm
    from qc_data import load_dataset
    from rival_methods import score_rival

    dataset = load_dataset(name, data, work)
    for method, seed in missing:
        scores = (score_gnsm if method in GNSM else score_rival)(dataset, method, seed, work)
        if scores is None:
            print(f"{name}: {method} has nothing to see here")
            continue
        if dataset.skipped:
            scores.more["skipped"] = dataset.skipped
        scores.save(output)
        print(f"{name}: {method}, seed {seed}: {len(scores.score)} masks", flush=True)


BENCHMARK = ScoresBenchmark(
    "segmentation_qc",
    "Detection quality, beside rivals",
    measure,
    lambda content: page_lines(content["datasets"]),
    {
        "--data": {"type": Path, "required": True},
        "--work": {"type": Path, "default": ROOT / "runs" / "segmentation_qc"},
        "--only": {"nargs": "+", "choices": list(DATASETS), "default": list(DATASETS), "help": "data sets"},
        "--only-methods": {"nargs": "+", "choices": list(METHODS), "default": list(METHODS)},
        "--seeds": {"type": int, "nargs": "+", "help": "of trainings (default: those of methods.py)"},
    },
    __doc__,
    lambda content, root: draw_figures(content["datasets"], root),
)

if __name__ == "__main__":
    BENCHMARK.run()
