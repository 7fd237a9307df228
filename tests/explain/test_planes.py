from __future__ import annotations

import numpy as np
import pytest

from gnsm_monai.explain import planes
from gnsm_monai.explain.planes import (
    file_axes,
    file_index,
    picture_of,
    slice_scores,
    to_file_geometry,
    worst_place,
    worst_slices,
)

GRID = np.diag([2.0, 1.0, 1.0, 1.0])
"""A grid in RAS: 2 mm along x."""


def file_affine(permutation: list[int], flips: list[int], shape: tuple[int, ...]) -> np.ndarray:
    """A file of the same place with its axes in another order and direction, and 1 mm along every axis."""
    affine = np.zeros((4, 4))
    affine[3, 3] = 1
    for axis, (ras, flip) in enumerate(zip(permutation, flips, strict=True)):
        affine[ras, axis] = flip
        if flip < 0:
            affine[ras, 3] = shape[axis] - 1
    return affine


def test_the_worst_slice_has_the_highest_mean_over_its_band() -> None:
    anomaly, band = np.zeros((6, 8, 5)), np.zeros((6, 8, 5), dtype=bool)
    band[1:5, 2:6, 1:4] = True
    anomaly[3, 2:6, 1:4] = 1.0
    anomaly[:, 5, :] += 2.0
    anomaly[0, 0, 0] = 99.0  # outside the band: nobody's slice
    slices, means = worst_slices(anomaly, band)
    assert slices[:2] == [3, 5]
    assert means[:2] == pytest.approx([1 + 2 / 4, 2 + 1 / 4])


def test_a_sliver_of_the_band_is_no_slice() -> None:
    anomaly, band = np.zeros((6, 20, 20)), np.zeros((6, 20, 20), dtype=bool)
    band[1:5, 2:18, 2:18] = band[5, 2, 2] = True
    anomaly[5, 2, 2], anomaly[2] = 50.0, 1.0
    assert worst_slices(anomaly, band)[0][0] == 2


def test_an_empty_band_stands_for_everywhere() -> None:
    anomaly = np.zeros((4, 5))
    anomaly[3, 1] = 1
    assert worst_slices(anomaly, np.zeros((4, 5), dtype=bool))[0] == [3, 1]


def test_the_worst_place_is_a_cluster_not_a_voxel() -> None:
    anomaly = np.zeros((20, 20, 20))
    anomaly[2, 2, 2] = 3.0
    anomaly[12:15, 12:15, 12:15] = 2.0
    assert worst_place(anomaly, np.ones(anomaly.shape, dtype=bool)) == (13, 13, 13)


@pytest.mark.parametrize(
    ("permutation", "flips"), [([0, 1, 2], [1, 1, 1]), ([0, 1, 2], [-1, -1, -1]), ([2, 0, 1], [-1, 1, -1])]
)
def test_every_slice_across_the_thick_axis_has_the_mean_of_its_band(permutation: list[int], flips: list[int]) -> None:
    """A file of 4 mm along the head-foot axis, on a grid of 1 mm there that begins 4 mm further up."""
    extent = (6, 6, 8)  # voxels of the file along right, front, head
    shape = tuple(extent[ras] for ras in permutation)
    thick = np.diag([1.0, 1.0, 4.0, 1.0]) @ file_affine(permutation, flips, shape)
    grid = np.eye(4)
    grid[2, 3] = 4.0
    anomaly, band = np.zeros((6, 6, 20)), np.zeros((6, 6, 20), dtype=bool)
    band[1:3, 2:4, 4:13] = True
    anomaly[1, 2:4] = np.arange(20.0)  # half of the band
    anomaly[5] = 99.0
    slices = slice_scores(anomaly, band, grid, thick, shape)
    assert slices.axis == permutation.index(2)
    # File slice k lies at 4k mm, which is index 4k - 4 of the grid; the band has 4 to 12.
    expected = np.array([np.nan, np.nan, 2.0, 4.0, 6.0, np.nan, np.nan, np.nan])
    up = slices.scores if flips[slices.axis] > 0 else slices.scores[::-1]
    np.testing.assert_allclose(up, expected)


