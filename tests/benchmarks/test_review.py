"""What an order of review finds."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from review import BEST, RANDOM, curves, of_set, pooled, reviews_needed, whole
from scores import Scores

DICE = np.array([0.9, 0.1, 0.8, 0.2, 0.95, 0.3])


def scores(score: np.ndarray, dataset: str = "hippocampus", method: str = "gnsm", dice: np.ndarray = DICE) -> Scores:
    names = np.array([f"c{i}" for i in range(len(score))])
    return Scores(dataset, method, 0, np.array(["x"] * len(score)), names, dice[: len(score)], score)


def test_the_best_order_needs_as_many_reviews_as_there_are_failures() -> None:
    assert reviews_needed(-DICE, DICE) == 3
    assert reviews_needed(DICE, DICE) == 6
    assert reviews_needed(-DICE, np.ones(6)) == 0


def test_equal_scores_find_what_the_mean_over_all_orders_finds() -> None:
    failed = DICE < 0.7
    orders = [np.cumsum(failed[list(order)]) / failed.sum() for order in permutations(range(6))]
    assert curves(np.zeros(6), DICE)[0][1:] == pytest.approx(np.mean(orders, axis=0))


def test_a_corrected_mask_has_a_dice_of_one() -> None:
    found, dice = curves(-DICE, DICE)
    assert found.tolist() == pytest.approx([0, 1 / 3, 2 / 3, 1, 1, 1, 1])
    assert dice[0] == pytest.approx(DICE.mean())
    assert dice[2] == pytest.approx((1 + 1 + 0.9 + 0.8 + 0.95 + 0.3) / 6)
    assert dice[-1] == 1


def test_a_set_has_random_order_and_the_best_one_beside_its_methods() -> None:
    entry = of_set({"gnsm": [scores(-DICE), scores(DICE)]})
    reviews = {name: order["reviews"] for name, order in entry["orders"].items()}
    assert reviews == {"gnsm": 4.5, RANDOM: 6, BEST: 3}
    assert entry["failures"] == 3
    low, high = entry["orders"][BEST]["ci95"]
    assert 0 <= low < 3 < high <= 6


def test_methods_that_score_some_of_the_masks_take_no_part() -> None:
    methods = {"gnsm": [scores(-DICE)], "entropy": [scores(-DICE[:2])], "gnsm_image_half_poor": [scores(-DICE)]}
    assert list(whole(methods)) == ["gnsm"]
    assert whole({}) == {}


def test_pooled_sets_are_reviewed_in_equal_shares_whatever_the_unit_of_their_scores() -> None:
    sets = {
        "hippocampus": {"gnsm": [scores(-DICE)], "volume": [scores(DICE, method="volume")]},
        "chest": {"gnsm": [scores(-1000 * DICE, "chest")]},
    }
    joined = pooled(sets)
    assert list(joined) == ["gnsm"]
    (both,) = joined["gnsm"]
    assert reviews_needed(both.score, both.dice) == 6
    assert both.score[:6].tolist() == both.score[6:].tolist()
    assert len(set(both.case)) == 12


def test_cases_of_one_patient_are_drawn_together() -> None:
    names = np.array([f"heart_{n // 2:03d}_{n % 2}" for n in range(40)])
    dice = np.linspace(0.1, 0.9, 40)
    one = Scores("heart", "gnsm", 0, np.array(["x"] * 40), names, dice, -dice)
    drawn = one.draws(20)
    assert (drawn[:, ::2] == drawn[:, 1::2]).all() and drawn.std() > 0
    joined = pooled({"heart": {"gnsm": [one]}, "cell": {"gnsm": [scores(-DICE, "cell")]}})["gnsm"][0]
    assert len(set(joined.patient)) == 26
    assert (joined.draws(20)[:, :40:2] == joined.draws(20)[:, 1:40:2]).all()
