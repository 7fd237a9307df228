"""Detection quality: every method trained and scored on the same data in the same run, beside its rivals.

    python scripts/benchmarks/segmentation_qc.py --data DATA [--work runs/segmentation_qc] [--seeds 0 1 2]
        [--only hippocampus ...] [--only-methods gnsm ...] [--page]

DATA holds ``hippocampus/`` (an nnU-Net raw data set, the predictions of five networks, their images) and
``chest_xray_landmarks/``; phantoms are made. Each (data set, method, seed) is one file of scores in
docs/benchmarks/segmentation_qc; what is there is not run again, so that several sittings add up to one page,
docs/benchmarks/segmentation_qc.md. ``--page`` writes the page from those files and runs nothing. To run a method
again, delete its file of scores, its folder in WORK/DATASET, and in the data sets that its models score.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from methods import DATASETS, METHODS
from qc_page import write_page
from scores import path_of
from steps import ROOT

PAGES = ROOT / "docs" / "benchmarks"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path)
    parser.add_argument("--work", type=Path, default=ROOT / "runs" / "segmentation_qc")
    parser.add_argument("--only", nargs="+", choices=list(DATASETS), default=list(DATASETS), help="data sets")
    parser.add_argument("--only-methods", nargs="+", choices=list(METHODS), default=list(METHODS))
    parser.add_argument("--seeds", type=int, nargs="+", help="of trainings (default: 0 1 2; published noise: 0)")
    parser.add_argument("--page", action="store_true", help="write the page from the scores that there are")
    arguments = parser.parse_args()
    if not arguments.page:
        if arguments.data is None:
            parser.error("--data is needed, but for --page")
        for name in arguments.only:
            # Seed by seed, so that a short sitting has all methods.
            wanted = [
                (method, seed)
                for seed in sorted(set(arguments.seeds or range(3)) | {0})
                for method in arguments.only_methods
                if seed in seeds_of(method, arguments.seeds)
            ]
            run(name, wanted, arguments.data.resolve(), arguments.work.resolve(), PAGES / "segmentation_qc")
    write_page(PAGES)
    print(PAGES / "segmentation_qc.md")


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


if __name__ == "__main__":
    main()
