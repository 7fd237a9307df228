from __future__ import annotations

import csv
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from gnsm_monai.evaluation.budget import measured_budget
from gnsm_monai.report.board import write_board
from gnsm_monai.report.pictures import heat_range
from gnsm_monai.report.strips import HEIGHT, LINE, THUMBNAIL, WIDTH, case_strip, sprite, thumbnail

Row = dict[str, Any]


def _rows(make_row: Callable[..., Row], make_failed: Callable[..., Row], rank: Callable[..., list[Row]]) -> list[Row]:
    rows = [make_row(index) for index in range(12)]
    for number, row in enumerate(rows):
        row["levels"] = {name: np.full(4, row["anomaly_score"]) for name in ("misfit", "shape", "size")}
        row["thumbnail"] = thumbnail(row["picture"])
        row["picture"] = row["picture"] if number % 2 else None
    return rank([*rows, make_failed("torn")])


@pytest.fixture
def rows(make_row: Callable[..., Row], make_failed: Callable[..., Row], rank: Callable[..., list[Row]]) -> list[Row]:
    return _rows(make_row, make_failed, rank)


def _events(folder: Path) -> EventAccumulator:
    (path,) = folder.glob("events*")  # one writer, one file
    return EventAccumulator(str(path), size_guidance={"images": 0, "tensors": 0}).Reload()


def test_a_ranking_with_dice_fills_every_tab(
    rows: list[Row], summarise: Callable[..., dict[str, Any]], references: np.ndarray, tmp_path: Path
) -> None:
    write_board(tmp_path / "tb", rows, summarise(rows), references)
    events = _events(tmp_path / "tb")
    strips = [f"worst_cases/rank_{row['rank']:03d}" for row in rows if row.get("picture") is not None]
    figures = {f"figures/{name}" for name in ("1_histogram_of_scores", "2_score_against_dice", "3_risk_coverage")}
    assert set(events.Tags()["images"]) == {*strips, *figures, "figures/4_review_budget"}
    assert set(events.Tags()["histograms"]) == {"anomaly_score/masks", "anomaly_score/references"}
    assert {"failures/dice_below_0.7", "ranking/text_summary"} <= set(events.Tags()["tensors"])
    assert "metrics/spearman" in events.Tags()["scalars"]
    assert "_hparams_/session_start_info" in events.summary_metadata
    assert sum(path.stat().st_size for path in (tmp_path / "tb").rglob("*") if path.is_file()) < 3e6


def test_where_no_mask_has_failed_there_is_no_review_budget_to_draw(
    rows: list[Row], summarise: Callable[..., dict[str, Any]], references: np.ndarray, tmp_path: Path
) -> None:
    budget = measured_budget([1.0, 2.0, 3.0], [0.9, 0.9, 0.9], failure_dice=0.7)
    write_board(tmp_path / "tb", rows, {**summarise(rows), "review_budget": budget}, references)
    images = _events(tmp_path / "tb").Tags()["images"]
    assert "figures/3_risk_coverage" in images
    assert "figures/4_review_budget" not in images


def test_the_projector_has_a_point_a_line_and_a_sprite_per_case(
    rows: list[Row], summarise: Callable[..., dict[str, Any]], references: np.ndarray, tmp_path: Path
) -> None:
    write_board(tmp_path, rows, summarise(rows), references)
    (folder,) = {path.parent for path in tmp_path.rglob("metadata.tsv")}
    with open(folder / "metadata.tsv", newline="") as file:
        lines = list(csv.DictReader(file, delimiter="\t"))
    scored = [row for row in rows if row["status"] == "ok"]
    assert [line["case"] for line in lines] == [row["case"] for row in scored]
    assert [float(line["dice"]) for line in lines] == pytest.approx([row["dice"] for row in scored], rel=1e-3)
    assert {line["flag"] for line in lines} == {"0", "1"}
    points = np.loadtxt(folder / "tensors.tsv", delimiter="\t")
    assert points.shape == (12, 12)
    assert np.allclose(points.std(0), 1, atol=1e-5) and np.allclose(points.mean(0), 0, atol=1e-5)
    sprite = Image.open(folder / "sprite.png")
    assert sprite.size == (4 * THUMBNAIL, 4 * THUMBNAIL)  # room for 12 in a square


def test_a_ranking_without_dice_or_pictures_or_scored_cases_is_written_too(
    make_row: Callable[..., Row], make_failed: Callable[..., Row], rank: Callable[..., list[Row]],
    summarise: Callable[..., dict[str, Any]], tmp_path: Path,
) -> None:  # fmt: skip
    plain = {**make_row(0), "dice": None, "picture": None}
    for number, found in enumerate(([plain], [make_failed("torn")], [])):
        rows = rank([dict(row) for row in found])
        write_board(tmp_path / str(number), rows, summarise(rows), [])
        assert "ranking/text_summary" in _events(tmp_path / str(number)).Tags()["tensors"]


def test_a_new_ranking_takes_the_place_of_an_old_one(
    rows: list[Row], summarise: Callable[..., dict[str, Any]], references: np.ndarray, tmp_path: Path
) -> None:
    write_board(tmp_path / "tb", rows, summarise(rows), references)
    write_board(tmp_path / "tb", rows[:1], summarise(rows[:1]), references)
    assert len([t for t in _events(tmp_path / "tb").Tags()["images"] if t.startswith("worst_cases")]) <= 1
    assert not list((tmp_path / "tb").rglob("metadata.tsv"))


def test_names_are_shown_as_the_text_they_are(
    rows: list[Row], summarise: Callable[..., dict[str, Any]], references: np.ndarray, tmp_path: Path
) -> None:
    for row in rows[:3]:
        row["case"] = "<img src=x onerror=alert(1)>|\t[a](javascript:b)\n\udcff"
    write_board(tmp_path, rows, summarise(rows), references)
    text = _events(tmp_path).Tensors("ranking/text_summary")[0].tensor_proto.string_val[0].decode()
    assert "<img" not in text and "[a](" not in text  # neither a tag nor a link
    assert len({line.count("|") for line in text.splitlines()[:4]}) == 1
    with open(next(tmp_path.rglob("metadata.tsv"))) as file:
        assert {line.count("\t") for line in file} == {6}


def test_strips_carry_their_caption_above_the_slices(make_row: Callable[..., Row]) -> None:
    row = make_row(1)
    strip = case_strip(row["picture"], ["1. case", "score 0.5"], heat_range([row["picture"]]))
    assert LINE < strip.shape[0] <= HEIGHT + 4 * LINE and strip.shape[1:] == (WIDTH, 3)
    assert (strip[:40] > 200).any()  # letters
    buffer = io.BytesIO()
    Image.fromarray(strip).save(buffer, "PNG")
    assert buffer.tell() < 200_000
    assert sprite(thumbnail(row["picture"])).shape == (THUMBNAIL, THUMBNAIL, 3)
