"""A whole cohort: what ranking takes beyond the network, and what a second process gains.

    OMP_NUM_THREADS=1 python scripts/benchmarks/cohort.py --model MODEL --predictions FOLDER [FOLDER ...]
        [--count 1000] [--shared 400] [--work runs/cohort]

The masks of the folders are linked, over and over under further names, to a cohort of ``--count``. It is ranked with
readers of their own (``num_workers``), and the time from the first mask to the written report stands beside the time
within the network and that within scoring, counted in the same run. Then ``--shared`` of them are ranked by one
process and by two (``torchrun``, gloo), one thread each: masks per second, start of the interpreters and report
included, and whether ranking.csv is the same. Writes docs/benchmarks/cohort.md.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from markdown import table
from monai.inferers import SimpleInferer
from steps import ROOT

from gnsm_monai import cli_commands as commands
from gnsm_monai.data.datalist import find_label_maps
from gnsm_monai.scoring.scorer import Scorer

PAGE = ROOT / "docs" / "benchmarks" / "cohort.md"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--predictions", type=Path, nargs="+", required=True)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--shared", type=int, default=400)
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--work", type=Path, default=ROOT / "runs" / "cohort")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    found: dict[str, Any] = {"command": _command(arguments), "torch": torch.__version__, "count": arguments.count}
    masks = cohort(arguments.predictions, arguments.work / "masks", arguments.count)
    found["workers"] = {
        str(number): timed(arguments.model, masks, arguments.work / f"workers_{number}", number)
        for number in arguments.workers
    }
    few = cohort(arguments.predictions, arguments.work / "shared_masks", arguments.shared)
    found["shared"] = shared(arguments.model, few, arguments.work)
    PAGE.with_suffix(".json").write_text(json.dumps(found, indent=1) + "\n")
    PAGE.write_text(page(found))
    print(PAGE.read_text())


def _command(arguments: argparse.Namespace) -> str:
    options = [f"--count {arguments.count}", f"--shared {arguments.shared}"]
    options.append(f"--workers {' '.join(map(str, arguments.workers))}")
    return " ".join(
        ["OMP_NUM_THREADS=1 python scripts/benchmarks/cohort.py --model MODEL --predictions FOLDERS", *options]
    )


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


class _Counted(SimpleInferer):
    """Seconds within the network."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds = 0.0

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        start = time.perf_counter()
        found = super().__call__(*args, **kwargs)
        self.seconds += time.perf_counter() - start
        return found


class _CountedScorer(Scorer):
    """Seconds within scoring, the network's among them."""

    seconds = 0.0

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        start = time.perf_counter()
        found = super().__call__(*args, **kwargs)
        self.seconds += time.perf_counter() - start
        return found


def timed(model: Path, masks: Path, output: Path, workers: int) -> dict[str, float]:
    """Seconds of ranking a folder in this process, and of its parts."""
    workflow = commands._prepare(
        "inference.yaml", model_dir=model, predictions_dir=masks, output_dir=output, device="cpu", num_workers=workers
    )
    evaluator = workflow.parser.get_parsed_content("evaluator")
    scorer = evaluator._process_function.scorer
    network = scorer.inferer = _Counted()
    scorer.__class__ = _CountedScorer
    start = time.perf_counter()
    workflow.run()
    return {"wall": time.perf_counter() - start, "scoring": scorer.seconds, "network": network.seconds}


def shared(model: Path, masks: Path, work: Path) -> dict[str, Any]:
    """Masks per second by one process and by two, and whether they rank alike."""
    rank = ["rank", "--model", model, "--predictions", masks, "--device", "cpu"]
    launch = {
        "one": [sys.executable, "-m", "gnsm_monai"],
        "two": [
            sys.executable,
            "-m",
            "torch.distributed.run",
            "--standalone",
            "--nproc_per_node=2",
            "-m",
            "gnsm_monai",
        ],
    }
    taken, rankings = {}, {}
    for name, start in launch.items():
        output = work / f"by_{name}"
        command = list(map(str, [*start, *rank, "--output", output]))
        began = time.perf_counter()
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        subprocess.run(command, check=True, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)
        taken[name] = time.perf_counter() - began
        rankings[name] = (output / "ranking.csv").read_bytes()
    return {"masks": sum(1 for _ in masks.iterdir()), **taken, "identical": rankings["one"] == rankings["two"]}


def page(found: dict[str, Any]) -> str:
    rows = [
        [workers, f"{t['wall']:.0f} s", f"{t['scoring']:.0f} s", f"{t['network']:.0f} s",
         f"{1000 * t['wall'] / found['count']:.0f} ms", f"{t['wall'] / t['scoring']:.3f}",
         f"{t['wall'] / t['network']:.2f}"]
        for workers, t in found["workers"].items()
    ]  # fmt: skip
    head = [
        "reading processes",
        "whole run",
        "scoring",
        "score network in it",
        "per mask",
        "run / scoring",
        "run / network",
    ]
    s = found["shared"]
    same = "is the same, byte by byte" if s["identical"] else "DIFFERS"
    text = [
        "# A cohort of masks", "",
        f"`{found['command']}` (torch {found['torch']}, one thread)", "",
        f"## {found['count']} masks in one process", "",
        "Whole run: from the first mask to the written report; reading, explaining and writing included.",
        "",
        *table(head, rows), "",
        "## Two processes", "",
        f"{s['masks']} masks by `gnsm rank`, start and report included: {s['one']:.0f} s by one process,",
        f"{s['two']:.0f} s by two (`torchrun`, gloo), **{s['one'] / s['two']:.2f} times** the masks per second;",
        f"ranking.csv {same}.", "",
    ]  # fmt: skip
    return "\n".join(text)


if __name__ == "__main__":
    main()
