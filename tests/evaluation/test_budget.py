from __future__ import annotations

import itertools
import json
import math
from typing import Any

import numpy as np
import pytest

from gnsm_monai.evaluation.budget import measured_budget, predicted_budget

NUMBERS = ("share_found", "failures_left", "residual_risk")


def reviewed_in_order(order: tuple[int, ...], dice: np.ndarray, limit: float, k: int) -> list[float]:
    """The three numbers of one order of review, counted."""
    left = list(order[k:])
    failures = sum(dice[i] < limit for i in order)
    missed = sum(dice[i] < limit for i in left)
    return [(failures - missed) / failures, missed, sum(1 - dice[i] for i in left) / len(left) if left else 0]


def test_budget_without_ties_counts_the_worst() -> None:
    dice = np.array([0.9, 0.1, 0.8, 0.5, 0.6])
    result = measured_budget(-dice, dice, 0.7, (0.2, 0.6, 1.0))
    assert (result["failure_dice"], result["source"], result["failures"]) == (0.7, "measured", 3)
    first, second, all_of_them = result["budget"]
    assert first["reviewed"] == 1 and first["share_reviewed"] == 0.2
    assert [first[n] for n in NUMBERS] == pytest.approx([1 / 3, 2, (0.1 + 0.2 + 0.5 + 0.4) / 4])
    assert [second[n] for n in NUMBERS] == pytest.approx([1, 0, 0.15])
    assert [all_of_them[n] for n in NUMBERS] == [1, 0, 0]
    assert json.loads(json.dumps(result)) == result


def test_ties_give_the_mean_over_every_order_that_the_scores_allow() -> None:
    score = np.array([1.0, 2.0, 1.0, 0.0, 1.0, 2.0, 0.0])
    dice = np.array([0.2, 0.9, 0.6, 0.3, 0.95, 0.1, 0.8])
    orders = [o for o in itertools.permutations(range(7)) if all(np.diff(score[list(o)]) <= 0)]
    assert len(orders) == 2 * 6 * 2
    for k in range(1, 8):
        expected = np.mean([reviewed_in_order(order, dice, 0.7, k) for order in orders], axis=0)
        (row,) = measured_budget(score, dice, 0.7, [k / 7])["budget"]
        assert row["reviewed"] == k
        assert [row[n] for n in NUMBERS] == pytest.approx(expected)


def test_a_score_of_one_value_finds_failures_at_the_rate_of_review() -> None:
    rng = np.random.default_rng(0)
    dice = rng.random(50)
    for row in measured_budget(np.zeros(50), dice, 0.5)["budget"]:
        assert row["share_found"] == pytest.approx(row["share_reviewed"])
        assert row["residual_risk"] == pytest.approx(1 - dice.mean())


def test_share_found_is_null_without_failures() -> None:
    result = measured_budget([1, 2, 3], [0.9, 0.8, 0.95], 0.7)
    assert result["failures"] == 0
    assert [row["share_found"] for row in result["budget"]] == [None, None]
    assert [row["failures_left"] for row in result["budget"]] == [0, 0]
    assert predicted_budget([1, 2], [0, 0], 0.7)["budget"][0]["share_found"] is None


@pytest.mark.parametrize("n", [1, 7, 50, 100, 101, 250])
def test_reviewed_is_the_share_rounded_up_and_never_given_twice(n: int) -> None:
    rows = measured_budget(np.arange(n), np.full(n, 0.5), 0.7)["budget"]
    assert [row["reviewed"] for row in rows] == sorted(
        {-(-n * percent // 100) for percent in (1, 2, 5, 10, 20, 30, 50)}
    )


def test_seven_per_cent_of_a_hundred_is_seven() -> None:
    assert 0.07 * 100 > 7  # in floating point
    assert measured_budget(np.arange(100), np.full(100, 0.5), 0.7, [0.07])["budget"][0]["reviewed"] == 7


def test_certain_probabilities_give_the_measured_budget() -> None:
    rng = np.random.default_rng(1)
    score, dice = rng.integers(0, 5, 40), rng.random(40)
    measured = measured_budget(score, dice, 0.6)
    predicted = predicted_budget(score, dice < 0.6, 0.6, predicted_dice=dice)
    assert predicted["budget"] == measured["budget"]
    assert predicted["failures"] == measured["failures"]
    assert predicted["source"] == "predicted"


def test_predicted_budget_is_the_mean_of_simulated_reviews() -> None:
    rng = np.random.default_rng(2)
    n, draws = 30, 20_000
    score = rng.integers(0, 6, n).astype(float)  # many ties
    probability, expected_dice = rng.random(n), rng.uniform(0.3, 0.9, n)
    result = predicted_budget(score, probability, 0.7, (0.1, 0.5), predicted_dice=expected_dice)
    failed = rng.random((draws, n)) < probability
    dice = expected_dice + rng.uniform(-0.1, 0.1, (draws, n))
    order = np.argsort(-score + 1e-3 * rng.random((draws, n)), axis=1)
    failed, dice = np.take_along_axis(failed, order, 1), np.take_along_axis(dice, order, 1)
    assert result["failures"] == pytest.approx(failed.sum(1).mean(), abs=0.1)
    for row in result["budget"]:
        k = row["reviewed"]
        assert row["failures_left"] == pytest.approx(failed[:, k:].sum(1).mean(), abs=0.1)
        assert row["share_found"] == pytest.approx(failed[:, :k].sum() / failed.sum(), abs=0.01)
        assert row["residual_risk"] == pytest.approx(1 - dice[:, k:].mean(), abs=0.005)
    assert json.loads(json.dumps(result)) == result


def test_predicted_risk_is_null_without_predicted_dice() -> None:
    rows = predicted_budget([1.0, 2.0], [0.2, 0.8], 0.7)["budget"]
    assert [row["residual_risk"] for row in rows] == [None]
    assert rows[0]["share_found"] == pytest.approx(0.8)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: measured_budget([1, 2], [0.5, 1.2], 0.7), "dice must lie"),
        (lambda: measured_budget([1, math.nan], [0.5, 0.2], 0.7), "score contains NaN"),
        (lambda: measured_budget([1], [0.5, 0.2], 0.7), "same length"),
        (lambda: measured_budget([1], [0.5], 0), "limit of a failure"),
        (lambda: measured_budget([1], [0.5], 0.7, [0]), "budgets must lie"),
        (lambda: predicted_budget([1], [1.5], 0.7), "failure_probability must lie"),
        (lambda: predicted_budget([1, 2], [0.5], 0.7), "same length"),
        (lambda: predicted_budget([1], [0.5], 0.7, predicted_dice=[0.1, 0.2]), "same length"),
    ],
)
def test_what_is_out_of_range_is_refused(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
