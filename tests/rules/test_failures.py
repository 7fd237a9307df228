"""What is predicted of structures and distances, from failures of held-out references."""

from __future__ import annotations

import numpy as np
import pytest

from gnsm_monai.rules.failures import FailureTable, PartPredictors


def table(count: int, seed: int, related: bool = True) -> FailureTable:
    """Two structures, the second not always there: Dice is 1 - score, the distance 10 mm times the score, and noise."""
    rng = np.random.default_rng(seed)
    scores = rng.uniform(0, 1, (count, 1)) + rng.uniform(-0.03, 0.03, (count, 2))
    distances = 10 * (scores if related else rng.uniform(0, 1, (count, 2))) + 0.1 * rng.normal(size=(count, 2))
    dice = np.clip(1 - scores + 0.02 * rng.normal(size=(count, 2)), 0, 1)
    absent = np.arange(count) % 3 == 0
    scores[absent, 1] = dice[absent, 1] = distances[absent, 1] = np.nan
    kinds = np.array(["leakage", "holes"])[np.arange(count) % 2]
    return FailureTable(np.nanmean(scores, 1), np.nanmean(dice, 1), kinds, scores, dice, np.abs(distances))


def test_each_structure_has_a_dice_and_a_distance_of_its_own_score() -> None:
    parts = PartPredictors(table(200, 0), table(60, 1))
    assert parts.count == 2
    for dice, distance in zip(parts.structure_dice, parts.structure_distances, strict=True):
        assert dice is not None and distance is not None
        value, low, high = dice.predict(np.array(0.3))
        assert low < value < high
        assert value == pytest.approx(0.7, abs=0.04)
        assert distance.predict(np.array(0.3))[0] == pytest.approx(3.0, abs=0.4)
        assert np.isnan(dice.predict(np.array(np.nan))).all()
    assert parts.distance is not None
    predicted = parts.distance.predict(np.linspace(0, 1, 20))[:, 0]
    assert (np.diff(predicted) >= 0).all()  # a worse mask is never nearer
    assert predicted[10] == pytest.approx(5.0, abs=0.5)


def test_distances_that_the_score_does_not_follow_are_not_predicted() -> None:
    assert PartPredictors(table(200, 0), table(60, 1, related=False)).distance is None
    assert PartPredictors(table(200, 0, related=False), table(60, 1)).distance is None
    assert PartPredictors(table(200, 0), table(18, 1)).distance is None  # too few to tell
    assert PartPredictors(table(200, 0), table(19, 1)).distance is not None


def test_a_structure_that_hardly_any_failure_has_is_not_predicted() -> None:
    selection = table(3, 0)
    selection.structure_dice[1:, 1] = np.nan
    assert [dice is None for dice in PartPredictors(selection, table(60, 1)).structure_dice] == [False, True]


def test_the_distance_of_a_mask_is_the_mean_over_its_structures() -> None:
    parts = table(3, 0)
    expected = [parts.distances[0, 0], parts.distances[1].mean(), parts.distances[2].mean()]
    assert parts.distance == pytest.approx(expected)
    empty = FailureTable(*[getattr(parts, name) for name in ("scores", "dice", "kinds")], parts.structure_scores,
                         parts.structure_dice, np.full((3, 2), np.nan))  # fmt: skip
    assert np.isnan(empty.distance).all()


def test_failures_survive_plain_arrays_and_models_of_version_0_2_have_none() -> None:
    parts = PartPredictors(table(30, 0), table(20, 1))
    again = PartPredictors.from_arrays(parts.to_arrays())
    assert again is not None
    np.testing.assert_array_equal(again.calibration.structure_dice, parts.calibration.structure_dice)
    assert PartPredictors.from_arrays({"failure_dice": np.zeros(3)}) is None