@pytest.mark.parametrize(
    ("permutation", "flips"), [([0, 1, 2], [1, 1, 1]), ([0, 1, 2], [-1, -1, 1]), ([2, 0, 1], [1, -1, -1])]
)
def test_places_slices_and_maps_come_back_to_the_file(permutation: list[int], flips: list[int]) -> None:
    """One bright block, in a file of any axis order: its index there is that of the same mm."""
    extent = (24, 10, 8)  # mm along right, front, head; the grid has 2 mm along the first
    shape = tuple(extent[axis] for axis in permutation)
    affine = file_affine(permutation, flips, shape)
    place = (5, 7, 2)  # grid index
    mm = np.array([10.0, 7.0, 2.0])
    expected = [int(mm[r] if f > 0 else shape[a] - 1 - mm[r]) for a, (r, f) in enumerate(zip(permutation, flips))]  # noqa: B905
    assert file_index(place, GRID, affine, shape) == expected
    assert file_axes(GRID, affine) == [permutation.index(axis) for axis in range(3)]
    anomaly = np.zeros((12, 10, 8), dtype=np.float32)
    anomaly[place] = 1.0
    there = to_file_geometry(anomaly, GRID, affine, shape)
    assert there.shape == shape
    assert there.dtype == np.float32
    assert np.unravel_index(there.argmax(), shape) == tuple(expected)
    assert there.max() == pytest.approx(1.0)
    assert there.sum() == pytest.approx(2.0)  # half as much at each neighbour along the coarse axis


@pytest.mark.parametrize("most", [1, 250, 400])
def test_a_map_computed_slab_by_slab_is_the_map(monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    """In a file that is tilted, and beyond the grid at one end."""
    angle = 0.3
    affine = np.array(
        [[np.cos(angle), -np.sin(angle), 0, 1], [np.sin(angle), np.cos(angle), 0, -2], [0, 0, 0.8, 1], [0, 0, 0, 1]]
    )
    anomaly = np.random.default_rng(0).random((12, 10, 8))
    whole = to_file_geometry(anomaly, GRID, affine, (21, 13, 9))
    monkeypatch.setattr(planes, "MAX_VOXELS", most)
    np.testing.assert_allclose(to_file_geometry(anomaly, GRID, affine, (21, 13, 9)), whole, atol=1e-6)
    assert (whole == 0).any() and whole.max() > 0.5


def test_a_volumes_picture_has_three_planes_as_radiologists_hold_them() -> None:
    label = np.zeros((12, 10, 8), dtype=np.int16)
    label[9, 8, 6] = 1  # right, front, head
    picture = picture_of((9, 8, 6), label, label.astype(np.float32), None, GRID, np.eye(4), (24, 10, 8))
    assert [plane.axis for plane in picture] == [0, 1, 2]
    assert [plane.index for plane in picture] == [18, 8, 6]
    sagittal, coronal, axial = (tuple(int(i) for i in np.argwhere(plane.label)[0]) for plane in picture)
    assert sagittal == (1, 1)  # head on top, front on the left
    assert coronal == (1, 2)  # head on top, the patient's right on the left
    assert axial == (1, 2)  # front on top, the patient's right on the left
    assert [plane.spacing for plane in picture] == [(1.0, 1.0), (1.0, 2.0), (1.0, 2.0)]
    assert all(plane.image is None for plane in picture)


def test_a_two_dimensional_mask_is_its_own_picture() -> None:
    label = np.zeros((6, 4), dtype=np.int16)
    label[5, 0] = 1  # right end of the top row of the file
    image = np.arange(24.0).reshape(6, 4)
    (plane,) = picture_of((5, 0), label, label.astype(np.float32), image, np.eye(3), np.eye(3), (6, 4))
    assert plane.label.shape == (4, 6)
    assert plane.label[0, 5] == 1
    assert plane.image is not None and plane.image[0, 5] == 20
