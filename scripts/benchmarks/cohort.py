"""A whole cohort: what ranking takes beyond the network, and what a second process gains.

    OMP_NUM_THREADS=1 python scripts/benchmarks/cohort.py --model MODEL --predictions FOLDER [FOLDER ...]
        [--count 1000] [--shared 400] [--work runs/cohort]

The masks of the folders are linked, over and over under further names, to a cohort of ``--count``. It is ranked with
readers of their own (``num_workers``), and the time from the first mask to the written report stands beside the time
within the network and that within scoring, counted in the same run. Then ``--shared`` of them are ranked by one
process and by two (``torchrun``, gloo), one thread each: masks per second, start of the interpreters and report
included, and whether ranking.csv is the same.
"""

from __future__ import annotations

import argparse
import itertools
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from bench import ROOT, Benchmark, Content, table
from monai.inferers import SimpleInferer

from gnsm_monai import cli_commands as commands
from gnsm_monai.data.datalist import find_label_maps
from gnsm_monai.scoring.scorer import Scorer


def measure(options: argparse.Namespace, earlier: Content) -> Iterator[Content]:
    torch.set_num_threads(1)
    masks = cohort(options.predictions, options.work / "masks", options.count)
    few = cohort(options.predictions, options.work / "shared_masks", options.shared)
    yield {
        "command": options.command,
        "setting": f"torch {torch.__version__}, one thread",
        "count": options.count,
        "workers": {
            str(number): timed(options.model, masks, options.work / f"workers_{number}", number)
            for number in options.workers
        },
        "shared": shared(options.model, few, options.work),
    }


def cohort(folders: Sequence[Path], target: Path, count: int) -> Path:
    """A folder with ``count`` masks: links to those of the folders, as often as it takes."""
    target.mkdir(parents=True, exist_ok=True)
    sources = [path for folder in folders for _, path in sorted(find_label_maps(folder).items())]
    ending = sources[0].name.removeprefix(sources[0].name.split(".")[0])
    for link in target.iterdir():
        link.unlink()
    for number, path in enumerate(itertools.islice(itertools.cycle(sources), count)):
        (target / f"case_{number:05d}{ending}").symlink_to(path.resolve())
    return target


class _Timed:
    """A mixin that adds up the seconds of all calls."""

    seconds = 0.0

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        start = time.perf_counter()
        result = super().__call__(*args, **kwargs)  # type: ignore[misc]
        self.seconds += time.perf_counter() - start
        return result


class _TimedInferer(_Timed, SimpleInferer):
    """Its seconds are those within the network."""


class _TimedScorer(_Timed, Scorer):
    """Its seconds are those of scoring, the network's among them."""


def timed(model: Path, masks: Path, output: Path, workers: int) -> dict[str, float]:
    """Seconds of ranking a folder in this process, and of its parts."""
    workflow = commands._prepare(
        "inference.yaml", model_dir=model, predictions_dir=masks, output_dir=output, device="cpu", num_workers=workers
    )
    scorer = workflow.parser.get_parsed_content("evaluator")._process_function.scorer
    network = scorer.inferer = _TimedInferer()
    scorer.__class__ = _TimedScorer
    start = time.perf_counter()
    workflow.run()
    return {"wall": time.perf_counter() - start, "scoring": scorer.seconds, "network": network.seconds}


def shared(model: Path, masks: Path, work: Path) -> dict[str, Any]:
    """Seconds of one process and of two, and whether they rank alike."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    seconds, rankings = {}, {}
    for name, start in {"one": [sys.executable], "two": torchrun}.items():
        output = work / f"by_{name}"
        rank = ["-m", "gnsm_monai", "rank", "--model", model, "--predictions", masks, "--device", "cpu"]
        command = list(map(str, [*start, *rank, "--output", output]))
        began = time.perf_counter()
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        subprocess.run(command, check=True, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)
        seconds[name] = time.perf_counter() - began
        rankings[name] = (output / "ranking.csv").read_bytes()
    return {"masks": sum(1 for _ in masks.iterdir()), **seconds, "identical": rankings["one"] == rankings["two"]}


def lines(content: Content) -> list[str]:
    rows = [
        [workers, f"{t['wall']:.0f} s", f"{t['scoring']:.0f} s", f"{t['network']:.0f} s",
         f"{1000 * t['wall'] / content['count']:.0f} ms", f"{t['wall'] / t['scoring']:.3f}",
         f"{t['wall'] / t['network']:.2f}"]
        for workers, t in content["workers"].items()
    ]  # fmt: skip
    head = ["reading processes", "whole run", "scoring", "score network in it", "per mask", "run / scoring",
            "run / network"]  # fmt: skip
    s = content["shared"]
    return [
        f"## {content['count']} masks in one process", "",
        "Whole run: from the first mask to the written report; reading, explaining and writing included.", "",
        *table(head, rows), "",
        "## Two processes", "",
        f"{s['masks']} masks by `gnsm rank`, start and report included: {s['one']:.0f} s by one process,",
        f"{s['two']:.0f} s by two (`torchrun`, gloo), **{s['one'] / s['two']:.2f} times** the masks per second;",
        f"ranking.csv {'is the same, byte by byte' if s['identical'] else 'DIFFERS'}.",
    ]  # fmt: skip


BENCHMARK = Benchmark(
    "cohort",
    "A cohort of masks",
    measure,
    lines,
    {
        "--model": {"type": Path, "required": True},
        "--predictions": {"type": Path, "nargs": "+", "required": True, "metavar": "FOLDERS"},
        "--count": {"type": int, "default": 1000, "help": "masks that one process ranks"},
        "--shared": {"type": int, "default": 400, "help": "masks that two processes share"},
        "--workers": {"type": int, "nargs": "+", "default": [0, 1], "help": "numbers of reading processes"},
        "--work": {"type": Path, "default": ROOT / "runs" / "cohort"},
    },
    __doc__,
)

if __name__ == "__main__":
    BENCHMARK.run()
