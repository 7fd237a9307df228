from __future__ import annotations

import numpy as np
import pytest

from gnsm_monai.data.compare import foreground_dice
from gnsm_monai.explain.displacement import align, directions, joint_counts, length, move, overlap_dice, structure_dice


def blob(seed: int = 0, shape: tuple[int, ...] = (14, 12, 10)) -> np.ndarray:
    """Three classes in the middle of a map, with four voxels of room on each side."""
    label = np.zeros(shape, dtype=np.int16)
    inner = tuple(slice(4, n - 4) for n in shape)
    label[inner] = np.random.default_rng(seed).integers(0, 4, label[inner].shape)
    return label


@pytest.mark.parametrize("offset", [(0, 0, 0), (3, -2, 1), (-4, 4, -4)])
def test_move_with_room_is_a_roll(offset: tuple[int, ...]) -> None:
    assert np.array_equal(move(blob(), offset), np.roll(blob(), offset, (0, 1, 2)))


def test_move_loses_what_leaves_the_map() -> None:
    assert move(np.array([[1, 2], [3, 4]]), (1, -1)).tolist() == [[0, 0], [2, 0]]
    assert not move(np.ones((2, 3)), (2, 0)).any()
    assert not move(np.ones((2, 3)), (0, -7)).any()


@pytest.mark.parametrize("offset", [(0, 0, 0), (3, -2, 1), (-4, 4, -4)])
def test_align_finds_the_offset(offset: tuple[int, ...]) -> None:
    assert align(blob(), move(blob(), offset)).tolist() == list(offset)


def test_align_is_not_misled_by_a_part_that_was_lost() -> None:
    label = np.zeros((30, 9), dtype=np.int16)
    label[5:20, 2:6], label[20:26, 3:6] = 1, 2
    moved = move(label, (10, 1))  # the last 6 of 21 rows are outside now
    assert align(label, moved).tolist() == [10, 1]


def test_directions_leave_out_the_short_ways() -> None:
    offset, spacing = np.array([-3, 1, 4]), np.array([2.0, 2.0, 1.0])
    assert directions(offset, spacing) == ((0, -1), (2, 1))
    assert length(offset, spacing) == pytest.approx(np.sqrt(36 + 4 + 16))


def test_dice_of_structures_agrees_with_that_of_the_benchmarks() -> None:
    a, b = blob(1), blob(2)
    members = np.eye(5, dtype=bool)[1:]  # class 4 is in neither map
    dice = structure_dice(joint_counts(a, b, 5), members)
    assert dice[:3] == pytest.approx(foreground_dice(a, b, 4))
    assert dice[3] == 1
    union = structure_dice(joint_counts(a, b, 5), np.array([[False, True, True, False, False]]))
    assert union == pytest.approx(overlap_dice(np.isin(a, (1, 2)), np.isin(b, (1, 2))))
