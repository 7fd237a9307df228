"""What the datastore of MONAI Label holds of a case."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gnsm_monai.monailabel_app.records import FIELDS, NO_PREDICTION, load_results, record_of_cases, say_of
from gnsm_monai.report.rows import RANKING_COLUMNS


def scored(**changes: Any) -> dict[str, Any]:
    case = {"case": "a", "status": "ok", "rank": 2, "predicted_dice": 0.714, "reason": "liver is split", "dice": 0.9}
    return {**case, **changes}


def test_every_field_of_a_record_is_one_that_gnsm_rank_writes() -> None:
    assert set(FIELDS) <= {*RANKING_COLUMNS, "flag"}


def test_a_record_holds_these_fields_and_no_measured_dice() -> None:
    record = record_of_cases({"cases": [scored()]}, ["a"])["a"]
    assert tuple(record) == FIELDS and record["reason"] == "liver is split"


def test_an_image_without_a_mask_has_a_record_and_a_mask_without_an_image_has_none() -> None:
    records = record_of_cases({"cases": [scored(case="stray")]}, ["a"])
    assert records == {"a": {"status": NO_PREDICTION}}


def test_results_that_are_not_there_yet_hold_no_case(tmp_path: Path) -> None:
    assert load_results(tmp_path / "results.json") == {"cases": []}
    (tmp_path / "results.json").write_text(json.dumps({"cases": [scored()]}))
    assert load_results(tmp_path / "results.json")["cases"][0]["case"] == "a"


@pytest.mark.parametrize(
    ("record", "sentence"),
    [
        (scored(), "rank 2, predicted Dice 0.71: liver is split"),
        (scored(predicted_dice=None, reason=None), "rank 2"),
        ({"status": "failed", "message": "a.nii.gz: is truncated"}, "cannot be scored: a.nii.gz: is truncated"),
        ({"status": NO_PREDICTION}, "no predicted label"),
        (None, "not scored yet: POST /scoring/gnsm scores all predicted labels"),
    ],
)
def test_an_annotator_is_told_why_a_case_comes(record: dict[str, Any] | None, sentence: str) -> None:
    assert say_of(record) == sentence
