"""Which case an annotator gets next."""

from __future__ import annotations

from typing import Any

import pytest

from gnsm_monai.monailabel_app.order import features, most_worth_correcting, worst_first
from gnsm_monai.monailabel_app.records import NO_PREDICTION


def ranked(rank: int, dice: float | None = 0.5) -> dict[str, Any]:
    return {"status": "ok", "rank": rank, "predicted_dice": dice}


FAILED = {"status": "failed", "rank": None, "message": "truncated"}
WITHOUT = {"status": NO_PREDICTION}


def case(name: str, *structures: tuple[str, float | None, float | None]) -> dict[str, Any]:
    rows = [{"structure": s, "predicted_dice": d, "anomaly_score": 1.0, "volume_ml": v} for s, d, v in structures]
    return {"case": name, "status": "ok", "structures": rows}


def test_masks_come_by_rank_then_failed_ones_then_cases_without_a_mask() -> None:
    waiting = {"none": WITHOUT, "bad": FAILED, "third": ranked(10), "second": ranked(9), "first": ranked(1)}
    assert worst_first(waiting) == ["first", "second", "third", "bad", "none"]


def test_before_any_scoring_cases_come_by_name() -> None:
    assert worst_first({"b": None, "a": None}) == ["a", "b"]


def test_before_any_correction_the_lowest_predicted_dice_comes_first() -> None:
    waiting = {"best": ranked(1, 0.9), "worst": ranked(2, 0.1), "none": WITHOUT, "middle": ranked(3, 0.5)}
    assert most_worth_correcting(waiting, [], {}) == ["worst", "middle", "best", "none"]


def test_a_failure_like_a_corrected_one_waits_for_another_kind() -> None:
    liver, kidney = [("liver", 0.1, 5.0), ("kidney", 0.9, 9.0)], [("liver", 0.9, 9.0), ("kidney", 0.2, 5.0)]
    results = {"cases": [case("done", *liver), case("alike", *liver), case("other", *kidney), case("x", *kidney)]}
    waiting = {"alike": ranked(1, 0.5), "other": ranked(2, 0.55), "x": ranked(3, 0.8)}
    assert most_worth_correcting(waiting, [], features(results))[0] == "alike"
    assert most_worth_correcting(waiting, ["done"], features(results)) == ["other", "x", "alike"]


def test_masks_all_alike_come_by_predicted_dice_and_a_corrected_case_without_a_mask_counts_for_nothing() -> None:
    results = {"cases": [case(name, ("liver", 0.5, 5.0)) for name in ("a", "b", "done")]}
    waiting = {"a": ranked(1, 0.6), "b": ranked(2, 0.3)}
    assert most_worth_correcting(waiting, ["no mask"], features(results)) == ["b", "a"]
    assert most_worth_correcting(waiting, ["done"], features(results)) == ["a", "b"]  # nothing new: by rank


def test_without_a_predicted_dice_the_share_of_less_anomalous_masks_takes_its_place() -> None:
    assert most_worth_correcting({"b": ranked(2, None), "a": ranked(1, None)}, [], {}) == ["a", "b"]


def test_features_are_the_oddness_and_the_volume_of_each_structure() -> None:
    failed = {"case": "bad", "status": "failed", "structures": []}
    results = {"cases": [case("a", ("liver", 0.4, 0.0), ("spleen", None, None)), failed]}
    assert features(results) == {
        "a": {"liver predicted_dice": 0.4, "liver volume": 0.0, "spleen anomaly_score": pytest.approx(1.0)}
    }
