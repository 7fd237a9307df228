from __future__ import annotations

import math

import confidence
import numpy as np
import pytest
from scipy import stats


def probabilities(*voxels: tuple[float, float, float]) -> np.ndarray:
    """Background and two structures at one voxel after another."""
    return np.array(voxels, dtype=np.float32).T


def test_entropy_is_scipys_mean_over_voxels_that_may_be_a_structure() -> None:
    unsure, sure, outside = (0.2, 0.5, 0.3), (0.0, 1.0, 0.0), (0.995, 0.005, 0.0)
    expected = (stats.entropy(unsure) + stats.entropy(sure)) / 2
    assert confidence.entropy(probabilities(unsure, sure, outside, outside)) == pytest.approx(expected, rel=1e-6)


def test_missing_confidence_is_one_minus_the_mean_maximum() -> None:
    found = confidence.missing_confidence(probabilities((0.2, 0.5, 0.3), (0.1, 0.0, 0.9), (1.0, 0.0, 0.0)))
    assert found == pytest.approx(1 - (0.5 + 0.9) / 2)


def test_certain_background_everywhere_is_as_bad_as_can_be() -> None:
    nothing = probabilities((1.0, 0.0, 0.0), (0.999, 0.001, 0.0))
    know_nothing = probabilities((1 / 3, 1 / 3, 1 / 3))
    assert confidence.entropy(nothing) == pytest.approx(math.log(3)) == confidence.entropy(know_nothing)
    assert confidence.missing_confidence(nothing) == pytest.approx(confidence.missing_confidence(know_nothing))


def test_pairwise_disagreement_is_one_minus_mean_dice() -> None:
    first, second = np.array([0, 1, 1, 2, 2, 0]), np.array([0, 1, 0, 2, 2, 2])
    # Structure 1: 2 * 1 / (2 + 1); structure 2: 2 * 2 / (2 + 3).
    assert confidence.pairwise_disagreement(first, second, 3) == pytest.approx(1 - (2 / 3 + 4 / 5) / 2)
    assert confidence.pairwise_disagreement(first, first, 3) == 0
    empty = np.zeros(6, dtype=int)
    assert confidence.pairwise_disagreement(empty, empty, 3) == 1
    assert confidence.pairwise_disagreement(first, empty, 3) == 1
