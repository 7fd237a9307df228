"""Masks whose reference has another number of slices: the reference adds a reason and a Dice, and hides nothing."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gnsm_monai import cli_commands as commands


def pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path))


def dice(a: np.ndarray, b: np.ndarray) -> float:
    """Mean over the structures of either map."""
    values = [value for value in np.union1d(a, b) if value]
    return float(np.mean([2 * ((a == v) & (b == v)).sum() / ((a == v).sum() + (b == v).sum()) for v in values]))


def ranked(model: Path, masks: Path, output: Path, **options: Path) -> dict[str, dict[str, str]]:
    assert commands.rank(output, model=model, predictions=[masks], device="cpu", **options) == 0
    with (output / "ranking.csv").open(newline="") as file:
        return {row["case"]: row for row in csv.DictReader(file)}


def test_masks_rank_as_without_references_of_another_size_and_say_what_is_missing(
    model: Path, dataset: Path, tmp_path: Path
) -> None:
    """One mask lacks the lowest rows of its reference, one reference those of its mask, and one pair is whole."""
    masks, references = tmp_path / "masks", tmp_path / "references"
    shutil.copytree(dataset / "labelsTs", references)
    masks.mkdir()
    cut, shorter, whole = sorted((dataset / "predictions" / "islands").iterdir())[:3]
    for path in (cut, shorter, whole):
        shutil.copy(path, masks)
    for path in (masks / cut.name, references / shorter.name):
        Image.fromarray(pixels(path)[:-9]).save(path)
    alone = ranked(model, masks, tmp_path / "alone")
    beside = ranked(model, masks, tmp_path / "beside", references_dir=references)
    for column in ("rank", "status", "anomaly_score", "p_value", "flag"):
        assert {case: row[column] for case, row in beside.items()} == {c: row[column] for c, row in alone.items()}
    assert {row["status"] for row in beside.values()} == {"ok"} and not any(row["message"] for row in alone.values())
    lost = "9 rows of pixels missing at its lower end beside its reference"
    assert [beside[path.stem]["reason"].startswith(lost) for path in (cut, shorter, whole)] == [True, False, False]
    assert "its reference shows less than the mask" in beside[shorter.stem]["message"]
    filled = np.pad(pixels(masks / cut.name), [(0, 9), (0, 0)])
    expected = dice(filled, pixels(references / cut.name))
    assert float(beside[cut.stem]["dice"]) == pytest.approx(expected, abs=1e-6)
