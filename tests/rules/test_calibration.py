from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from gnsm_monai.rules import Calibration, DicePredictor, p_values


def test_p_values_count_the_references_that_are_no_better() -> None:
    known = np.array([1.0, 2.0, 2.0, 4.0])
    assert p_values(np.array([0.0, 1.0, 2.0, 3.0, 4.0, 5.0]), known) == pytest.approx([1, 1, 0.8, 0.4, 0.4, 0.2])


def test_p_values_know_nothing_of_missing_scores() -> None:
    assert p_values(np.array([2.0, np.nan]), np.array([np.nan, 1.0, 3.0])) == pytest.approx(
        [2 / 3, np.nan], nan_ok=True
    )
    assert np.isnan(p_values(np.array([1.0]), np.array([np.nan]))).all()


@pytest.mark.parametrize("alpha", [0.05, 0.2])
def test_false_alarms_are_no_more_frequent_than_stated(alpha: float) -> None:
    """Over many sets of references, exchangeable masks are flagged with probability alpha at most."""
    rng = np.random.default_rng(0)
    flags = [
        (p_values(rng.standard_exponential(20), rng.standard_exponential(39)) <= alpha).mean() for _ in range(2000)
    ]
    assert np.floor(alpha * 40) / 40 == pytest.approx(np.mean(flags), abs=4 * np.std(flags) / np.sqrt(2000))


def samples(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    score = rng.uniform(0, 4, n)
    return score, np.clip(1 - 0.2 * score + 0.05 * rng.normal(size=n), 0, 1)


def test_a_higher_score_never_predicts_a_higher_dice_and_the_interval_covers() -> None:
    predictor = DicePredictor.fit(*samples(300, 0), *samples(200, 1))
    score, dice = samples(2000, 2)
    predicted, low, high = predictor.predict(score).T
    assert (np.diff(predicted[np.argsort(score)]) <= 0).all()
    assert np.abs(predicted - dice).mean() < 0.06
    assert 0.86 <= ((low <= dice) & (dice <= high)).mean() <= 0.95
    assert np.mean(high - low) < 0.25
    assert ((low <= predicted) & (predicted <= high)).all()


def test_an_interval_from_few_copies_is_their_whole_range() -> None:
    predictor = DicePredictor(
        np.array([0.0, 1.0]), np.array([0.9, 0.5]), np.array([0.1, 0.2]), np.array([-3.0, -1.0, 0.5])
    )
    assert predictor.predict(np.array(0.0)) == pytest.approx([0.9, 0.6, 0.95])
    assert predictor.predict(np.array(5.0)) == pytest.approx([0.5, 0.0, 0.6])


def test_the_interval_is_wide_where_the_score_says_little() -> None:
    def uneven(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng(seed)
        score = rng.uniform(0, 1, n)
        return score, 0.8 - 0.4 * score + np.where(score < 0.5, 0.01, 0.1) * rng.normal(size=n)

    low, high = DicePredictor.fit(*uneven(300, 0), *uneven(200, 1)).predict(np.array([0.2, 0.8]))[:, 1:].T
    assert (high - low)[1] > 4 * (high - low)[0]


def test_the_probability_of_failure_counts_the_errors_that_would_lead_there() -> None:
    knots, residuals = np.array([[0.0, 1.0], [0.9, 0.7], [0.1, 0.1]]), np.array([-3.0, -1.0, 0.0, 2.0])
    predictor = DicePredictor(*knots, residuals)
    # At 0.9 an error of -2 spreads or less leads below 0.7; at 0.7 any below 0.
    assert predictor.failure_probability(np.array([0.0, 1.0]), 0.7) == pytest.approx([2 / 6, 3 / 6])
    rng = np.random.default_rng(0)
    many = DicePredictor(*knots, np.sort(rng.normal(size=20_000)))
    assert many.failure_probability(np.array([0.0]), 0.85) == pytest.approx(norm.cdf(-0.5), abs=0.01)


def test_structures_are_compared_with_the_references_that_have_them_and_survive_plain_arrays() -> None:
    structures = np.array([[0.1, np.nan], [0.3, 0.2], [0.5, np.nan]])
    predictor = DicePredictor.fit(*samples(30, 0), *samples(20, 1))
    calibration = Calibration(np.array([1.0, 2.0, 3.0]), structures, predictor)
    again = Calibration.from_arrays(calibration.to_arrays())
    assert again.structure_p_values(np.array([0.4, 0.3])) == pytest.approx([0.5, 0.5])
    assert again.structure_p_values(np.array([0.4, np.nan])) == pytest.approx([0.5, np.nan], nan_ok=True)
    assert np.array_equal(again.dice.predict(np.arange(4.0)), predictor.predict(np.arange(4.0)))
