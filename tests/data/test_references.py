"""What is measured of reference label maps, and what is said of wrong ones."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from gnsm_monai.data.references import References, read_references
from gnsm_monai.errors import InputError
from gnsm_monai.workflow import maps_of_a_step

Save = Callable[..., Path]
LABELS = {"background": 0, "a": 1, "b": 2}


def box(shape: tuple[int, ...], *slices: slice, value: int = 1) -> np.ndarray:
    array = np.zeros(shape, np.uint8)
    array[slices] = value
    return array


def two_boxes(seed: int = 0, shape: tuple[int, ...] = (20, 24)) -> np.ndarray:
    """Structure 1 on the low side of axis 0 and structure 2 on the high side, both symmetric along axis 1."""
    left, right = np.random.default_rng(seed).integers(2, 5, 2)
    array = np.zeros(shape, np.uint8)
    array[left : shape[0] // 2 - 1, 8:16] = 1
    array[shape[0] // 2 + 1 : shape[0] - right, 8:16] = 2
    return array


@pytest.fixture
def dataset(tmp_path: Path, save: Save) -> Callable[..., Path]:
    """``dataset(maps, spacings, labels)`` writes label maps as references and gives the folder of the data set."""

    def write(
        maps: list[np.ndarray] | None = None,
        spacings: list[tuple[float, ...]] | None = None,
        labels: dict[str, Any] | None = LABELS,
        ending: str = ".nii.gz",
    ) -> Path:
        for i, array in enumerate(maps or [two_boxes(seed) for seed in range(8)]):
            save(f"labelsTr/case{i}{ending}", array, spacings[i] if spacings else None)
        if labels is not None:
            (tmp_path / "dataset.json").write_text(json.dumps({"labels": labels}))
        return tmp_path

    return write


def refusal(folder: Path, **settings: Any) -> str:
    with pytest.raises(InputError) as caught:
        read_references(folder, **{"spatial_dims": 2, **settings})
    message = str(caught.value)
    assert "\n" not in message
    return message


def on_grid(found: References) -> int:
    return int(np.prod(found.spatial_size))


class TestMeasures:
    def test_a_patient_is_told_by_all_names_where_some_cases_are_left_out(self, tmp_path: Path, save: Save) -> None:
        names = [f"heart_{n:03d}_{k}" for n in range(9) for k in range(2)]
        for seed, name in enumerate(names):
            save(f"labelsTr/{name}.nii.gz", two_boxes(seed // 2))
        found = read_references(tmp_path, 2, exclude=names[:4])
        assert [case["patient"] for case in found.cases] == [name[:9] for name in names[4:]]
        assert len({(case["patient"], case["use"]) for case in found.cases}) == 7

    def test_classes_presence_grid_and_splits(self, dataset: Callable[..., Path]) -> None:
        maps = [two_boxes(seed) for seed in range(12)]
        maps[3][maps[3] == 2] = 0
        found = read_references(dataset(maps), 2)
        assert found.scheme.names == ("a", "b")
        assert found.always_present == [True, False]
        assert found.spatial_size == [24, 16]  # reach of 16 and 8 voxels, 2 of margin on each side, times of 8
        assert found.voxel_size == [1, 1] and found.image_channels == 0
        names = [case["case"] for use in ("train", "selection", "calibration") for case in found.used_for(use)]
        assert sorted(names) == sorted(f"case{i}" for i in range(12))
        assert [len(found.used_for(use)) for use in ("train", "selection", "calibration")] == [7, 2, 3]

    def test_regions_are_always_present_where_any_of_their_classes_is(self, dataset: Callable[..., Path]) -> None:
        maps = [two_boxes(seed) for seed in range(8)]
        maps[3][maps[3] == 2] = 1
        folder = dataset(maps)
        labels = {"background": 0, "whole": [1, 2], "core": 2}
        (folder / "dataset.json").write_text(json.dumps({"labels": labels, "regions_class_order": [1, 2]}))
        found = read_references(folder, 2)
        assert found.scheme.structure_names == ("whole", "core") and found.scheme.num_classes == 3
        assert found.always_present == [True, False]

    def test_the_same_folder_gives_the_same_references(self, dataset: Callable[..., Path]) -> None:
        folder = dataset()
        assert read_references(folder, 2, seed=3) == read_references(folder, 2, seed=3)

    def test_without_dataset_json_the_values_are_the_classes(self, dataset: Callable[..., Path]) -> None:
        values = np.array([0, 100, 205], np.uint8)
        maps = [values[two_boxes(seed)] for seed in range(8)]
        maps[0][maps[0] == 205] = 0
        found = read_references(dataset(maps, labels=None), 2)
        assert found.scheme.names == ("label_100", "label_205") and found.scheme.values == (0, 100, 205)
        assert found.always_present == [True, False]
        assert found.flip_axes == [1]

    def test_the_grid_has_the_median_spacing(self, dataset: Callable[..., Path]) -> None:
        spacings = [(1.0, 1.0)] * 5 + [(2.0, 1.0), (3.0, 0.5), (1.0, 4.0)]
        found = read_references(dataset(spacings=spacings), 2)
        assert found.voxel_size == [1, 1]

    def test_the_grid_is_centred_on_the_field_of_view(self, dataset: Callable[..., Path]) -> None:
        maps = [box((40, 10), slice(30, 38), slice(4, 6)) for _ in range(8)]
        assert read_references(dataset(maps, labels={"background": 0, "a": 1}), 2).spatial_size == [40, 8]

    @pytest.mark.parametrize("max_voxels", [64, 100, 500, 1200, 4095])
    def test_the_grid_holds_no_more_than_max_voxels(self, dataset: Callable[..., Path], max_voxels: int) -> None:
        maps = [box((64, 64), slice(2, 62), slice(2, 62)) for _ in range(8)]
        found = read_references(dataset(maps, labels={"background": 0, "a": 1}), 2, max_voxels=max_voxels)
        assert on_grid(found) <= max_voxels
        assert found.voxel_size[0] == found.voxel_size[1] > 1
        needed = np.ceil(60 / np.array(found.voxel_size))
        assert (needed <= found.spatial_size).all()

    def test_pictures_have_one_mm_per_pixel(self, dataset: Callable[..., Path]) -> None:
        folder = dataset(spacings=[(0.3, 0.3)] * 4 + [(1, 1)] * 4, ending=".png")
        assert read_references(folder, 2).voxel_size == [1, 1]

    def test_ignored_voxels_are_no_structure(self, dataset: Callable[..., Path]) -> None:
        maps = [two_boxes(seed) for seed in range(8)]
        for array in maps:
            array[0] = 3
        found = read_references(dataset(maps, labels={**LABELS, "ignore": 3}), 2)
        assert found.scheme.num_classes == 3 and found.spatial_size == [24, 16]
        assert found.flip_axes == [1]

    def test_volumes_are_measured_in_ras(self, tmp_path: Path) -> None:
        (tmp_path / "labelsTr").mkdir()
        array = box((10, 20, 30), slice(3, 7), slice(3, 17), slice(3, 27))
        for i in range(8):
            stored = nib.Nifti1Image(array, np.diag([1.0, 2.0, 3.0, 1.0]))
            if i % 2:
                stored = stored.as_reoriented(nib.orientations.axcodes2ornt("SLP"))
            nib.save(stored, tmp_path / "labelsTr" / f"{i}.nii.gz")
        found = read_references(tmp_path, 3)
        assert found.voxel_size == [1, 2, 3] and found.spatial_size == [8, 24, 32]
        assert found.flip_axes == [0, 1, 2] and not found.any_way_up


class TestFlips:
    def test_structures_with_a_side_forbid_their_axis(self, dataset: Callable[..., Path]) -> None:
        assert read_references(dataset(), 2).flip_axes == [1]

    @pytest.mark.parametrize("size", [19, 20, 24, 32, 45, 48])
    def test_a_symmetric_set_is_flipped_along_all_axes(self, dataset: Callable[..., Path], size: int) -> None:
        maps = [box((size, 20), slice(4 + i % 3, size - 4 - i % 3), slice(5, 15)) for i in range(10)]
        assert read_references(dataset(maps, labels={"background": 0, "a": 1}), 2).flip_axes == [0, 1]

    def test_an_object_on_one_side_forbids_its_axis(self, dataset: Callable[..., Path]) -> None:
        maps = [box((20, 20), slice(2, 8 + i % 3), slice(5, 15)) for i in range(10)]
        assert read_references(dataset(maps, labels={"background": 0, "a": 1}), 2).flip_axes == [1]


class TestTurns:
    """Whether pictures may be turned by any angle."""

    @staticmethod
    def ellipses(size: tuple[int, int], angles: np.ndarray) -> list[np.ndarray]:
        """An ellipse about the middle of each picture, of changing size, turned by an angle, and a dot in it."""
        y, x = np.indices(size) - (np.array(size).reshape(2, 1, 1) - 1) / 2
        maps = []
        for number, angle in enumerate(angles):
            along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
            radius = 7 + number % 6
            inside = (along / radius) ** 2 + (across / (0.6 * radius)) ** 2 <= 1
            maps.append(inside.astype(np.uint8) + (along**2 + across**2 <= 4))
        return maps

    @pytest.mark.parametrize("size", [(40, 40), (40, 71)])
    @pytest.mark.parametrize(("spread", "expected"), [(np.pi, True), (0.1, False)])
    def test_objects_that_lie_in_any_direction_may_be_turned(
        self, dataset: Callable[..., Path], size: tuple[int, int], spread: float, expected: bool
    ) -> None:
        angles = np.random.default_rng(0).uniform(0, spread, 60)
        found = read_references(dataset(self.ellipses(size, angles)), 2)
        assert found.any_way_up is expected and found.flip_axes == [0, 1]

    def test_squares_that_stand_straight_are_no_diamonds(self, dataset: Callable[..., Path]) -> None:
        sizes = [8 + i % 3 for i in range(12)]
        maps = [box((40, 40), slice(20 - n, 20 + n), slice(20 - n, 20 + n)) for n in sizes]
        found = read_references(dataset(maps, labels={"background": 0, "a": 1}), 2)
        assert found.flip_axes == [0, 1] and not found.any_way_up

    def test_an_object_on_one_side_forbids_turns(self, dataset: Callable[..., Path]) -> None:
        maps = [np.roll(m, 9, axis=1) for m in self.ellipses((40, 40), np.linspace(0, np.pi, 60))]
        assert not read_references(dataset(maps), 2).any_way_up


class TestImages:
    def images(self, save: Save, channels: int = 1, cases: range = range(8), size: tuple[int, ...] = (20, 24)) -> None:
        for i in cases:
            for channel in range(channels):
                save(f"imagesTr/case{i}_000{channel}.nii.gz", np.ones(size, np.float32))

    def test_channels_are_counted(self, dataset: Callable[..., Path], save: Save) -> None:
        self.images(save, 2)
        found = read_references(dataset(), 2, with_images=True)
        assert found.image_channels == 2
        assert [p.name for p in found.cases[0]["image"]] == ["case0_0000.nii.gz", "case0_0001.nii.gz"]

    def test_colour_pictures_have_three_channels(self, dataset: Callable[..., Path], tmp_path: Path) -> None:
        from PIL import Image

        (tmp_path / "imagesTr").mkdir()
        for i in range(8):
            pixels = np.random.default_rng(i).integers(0, 255, (24, 20, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "imagesTr" / f"case{i}_0000.png")
        assert read_references(dataset(ending=".png"), 2, with_images=True).image_channels == 3

    def test_a_missing_folder_image_or_channel_is_named(self, dataset: Callable[..., Path], save: Save) -> None:
        folder = dataset()
        assert refusal(folder, with_images=True) == f"{folder / 'imagesTr'}: no such folder"
        self.images(save, 1, range(7))
        assert refusal(folder, with_images=True) == f"{folder / 'imagesTr'}: no image for case 'case7'"
        self.images(save, 2, range(7))
        self.images(save, 1, range(7, 8))
        expected = "case7_0000.nii.gz: an image of 1 channels, where that of case 'case0' has 2"
        assert refusal(folder, with_images=True).endswith(expected)

    def test_an_image_of_another_place_is_named(self, dataset: Callable[..., Path], save: Save) -> None:
        folder = dataset()
        self.images(save)
        save("imagesTr/case3_0000.nii.gz", np.ones((20, 23), np.float32))
        expected = "imagesTr/case3_0000.nii.gz: shows another part of the body than its label map"
        assert refusal(folder, with_images=True).endswith(expected)


class TestRefusals:
    def test_a_missing_folder(self, tmp_path: Path) -> None:
        assert refusal(tmp_path / "nowhere") == f"{tmp_path / 'nowhere'}: no such folder"

    def test_no_folder_of_labels(self, tmp_path: Path) -> None:
        assert refusal(tmp_path) == f"{tmp_path}: no folder labelsTr with reference label maps"

    def test_an_empty_folder_of_labels(self, tmp_path: Path) -> None:
        (tmp_path / "labelsTr").mkdir()
        assert refusal(tmp_path).startswith(f"{tmp_path / 'labelsTr'}: no label maps")

    def test_fewer_than_eight_references(self, dataset: Callable[..., Path]) -> None:
        folder = dataset([two_boxes(seed) for seed in range(7)])
        assert refusal(folder) == f"{folder / 'labelsTr'}: at least 8 reference label maps are needed, found 7"

    def test_a_truncated_file(self, dataset: Callable[..., Path]) -> None:
        folder = dataset()
        path = folder / "labelsTr" / "case5.nii.gz"
        path.write_bytes(path.read_bytes()[:-20])
        assert refusal(folder).startswith(f"{path}: cannot be read: ")

    def test_a_value_outside_the_declared(self, dataset: Callable[..., Path]) -> None:
        folder = dataset(labels={"background": 0, "a": 1})
        expected = f"{folder / 'labelsTr' / 'case0.nii.gz'}: label value 2 is not among the declared [0, 1]"
        assert refusal(folder) == expected

    @pytest.mark.parametrize(
        ("value", "reason"), [(0.5, "whole numbers, found 0.5"), (np.nan, "NaN or infinite values in a label map")]
    )
    def test_fractions_and_nan(self, dataset: Callable[..., Path], save: Save, value: float, reason: str) -> None:
        folder = dataset()
        save("labelsTr/case2.nii.gz", np.full((20, 24), value, np.float32))
        message = refusal(folder)
        assert message.startswith(f"{folder / 'labelsTr' / 'case2.nii.gz'}: ") and message.endswith(reason)

    def test_volumes_where_slices_are_due_and_the_reverse(self, dataset: Callable[..., Path]) -> None:
        folder = dataset()
        assert "a label map of 3 axes is needed, found shape (20, 24)" in refusal(folder, spatial_dims=3)
        dataset([two_boxes(seed, (20, 24, 5)) for seed in range(8)])
        assert "a label map of 2 axes is needed, found shape (20, 24, 5)" in refusal(folder)

    @pytest.mark.parametrize("labels", [None, {"background": 0, "a": 1}])
    def test_maps_without_structure(self, dataset: Callable[..., Path], labels: dict[str, int] | None) -> None:
        folder = dataset([np.zeros((20, 24), np.uint8)] * 8, labels=labels)
        assert refusal(folder) == f"{folder / 'labelsTr'}: the label maps hold no structure, only background"

    def test_images_in_the_place_of_labels(self, dataset: Callable[..., Path]) -> None:
        maps = [np.arange(480, dtype=np.uint16).reshape(20, 24)] * 8
        assert refusal(dataset(maps, labels=None)).endswith("no dataset.json declares them: are these images?")

    def test_a_broken_dataset_json(self, dataset: Callable[..., Path]) -> None:
        folder = dataset()
        (folder / "dataset.json").write_text("{")
        assert refusal(folder).startswith(f"{folder / 'dataset.json'}: not readable as JSON")

    def test_a_grid_of_too_few_voxels(self, dataset: Callable[..., Path]) -> None:
        assert refusal(dataset(), max_voxels=63) == "max_voxels: must be at least 64, got 63"


def test_excluded_cases_take_no_part(dataset: Callable[..., Path]) -> None:
    maps = [two_boxes(seed) for seed in range(10)]
    maps[4][:] = 0  # the only empty one
    folder = dataset(maps)
    found = read_references(folder, 2, exclude=["case4"])
    assert "case4" not in [case["case"] for case in found.cases] and len(found.cases) == 9
    assert found.never_empty and not read_references(folder, 2).never_empty
    assert "has no case 'case99'" in refusal(folder, exclude=["case99"])


def test_images_that_are_listed_but_not_there_are_said_once_and_not_used(
    dataset: Callable[..., Path], caplog: pytest.LogCaptureFixture
) -> None:
    folder = dataset()
    listed = {f"case{i}": {"label": f"labelsTr/case{i}.nii.gz", "images": [f"im{i}.nii.gz"]} for i in range(8)}
    (folder / "dataset.json").write_text(json.dumps({"labels": LABELS, "dataset": listed}))
    found = read_references(folder, 2)
    assert found.images is None and len(found.cases) == 8
    (warning,) = caplog.messages
    assert warning == f"{folder / 'im0.nii.gz'}: is not there: the images are not used, as not every reference has one"
    assert refusal(folder, with_images=True) == f"{folder / 'im0.nii.gz'}: is not there"


def test_a_bare_folder_of_label_maps_is_enough(dataset: Callable[..., Path]) -> None:
    folder = dataset(labels=None) / "labelsTr"
    found = read_references(folder, 2, bare=True)
    assert (len(found.cases), found.scheme.names, found.name) == (8, ("label_1", "label_2"), "labelsTr")
    (folder / "dataset.json").write_text(json.dumps({"labels": LABELS}))
    assert read_references(folder, 2, bare=True).scheme.names == ("a", "b")


@pytest.mark.parametrize(("size", "most", "maps"), [([24, 16], 4, 4), ([1000, 1250], 16, 5), ([10_000, 10_000], 4, 1)])
def test_a_step_takes_fewer_maps_of_many_values(
    size: list[int], most: int, maps: int, dataset: Callable[..., Path]
) -> None:
    """20 million values: five maps of 1 250 000 voxels in three classes are 18 750 000."""
    references = read_references(dataset(), 2)
    assert references.scheme.num_classes == 3
    assert maps_of_a_step(replace(references, spatial_size=size), most) == maps
