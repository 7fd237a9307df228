"""Masks of an unusual field of view: brought back to where the references lie, and no other mask moved."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from gnsm_monai.data import alignment
from gnsm_monai.data.alignment import AlignToReferencesd, FieldsOfView, best_shift, place_of
from gnsm_monai.data.constants import FILE_AFFINE, FILE_SHAPE, IGNORE_INDEX, IMAGE, LABEL
from gnsm_monai.data.transforms import FitToGridd

GRID = (20, 16)
USUAL = FieldsOfView(([19.0, 15.0], [21.0, 17.0]), ([-0.5, -0.5], [-0.5, -0.5]), [9.5, 7.5], [0.4, 0.6])


def body() -> np.ndarray:
    """Two structures, off the centre of the grid."""
    label = np.zeros(GRID, np.int16)
    label[6:12, 3:9] = 1
    label[12:15, 4:8] = 2
    return label


def log_prior() -> np.ndarray:
    frequency = np.stack([body() == c for c in range(3)]).astype(np.float64)
    return np.log(0.99 * frequency + 0.01 / 3)


def case(label: np.ndarray, origin: tuple[float, float] = (0, 0)) -> dict[str, MetaTensor]:
    image = label.astype(np.float32) + 1
    affine = torch.eye(3, dtype=torch.float64)
    affine[:2, 2] = torch.tensor(origin)
    return {
        key: MetaTensor(torch.from_numpy(array[None].copy()), affine=affine)
        for key, array in ((LABEL, label), (IMAGE, image))
    }


def placed(label: np.ndarray, origin: tuple[float, float] = (0, 0)) -> np.ndarray:
    """The label map on the usual grid, as the network gets to see it."""
    aligned = AlignToReferencesd([LABEL, IMAGE], log_prior(), USUAL)(case(label, origin))
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


def test_a_mask_whose_header_tells_of_the_cut_goes_back_to_its_place_even_if_that_is_a_wrong_one() -> None:
    """Likelihood alone would bring it to the references' place."""
    wrong = np.roll(body(), 5, axis=0)
    # Its header is exact to the voxel or so by which the references' own fields of view differ.
    np.testing.assert_array_equal(placed(wrong[3:], origin=(3, 0)) > 0, np.roll(wrong, -1, axis=0) > 0)
    np.testing.assert_array_equal(placed(wrong[3:]) > 0, body() > 0)


def test_two_cuts_that_leave_a_usual_length_are_seen_by_the_header() -> None:
    moved = np.pad(body(), ((0, 6), (0, 0)))[6:]
    np.testing.assert_array_equal(placed(moved, origin=(6, 0))[6:], body()[6:])
    assert (placed(moved)[:14] == moved[:14]).all()


def test_another_world_is_not_believed() -> None:
    """A place that is nowhere near the references' says nothing of the anatomy."""
    np.testing.assert_array_equal(placed(body()[5:], origin=(200, -90))[5:], body()[5:])
    assert (placed(body(), origin=(200, -90)) == body()).all()


def test_another_origin_alone_does_not_move_a_mask_that_lies_where_masks_lie() -> None:
    """The table stood elsewhere, and nothing was cut."""
    for origin in [(4, 0), (-6, 3), (8, 7)]:
        np.testing.assert_array_equal(placed(body(), origin=origin), body())


def test_a_tilted_field_of_view_about_the_same_centre_is_left_where_it_is() -> None:
    angle = np.deg2rad(25)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    tilted = case(body())
    affine = np.eye(3)
    affine[:2, :2] = turn
    affine[:2, 2] = [9.5, 7.5] - turn @ [9.5, 7.5]
    for key in tilted:
        tilted[key].affine = torch.from_numpy(affine)
    found = AlignToReferencesd([LABEL, IMAGE], log_prior(), USUAL)(tilted)
    np.testing.assert_array_equal(FitToGridd(GRID, keys=[LABEL])(found)[LABEL].numpy()[0], body())


def test_a_cut_that_the_header_does_not_tell_of_is_none_whichever_way_the_file_is_stored() -> None:
    """A file that is stored from the other end: its first voxel is the last one of the map, and its header is kept."""
    stored = np.diag([-1.0, 1.0, 1.0])
    stored[0, 2] = 19
    usual = FieldsOfView(USUAL.lengths, ([19.5, -0.5], [19.5, -0.5]), USUAL.centre, USUAL.spread)
    cut = case(
        body()[:16], origin=(4, 0)
    )  # its first four voxels are gone, and the place of the first one is as before
    for key in cut:
        cut[key].meta[FILE_AFFINE] = stored
    found = AlignToReferencesd([LABEL, IMAGE], log_prior(), usual)(cut)
    known = FitToGridd(GRID, keys=[LABEL])(found)[LABEL].numpy()[0]
    np.testing.assert_array_equal(known[:16], body()[:16])


