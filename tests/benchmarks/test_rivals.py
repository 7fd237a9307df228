from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np
import pytest
import rivals

from tests import builders

EVERY = [rivals.VolumeZScore, rivals.CentreOfMassZScore, rivals.VoxelwisePrior]
LINEAR = [partial(rivals.LinearShapeRival, frame) for frame in ("volume", "mask")]


square = partial(builders.square, low=3, size=3, shape=(9, 9))


def references() -> list[np.ndarray]:
    """Squares of edge 2, 3 and 4 near the centre."""
    return [square(low=low, size=size) for low in (2, 3, 4) for size in (2, 3, 4)]


@pytest.mark.parametrize("rival", [*EVERY, LINEAR[0]])
def test_a_reference_scores_below_a_mask_gone_wrong(rival: Any) -> None:
    fitted = rival().fit(references(), 2)
    usual, wrong = fitted.score(square()), fitted.score(square(low=7, size=1))
    assert isinstance(usual, float)
    assert usual < wrong


@pytest.mark.parametrize("rival", LINEAR)
def test_a_form_that_no_reference_has_is_odd_in_both_frames(rival: Any) -> None:
    fitted = rival().fit(references(), 2)
    bar = square() * (np.arange(9) == 4)[:, None]
    assert fitted.score(square()) < 0.1 < fitted.score(bar) and fitted.score(np.zeros((9, 9), dtype=int)) == 1


@pytest.mark.parametrize("rival", EVERY)
def test_a_missing_structure_is_finite_and_worse_than_a_wrong_one(rival: Any) -> None:
    fitted = rival().fit(references(), 2)
    empty = fitted.score(np.zeros((9, 9), dtype=np.int64))
    assert math.isfinite(empty)
    assert empty > fitted.score(square(low=7, size=2))


@pytest.mark.parametrize("rival", EVERY)
def test_three_axes_and_identical_references_stay_finite(rival: Any) -> None:
    mask = square(shape=(6, 6, 6), low=2, size=2)
    fitted = rival().fit([mask, mask], 2)
    assert 0 <= fitted.score(mask) < 0.01
    assert math.isfinite(fitted.score(square(shape=(6, 6, 6), low=0, size=2)))
    assert fitted.score(square(shape=(6, 6, 6), low=0, size=1)) > 0.5


@pytest.mark.parametrize("rival", EVERY)
def test_padding_on_all_sides_changes_nothing(rival: Any) -> None:
    fitted = rival().fit(references(), 2)
    mask = square(low=4, size=2)
    assert fitted.score(np.pad(mask, 3)) == pytest.approx(fitted.score(mask), abs=1e-12)


@pytest.mark.parametrize("rival", EVERY)
def test_ignored_voxels_count_nowhere(rival: Any) -> None:
    fitted = rival().fit(references(), 2)
    mask = square()
    marked = np.where(square(low=0, size=2) == 1, -1, mask)
    assert fitted.score(marked) == fitted.score(mask)


@pytest.mark.parametrize("rival", EVERY)
def test_bad_input_is_refused(rival: Any) -> None:
    with pytest.raises(ValueError, match=r"^at least one reference is needed\.$"):
        rival().fit([], 2)
    with pytest.raises(ValueError, match=r"^num_classes must be at least 2, got 1\.$"):
        rival().fit([square()], 1)
    with pytest.raises(
        ValueError, match=r"^references must agree in their axes, got shapes \(9, 9\) and \(9, 9, 9\)\.$"
    ):
        rival().fit([square(), square(shape=(9, 9, 9))], 2)
    fitted = rival().fit(references(), 2)
    with pytest.raises(ValueError, match=r"^label maps must be integer, got float64\.$"):
        fitted.score(square().astype(np.float64))
    with pytest.raises(ValueError, match=r"^label 2 is not one of 2 classes\.$"):
        fitted.score(square(label=2))


def test_volume_is_the_mean_z_over_structures() -> None:
    def mask(first: int, second: int) -> np.ndarray:
        return np.repeat([0, 1, 2], [20 - first - second, first, second])

    fitted = rivals.VolumeZScore(log=False).fit([mask(4, 1), mask(6, 3)], 3)
    # Means 5 and 2, standard deviations 1 and 1.
    assert fitted.score(mask(8, 2)) == pytest.approx((3 + 0) / 2)
    assert fitted.score(mask(5, 6)) == pytest.approx((0 + 4) / 2)


