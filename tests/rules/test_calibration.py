from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import chi2, false_discovery_control, norm, ttest_ind

from gnsm_monai.rules import Calibration, DicePredictor, p_values
from gnsm_monai.rules.calibration import normal_p_value, q_values, unlike_references


def test_p_values_count_the_references_that_are_no_better() -> None:
    known = np.array([1.0, 2.0, 2.0, 4.0])
    assert p_values(np.array([0.0, 1.0, 2.0, 3.0, 4.0, 5.0]), known) == pytest.approx([1, 1, 0.8, 0.4, 0.4, 0.2])


def test_p_values_know_nothing_of_missing_scores() -> None:
    assert p_values(np.array([2.0, np.nan]), np.array([np.nan, 1.0, 3.0])) == pytest.approx(
        [2 / 3, np.nan], nan_ok=True
    )
    assert np.isnan(p_values(np.array([1.0]), np.array([np.nan]))).all()


@pytest.mark.parametrize("maps", [1, 2, 5])
@pytest.mark.parametrize("alpha", [0.05, 0.2])
def test_false_alarms_of_alike_maps_are_within_the_stated_bound(alpha: float, maps: int) -> None:
    """All maps of a patient have the same score: at most ``alpha + (m - 1) / (m (K + 1))`` with K patients."""
    rng, patients = np.random.default_rng(0), 15
    flags = [p_values(rng.random(1), np.repeat(rng.random(patients), maps))[0] <= alpha for _ in range(8000)]
    error = np.std(flags) / np.sqrt(len(flags))
    assert np.mean(flags) <= alpha + (maps - 1) / (maps * (patients + 1)) + 3 * error
    if alpha == 0.05 and maps > 1:  # the largest of 15 is 6 % of all
        assert np.mean(flags) > alpha + error


@pytest.mark.parametrize("alpha", [0.05, 0.2])
def test_false_alarms_are_no_more_frequent_than_stated(alpha: float) -> None:
    """Over many sets of references, exchangeable masks are flagged with probability alpha at most."""
    rng = np.random.default_rng(0)
    flags = [
        (p_values(rng.standard_exponential(20), rng.standard_exponential(39)) <= alpha).mean() for _ in range(2000)
    ]
    assert np.floor(alpha * 40) / 40 == pytest.approx(np.mean(flags), abs=4 * np.std(flags) / np.sqrt(2000))


def test_q_values_are_those_of_benjamini_and_hochberg() -> None:
    p = np.random.default_rng(0).integers(1, 41, 60) / 40
    with_gaps = np.insert(p, [0, 7], np.nan)
    q = q_values(with_gaps)
    assert q[np.isfinite(with_gaps)] == pytest.approx(false_discovery_control(p))
    assert np.isnan(q[~np.isfinite(with_gaps)]).all()
    assert q_values(np.array([])).shape == (0,)


def test_the_share_of_good_masks_among_the_flagged_is_no_more_than_stated() -> None:
    """15 of 50 masks are bad; all are judged by the same 39 references, so that p-values depend on each other."""
    rng = np.random.default_rng(1)
    wrong = []
    for _ in range(1000):
        scores = rng.normal(size=50) + np.repeat([4.0, 0.0], [15, 35])
        flagged = q_values(p_values(scores, rng.normal(size=39))) <= 0.2
        wrong.append(flagged[15:].sum() / max(flagged.sum(), 1))
    assert 0.05 < np.mean(wrong) <= 0.2 * 35 / 50 + 4 * np.std(wrong) / np.sqrt(1000)


def test_a_folder_like_the_references_is_called_unlike_them_no_more_often_than_stated() -> None:
    rng = np.random.default_rng(2)
    tests = [p_values(rng.normal(size=400), rng.normal(size=39)) for _ in range(150)]
    ours = np.mean([unlike_references(p, 39) <= 0.1 for p in tests])
    assert abs(ours - 0.1) < 3 * np.sqrt(0.09 / 150)
    # What is right for independent p-values cries wolf here: the masks share their references.
    assert np.mean([chi2.sf(-2 * np.log(p).sum(), 800) <= 0.01 for p in tests]) > 0.05


@pytest.mark.parametrize("p", [0.1, 0.5, 1.0])
def test_a_folder_of_one_mask_has_the_p_value_of_the_mask(p: float) -> None:
    assert unlike_references(np.array([p, np.nan]), 9) == pytest.approx(p, abs=4 * np.sqrt(p * (1 - p) / 2000))


def test_a_folder_that_is_worse_throughout_is_unlike_and_one_without_references_is_neither() -> None:
    rng = np.random.default_rng(3)
    assert unlike_references(p_values(rng.normal(1.5, 1, 50), rng.normal(size=39)), 39) < 0.005
    assert np.isnan(unlike_references(np.array([np.nan]), 0))


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


