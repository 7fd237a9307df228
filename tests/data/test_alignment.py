"""Masks of an unusual field of view: brought back to where the references lie, and no other mask moved."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from gnsm_monai.data.alignment import AlignToReferencesd, best_shift
from gnsm_monai.data.constants import IGNORE_INDEX, IMAGE, LABEL
from gnsm_monai.data.transforms import FitToGridd

GRID = (20, 16)
USUAL = [[18.0, 14.0], [22.0, 18.0]]


def body() -> np.ndarray:
    """Two structures, off the centre of the grid."""
    label = np.zeros(GRID, np.int16)
    label[6:12, 3:9] = 1
    label[12:15, 4:8] = 2
    return label


def log_prior() -> np.ndarray:
    frequency = np.stack([body() == c for c in range(3)]).astype(np.float64)
    return np.log(0.99 * frequency + 0.01 / 3)


def case(label: np.ndarray) -> dict[str, MetaTensor]:
    image = label.astype(np.float32) + 1
    return {
        key: MetaTensor(torch.from_numpy(array[None].copy()), affine=torch.eye(3, dtype=torch.float64))
        for key, array in ((LABEL, label), (IMAGE, image))
    }


def placed(label: np.ndarray) -> np.ndarray:
    """The label map on the usual grid, as the network gets to see it."""
    aligned = AlignToReferencesd([LABEL, IMAGE], log_prior(), USUAL)(case(label))
    found: np.ndarray = FitToGridd(GRID, keys=[LABEL, IMAGE])(aligned)[LABEL].numpy()[0]
    return found


@pytest.mark.parametrize("cut", [(slice(5, None), slice(None)), (slice(None, 16), slice(3, None)), (slice(4, 15),) * 2])
def test_a_cut_mask_lies_where_it_lay_before(cut: tuple[slice, slice]) -> None:
    expected = np.full(GRID, IGNORE_INDEX)
    expected[cut] = body()[cut]
    np.testing.assert_array_equal(placed(body()[cut]), expected)


@pytest.mark.parametrize("added", [((6, 0), (0, 0)), ((0, 5), (7, 0))])
def test_a_padded_mask_lies_where_it_lay_before(added: tuple[tuple[int, int], ...]) -> None:
    np.testing.assert_array_equal(placed(np.pad(body(), added)), body())


def test_an_axis_of_usual_length_is_trusted() -> None:
    """Along the second axis the body is two voxels off, and stays so; along the first the field of view is cut."""
    moved = np.roll(body(), 2, axis=1)[4:]
    found = placed(moved)
    np.testing.assert_array_equal(found[4:], np.roll(body(), 2, axis=1)[4:])
    assert (found[:4] == IGNORE_INDEX).all()


def test_a_mask_of_usual_size_is_left_where_it_is() -> None:
    moved = case(np.roll(body(), 3, axis=0))
    found = AlignToReferencesd([LABEL, IMAGE], log_prior(), USUAL)(moved)
    assert found[LABEL] is moved[LABEL] and found[IMAGE] is moved[IMAGE]


def test_images_move_along_and_places_in_the_world_stay() -> None:
    cut = case(body()[5:])
    found = AlignToReferencesd([LABEL, IMAGE], log_prior(), USUAL)(cut)
    assert found[LABEL].shape == found[IMAGE].shape
    known = (found[LABEL] != IGNORE_INDEX).numpy()[0]
    np.testing.assert_array_equal(found[IMAGE].numpy()[0][known], body()[5:].ravel() + 1)
    first = np.argwhere(known)[0]
    np.testing.assert_allclose(found[LABEL].affine.numpy() @ [*first, 1], [0, 0, 1])


def test_nothing_can_be_aligned_without_a_structure() -> None:
    empty = case(np.zeros((8, 8), np.int16))
    assert AlignToReferencesd([LABEL], log_prior(), USUAL)(empty)[LABEL] is empty[LABEL]


def test_the_best_place_is_that_of_the_highest_likelihood() -> None:
    rng = np.random.default_rng(0)
    prior = np.log(rng.dirichlet([0.5] * 3, size=(6, 8)).transpose(2, 0, 1))
    label = rng.integers(-1, 3, (5, 6))
    start = [(6 - 5) // 2, (8 - 6) // 2]

    def likelihood(shift: tuple[int, int]) -> float:
        return sum(
            prior[label[i, j], np.clip(i + start[0] + shift[0], 0, 5), np.clip(j + start[1] + shift[1], 0, 7)]
            for i in range(5)
            for j in range(6)
            if label[i, j] >= 0
        )

    places = [(i, j) for i in range(-3, 4) for j in range(-4, 5)]
    assert best_shift(label, prior, np.array([True, True])) == list(max(places, key=likelihood))