def test_log_volume_sees_half_and_double_alike() -> None:
    fitted = rivals.VolumeZScore().fit([square(shape=(40, 40), low=0, size=size) for size in (14, 15, 16, 17)], 2)
    middle = np.expm1(fitted.mean[0])
    half, double = (np.arange(1600) < round(middle * factor) for factor in (0.5, 2.0))
    assert fitted.score(half.astype(int)) == pytest.approx(fitted.score(double.astype(int)), rel=0.02)


def test_centre_of_mass_is_the_mean_z_over_axes() -> None:
    # Centres at 3 and 5 along both axes: mean 4, standard deviation 1.
    fitted = rivals.CentreOfMassZScore().fit([square(low=2), square(low=4)], 2)
    moved = np.zeros((9, 9), dtype=np.int64)
    moved[7, 4] = 1
    assert fitted.score(moved) == pytest.approx((3 + 0) / 2)
    assert fitted.score(np.zeros((9, 9), dtype=np.int64)) == rivals.MISSING_Z


def test_centre_of_mass_leaves_out_references_that_lack_the_structure() -> None:
    some = [square(low=2), square(low=4)]
    empty = np.zeros((9, 9), dtype=np.int64)
    with_gap, without = (rivals.CentreOfMassZScore().fit(maps, 2) for maps in ([*some, empty], some))
    assert with_gap.score(square(low=5)) == without.score(square(low=5))
    with pytest.raises(ValueError, match=r"^structure 2 occurs in no reference\.$"):
        rivals.CentreOfMassZScore().fit(some, 3)


def test_prior_is_the_mean_surprise_of_the_foreground() -> None:
    fitted = rivals.VoxelwisePrior().fit([np.array([0, 1, 1, 0]), np.array([0, 0, 1, 0])], 2)

    def surprise(frequency: float) -> float:
        return -math.log(0.999 * frequency + 0.001 / 2)

    mask = np.array([0, 1, 1, 1])
    assert fitted.score(mask) == pytest.approx((surprise(0.5) + surprise(1) + surprise(0)) / 3)
    np.testing.assert_allclose(
        fitted.voxelwise_prior_map(mask), [surprise(1), surprise(0.5), surprise(1), surprise(0)], atol=1e-12
    )


def test_empty_mask_is_worse_than_the_worst_foreground() -> None:
    fitted = rivals.VoxelwisePrior().fit([np.array([0, 1, 1, 0])], 2)
    empty = fitted.score(np.zeros(4, dtype=np.int64))
    assert empty == pytest.approx(-math.log(0.001 / 2) + 1)
    assert empty > fitted.score(np.array([1, 0, 0, 0]))


def test_prior_map_has_the_shape_of_the_mask_and_skips_ignored_voxels() -> None:
    fitted = rivals.VoxelwisePrior().fit(references(), 2)
    mask = square(shape=(7, 13), low=2)
    mask[0, 0] = -1
    surprise = fitted.voxelwise_prior_map(mask)
    assert surprise.shape == (7, 13)
    assert surprise[0, 0] == 0
    assert fitted.score(mask) == pytest.approx(surprise[mask > 0].mean())


def test_references_of_other_shape_are_centred_in_the_largest() -> None:
    large = np.array([0, 0, 1, 0, 0])
    fitted = rivals.VoxelwisePrior().fit([large, np.array([0, 1, 0])], 2)
    assert fitted.score(large) == pytest.approx(-math.log(0.9995))
    assert fitted.score(np.array([0, 1, 0])) == pytest.approx(-math.log(0.9995))


def test_a_given_grid_crops_references_and_reads_its_edge_beyond() -> None:
    fitted = rivals.VoxelwisePrior(grid_shape=(3,)).fit([np.array([1, 1, 0, 1, 0])], 2)
    # The grid holds 1, 0, 1; whatever lies beyond meets the edge, where foreground is sure.
    beyond = fitted.voxelwise_prior_map(np.array([1, 1, 1, 1, 1]))
    np.testing.assert_allclose(np.exp(-beyond), [0.9995, 0.9995, 0.0005, 0.9995, 0.9995])
    with pytest.raises(ValueError, match=r"^grid_shape must have 2 axes, got \(3,\)\.$"):
        rivals.VoxelwisePrior(grid_shape=(3,)).fit([square()], 2)
    with pytest.raises(ValueError, match=r"^the mask must have 1 axes, got shape \(9, 9\)\.$"):
        fitted.score(square())


def test_prior_knows_nothing_where_every_reference_is_ignored() -> None:
    fitted = rivals.VoxelwisePrior().fit([np.array([-1, 1]), np.array([-1, 1])], 2)
    np.testing.assert_allclose(fitted.voxelwise_prior_map(np.array([1, 1]))[0], math.log(2))
