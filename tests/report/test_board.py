from __future__ import annotations

import csv
import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from gnsm_monai.evaluation.budget import measured_budget
from gnsm_monai.report.board import write_board
from gnsm_monai.report.figures import score_histogram
from gnsm_monai.report.pictures import heat_range
from gnsm_monai.report.strips import HEIGHT, LINE, THUMBNAIL, WIDTH, case_strip, sprite, thumbnail
from gnsm_monai.scoring.result import CaseResult, FailedCase, Result, scored
from tests.results import anomalies

Make = Callable[..., CaseResult]


@pytest.fixture
def results(
    make_result: Make, make_failed: Callable[..., FailedCase], rank: Callable[..., list[Result]]
) -> list[Result]:
    made: list[Result] = [make_failed("torn")]
    for number in range(12):
        result = make_result(number)
        levels = {name: np.full(4, result.decision.anomaly) for name in ("misfit", "shape", "size")}
        small = thumbnail(result.picture)
        made.append(replace(result, levels=levels, thumbnail=small, picture=result.picture if number % 2 else ()))
    return rank(made)


def _events(folder: Path) -> EventAccumulator:
    (path,) = folder.glob("events*")  # one writer, one file
    return EventAccumulator(str(path), size_guidance={"images": 0, "tensors": 0}).Reload()


def test_a_ranking_with_dice_fills_every_tab(
    results: list[Result], summarise: Callable[..., dict[str, Any]], references: np.ndarray, tmp_path: Path
) -> None:
    write_board(tmp_path / "tb", results, summarise(results), references)
    events = _events(tmp_path / "tb")
    cases = scored(results)
    strips = [f"worst_cases/rank_{rank:03d}" for rank, result in enumerate(cases, start=1) if result.picture]
    figures = {f"figures/{name}" for name in ("1_histogram_of_scores", "2_score_against_dice", "3_risk_coverage")}
    assert set(events.Tags()["images"]) == {*strips, *figures, "figures/4_review_budget"}
    assert set(events.Tags()["histograms"]) == {"anomaly_score/masks", "anomaly_score/references"}
    assert {"failures/dice_below_0.7", "ranking/text_summary"} <= set(events.Tags()["tensors"])
    assert "metrics/spearman" in events.Tags()["scalars"]
    assert "_hparams_/session_start_info" in events.summary_metadata
    assert sum(path.stat().st_size for path in (tmp_path / "tb").rglob("*") if path.is_file()) < 3e6


def test_where_no_mask_has_failed_there_is_no_review_budget_to_draw(
    results: list[Result], summarise: Callable[..., dict[str, Any]], references: np.ndarray, tmp_path: Path
) -> None:
    budget = measured_budget([1.0, 2.0, 3.0], [0.9, 0.9, 0.9], failure_dice=0.7)
    write_board(tmp_path / "tb", results, {**summarise(results), "review_budget": budget}, references)
    images = _events(tmp_path / "tb").Tags()["images"]
    assert "figures/3_risk_coverage" in images
    assert "figures/4_review_budget" not in images


def test_the_projector_has_a_point_a_line_and_a_sprite_per_case(
    results: list[Result], summarise: Callable[..., dict[str, Any]], references: np.ndarray, tmp_path: Path
) -> None:
    write_board(tmp_path, results, summarise(results), references)
    (folder,) = {path.parent for path in tmp_path.rglob("metadata.tsv")}
    with open(folder / "metadata.tsv", newline="") as file:
        lines = list(csv.DictReader(file, delimiter="\t"))
    cases = scored(results)
    assert [line["case"] for line in lines] == [result.case for result in cases]
    assert [float(line["dice"]) for line in lines] == pytest.approx([result.dice for result in cases], rel=1e-3)
    assert [line["rank"] for line in lines] == [str(number) for number in range(1, 13)]
    assert [float(line["anomaly_score"]) for line in lines] == pytest.approx(anomalies(cases), rel=1e-3)
    assert {line["flag"] for line in lines} == {"0", "1"}
    points = np.loadtxt(folder / "tensors.tsv", delimiter="\t")
    assert points.shape == (12, 12)
    assert np.allclose(points.std(0), 1, atol=1e-5) and np.allclose(points.mean(0), 0, atol=1e-5)
    sprite = Image.open(folder / "sprite.png")
    assert sprite.size == (4 * THUMBNAIL, 4 * THUMBNAIL)  # room for 12 in a square


