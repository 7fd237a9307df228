"""Which masks are shown as what labels alone cannot see."""

from __future__ import annotations

import numpy as np
from blind_spots import places, unseen, volume_ratios
from qc_data import Mask
from scores import Scores


def test_places_begin_with_the_worst_and_are_shared() -> None:
    assert places([np.array([0.1, 0.9, 0.5, 0.5])]).tolist() == [4, 1, 2.5, 2.5]
    assert places([np.array([1.0, 2.0]), np.array([2.0, 1.0])]).tolist() == [1.5, 1.5]


def test_masks_that_pass_in_spite_of_a_low_dice_come_first_and_once_per_case() -> None:
    dice = np.array([0.1, 0.2, 0.3, 0.4, 0.9])
    cases = np.array(["a", "b", "a", "c", "d"])
    scores = Scores("hippocampus", "gnsm", 0, np.array(["x", "x", "y", "x", "x"]), cases, dice, np.zeros(5))
    by_dice, by_labels = np.array([1.0, 2, 3, 4, 5]), np.array([5.0, 2, 4, 3, 1])
    every = np.ones(5, bool)
    assert unseen(scores, by_dice, by_labels, every) == [0, 1, 3]
    assert unseen(scores, by_dice, by_labels, every, most=1) == [0]
    every[0] = False
    assert unseen(scores, by_dice, by_labels, every) == [2, 1, 3]


def test_volumes_are_those_of_the_mask_over_the_references() -> None:
    reference, label = np.zeros((4, 4), np.int16), np.zeros((4, 4), np.int16)
    reference[:2], reference[2] = 1, 2
    label[0], label[1:3] = 1, 2
    assert volume_ratios(Mask("x", "a", label, reference, 0.5), 3) == [0.5, 2.0]
