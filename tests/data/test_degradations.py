"""Degradations: graded by severity, repeatable, and written as files that keep the geometry."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from scipy import ndimage

from gnsm_monai.data._scene import smooth_field
from gnsm_monai.data.compare import mean_foreground_dice
from gnsm_monai.data.constants import IGNORE_INDEX
from gnsm_monai.data.degradations import KINDS, degrade, degrade_folder
from gnsm_monai.data.phantoms import make_phantom
from gnsm_monai.errors import InputError

SPACINGS = {2: (1.0, 1.0), 3: (1.5, 1.5, 2.0)}


def phantom(dims: int = 2, seed: int = 0) -> np.ndarray:
    return make_phantom(np.random.default_rng(seed), dims)[0]


def degraded(label: np.ndarray, kind: str, severity: float, seed: int = 0) -> np.ndarray:
    return degrade(label, kind, severity, np.random.default_rng(seed), 4, SPACINGS[label.ndim])


def dice_of_sets(a: np.ndarray, b: np.ndarray, num_classes: int) -> float:
    """The definition of Dice, structure by structure."""
    values = []
    for c in range(1, num_classes):
        x, y = set(np.flatnonzero(a == c)), set(np.flatnonzero(b == c))
        if x or y:
            values.append(2 * len(x & y) / (len(x) + len(y)))
    return float(np.mean(values))


class TestMeanForegroundDice:
    def test_agrees_with_the_definition_and_leaves_out_a_structure_absent_from_both(self) -> None:
        rng = np.random.default_rng(0)
        a, b = rng.integers(0, 4, (2, 9, 8, 7))
        assert mean_foreground_dice(a, b, 4) == pytest.approx(dice_of_sets(a, b, 4))
        assert mean_foreground_dice(a, b, 7) == pytest.approx(dice_of_sets(a, b, 4))

    def test_structure_missing_from_one_map_counts_as_zero(self) -> None:
        assert mean_foreground_dice(np.array([0, 1, 2]), np.array([0, 1, 0]), 3) == 0.5

    def test_ignored_voxels_of_either_map_count_nowhere(self) -> None:
        a, b = np.array([1, 1, -1, 1]), np.array([1, 0, 1, -1])
        assert mean_foreground_dice(a, b, 2) == pytest.approx(2 / 3)

    def test_maps_without_foreground_have_no_dice(self) -> None:
        assert np.isnan(mean_foreground_dice(np.zeros(4, int), np.zeros(4, int), 3))


def test_smooth_field_has_unit_variance_everywhere_and_the_asked_length_in_mm() -> None:
    rng = np.random.default_rng(0)
    fields = np.stack([smooth_field((30, 15), (1.0, 2.0), 5.0, rng) for _ in range(1500)])
    np.testing.assert_allclose(fields.std(axis=0), 1, atol=0.12)
    correlation = np.mean(fields[:, 10, 7] * fields[:, 14, 7]), np.mean(fields[:, 10, 7] * fields[:, 10, 9])
    np.testing.assert_allclose(correlation, np.exp(-((4 / 5) ** 2) / 4), atol=0.08)  # 4 mm along either axis


@pytest.mark.parametrize("kind", KINDS)
class TestEveryKind:
    @pytest.mark.parametrize("dims", [2, 3])
    def test_dice_follows_severity_down_to_a_third(self, kind: str, dims: int) -> None:
        severities = np.array([0.1, 0.4, 0.7, 1.0])
        reachable = 1 / 3 if kind == "swapped_labels" else 0.0  # the third structure keeps its label
        misses, lowest = [], []
        for seed in range(4):
            label = phantom(dims, seed)
            dice = np.array([mean_foreground_dice(label, degraded(label, kind, s, seed), 4) for s in severities])
            misses.append(np.abs(dice - np.maximum(1 - 0.7 * severities, reachable)))
            lowest.append(dice[-1])
            assert (np.diff(dice) < 0).all()
        coarse = kind == "truncated_fov"  # loses whole rows or slices at once
        assert np.quantile(misses, 0.8) < (0.08 if coarse else 0.005)
        assert np.max(misses) < 0.15
        assert min(lowest) < 0.36

    def test_severity_zero_gives_an_equal_copy(self, kind: str) -> None:
        label = phantom()
        copy = degraded(label, kind, 0.0)
        np.testing.assert_array_equal(copy, label)
        assert not np.shares_memory(copy, label)

    def test_same_generator_state_gives_the_same_failure_and_another_state_another(self, kind: str) -> None:
        label = phantom(3)
        first, again, other = (degraded(label, kind, 0.5, seed) for seed in (3, 3, 4))
        np.testing.assert_array_equal(first, again)
        assert (first != other).any()

    def test_keeps_input_dtype_shape_and_known_labels(self, kind: str) -> None:
        label = phantom(3)
        before = label.copy()
        failed = degraded(label, kind, 0.6)
        np.testing.assert_array_equal(label, before)
        assert failed.dtype == label.dtype and failed.shape == label.shape
        assert set(np.unique(failed)) <= {0, 1, 2, 3}

    def test_ignored_voxels_stay_ignored_and_no_others_become_so(self, kind: str) -> None:
        label = phantom().astype(np.int16)
        label[20:36, 20:36] = IGNORE_INDEX
        failed = degraded(label, kind, 0.6)
        np.testing.assert_array_equal(failed == IGNORE_INDEX, label == IGNORE_INDEX)
        assert mean_foreground_dice(label, failed, 4) == pytest.approx(0.58, abs=0.06)

    def test_changed_regions_are_compact_not_salt_and_pepper(self, kind: str) -> None:
        label = phantom(2, 1)
        changed = degraded(label, kind, 0.6, 1) != label
        parts, count = ndimage.label(changed, structure=np.ones((3, 3)))
        sizes = ndimage.sum_labels(changed, parts, range(1, count + 1))
        assert np.sum(sizes[sizes < 4]) < 0.05 * changed.sum()

    def test_works_with_a_single_structure(self, kind: str) -> None:
        label = (phantom() > 0).astype(np.int64)
        failed = degrade(label, kind, 0.5, np.random.default_rng(0), 2)
        assert mean_foreground_dice(label, failed, 2) == pytest.approx(0.65, abs=0.05)

    def test_works_with_one_voxel_a_single_slice_and_a_full_field_of_view(self, kind: str) -> None:
        voxel = np.zeros((1, 9, 9), dtype=np.uint8)
        voxel[0, 4, 4] = 1
        full = np.ones((6, 5), dtype=np.uint8)
        for label in (voxel, full):
            failed = degrade(label, kind, 1.0, np.random.default_rng(0), 2)
            assert failed.shape == label.shape and failed.max() <= 1

    def test_empty_map_comes_back_unchanged(self, kind: str) -> None:
        empty = np.zeros((8, 8), dtype=np.uint8)
        np.testing.assert_array_equal(degrade(empty, kind, 1.0, np.random.default_rng(0), 3), empty)


class TestWhatAKindDoes:
    @pytest.mark.parametrize("kind", ["missing_part", "holes", "truncated_fov"])
    def test_kinds_that_only_lose_foreground(self, kind: str) -> None:
        label = phantom(3)
        failed = degraded(label, kind, 0.5)
        changed = failed != label
        assert changed.any() and (failed[changed] == 0).all()

    def test_a_milder_missing_part_is_contained_in_a_worse_one(self) -> None:
        label = phantom(3)
        mild, worse = (degraded(label, "missing_part", s, 5) != label for s in (0.3, 0.6))
        assert (worse | ~mild).all() and worse.sum() > mild.sum()

    def test_truncation_ends_at_a_plane(self) -> None:
        label = phantom(3)
        lost = (degraded(label, "truncated_fov", 0.5) == 0) & (label > 0)
        kept = (label > 0) & ~lost
        ranges = [(np.argwhere(lost)[:, i], np.argwhere(kept)[:, i]) for i in range(3)]
        assert any(x.max() < y.min() or y.max() < x.min() for x, y in ranges)

    def test_leakage_never_removes_foreground(self) -> None:
        label = phantom(3)
        failed = degraded(label, "leakage", 0.5)
        assert (failed[label > 0] > 0).all() and (failed > 0).sum() > (label > 0).sum()

    def test_mild_islands_leave_the_object_whole_and_lie_away_from_it(self) -> None:
        label = phantom(2)
        failed = degraded(label, "islands", 0.2)
        np.testing.assert_array_equal(failed[label > 0], label[label > 0])
        _, objects = ndimage.label(failed > 0)
        assert objects >= 3

    def test_swap_keeps_the_foreground_and_exchanges_labels(self) -> None:
        label = phantom(3)
        failed = degraded(label, "swapped_labels", 0.4)
        np.testing.assert_array_equal(failed > 0, label > 0)
        pairs = {tuple(sorted(p)) for p in zip(label[failed != label], failed[failed != label], strict=True)}
        assert len(pairs) == 1

    def test_wrong_side_paints_the_mirror_image(self) -> None:
        label = np.zeros((40, 40), dtype=np.uint8)
        label[10:30, 4:12] = 1
        failed = degrade(label, "wrong_side", 0.6, np.random.default_rng(0), 2)
        assert (failed[:, 20:] == 1).any() and not (failed[:, 20:] & (label[:, ::-1] == 0)[:, 20:]).any()

    def test_central_object_is_shifted_as_its_mirror_image_changes_little(self) -> None:
        label = np.zeros((40, 40), dtype=np.uint8)
        label[14:26, 14:26] = 1
        failed = degrade(label, "wrong_side", 1.0, np.random.default_rng(0), 2)
        assert mean_foreground_dice(label, failed, 2) == pytest.approx(0.3, abs=0.03)
        assert (failed[label == 0] == 1).any()


class TestMistakes:
    @pytest.mark.parametrize(
        ("kind", "severity", "label", "spacing", "message"),
        [
            ("melted", 0.5, np.ones((4, 4), int), None, "kind: 'melted' is unknown"),
            ("holes", 1.5, np.ones((4, 4), int), None, r"severity: must lie in \[0, 1\], got 1.5"),
            ("holes", float("nan"), np.ones((4, 4), int), None, "severity"),
            ("holes", 0.5, np.ones((4, 4)), None, "must hold integers, got float64"),
            ("holes", 0.5, np.full((4, 4), 7), None, r"values must lie in 0\.\.2, got 7\.\.7"),
            ("holes", 0.5, np.full((4, 4), -2), None, r"values must lie in 0\.\.2"),
            ("holes", 0.5, np.ones((4, 4), int), (1.0,), "spacing: must be 2 positive numbers"),
            ("holes", 0.5, np.ones((4, 4), int), (1.0, 0.0), "spacing: must be 2 positive numbers"),
        ],
    )
    def test_message_names_the_argument(self, kind, severity, label, spacing, message) -> None:  # type: ignore[no-untyped-def]
        with pytest.raises(InputError, match=message):
            degrade(label, kind, severity, np.random.default_rng(0), 3, spacing)


def write_case(path: Path, label: np.ndarray, pixel_type: int = sitk.sitkUInt8) -> sitk.Image:
    image = sitk.Cast(sitk.GetImageFromArray(label), pixel_type)
    image.SetSpacing([1.5, 0.75, 2.0][: label.ndim])
    if label.ndim == 3:
        image.SetOrigin([-4.0, 5.5, 80.0])
        image.SetDirection([0, -1, 0, 1, 0, 0, 0, 0, 1])
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(image, str(path))
    return image


class TestDegradeFolder:
    @pytest.mark.parametrize(
        ("ending", "pixel_type"),
        [(".nii.gz", sitk.sitkUInt8), (".nii", sitk.sitkFloat32), (".mha", sitk.sitkInt16), (".nrrd", sitk.sitkUInt16)],
    )
    def test_geometry_and_pixel_type_are_kept(self, tmp_path: Path, ending: str, pixel_type: int) -> None:
        write_case(tmp_path / "in" / f"case.a{ending}", phantom(3), pixel_type)
        source = sitk.ReadImage(str(tmp_path / "in" / f"case.a{ending}"))
        rows = degrade_folder(tmp_path / "in", tmp_path / "out", kinds=["holes"])
        written = sitk.ReadImage(str(tmp_path / "out" / "holes" / f"case.a{ending}"))
        assert rows[0]["case"] == "case.a"
        assert written.GetPixelID() == source.GetPixelID() == pixel_type
        for geometry in ("GetSpacing", "GetOrigin", "GetDirection", "GetSize"):
            assert getattr(written, geometry)() == getattr(source, geometry)()

    def test_table_gives_the_true_dice_of_every_file(self, tmp_path: Path) -> None:
        for ending, seed in ((".png", 0), (".tif", 1)):
            write_case(tmp_path / "in" / f"case{seed}{ending}", phantom(2, seed))
        (tmp_path / "in" / "notes.txt").write_text("no label map")
        rows = degrade_folder(tmp_path / "in", tmp_path / "out", seed=1)
        assert {(r["case"], r["kind"]) for r in rows} == {(c, k) for c in ("case0", "case1") for k in KINDS}
        with open(tmp_path / "out" / "degradations.csv", newline="") as table:
            read = list(csv.DictReader(table))
        assert list(read[0]) == ["folder", "case", "kind", "severity", "dice"] and len(read) == len(rows)
        for row in read:
            (path,) = (tmp_path / "out" / row["folder"]).glob(f"{row['case']}.*")
            failed = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
            truth = phantom(2, int(row["case"][-1]))
            assert float(row["dice"]) == pytest.approx(dice_of_sets(truth, failed, 4), abs=1e-5)
            assert float(row["dice"]) == pytest.approx(1 - 0.7 * float(row["severity"]), abs=0.15)

    def test_a_case_depends_on_seed_case_and_kind_alone(self, tmp_path: Path) -> None:
        write_case(tmp_path / "one" / "b.png", phantom(2))
        write_case(tmp_path / "two" / "a.png", phantom(2, 1))
        write_case(tmp_path / "two" / "b.png", phantom(2))
        alone = degrade_folder(tmp_path / "one", tmp_path / "out1", seed=5)
        beside = degrade_folder(tmp_path / "two", tmp_path / "out2", seed=5)
        reseeded = degrade_folder(tmp_path / "one", tmp_path / "out3", seed=6)
        assert alone == [r for r in beside if r["case"] == "b"]
        assert [r["severity"] for r in alone] != [r["severity"] for r in reseeded]
        assert len({r["severity"] for r in alone}) == len(KINDS)

    @pytest.mark.parametrize("place", ["labelsTs", "."])
    def test_the_ignore_label_is_no_structure_where_dataset_json_says_so(self, tmp_path: Path, place: str) -> None:
        label = phantom(2)
        label[:4] = 7
        write_case(tmp_path / "labelsTs" / "a.png", np.array([0, 10, 20, 30, 0, 0, 0, 255], np.uint8)[label])
        labels = {"background": 0, "a": 10, "rest": [20, 30], "c": 30, "ignore": 255}
        declared = json.dumps({"labels": labels, "regions_class_order": [10, 20, 30]})
        (tmp_path / place / "dataset.json").write_text(declared)
        rows = degrade_folder(tmp_path / "labelsTs", tmp_path / "out")
        for row in rows:
            failed = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "out" / row["kind"] / "a.png")))
            assert set(np.unique(failed)) <= {0, 10, 20, 30, 255}
            np.testing.assert_array_equal(failed == 255, label == 7)
            dice = []
            for ours, theirs in (((10,), (1,)), ((20, 30), (2, 3)), ((30,), (3,))):
                x, y = np.isin(failed, ours), np.isin(label, theirs)
                dice.append(2 * (x & y).sum() / (x.sum() + y.sum()))
            assert row["dice"] == pytest.approx(np.mean(dice), abs=1e-6)

    def test_a_value_that_dataset_json_does_not_declare_is_refused(self, tmp_path: Path) -> None:
        write_case(tmp_path / "in" / "a.png", phantom(2))
        (tmp_path / "dataset.json").write_text('{"labels": {"background": 0, "a": 1}}')
        with pytest.raises(InputError, match=r"a\.png: label value 2 is not among the declared \[0, 1\]"):
            degrade_folder(tmp_path / "in", tmp_path / "out")

    def test_folder_without_labels_is_named_in_one_line(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="no label file") as caught:
            degrade_folder(tmp_path, tmp_path / "out")
        assert str(tmp_path) in str(caught.value) and "\n" not in str(caught.value)

    def test_probabilities_are_no_label_map(self, tmp_path: Path) -> None:
        write_case(tmp_path / "in" / "p.nii.gz", phantom(3) * 0.3, sitk.sitkFloat32)
        with pytest.raises(InputError, match=r"p\.nii\.gz: holds values that are no whole numbers"):
            degrade_folder(tmp_path / "in", tmp_path / "out")

    def test_unreadable_file_colour_picture_and_unknown_kind(self, tmp_path: Path) -> None:
        (tmp_path / "in").mkdir()
        (tmp_path / "in" / "torn.nii.gz").write_bytes(b"no image")
        with pytest.raises(InputError, match=r"torn\.nii\.gz: cannot be read"):
            degrade_folder(tmp_path / "in", tmp_path / "out")
        (tmp_path / "rgb").mkdir()
        colour = sitk.GetImageFromArray(np.zeros((8, 8, 3), np.uint8), isVector=True)
        sitk.WriteImage(colour, str(tmp_path / "rgb" / "c.png"))
        with pytest.raises(InputError, match="3 values per pixel"):
            degrade_folder(tmp_path / "rgb", tmp_path / "out")
        with pytest.raises(InputError, match="'melted' is unknown"):
            degrade_folder(tmp_path / "in", tmp_path / "out", kinds=["melted"])