def test_a_mask_without_a_picture_is_an_empty_square_beside_the_sprites_of_others(
    results: list[Result], summarise: Callable[..., dict[str, Any]], references: np.ndarray, tmp_path: Path
) -> None:
    """As those are of which only the score was measured."""
    brief = [replace(result, thumbnail=None) if result is scored(results)[0] else result for result in results]
    sheets = []
    for name, some in {"all": results, "brief": brief}.items():
        write_board(tmp_path / name, some, summarise(some), references)
        (path,) = (tmp_path / name).rglob("sprite.png")
        sheets.append(np.asarray(Image.open(path).convert("RGB")))
    first = np.s_[:THUMBNAIL, :THUMBNAIL]
    assert len(np.unique(sheets[0][first].reshape(-1, 3), axis=0)) > 1
    assert len(np.unique(sheets[1][first].reshape(-1, 3), axis=0)) == 1
    squares = [sheet.reshape(4, THUMBNAIL, 4, THUMBNAIL, 3).swapaxes(1, 2).reshape(16, -1) for sheet in sheets]
    np.testing.assert_array_equal(squares[0][1:], squares[1][1:])


def test_a_ranking_without_dice_or_pictures_or_scored_cases_is_written_too(
    make_result: Make, make_failed: Callable[..., FailedCase], summarise: Callable[..., Any], tmp_path: Path
) -> None:
    plain = replace(make_result(0), dice=None, picture=())
    for number, results in enumerate(([plain], [make_failed("torn")], [])):
        write_board(tmp_path / str(number), results, summarise(results), [])
        assert "ranking/text_summary" in _events(tmp_path / str(number)).Tags()["tensors"]


def test_a_new_ranking_takes_the_place_of_an_old_one(
    results: list[Result], summarise: Callable[..., dict[str, Any]], references: np.ndarray, tmp_path: Path
) -> None:
    write_board(tmp_path / "tb", results, summarise(results), references)
    write_board(tmp_path / "tb", results[:1], summarise(results[:1]), references)
    assert len([t for t in _events(tmp_path / "tb").Tags()["images"] if t.startswith("worst_cases")]) <= 1
    assert not list((tmp_path / "tb").rglob("metadata.tsv"))


def test_names_are_shown_as_the_text_they_are(
    results: list[Result], summarise: Callable[..., dict[str, Any]], references: np.ndarray, tmp_path: Path
) -> None:
    name = "<img src=x onerror=alert(1)>|\t[a](javascript:b)\n\udcff"
    results = [replace(result, case=name) if number < 3 else result for number, result in enumerate(results)]
    write_board(tmp_path, results, summarise(results), references)
    text = _events(tmp_path).Tensors("ranking/text_summary")[0].tensor_proto.string_val[0].decode()
    assert "<img" not in text and "[a](" not in text  # neither a tag nor a link
    assert len({line.count("|") for line in text.splitlines()[:4]}) == 1
    with open(next(tmp_path.rglob("metadata.tsv"))) as file:
        assert {line.count("\t") for line in file} == {6}


def test_strips_carry_their_caption_above_the_slices(make_result: Make) -> None:
    picture = make_result(1).picture
    strip = case_strip(picture, ["1. case", "score 0.5"], heat_range([picture]))
    assert LINE < strip.shape[0] <= HEIGHT + 4 * LINE and strip.shape[1:] == (WIDTH, 3)
    assert (strip[:40] > 200).any()  # letters
    buffer = io.BytesIO()
    Image.fromarray(strip).save(buffer, "PNG")
    assert buffer.tell() < 200_000
    assert sprite(thumbnail(picture)).shape == (THUMBNAIL, THUMBNAIL, 3)


@pytest.mark.parametrize("masks", [8, 12, 20, 31])
def test_shares_are_written_as_they_are(masks: int) -> None:
    axes = score_histogram(np.linspace(0, 1, masks), np.zeros(0), None).axes[0]
    percent = 100 * axes.get_yticks()
    np.testing.assert_allclose(percent, percent.round(), atol=1e-9)