def test_a_length_that_is_rounded_up_by_resampling_is_a_usual_one() -> None:
    moved = np.pad(np.roll(body(), 3, axis=0), ((0, 1), (0, 0)))  # 22 voxels where 21 are the most
    kept = case(moved)
    assert AlignToReferencesd([LABEL, IMAGE], log_prior(), USUAL)(kept)[LABEL] is kept[LABEL]


def test_far_background_changes_neither_the_place_nor_the_memory_that_the_search_takes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sizes: list[float] = []
    monkeypatch.setattr(alignment, "check_memory", lambda needed, what: sizes.append(needed))
    far = np.pad(body(), ((300, 200), (0, 170)))
    np.testing.assert_array_equal(placed(far) > 0, placed(np.pad(body(), ((60, 40), (0, 40)))) > 0)
    assert sizes[0] < 3 * sizes[1]


def test_the_place_of_a_map_is_measured_along_its_axes() -> None:
    affine = torch.tensor([[0.0, 3.0, 10.0], [2.0, 0.0, 20.0], [0.0, 0.0, 1.0]], dtype=torch.float64)
    place = place_of(MetaTensor(torch.zeros(1, 4, 5), affine=affine))
    np.testing.assert_allclose(place.length, [8, 15])
    np.testing.assert_allclose(place.corner, [8.5, 19])
    np.testing.assert_allclose(place.centre, [16, 23])
    np.testing.assert_allclose(place.directions, [[0, 1], [1, 0]])


def test_places_that_nibabel_makes_up_are_known_as_such() -> None:
    """What version 0.2 kept of references whose sform and qform have code 0."""
    places = []
    for shape in ((32, 30, 20), (31, 28, 22)):
        header = nib.Nifti1Image(np.zeros(shape, np.uint8), None).header
        header.set_zooms((1.5, 1.5, 2.0))
        affine = header.get_base_affine()
        places.append(place_of(MetaTensor(torch.zeros(1, *shape), affine=torch.from_numpy(affine))))
        assert FieldsOfView.of(places).made_up
    affine[0, 3] += 1
    places.append(place_of(MetaTensor(torch.zeros(1, *shape), affine=torch.from_numpy(affine))))
    assert not FieldsOfView.of(places).made_up and not USUAL.made_up


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
    assert best_shift(label, prior, np.zeros(2, int), np.array([3, 4]))[0] == list(max(places, key=likelihood))
    near = [place for place in places if abs(place[0] - 1) <= 1 and place[1] == -2]
    shift, reached = best_shift(label, prior, np.array([1, -2]), np.array([1, 0]))
    assert shift == list(max(near, key=likelihood))
    assert reached == pytest.approx(max(map(likelihood, near)))


def test_the_corner_is_that_of_the_references_first_voxel_whichever_way_a_file_is_stored() -> None:
    usual = FieldsOfView(([4.0, 5.0], [4.0, 5.0]), ([0.0, 3.0], [0.0, 3.0]), [2.0, 0.5], [0.0, 0.0])
    label = MetaTensor(torch.zeros(1, 4, 5), affine=torch.tensor([[1.0, 0, 0.5], [0, 1, -1.5], [0, 0, 1]]))
    corners = []
    for flips in np.ndindex(2, 2):
        file = label.affine.numpy().copy()
        for axis, flipped in enumerate(flips):
            if flipped:
                file[axis, axis], file[axis, 2] = -1, file[axis, 2] + label.shape[1 + axis] - 1
        label.meta[FILE_AFFINE], label.meta[FILE_SHAPE] = file, (4, 5)
        corners.append(place_of(label, usual).corner)
    np.testing.assert_allclose(corners, [[0.0, 3.0]] * 4)


def test_spacings_of_the_files_are_kept_along_the_axes_of_the_maps() -> None:
    label = MetaTensor(torch.zeros(1, 4, 5), affine=torch.diag(torch.tensor([1.0, 1.0, 1.0])))
    label.meta[FILE_AFFINE], label.meta[FILE_SHAPE] = np.array([[0.0, 2.0, 0], [-3.0, 0, 0], [0, 0, 1]]), (5, 4)
    assert place_of(label).spacing.tolist() == [2, 3]
    assert place_of(label).file_length.tolist() == [2 * 4, 3 * 5]
    usual = FieldsOfView.of([place_of(label), place_of(case(body())[LABEL])])
    assert usual.spacings == ([1, 1], [2, 3]) and FieldsOfView(**usual.to_dict()) == usual
    assert FieldsOfView(**{k: v for k, v in usual.to_dict().items() if k != "spacings"}).spacings is None
