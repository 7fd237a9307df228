"""Dice and volume of a mask in the geometry of its file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.metrics import compute_average_surface_distance, compute_dice

from gnsm_monai.data.compare import CompareToReference, foreground_dice, mean_foreground_dice, surface_distances
from gnsm_monai.data.constants import CROPPED, IGNORE_INDEX, LABEL, UNSEEN_IMAGE
from gnsm_monai.data.geometry import Cropped
from gnsm_monai.data.loading import LoadMapsd
from gnsm_monai.data.notes import NOTE
from gnsm_monai.errors import InputError


def meta(array: np.ndarray, spacing: tuple[float, ...] | None = None, origin: float = 0.0) -> MetaTensor:
    affine = torch.diag(torch.tensor([*(spacing or (1.0,) * array.ndim), 1.0], dtype=torch.float64))
    affine[:-1, -1] = origin
    return MetaTensor(torch.from_numpy(array[None].astype(np.int16)), affine=affine)


def plain_dice(a: np.ndarray, b: np.ndarray, num_classes: int) -> np.ndarray:
    """The definition, structure by structure."""
    dice = []
    for c in range(1, num_classes):
        valid = (a != IGNORE_INDEX) & (b != IGNORE_INDEX)
        own, other = (a == c) & valid, (b == c) & valid
        total = own.sum() + other.sum()
        dice.append(2 * (own & other).sum() / total if total else np.nan)
    return np.array(dice)


def pair(seed: int, num_classes: int = 5, shape: tuple[int, ...] = (9, 10, 11)) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    a = rng.integers(IGNORE_INDEX, num_classes, shape)
    return a, np.where(rng.random(shape) < 0.6, a, rng.integers(IGNORE_INDEX, num_classes, shape))


class TestDice:
    @pytest.mark.parametrize("seed", range(5))
    def test_dice_is_that_of_the_definition(self, seed: int) -> None:
        a, b = pair(seed)
        b[b == 3] = 0
        a[a == 4], b[b == 4] = 0, 0
        found = foreground_dice(a, b, 5)
        np.testing.assert_allclose(found, plain_dice(a, b, 5), atol=1e-12)
        assert found.dtype == np.float64 and found[2] == 0 and np.isnan(found[3])

    def test_dice_is_that_of_monai(self) -> None:
        a, b = (np.maximum(m, 0) for m in pair(7))
        one_hot = [torch.nn.functional.one_hot(torch.from_numpy(m), 5).movedim(-1, 0)[None] for m in (a, b)]
        expected = compute_dice(*one_hot, include_background=False)[0].numpy()
        np.testing.assert_allclose(foreground_dice(a, b, 5), expected, atol=1e-6)

    def test_a_structure_in_one_map_only_has_zero_and_in_none_nan(self) -> None:
        a, b = np.array([1, 1, 0, 0]), np.array([0, 0, 2, 0])
        np.testing.assert_array_equal(foreground_dice(a, b, 4), [0, 0, np.nan])
        assert mean_foreground_dice(a, b, 4) == 0
        assert np.isnan(mean_foreground_dice(a * 0, b * 0, 4))

    def test_regions_are_compared_as_unions_of_their_classes(self) -> None:
        a, b = pair(3)
        regions = [(1, 2, 3, 4), (2, 4), (3,)]
        found = foreground_dice(a, b, 5, regions)
        for dice, classes in zip(found, regions, strict=True):
            merged = [np.where(m == IGNORE_INDEX, m, np.isin(m, classes)) for m in (a, b)]
            assert dice == pytest.approx(plain_dice(*merged, 2)[0], abs=1e-12)
        assert mean_foreground_dice(a, b, 5, regions) == pytest.approx(found.mean())
        np.testing.assert_array_equal(foreground_dice(a, b, 5, [(1,), (2,), (3,), (4,)]), foreground_dice(a, b, 5))

    def test_voxels_ignored_in_either_map_count_nowhere(self) -> None:
        a = np.array([1, 1, 1, IGNORE_INDEX, 0])
        b = np.array([1, 0, IGNORE_INDEX, 1, 0])
        assert foreground_dice(a, b, 2)[0] == pytest.approx(2 / 3)
        assert np.isnan(foreground_dice(np.array([1]), np.array([IGNORE_INDEX]), 2)[0])


class TestCompareToReference:
    def test_dice_and_volume_are_added_and_the_reference_goes(self) -> None:
        a, b = pair(1)
        spacing = (1.5, 2.0, 0.5)
        found = CompareToReference(5)({"case": "x", "label": meta(a, spacing), "reference": meta(b, spacing)})
        assert set(found) == {"case", "label", "volume_ml", "dice"}
        np.testing.assert_allclose(found["dice"], plain_dice(a, b, 5), atol=1e-6)
        expected = [(a == c).sum() * 1.5 * 2 * 0.5 / 1000 for c in range(1, 5)]
        np.testing.assert_allclose(found["volume_ml"], expected)

    def test_regions_have_the_dice_and_volume_of_their_union(self) -> None:
        a, b = pair(2)
        regions = [(1, 2), (2,)]
        found = CompareToReference(5, regions)({"label": meta(a), "reference": meta(b)})
        np.testing.assert_array_equal(found["dice"], foreground_dice(a, b, 5, regions))
        np.testing.assert_allclose(found["volume_ml"], [np.isin(a, c).sum() / 1000 for c in regions])

    def test_on_2d_maps_the_area_in_square_centimetres_stands_in(self) -> None:
        label = np.zeros((20, 30), np.int16)
        label[:10, :10] = 1
        assert CompareToReference(2)({"label": meta(label, (1.0, 2.0))})["volume_ml"].tolist() == [2.0]

    def test_without_a_reference_there_is_no_dice(self) -> None:
        assert "dice" not in CompareToReference(2)({"label": meta(np.zeros((4, 4)))})

    def test_the_case_given_is_not_changed(self) -> None:
        case = {"label": meta(np.zeros((4, 4))), "reference": meta(np.zeros((4, 4)))}
        CompareToReference(2)(case)
        assert set(case) == {"label", "reference"}

    def test_a_reference_that_does_not_fit_costs_the_dice_alone(self) -> None:
        reference = meta(np.zeros((4, 6)), (2.0, 1.0))
        reference.meta["filename_or_obj"] = "r/a.png"
        case = CompareToReference(2)({"label": meta(np.ones((4, 5))), "reference": reference})
        assert case[NOTE] == (
            "no Dice: r/a.png: does not fit the mask: 4 x 6 voxels of 2 x 1 mm, the mask 4 x 5 voxels of 1 x 1 mm"
        )
        assert "dice" not in case and "reference" not in case and case["volume_ml"].tolist() == [0.2]

    @pytest.mark.parametrize(
        ("spacing", "origin", "mm"), [((1.0, 1.1), 0.0, "0.4"), ((1.0, -1.0), 0.0, "8"), ((1.0, 1.0), 0.5, "0.71")]
    )
    def test_maps_of_one_shape_are_compared_voxel_by_voxel_whatever_their_headers_say(
        self, spacing: tuple[float, float], origin: float, mm: str
    ) -> None:
        a, b = pair(4, shape=(4, 5))
        case = CompareToReference(5)({"label": meta(a), "reference": meta(b, spacing, origin)})
        np.testing.assert_array_equal(case["dice"], foreground_dice(a, b, 5))
        assert case[NOTE] == f"the headers of mask and reference place them {mm} mm apart: taken voxel by voxel"

    def test_rounding_of_headers_is_no_difference_and_channels_of_images_stay(self) -> None:
        image = MetaTensor(torch.rand(3, 4, 5), affine=meta(np.zeros((4, 5)), (1.0, 1.001), 0.02).affine)
        case = CompareToReference(2)({"label": meta(np.zeros((4, 5))), "image": image})
        assert torch.equal(case["image"].as_tensor(), image.as_tensor()) and NOTE not in case
        assert torch.equal(case["image"].affine, case["label"].affine)

    def test_an_image_that_the_network_needs_must_fit(self) -> None:
        for shape in ((3, 5), (4, 6)):
            case = {"label": meta(np.zeros((4, 5)), (2.0, 1.0)), "image": meta(np.zeros(shape))}
            with pytest.raises(InputError, match="does not fit the mask"):
                CompareToReference(2)(case)
        with pytest.raises(InputError, match="its image shows a part of it only"):
            CompareToReference(2)({"label": meta(np.zeros((4, 5))), "image": meta(np.zeros((4, 3)))})


class TestSlicesThatAreMissing:
    """Dice over the union of both fields of view, with background where one of them has nothing."""

    @pytest.mark.parametrize(("low", "high"), [(2, 0), (0, 3), (1, 2)])
    def test_slices_that_the_mask_lacks_are_background(self, low: int, high: int) -> None:
        a, b = (np.maximum(m, 0) for m in pair(5))
        cut = slice(low, a.shape[2] - high)
        label = meta(a[:, :, cut], (1.0, 1.0, 2.0))
        label.affine[2, 3] = 2.0 * low
        case = CompareToReference(5)({"label": label, "reference": meta(b, (1.0, 1.0, 2.0))})
        whole = np.zeros_like(a)
        whole[:, :, cut] = a[:, :, cut]
        np.testing.assert_array_equal(case["dice"], foreground_dice(whole, b, 5))
        assert case[CROPPED] == Cropped("reference", ((0, 0), (0, 0), (low, high)), "RAS")

    def test_slices_that_the_reference_lacks_are_background_there_and_noted(self) -> None:
        a, b = (np.maximum(m, 0) for m in pair(6))
        case = CompareToReference(5)({"label": meta(a), "reference": meta(b[1:])})
        assert "dice" in case  # by the headers its first slice is that of the mask, whatever was cut in truth
        np.testing.assert_array_equal(case["dice"], foreground_dice(a, np.pad(b[1:], [(0, 1), (0, 0), (0, 0)]), 5))
        assert "its reference shows less than the mask" in case[NOTE] and CROPPED not in case

    def test_slices_that_no_header_places_are_counted(self) -> None:
        label, reference = meta(np.ones((4, 5, 6))), meta(np.ones((4, 5, 9)), origin=0.4)
        case = CompareToReference(2)({"label": label, "reference": reference})
        assert case[CROPPED] == Cropped("reference", ((0, 0), (0, 0), (3, 0)), "RAS", located=False)
        assert case[NOTE].startswith("no Dice: ") and "dice" not in case

    def test_a_mask_is_filled_up_to_the_image_that_the_network_sees(self) -> None:
        a, _ = (np.maximum(m, 0) for m in pair(8))
        label = meta(a[2:], (2.0, 1.0, 1.0))
        label.affine[0, 3] = 4.0
        soft = MetaTensor(torch.full((5, 7, 10, 11), 0.2), affine=label.affine)
        image = meta(np.ones(a.shape), (2.0, 1.0, 1.0))
        case = CompareToReference(5)({"label": label, "image": image, "probabilities": soft})
        assert (case["label"].numpy()[0, 2:] == a[2:]).all() and (case["label"][0, :2] == 0).all()
        assert torch.equal(case["label"].affine, image.affine) and torch.equal(case["image"].affine, image.affine)
        assert (case["probabilities"][0, :2] == 1).all() and (case["probabilities"][:, 2:] == 0.2).all()
        assert case[CROPPED] == Cropped("image", ((2, 0), (0, 0), (0, 0)), "RAS")

    def test_of_an_image_that_the_network_does_not_see_the_size_is_compared(self, save: Callable[..., Path]) -> None:
        paths = [save(f"{n}.mha", np.zeros((4, 5, n), np.uint8), (1, 1, 2)) for n in (6, 8)]
        label = LoadMapsd([LABEL], 3)({LABEL: paths[0]})[LABEL]
        for path, missing in ((paths[0], None), (paths[1], ((0, 0), (0, 0), (0, 2)))):
            case = CompareToReference(2)({LABEL: label, UNSEEN_IMAGE: path})
            assert case.get(CROPPED) == (missing and Cropped("image", missing, "LPS")) and UNSEEN_IMAGE not in case
            assert case[LABEL].shape[1:] == LoadMapsd([LABEL], 3)({LABEL: path})[LABEL].shape[1:]
        lost = CompareToReference(2)({LABEL: label, UNSEEN_IMAGE: paths[0].with_name("lost.mha")})
        assert "lost.mha: cannot be read" in lost[NOTE] and CROPPED not in lost


class TestSurfaceDistances:
    def test_two_sheets_are_as_far_apart_as_they_are(self) -> None:
        a, b = np.zeros((8, 6, 5), np.int16), np.zeros((8, 6, 5), np.int16)
        a[2, 1:5, 1:4] = b[4, 1:5, 1:4] = 1
        assert surface_distances(a, b, 3, [1.5, 1, 1]) == pytest.approx([3.0, np.nan], nan_ok=True)
        assert surface_distances(a, a, 2, [1.5, 1, 1]) == pytest.approx([0.0])

    @pytest.mark.filterwarnings("ignore:monai.metrics")
    def test_they_are_those_of_monai(self) -> None:
        index = np.indices((24, 20, 18)) - np.array([12, 9, 9])[:, None, None, None]
        a, b = (((index / np.array(r)[:, None, None, None]) ** 2).sum(0) < 1 for r in ([9, 6, 7], [7, 8, 5]))
        maps = [torch.from_numpy(m)[None, None] for m in (a, b)]
        expected = compute_average_surface_distance(*maps, True, symmetric=True, spacing=[1.0, 2.0, 0.5])
        found = surface_distances(a.astype(int), b.astype(int), 2, [1, 2, 0.5])
        assert found == pytest.approx([float(expected)], abs=0.05)  # MONAI's surface has corners that share no face

    def test_what_is_ignored_or_in_one_map_has_none_and_regions_are_one_structure(self) -> None:
        a, b = np.zeros((9, 9), np.int16), np.zeros((9, 9), np.int16)
        a[2, 2:6], b[2, 2:4], b[2, 4:6] = 1, 1, 2
        assert np.isnan(surface_distances(a, b, 3, [1, 1])[1])
        assert surface_distances(a, b, 3, [1, 1], [[1, 2]]) == pytest.approx([0.0])
        b[2, 4:6] = IGNORE_INDEX
        assert surface_distances(a, b, 2, [1, 1]) == pytest.approx([0.0])
