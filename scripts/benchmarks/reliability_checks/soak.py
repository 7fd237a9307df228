"""Thousands of masks ranked in one process: does its memory grow?"""

from __future__ import annotations

import json
import resource
import shutil
import time
from pathlib import Path

import numpy as np
from ignite.engine import Events

from gnsm_monai import cli_commands as commands
from reliability_checks.common import Finding, Forked, dataset, trained_model

SHARE = 0.05
"""By how much memory may grow."""


def examine(work: Path, count: int = 5000) -> list[Finding]:
    """One line: resident memory while ``count`` masks are scored and their ranking is written."""
    folder, model = dataset(work), trained_model(work)
    masks, output, memory = work / "many", work / "soak", work / "memory.json"
    shutil.rmtree(masks, ignore_errors=True)
    shutil.rmtree(output, ignore_errors=True)
    masks.mkdir()
    sources = sorted((folder / "predictions").rglob("*.png"))
    for number in range(count):
        shutil.copy(sources[number % len(sources)], masks / f"case_{number:05d}.png")

    def run() -> int:
        workflow = commands._prepare(
            "inference.yaml", model_dir=model, predictions_dir=masks, output_dir=output, device="cpu"
        )
        taken: list[tuple[int, float]] = []
        evaluator = workflow.parser.get_parsed_content("evaluator")
        every = max(1, count // 100)
        evaluator.add_event_handler(
            Events.ITERATION_COMPLETED(every=every), lambda engine: taken.append((engine.state.iteration, _resident()))
        )
        start = time.monotonic()
        workflow.run()
        memory.write_text(json.dumps({"taken": taken, "end": _resident(), "seconds": time.monotonic() - start}))
        return 0

    child = Forked(run, work / "soak.log")
    if child.end():
        return [Finding("soak", "", (child.text[-2000:],))]
    found = json.loads(memory.read_text())
    taken = np.array(found["taken"])
    settled = taken[taken[:, 0] >= count / 10, 1]  # the first tenth fills caches
    growth = float(settled[-1] / settled[0] - 1)
    rows = len((output / "ranking.csv").read_text().splitlines()) - 1
    figure = (
        f"{rows} masks in one process: {settled[0]:.0f} MiB after {count // 10}, {settled[-1]:.0f} MiB after {count} "
        f"({growth:+.1%}), peak {child.peak * 1024:.0f} MiB with the report; {found['seconds'] / count * 1000:.0f} ms "
        f"per mask"
    )
    wrong = [f"memory grew by {growth:.1%}"] if abs(growth) > SHARE else []
    wrong += [f"{rows} rows of {count}"] if rows != count else []
    return [Finding("memory over a long run", figure, tuple(wrong))]


def _resident() -> float:
    """Resident memory of this process in MiB."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize() / 2**20