@pytest.mark.parametrize("count", [0, 9, 18])
def test_an_interval_from_fewer_than_19_failures_is_none(count: int) -> None:
    predictor = DicePredictor(*np.array([[0.0, 1.0], [0.9, 0.5], [0.1, 0.2]]), np.linspace(-3, 0.5, count))
    assert predictor.predict(np.array(0.0)) == pytest.approx([0.9, np.nan, np.nan], nan_ok=True)


def test_an_interval_from_19_failures_is_their_whole_range() -> None:
    predictor = DicePredictor(*np.array([[0.0, 1.0], [0.9, 0.5], [0.1, 0.2]]), np.linspace(-3, 0.5, 19))
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


def grouped(empty: int, others: int) -> Calibration:
    """References that score 1, 2, ... where they are empty, and 101, 102, ... where they are not."""
    scores = np.concatenate([1.0 + np.arange(empty), 101.0 + np.arange(others)])
    predictor = DicePredictor(np.zeros(2), np.ones(2), np.ones(2), np.zeros(2))
    return Calibration(scores, np.empty((len(scores), 0)), predictor, empty=np.arange(len(scores)) < empty)


def test_empty_masks_are_judged_by_empty_references_where_there_are_enough_of_both() -> None:
    calibration = grouped(19, 19)
    assert calibration.p_value(19.0, True, 0.05) == pytest.approx(2 / 20)
    assert calibration.p_value(20.0, True, 0.05) == pytest.approx(1 / 20)
    assert calibration.p_value(20.0, False, 0.05) == 1.0
    assert calibration.p_value(119.5, False, 0.05) == pytest.approx(1 / 20)


@pytest.mark.parametrize(("empty", "others"), [(18, 40), (40, 18), (0, 58)])
def test_few_of_either_are_judged_together(empty: int, others: int) -> None:
    calibration = grouped(empty, others)
    assert calibration.p_value(20.0, True, 0.05) == p_values(np.array(20.0), calibration.scores)
    far = calibration.p_value(1000.0, False, 0.05)
    assert far == p_values(np.array(1000.0), calibration.scores)


def test_one_mask_beside_a_few_of_a_normal_distribution() -> None:
    """Student's test of two samples, of which one has a single value."""
    for number in (2, 3, 9):
        scores = np.random.default_rng(number).normal(3, 2, number)
        for score in (-1.0, 4.0, 9.0):
            expected = ttest_ind([score], scores, alternative="greater").pvalue
            assert normal_p_value(score, scores) == pytest.approx(expected)
    assert [normal_p_value(9.0, np.ones(n)) for n in (0, 1, 2)] == [1, 0.5, 0]
    assert normal_p_value(1.0, np.ones(5)) == 1


def test_three_references_with_structures_among_many_empty_ones_flag_few_correct_masks() -> None:
    """A quarter of correct masks exceeds all three, and with them all empty ones, which score below."""
    rng, predictor = np.random.default_rng(0), DicePredictor(np.zeros(2), np.ones(2), np.ones(2), np.zeros(2))
    flagged: dict[float, list[bool]] = {0.0: [], 30.0: []}
    for _ in range(1000):
        scores = np.concatenate([np.full(23, -3.0), rng.normal(size=3)])
        calibration = Calibration(scores, np.empty((26, 0)), predictor, empty=np.arange(26) < 23)
        for worse, each in flagged.items():
            each.append(calibration.p_value(rng.normal() + worse, False, 0.05) <= 0.05)
    assert 0.02 < np.mean(flagged[0.0]) <= 0.06
    assert np.mean(flagged[30.0]) > 0.95


def test_no_mask_is_flagged_more_often_than_among_all_references() -> None:
    """What the few that are alike say is added to the promise for both kinds together, and never takes its place."""
    calibration = grouped(6, 18)
    for score in np.linspace(0, 200, 41):
        assert calibration.p_value(score, False, 0.05) >= p_values(np.array(score), calibration.scores)


def test_false_alarms_hold_within_empty_masks_and_within_others() -> None:
    """However differently the two score; exchangeable within each."""
    rng = np.random.default_rng(0)
    predictor = DicePredictor(np.zeros(2), np.ones(2), np.ones(2), np.zeros(2))
    flagged: dict[bool, list[bool]] = {True: [], False: []}
    for _ in range(2000):
        empty = rng.random(60) < 0.5
        scores = rng.normal(size=60) + 5 * empty
        calibration = Calibration(scores, np.empty((60, 0)), predictor, empty=empty)
        for mask in (True, False):
            flagged[mask].append(calibration.p_value(rng.normal() + 5 * mask, mask, 0.1) <= 0.1)
    for mask in (True, False):
        assert 0.07 < np.mean(flagged[mask]) < 0.11


def test_a_calibration_that_does_not_tell_which_references_are_empty_has_one_group() -> None:
    calibration = grouped(19, 19)
    arrays = calibration.to_arrays()
    assert Calibration.from_arrays(arrays).p_value(20.0, True, 0.05) == pytest.approx(1 / 20)
    del arrays["calibration_empty"]
    assert Calibration.from_arrays(arrays).p_value(20.0, True, 0.05) == p_values(np.array(20.0), calibration.scores)
