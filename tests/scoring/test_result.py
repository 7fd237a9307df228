"""What a score means, and what an empty mask means."""

from __future__ import annotations

import math

import numpy as np
import pytest

from gnsm_monai.rules.calibration import Calibration, DicePredictor
from gnsm_monai.scoring.decision import Decision
from gnsm_monai.scoring.result import FailedCase, scored
from tests.results import case_result

SCORES = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9])
"""Scores of nine held-out references."""


@pytest.fixture
def calibration() -> Calibration:
    predictor = DicePredictor(
        np.array([0.0, 1.0]), np.array([1.0, 0.0]), np.array([0.1, 0.1]), np.repeat([-1.0, 1.0], 20)
    )
    return Calibration(SCORES, np.empty((9, 0)), predictor)


def decide(calibration: Calibration, anomaly: float, empty: bool = False, alpha: float = 0.2) -> Decision:
    return Decision.of(anomaly, empty, 0.95, calibration, alpha, failure_dice=0.5)


@pytest.mark.parametrize(("anomaly", "p_value"), [(0.05, 1.0), (0.85, 0.2), (0.9, 0.2), (0.92, 0.1), (7.0, 0.1)])
def test_a_score_is_judged_by_its_place_among_the_references(
    calibration: Calibration, anomaly: float, p_value: float
) -> None:
    decision = decide(calibration, anomaly)
    assert (decision.anomaly, decision.p_value, decision.flagged) == (anomaly, p_value, p_value <= 0.2)
    assert decision.severity == anomaly


def test_a_score_lets_expect_a_dice_and_a_failure(calibration: Calibration) -> None:
    good, bad = decide(calibration, 0.25), decide(calibration, 0.75)
    dice = (good.predicted_dice_low, good.predicted_dice, good.predicted_dice_high)
    assert dice == pytest.approx((0.65, 0.75, 0.85))
    # Of 40 errors none, or all, would bring Dice below 1/2: (1 + #) / (40 + 2).
    assert (good.failure_probability, bad.failure_probability) == pytest.approx((1 / 42, 41 / 42))


def test_an_empty_mask_never_scores_below_the_worst_that_is_known(calibration: Calibration) -> None:
    """However ordinary its own score is: flag and Dice are those of the worst."""
    empty, worst = decide(calibration, 0.3, empty=True), decide(calibration, 0.95)
    assert (empty.anomaly, empty.p_value, empty.flagged) == (0.95, 0.1, True)
    assert (empty.predicted_dice, empty.failure_probability) == (worst.predicted_dice, worst.failure_probability)
    assert decide(calibration, 3.0, empty=True).anomaly == 3.0


def test_an_empty_mask_is_worse_than_any_other_and_shares_the_highest_score() -> None:
    empty, other = (case_result(empty=given, anomaly=0.4).decision for given in (True, False))
    assert empty.severity == math.inf > other.severity
    assert (empty.among(2.5).anomaly, other.among(2.5).anomaly) == (2.5, 0.4)


def test_a_new_score_is_judged_by_other_references() -> None:
    mask, empty = (case_result(empty=given, predicted_dice=0.7).decision for given in (False, True))
    references = np.array([1.0, 2.0, 3.0])
    found = mask.rescored(2.5, references, alpha=0.5)
    assert (found.anomaly, found.p_value, found.flagged, found.predicted_dice) == (2.5, 0.5, True, 0.7)
    worst = empty.rescored(2.5, references, alpha=0.2)
    assert worst.anomaly > 3.0 and worst.anomaly == pytest.approx(3.0)
    assert (worst.p_value, worst.flagged) == (0.25, False)


@pytest.mark.parametrize(
    ("dice", "measured", "correct"), [(0.4, True, False), (None, False, False), (math.nan, False, True)]
)
def test_dice_of_two_empty_masks_is_not_defined_and_nothing_has_failed(
    dice: float | None, measured: bool, correct: bool
) -> None:
    result = case_result(dice=dice)
    assert (result.has_dice, result.correct_empty) == (measured, correct)


def test_failed_cases_are_left_out() -> None:
    results = [case_result("a"), FailedCase("b", "", "torn"), case_result("c")]
    assert [result.case for result in scored(results)] == ["a", "c"]
    assert [result.status for result in results] == ["ok", "failed", "ok"]


def test_an_empty_mask_is_one_among_others_where_some_references_are_empty(calibration: Calibration) -> None:
    grouped = Calibration(SCORES, calibration.structures, calibration.dice, empty=SCORES < 0.45)
    empty = Decision.of(0.35, False, 0.95, grouped, 0.2, 0.5, empty_as_some=True)
    assert (empty.anomaly, empty.severity, empty.flagged) == (0.35, 0.35, False)
    assert empty.p_value == pytest.approx(2 / 5)  # among the four empty ones
    assert Decision.of(0.85, False, 0.95, grouped, 0.2, 0.5).p_value == pytest.approx(2 / 6)
