"""From files to class indices on the model's grid."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import LoadImage

from gnsm_monai.data.class_index import ToClassIndexd, distinct_values
from gnsm_monai.data.constants import IGNORE_INDEX, IMAGE, LABEL
from gnsm_monai.data.loading import CaughtErrors
from gnsm_monai.data.nnunet import LabelScheme
from gnsm_monai.data.transforms import (
    FitToGridd,
    ToSpacingd,
    centred_extent,
    encode_labels,
    load_case,
)
from gnsm_monai.errors import InputError
from gnsm_monai.files import one_line
from gnsm_monai.networks.evidence import centred

SCHEME = LabelScheme(("a", "b"), (0, 1, 2))
APART = LabelScheme(("a", "b"), (0, 100, 70_000), ignore_value=255)


def meta(array: np.ndarray, spacing: tuple[float, ...] | None = None) -> MetaTensor:
    """Label map ``(1, *spatial)``."""
    affine = torch.diag(torch.tensor([*(spacing or (1.0,) * array.ndim), 1.0], dtype=torch.float64))
    return MetaTensor(torch.from_numpy(array[None].copy()), affine=affine)


def to_index(array: np.ndarray, scheme: LabelScheme | None = SCHEME) -> torch.Tensor:
    found: torch.Tensor = ToClassIndexd(LABEL, scheme, array.ndim)({LABEL: meta(array)})[LABEL]
    return found


class TestLoadCase:
    def test_any_storage_order_comes_out_in_ras(self, tmp_path: Path) -> None:
        array = np.random.default_rng(0).integers(0, 3, (5, 6, 7)).astype(np.uint8)
        stored = nib.Nifti1Image(array, np.diag([2.0, 3.0, 4.0, 1.0]))
        for codes in ("RAS", "LPS", "SLA", "AIR"):
            target = nib.orientations.axcodes2ornt(codes)
            turned = stored.as_reoriented(nib.orientations.ornt_transform(nib.io_orientation(stored.affine), target))
            nib.save(turned, tmp_path / "case.nii.gz")
            label = load_case(SCHEME, 3)({LABEL: tmp_path / "case.nii.gz"})[LABEL]
            np.testing.assert_array_equal(label.numpy()[0], array)
            np.testing.assert_allclose(label.affine.numpy(), stored.affine)
            assert label.dtype == torch.int16

    def test_all_formats_give_the_same_map(self, save: Callable[..., Path]) -> None:
        array = np.random.default_rng(0).integers(0, 3, (5, 6, 7)).astype(np.uint8)
        loaded = [
            load_case(SCHEME, 3)({LABEL: save(f"case{ending}", array, (1, 2, 3))})[LABEL]
            for ending in (".nii.gz", ".mha", ".nrrd")
        ]
        for other in loaded[1:]:
            np.testing.assert_array_equal(loaded[0].numpy(), other.numpy())
            np.testing.assert_allclose(loaded[0].affine.numpy(), other.affine.numpy())

    def test_images_are_normalised_per_channel(self, save: Callable[..., Path]) -> None:
        rng = np.random.default_rng(0)
        paths = [save(f"a_000{i}.nii.gz", (10**i * rng.normal(5, 1, (8, 9, 10))).astype(np.float32)) for i in range(2)]
        image = load_case(SCHEME, 3, [IMAGE])({IMAGE: paths})[IMAGE]
        np.testing.assert_allclose(image.mean((1, 2, 3)).numpy(), 0, atol=1e-4)
        np.testing.assert_allclose(image.std((1, 2, 3)).numpy(), 1, atol=1e-2)

    def test_keys_that_a_case_lacks_are_passed_over(self, save: Callable[..., Path]) -> None:
        path = save("a.png", np.ones((4, 5), np.uint8))
        assert set(load_case(SCHEME, 2, [LABEL, "reference", IMAGE])({LABEL: path})) == {LABEL}

    def test_monais_own_loader_reads_the_same_array(self, save: Callable[..., Path]) -> None:
        path = save("a.nii.gz", np.random.default_rng(0).integers(0, 3, (5, 6, 7)).astype(np.uint8), (1, 2, 3))
        expected = LoadImage(image_only=True)(path)
        loaded = load_case(SCHEME, 3)({LABEL: path})[LABEL]
        turned = expected.numpy()[::-1, ::-1]  # SimpleITK writes LPS
        np.testing.assert_array_equal(loaded.numpy()[0], turned)


class TestToClassIndex:
    def test_values_apart_become_consecutive_indices(self) -> None:
        values = np.array([0, 100, 255, 70_000])
        places = np.random.default_rng(0).integers(0, 4, (7, 8))
        index = to_index(values[places], APART)
        assert index.dtype == torch.int16
        np.testing.assert_array_equal(index.numpy()[0], np.array([0, 1, IGNORE_INDEX, 2])[places])

    @pytest.mark.parametrize("kind", [np.float32, np.float64, np.int16, np.int64])
    def test_the_pixel_type_does_not_matter(self, kind: type) -> None:
        array = np.random.default_rng(0).integers(0, 3, (4, 5, 6)).astype(kind)
        np.testing.assert_array_equal(to_index(array).numpy()[0], array)

    def test_rounding_of_a_stored_slope_is_no_fraction(self) -> None:
        array = np.random.default_rng(0).integers(0, 3, (4, 5, 6))
        stored = 10 * array * float(np.float32(0.1))  # whole numbers under a slope of single precision
        assert (stored != array).any()
        np.testing.assert_array_equal(to_index(stored).numpy()[0], array)

    def test_a_fraction_is_shown_with_all_its_digits(self) -> None:
        with pytest.raises(InputError, match=r"whole numbers, found 1\.99876"):
            to_index(np.array([[0.0, 1.99876]]))

    def test_affine_and_file_name_are_kept(self) -> None:
        label = meta(np.ones((3, 4), np.int32), (2.0, 3.0))
        label.meta["filename_or_obj"] = "a.png"
        converted = ToClassIndexd(LABEL, SCHEME, 2)({LABEL: label})[LABEL]
        assert converted.pixdim.tolist() == [2, 3] and converted.meta["filename_or_obj"] == "a.png"

    def test_without_a_scheme_large_values_are_kept(self) -> None:
        assert to_index(np.array([[0, 40_000]]), None).max() == 40_000

    @pytest.mark.parametrize(
        ("array", "scheme", "reason"),
        [
            (np.array([[0, 3]]), SCHEME, r"label value 3 is not among the declared \[0, 1, 2\]"),
            (np.array([[0, -1]]), SCHEME, "label value -1 is not among the declared"),
            (np.array([[0, 10**6]]), APART, r"label value 1000000 is not among the declared \[0, 100, 255, 70000\]"),
            (np.array([[0, -2]]), None, "label values must not be negative, found -2"),
            (np.array([[0, 1.5]]), SCHEME, "label values must be whole numbers, found 1.5"),
            (np.array([[0, np.nan]]), SCHEME, "NaN or infinite values in a label map"),
            (np.array([[0, np.inf]]), SCHEME, "NaN or infinite values in a label map"),
            (np.array([[0, 1e30]]), SCHEME, r"1e\+30 is no label value"),
            (np.zeros((0, 4)), SCHEME, r"an axis without voxels, shape \(0, 4\)"),
        ],
    )
    def test_values_that_are_no_labels_are_refused(
        self, array: np.ndarray, scheme: LabelScheme | None, reason: str
    ) -> None:
        with pytest.raises(InputError, match=f"^label map: {reason}"):
            to_index(array, scheme)

    @pytest.mark.parametrize(
        ("shape", "dims", "found"),
        [
            ((4, 5, 6), 2, r"\(4, 5, 6\)"),
            ((4, 5), 3, r"\(4, 5\)"),
            ((4, 5, 6, 2), 3, r"\(4, 5, 6, 2\)"),
            ((4, 5, 6, 2), 2, r"\(4, 5, 6, 2\)"),
        ],
    )
    def test_other_numbers_of_axes_are_refused(
        self, tmp_path: Path, shape: tuple[int, ...], dims: int, found: str
    ) -> None:
        nib.save(nib.Nifti1Image(np.zeros(shape, np.uint8), np.eye(4)), tmp_path / "case.nii.gz")
        with pytest.raises(InputError) as caught:
            _raise_cause(lambda: load_case(SCHEME, dims)({LABEL: tmp_path / "case.nii.gz"}))
        expected = f"case.nii.gz: a label map of {dims} axes is needed, found shape {found}".replace("\\", "")
        assert str(caught.value).endswith(expected)

    def test_a_colour_picture_is_no_label_map(self) -> None:
        with pytest.raises(InputError, match=r"a label map of 2 axes is needed, found shape \(4, 5, 3\)"):
            ToClassIndexd(LABEL, SCHEME, 2)({LABEL: MetaTensor(torch.zeros(3, 4, 5))})

    def test_a_file_with_an_axis_of_no_voxels_is_refused(self, tmp_path: Path) -> None:
        nib.save(nib.Nifti1Image(np.zeros((0, 5, 5), np.uint8), np.eye(4)), tmp_path / "case.nii.gz")
        with pytest.raises(InputError, match="an axis without voxels"):
            _raise_cause(lambda: load_case(SCHEME, 3)({LABEL: tmp_path / "case.nii.gz"}))

    @pytest.mark.parametrize("scale", [1, 7, 100_000])
    def test_distinct_values_are_those_of_numpy(self, scale: int) -> None:
        label = np.random.default_rng(0).integers(-2, 5, (6, 7, 8)).astype(np.int32) * scale
        values, places = distinct_values(label)
        np.testing.assert_array_equal(values, np.unique(label))
        np.testing.assert_array_equal(values[places], label)


def _raise_cause(call: Callable[[], Any]) -> None:
    """MONAI wraps what a transform raises in a RuntimeError; the InputError is its cause."""
    try:
        call()
    except RuntimeError as error:
        assert error.__cause__ is not None
        raise error.__cause__ from None


class TestResample:
    def test_nothing_is_done_within_one_percent(self) -> None:
        label = meta(np.random.default_rng(0).integers(0, 3, (6, 7)).astype(np.int16), (1.004, 0.996))
        assert ToSpacingd([LABEL], [1.0, 1.0])({LABEL: label})[LABEL] is label

    def test_labels_stay_whole_numbers_that_occurred(self) -> None:
        array = np.random.default_rng(0).choice([IGNORE_INDEX, 0, 2], (10, 11, 12)).astype(np.int16)
        found = ToSpacingd([LABEL], [2.0, 0.7, 1.3])({LABEL: meta(array, (1.0, 1.0, 2.0))})[LABEL]
        assert found.dtype == torch.int16
        assert set(np.unique(found.numpy())) == {IGNORE_INDEX, 0, 2}
        np.testing.assert_allclose(found.pixdim.numpy(), [2.0, 0.7, 1.3])

    def test_a_structure_keeps_its_size_in_mm(self) -> None:
        array = np.zeros((40, 40), np.int16)
        array[10:30, 12:28] = 1
        found = ToSpacingd([LABEL], [2.0, 1.0])({LABEL: meta(array)})[LABEL].numpy()[0]
        assert abs(found.sum() * 2 - 320) <= 32  # one row of voxels either way

    def test_images_follow_their_labels(self) -> None:
        case = {LABEL: meta(np.zeros((8, 8), np.int16)), IMAGE: meta(np.random.default_rng(0).random((8, 8)))}
        found = ToSpacingd([LABEL, IMAGE], [2.0, 2.0])(case)
        assert found[LABEL].shape == found[IMAGE].shape
        np.testing.assert_allclose(found[LABEL].affine.numpy(), found[IMAGE].affine.numpy())


def fit(label: np.ndarray, size: tuple[int, ...], grow: bool = False) -> np.ndarray:
    found: np.ndarray = FitToGridd(size, grow)({LABEL: meta(label)})[LABEL].numpy()[0]
    return found


class TestFitToGrid:
    @pytest.mark.parametrize("old", range(3, 14))
    @pytest.mark.parametrize("new", [6, 7, 8])
    def test_voxels_move_by_half_the_difference_whether_cut_or_padded(self, old: int, new: int) -> None:
        numbered = np.arange(1, old + 1, dtype=np.int16)[:, None] * np.ones((1, 5), np.int16)
        found = fit(numbered, (new, 5))[:, 0]
        shift = (new - old) // 2
        expected = [i - shift + 1 if 0 <= i - shift < old else IGNORE_INDEX for i in range(new)]
        assert found.tolist() == expected

    def test_axes_that_are_cut_and_padded_agree(self) -> None:
        # Two cases, one centre, fields of view on either side of the grid, which only just differ in half a voxel.
        small, large = np.zeros((7, 7), np.int16), np.zeros((9, 9), np.int16)
        small[3, 3] = large[4, 4] = 1
        np.testing.assert_array_equal(np.argwhere(fit(small, (8, 8)) == 1), np.argwhere(fit(large, (8, 8)) == 1))

    @pytest.mark.parametrize("size", [(4, 4), (5, 12), (12, 5), (9, 9)])
    @pytest.mark.parametrize("shape", [(7, 8), (10, 11)])
    def test_label_and_image_land_at_the_same_place(self, shape: tuple[int, int], size: tuple[int, int]) -> None:
        label = np.arange(1, np.prod(shape) + 1, dtype=np.int16).reshape(shape)
        case = {LABEL: meta(label), IMAGE: meta(label.astype(np.float32))}
        for grow in (False, True):
            found = FitToGridd(size, grow, [LABEL, IMAGE])(case)
            inside = found[LABEL].numpy() != IGNORE_INDEX
            np.testing.assert_array_equal(found[LABEL].numpy()[inside], found[IMAGE].numpy()[inside])
            assert not found[IMAGE].numpy()[~inside].any()
            assert found[LABEL].dtype == torch.int16

    def test_growing_loses_nothing_of_a_structure(self) -> None:
        rng = np.random.default_rng(0)
        for _ in range(40):
            label = np.zeros(rng.integers(3, 20, 2), np.int16)
            for _ in range(3):
                label[tuple(rng.integers(0, label.shape))] = 1
            found = fit(label, (8, 8), grow=True)
            assert (found == 1).sum() == label.sum()
            assert all(n >= 8 for n in found.shape)

    @pytest.mark.parametrize("old", [11, 12, 13, 14])
    @pytest.mark.parametrize("far", [9, 10])
    def test_the_grid_lies_in_the_middle_of_one_that_has_grown(self, old: int, far: int) -> None:
        """As the models of shapes look for it there: no voxel may move."""
        label = np.zeros((old, 5), np.int16)
        label[4, 2], label[far, 2] = 1, 2
        usual, grown = fit(label, (8, 5)), fit(label, (8, 5), grow=True)
        assert 2 in grown
        usual, grown = (torch.as_tensor(a)[None, None] for a in (usual, grown))
        assert torch.equal(centred(grown, (8, 5)), usual)
        back, inside = centred(usual, grown.shape[2:]), centred(torch.ones_like(usual), grown.shape[2:]) > 0
        assert torch.equal(back[inside], grown[inside])

    def test_without_growing_the_grid_has_its_size(self) -> None:
        assert fit(np.ones((20, 3), np.int16), (8, 8)).shape == (8, 8)

    def test_an_empty_map_does_not_grow(self) -> None:
        assert fit(np.zeros((20, 20), np.int16), (8, 8), grow=True).shape == (8, 8)

    def test_the_affine_follows(self) -> None:
        label = np.zeros((12, 5), np.int16)
        label[6, 2] = 1
        placed = FitToGridd((8, 8))({LABEL: meta(label, (2.0, 3.0))})[LABEL]
        place = np.append(np.argwhere(placed.numpy()[0] == 1)[0], 1)
        np.testing.assert_allclose(placed.affine.numpy() @ place, [12, 6, 1])


class TestCentredExtent:
    def test_the_box_is_the_smallest_that_holds_all(self) -> None:
        rng = np.random.default_rng(0)
        for _ in range(30):
            label = np.zeros(rng.integers(2, 12, 3), np.int16)
            for _ in range(rng.integers(1, 4)):
                label[tuple(rng.integers(0, label.shape))] = 2
            extent = centred_extent(label)
            centre = (np.array(label.shape) - 1) / 2
            reach = np.abs(np.argwhere(label > 0) - centre).max(0)
            np.testing.assert_array_equal(extent, 2 * reach + 1)
            assert fit(label, tuple(extent)).clip(min=0).sum() == label.sum()

    def test_ignored_voxels_are_no_structure(self) -> None:
        assert centred_extent(np.full((5, 6), IGNORE_INDEX)).tolist() == [1, 1]


def test_ignored_voxels_are_background_with_mask_zero() -> None:
    one_hot, mask = encode_labels(torch.tensor([[[[0, 2, IGNORE_INDEX]]]], dtype=torch.int16), 3)
    assert one_hot[0, :, 0].tolist() == [[1, 0, 1], [0, 0, 0], [0, 1, 0]]
    assert mask.tolist() == [[[[1, 1, 0]]]]
    assert one_hot.dtype == mask.dtype == torch.float32


class TestCaughtErrors:
    def test_a_good_case_passes(self) -> None:
        assert CaughtErrors(lambda case: {**case, "seen": 1})({"case": "a"}) == {"case": "a", "seen": 1}

    def test_a_bad_file_gives_one_line_with_its_name(self, save: Callable[..., Path]) -> None:
        path = save("bad.nii.gz", np.full((4, 5, 6), 9, np.uint8))
        found = CaughtErrors(load_case(SCHEME, 3))({"case": "m/bad", "folder": "m", LABEL: path})
        message = f"{path}: label value 9 is not among the declared [0, 1, 2]"
        assert found == {"case": "m/bad", "folder": "m", "message": message}

    def test_a_damaged_file_gives_one_line_with_its_name(self, tmp_path: Path) -> None:
        (tmp_path / "bad.nii.gz").write_bytes(b"\x1f\x8b")
        found = CaughtErrors(load_case(SCHEME, 3))({"case": "bad", LABEL: tmp_path / "bad.nii.gz"})
        assert found["message"].startswith(f"{tmp_path / 'bad.nii.gz'}: cannot be read: ")
        assert "\n" not in found["message"] and found["folder"] == ""

    def test_a_case_that_failed_before_is_not_tried(self) -> None:
        case = {"case": "a", "folder": "f", LABEL: Path("a.png"), "message": "no image"}
        assert CaughtErrors(lambda case: 1 / 0)(case) == {"case": "a", "folder": "f", "message": "no image"}  # type: ignore[arg-type, return-value]

    def test_other_errors_are_named_by_the_file_and_their_root(self) -> None:
        try:
            try:
                raise KeyError("root")
            except KeyError as root:
                raise RuntimeError("many\nlines") from root
        except RuntimeError as error:
            assert one_line(error, "a.png") == "a.png: cannot be read: 'root'"
        assert one_line(ValueError("two\n lines"), "a.png") == "a.png: cannot be read: two lines"
        assert one_line(MemoryError(), "a.png") == "a.png: cannot be read: MemoryError"
        assert one_line(InputError("a.png: bad"), "b.png") == "a.png: bad"
