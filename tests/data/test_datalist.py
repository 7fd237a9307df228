"""Folders to cases: which files belong together, and what is said where one is missing."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from gnsm_monai.data.case_names import case_id
from gnsm_monai.data.datalist import find_label_maps, find_predictions
from gnsm_monai.data.images import Images
from gnsm_monai.data.splits import split_references
from gnsm_monai.errors import InputError


def find_images(folder: Path, case: str) -> list[Path]:
    return Images.of_folder(folder, [case]).of(case)


def touch(folder: Path, *names: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).touch()
    return folder


@pytest.mark.parametrize(
    ("name", "case"),
    [
        ("a.nii.gz", "a"),
        ("a.b.nii.gz", "a.b"),
        ("A.NII.GZ", "A"),
        ("a.png", "a"),
        ("a.tiff", "a"),
        ("a.gz", None),
        ("a.npz", None),
        ("a.json", None),
        ("._a.nii.gz", None),
    ],
)
def test_the_case_id_is_the_name_without_its_ending(name: str, case: str | None) -> None:
    assert case_id(Path(name)) == case


class TestFindLabelMaps:
    def test_other_files_and_folders_are_passed_over(self, tmp_path: Path) -> None:
        folder = touch(tmp_path, "b.nii.gz", "a.mha", "a.npz", "dataset.json", ".DS_Store")
        touch(tmp_path / "sub", "c.nii.gz")
        assert find_label_maps(folder) == {"a": folder / "a.mha", "b": folder / "b.nii.gz"}

    def test_a_folder_that_has_the_name_of_a_label_map_is_refused(self, tmp_path: Path) -> None:
        """As some programs unpack ``c.nii.gz``: the case must not be lost without a word."""
        touch(tmp_path / "c.nii", "c.nii")
        with pytest.raises(InputError, match=r"c\.nii: is a folder, not a file$"):
            find_label_maps(tmp_path)

    def test_a_link_to_nowhere_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "c.nii.gz").symlink_to("gone.nii.gz")
        with pytest.raises(InputError, match=r"c\.nii\.gz: is a link to a file that is not there$"):
            find_label_maps(tmp_path)

    def test_a_missing_folder_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"nowhere: no such folder$"):
            find_label_maps(tmp_path / "nowhere")

    def test_an_empty_folder_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=rf"^{tmp_path}: no label maps"):
            find_label_maps(tmp_path)

    def test_what_else_nnunet_writes_is_passed_over_and_never_opened(self, tmp_path: Path) -> None:
        names = (
            "plans.json",
            "predict_from_raw_data_args.json",
            "summary.json",
            "postprocessing.pkl",
            "a.pkl",
            "a.npz",
        )
        folder = touch(tmp_path, *names, "dataset.json", "a.nii.gz")
        assert find_label_maps(folder) == {"a": folder / "a.nii.gz"}

    @pytest.mark.parametrize("place", [".", "..", "../.."])
    def test_of_two_files_the_one_with_the_declared_ending_counts(self, tmp_path: Path, place: str) -> None:
        folder = touch(tmp_path / "fold_0" / "validation", "a.bmp", "a.mha", "a.nii.gz", "b.png")
        (folder / place / "dataset.json").write_text('{"file_ending": ".NII.GZ"}')
        assert find_label_maps(folder) == {"a": folder / "a.nii.gz", "b": folder / "b.png"}

    def test_an_ending_that_neither_has_decides_nothing(self, tmp_path: Path) -> None:
        (tmp_path / "dataset.json").write_text('{"file_ending": ".nrrd"}')
        with pytest.raises(InputError, match="2 files for case 'a'"):
            find_label_maps(touch(tmp_path, "a.nii.gz", "a.mha"))

    def test_two_files_for_one_case_are_both_named(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"2 files for case 'a': a\.mha and a\.nii\.gz$"):
            find_label_maps(touch(tmp_path, "a.nii.gz", "a.mha"))


class TestFindImages:
    def test_channels_come_in_order(self, tmp_path: Path) -> None:
        touch(tmp_path, "a_0001.nii.gz", "a_0000.nii.gz", "ab_0000.nii.gz", "a_seg_0000.nii.gz")
        assert [p.name for p in find_images(tmp_path, "a")] == ["a_0000.nii.gz", "a_0001.nii.gz"]

    def test_a_single_file_may_lack_the_channel(self, tmp_path: Path) -> None:
        assert find_images(touch(tmp_path, "a.png"), "a") == [tmp_path / "a.png"]

    def test_names_are_no_patterns(self, tmp_path: Path) -> None:
        touch(tmp_path, "a[1]_0000.png", "a1_0000.png")
        assert [p.name for p in find_images(tmp_path, "a[1]")] == ["a[1]_0000.png"]

    @pytest.mark.parametrize("names", [("a_0000.png", "a_0002.png"), ("a_0001.png",)])
    def test_a_missing_channel_is_refused(self, tmp_path: Path, names: tuple[str, ...]) -> None:
        with pytest.raises(InputError, match="case 'a' lacks a channel: found"):
            find_images(touch(tmp_path, *names), "a")

    def test_a_missing_image_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=rf"^{tmp_path}: no image for case 'a'$"):
            find_images(touch(tmp_path, "b_0000.png"), "a")

    def test_a_missing_folder_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"imagesTr: no such folder$"):
            find_images(tmp_path / "imagesTr", "a")


class TestFindPredictions:
    def test_one_folder_gives_plain_case_ids(self, tmp_path: Path) -> None:
        folder = touch(tmp_path / "masks", "a.nii.gz")
        assert find_predictions(str(folder)) == [{"case": "a", "folder": "masks", "label": folder / "a.nii.gz"}]

    def test_several_folders_give_ids_with_the_folder(self, tmp_path: Path) -> None:
        folders = [touch(tmp_path / name, "a.nii.gz", "b.nii.gz") for name in ("fast", "slow")]
        cases = find_predictions(folders)
        assert [c["case"] for c in cases] == ["fast/a", "fast/b", "slow/a", "slow/b"]
        assert [c["folder"] for c in cases] == ["fast", "fast", "slow", "slow"]

    def test_folders_of_one_name_are_told_apart_by_their_parents(self, tmp_path: Path) -> None:
        folders = [touch(tmp_path / fold / "validation", "a.nii.gz") for fold in ("fold_0", "fold_1")]
        assert [c["case"] for c in find_predictions(folders)] == ["fold_0/validation/a", "fold_1/validation/a"]

    def test_two_files_for_one_case_fail_that_case_only(self, tmp_path: Path) -> None:
        folder = touch(tmp_path / "m", "a.nii.gz", "a.mha", "b.mha")
        first, second = find_predictions(folder)
        assert first["message"] == f"{folder}: 2 files for case 'a': a.mha and a.nii.gz"
        assert "message" not in second

    def test_two_references_for_one_case_cost_its_dice_alone(self, tmp_path: Path) -> None:
        masks, references = touch(tmp_path / "m", "a.mha", "b.mha"), touch(tmp_path / "r", "a.mha", "a.nii.gz", "b.mha")
        first, second = find_predictions(masks, references)
        assert first["note"] == f"no Dice: {references}: 2 files for case 'a': a.mha and a.nii.gz"
        assert "message" not in first and "reference" not in first
        assert second["reference"] == references / "b.mha" and "note" not in second

    def test_probabilities_beside_a_mask_are_found_where_asked_for(self, tmp_path: Path) -> None:
        folder = touch(tmp_path / "m", "a.b.nii.gz", "a.b.npz", "c.nii.gz", "d.npz")
        first, second = find_predictions(folder, soft=True)
        assert first["probabilities"] == folder / "a.b.npz" and "probabilities" not in second
        assert all("probabilities" not in case for case in find_predictions(folder))

    def test_the_same_folder_twice_is_refused(self, tmp_path: Path) -> None:
        folder = touch(tmp_path / "masks", "a.nii.gz")
        with pytest.raises(InputError, match="the same folder is given twice"):
            find_predictions([folder, folder / ".." / "masks"])

    def test_no_folder_is_refused(self) -> None:
        with pytest.raises(InputError, match="the list of folders is empty"):
            find_predictions([])

    def test_references_are_matched_by_case_whatever_their_format(self, tmp_path: Path) -> None:
        masks, references = touch(tmp_path / "m", "a.nii.gz", "b.nii.gz"), touch(tmp_path / "r", "b.mha", "c.mha")
        first, second = find_predictions(masks, references)
        assert "reference" not in first
        assert second["reference"] == references / "b.mha"

    def test_a_missing_image_fails_its_case_only(self, tmp_path: Path) -> None:
        masks, images = touch(tmp_path / "m", "a.png", "b.png"), touch(tmp_path / "i", "b_0000.png")
        first, second = find_predictions(masks, images_dir=images)
        assert first["message"] == f"{images}: no image for case 'a'" and "image" not in first
        assert second["image"] == [images / "b_0000.png"] and "message" not in second

    def test_a_missing_folder_of_images_stops_all(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"nowhere: no such folder$"):
            find_predictions(touch(tmp_path / "m", "a.png"), images_dir=tmp_path / "nowhere")


class TestSplitReferences:
    cases = tuple({"case": str(i), "label": Path(f"labelsTr/{i}.nii.gz")} for i in range(50))

    @pytest.mark.parametrize("count", range(38, 51))
    def test_half_of_the_references_are_enough_to_flag_a_mask(self, count: int) -> None:
        uses = Counter(case["use"] for case in split_references(self.cases[:count]))
        assert uses["selection"] + uses["calibration"] >= 19 and uses["train"] >= count / 2

    @pytest.mark.parametrize(
        ("count", "sizes"), [(8, (4, 2, 2)), (37, (22, 5, 10)), (38, (19, 5, 14)), (47, (28, 7, 12)), (50, (30, 7, 13))]
    )
    def test_shares_are_as_asked(self, count: int, sizes: tuple[int, int, int]) -> None:
        uses = Counter(case["use"] for case in split_references(self.cases[:count]))
        assert (uses["train"], uses["selection"], uses["calibration"]) == sizes

    def test_every_case_has_one_use_and_keeps_its_place(self) -> None:
        split = split_references(self.cases)
        assert [case["case"] for case in split] == [case["case"] for case in self.cases]
        assert {case["use"] for case in split} == {"train", "selection", "calibration"}

    def test_the_seed_decides(self) -> None:
        assert split_references(self.cases, seed=1) == split_references(self.cases, seed=1)
        assert split_references(self.cases, seed=1) != split_references(self.cases, seed=2)

    def test_the_cases_given_are_not_changed(self) -> None:
        split_references(self.cases)
        assert "use" not in self.cases[0]

    def test_too_few_cases_are_refused_with_their_folder(self) -> None:
        with pytest.raises(InputError, match=r"^labelsTr: at least 8 reference label maps are needed, found 7$"):
            split_references(self.cases[:7])

    @pytest.mark.parametrize("count", [8, 11, 50])
    @pytest.mark.parametrize("seed", range(5))
    def test_without_empty_references_the_split_is_one_shuffle(self, count: int, seed: int) -> None:
        held_out = [max(2, round(share * count)) for share in (0.14, 0.26)]
        expected = np.repeat(["train", "selection", "calibration"], [count - sum(held_out), *held_out])
        np.random.default_rng(seed).shuffle(expected)
        for structured in (None, [True] * count):
            split = split_references(self.cases[:count], seed, structured=structured)
            assert [case["use"] for case in split] == expected.tolist()

    @pytest.mark.parametrize("count", range(8, 51))
    def test_every_part_holds_structures_and_keeps_its_size(self, count: int) -> None:
        whole = Counter(case["use"] for case in split_references(self.cases[:count]))
        for filled in range(3, count):
            structured = [i < filled for i in range(count)]
            uses = [case["use"] for case in split_references(self.cases[:count], filled, structured=structured)]
            assert Counter(uses) == whole
            parts = Counter(use for use, has in zip(uses, structured, strict=True) if has)
            assert len(parts) == 3 and min(parts.values()) >= min(2, filled // 3)
            for use, number in parts.items():
                assert abs(number - whole[use] * filled / count) <= 2

    def test_structures_in_too_few_label_maps_are_refused(self) -> None:
        with pytest.raises(InputError, match=r"^labelsTr: structures are needed in at least 3 .* found them in 2$"):
            split_references(self.cases, structured=[i < 2 for i in range(50)])
