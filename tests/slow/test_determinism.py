"""Same seed, same numbers; and what must not matter, does not: chunk size, workers, order and neighbours of masks."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.slow.processes import MODEL_FILES, RANKING_FILES, Command, differing_files, rank, train


def scores(model: Path, masks: Path, output: Path, **options: Any) -> dict[str, float]:
    Command(rank(model, masks, output, **options), output.with_suffix(".log")).assert_succeeds()
    with open(output / "ranking.csv", newline="") as file:
        return {row["case"]: float(row["anomaly_score"]) for row in csv.DictReader(file)}


@pytest.fixture(scope="module")
def first(model: Path, masks: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, float]]:
    """A ranking of all masks, and their scores."""
    output = tmp_path_factory.mktemp("first") / "results"
    return output, scores(model, masks, output)


def test_training_twice_with_one_seed_gives_the_same_bytes(dataset: Path, model: Path, tmp_path: Path) -> None:
    Command(train(dataset, tmp_path / "model"), tmp_path / "log").assert_succeeds()
    assert differing_files(model, tmp_path / "model", MODEL_FILES) == []


def test_ranking_twice_gives_the_same_bytes(first: Any, model: Path, masks: Path, tmp_path: Path) -> None:
    assert scores(model, masks, tmp_path / "again") == first[1]
    assert differing_files(first[0], tmp_path / "again", RANKING_FILES[:3]) == []


@pytest.mark.parametrize("options", [{"chunk_size": 1}, {"chunk_size": 3}, {"num_workers": 2}], ids=str)
def test_how_masks_are_read_and_levels_shared_out_does_not_matter(
    first: Any, model: Path, masks: Path, tmp_path: Path, options: dict[str, int]
) -> None:
    """Sums of levels in another order round otherwise."""
    assert scores(model, masks, tmp_path / "other", **options) == pytest.approx(first[1], rel=1e-5)


def test_order_and_neighbours_of_masks_do_not_matter(first: Any, model: Path, masks: Path, tmp_path: Path) -> None:
    names = sorted(path.name for path in masks.iterdir())
    (tmp_path / "reverse").mkdir()
    (tmp_path / "alone").mkdir()
    for number, name in enumerate(reversed(names)):
        shutil.copy(masks / name, tmp_path / "reverse" / f"{number:03d}_{name}")
    turned = {case[4:]: value for case, value in scores(model, tmp_path / "reverse", tmp_path / "turned").items()}
    assert turned == pytest.approx(first[1], rel=1e-5)
    shutil.copy(masks / names[0], tmp_path / "alone")
    alone = scores(model, tmp_path / "alone", tmp_path / "one")
    assert len(alone) == 1 and alone == pytest.approx({case: first[1][case] for case in alone}, rel=1e-5)
