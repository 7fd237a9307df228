"""Many masks ranked in one process: its memory does not grow."""

from __future__ import annotations

import json
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from ignite.engine import Events

from gnsm_monai import cli_commands as commands
from tests.slow.processes import Command, resident_gib

GROWTH = 0.05
"""The share by which memory may grow after the first tenth, which fills caches."""


def rank_and_watch(model: Path, masks: Path, output: Path, record: Path, every: int) -> None:
    """Ranks; writes the resident memory after every so many masks."""
    workflow = commands._prepare(
        "inference.yaml", model_dir=model, predictions_dir=masks, output_dir=output, device="cpu"
    )
    taken: list[float] = []
    evaluator = workflow.parser.get_parsed_content("evaluator")
    evaluator.add_event_handler(Events.ITERATION_COMPLETED(every=every), lambda: taken.append(resident_gib()))
    workflow.run()
    record.write_text(json.dumps(taken))


@pytest.mark.parametrize("count", [300, pytest.param(5000, marks=pytest.mark.soak)])
def test_memory_does_not_grow_with_the_number_of_masks(model: Path, masks: Path, tmp_path: Path, count: int) -> None:
    many, record = tmp_path / "many", tmp_path / "memory.json"
    many.mkdir()
    sources = sorted(masks.iterdir())
    for number in range(count):
        shutil.copy(sources[number % len(sources)], many / f"case_{number:05d}.png")
    call = partial(rank_and_watch, model, many, tmp_path / "out", record, count // 100)
    Command(call, tmp_path / "log").assert_succeeds()
    taken = np.array(json.loads(record.read_text()))
    assert len(taken) == 100
    assert taken[-1] < (1 + GROWTH) * taken[10]
    assert len((tmp_path / "out" / "ranking.csv").read_text().splitlines()) == count + 1
