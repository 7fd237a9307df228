from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import plant_errors
import pytest
from scipy import ndimage

from gnsm_monai.errors import InputError

SPACING = np.ones(3)


def phantom(shape: tuple[int, int, int] = (40, 60, 40)) -> np.ndarray:
    """A bar of 10 x 30 x 8 voxels along y with a posterior part (2) of 18 and a broader anterior part (1) of 12."""
    label = np.zeros(shape, dtype=np.int16)
    label[10:20, 12:30, 12:20] = 2
    label[10:20, 30:42, 12:22] = 1
    return label


def with_error(name: str, label: np.ndarray, spacing: np.ndarray = SPACING, seed: int = 0) -> Any:
    before = label.copy()
    wrong, measures = plant_errors.ERRORS[name](label, spacing, np.random.default_rng(seed))
    assert np.array_equal(label, before)
    return wrong, measures


def test_swap_exchanges_the_two_labels_and_nothing_else() -> None:
    label = phantom()
    label[0, 0, 0] = 3
    wrong, _ = with_error("swap anterior and posterior", label)
    for old, new in ((0, 0), (1, 2), (2, 1), (3, 3)):
        assert np.array_equal(wrong == new, label == old)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("spacing", [(1, 1, 1), (2, 3, 1.5)])
def test_shift_moves_the_whole_map_by_six_mm_the_way_it_says(seed: int, spacing: tuple[float, ...]) -> None:
    label = phantom()
    wrong, measures = with_error("shift by 6 mm", label, np.array(spacing), seed)
    moved = (np.argwhere(wrong).mean(axis=0) - np.argwhere(label).mean(axis=0)) * spacing
    axis, side = next(
        (a, s) for a, ends in enumerate(plant_errors.DIRECTIONS) for s in (0, 1) if ends[s] == measures["to"]
    )
    assert moved == pytest.approx([6 * (2 * side - 1) if i == axis else 0 for i in range(3)])
    assert measures["mm"] == 6
    assert np.array_equal(np.bincount(wrong.ravel()), np.bincount(label.ravel()))


def test_shift_without_room_takes_the_roomiest_way_and_says_what_is_lost() -> None:
    label = phantom()[8:23, 10:44, 9:24]  # 2 and 3 voxels of room along x, 2 and 2 along y, 3 and 2 along z
    wrong, measures = with_error("shift by 6 mm", label)
    assert measures["to"] in ("right", "bottom")
    assert measures["voxels_lost"] == np.count_nonzero(label) - np.count_nonzero(wrong) > 0


def test_half_of_the_voxels_go_at_the_posterior_end() -> None:
    label = phantom()
    wrong, measures = with_error("erase the posterior half", label)
    kept, gone = np.argwhere(wrong), np.argwhere(label != wrong)
    assert len(gone) == measures["voxels_erased"] == np.count_nonzero(label) // 2
    assert np.percentile(gone[:, 1], 98) <= np.percentile(kept[:, 1], 2) + 1  # the cut is a little oblique
    assert gone[:, 1].min() == 12
    assert np.array_equal(wrong[wrong > 0], label[wrong > 0])


@pytest.mark.parametrize("seed", range(4))
def test_island_is_one_ball_of_200_voxels_12_mm_from_the_object(seed: int) -> None:
    label = phantom()
    wrong, measures = with_error("island of 200 voxels 12 mm away", label, seed=seed)
    added = wrong != label
    assert np.array_equal(wrong[label > 0], label[label > 0])
    assert np.count_nonzero(added) == 200 and ndimage.label(added)[1] == 1
    assert np.unique(wrong[added]).tolist() == [measures["label"]]
    away = ndimage.distance_transform_edt(label == 0)[added].min()
    assert away == pytest.approx(12, abs=0.3)
    assert measures["mm_from_object"] == pytest.approx(away, abs=0.01)
    assert np.ptp(np.argwhere(added), axis=0).max() <= 7  # a ball of 200 voxels is 7.3 across


def test_island_in_a_small_map_lies_as_far_away_as_fits() -> None:
    label = phantom()[9:28, 11:43, 11:23]
    wrong, measures = with_error("island of 200 voxels 12 mm away", label)
    added = wrong != label
    away = ndimage.distance_transform_edt(label == 0)
    assert np.count_nonzero(added) == 200
    assert measures["mm_from_object"] == pytest.approx(away[added].min(), abs=0.01)
    assert np.argwhere(added)[:, 0].max() == label.shape[0] - 1  # against the far side
    assert 1 < measures["mm_from_object"] < 12


def test_no_room_for_a_ball_is_an_input_error() -> None:
    with pytest.raises(InputError, match="no room for a ball of 200 voxels"):
        with_error("island of 200 voxels 12 mm away", phantom()[10:20, 12:42, 12:22])


def test_filled_ball_is_ten_mm_across_and_was_background() -> None:
    label = phantom()
    wrong, measures = with_error("fill a 10 mm ball of background", label, np.array([1, 1, 2.0]))
    added = np.argwhere(wrong != label)
    assert not label[wrong != label].any()
    assert len(added) == measures["voxels"] == round(np.pi / 6 * 1000 / 2)
    assert np.ptp(added, axis=0) * [1, 1, 2] == pytest.approx([10, 10, 10], abs=2.1)


def test_dilation_adds_what_lies_within_two_voxels_with_the_label_beside_it() -> None:
    label = phantom()
    wrong, measures = with_error("dilate by 2 voxels", label)
    assert np.array_equal(wrong > 0, ndimage.distance_transform_edt(label == 0) <= 2)
    assert np.array_equal(wrong[label > 0], label[label > 0])
    assert wrong[15, 10, 15] == 2 and wrong[15, 43, 15] == 1 and wrong[15, 9, 15] == 0
    assert measures["voxels_added"] == np.count_nonzero(wrong) - np.count_nonzero(label)


def test_erosion_leaves_what_lies_deeper_than_two_voxels() -> None:
    label = phantom()
    wrong, measures = with_error("erode by 2 voxels", label)
    within_two = np.linalg.norm(np.indices((5, 5, 5)) - 2, axis=0) <= 2
    assert np.array_equal(wrong > 0, ndimage.binary_erosion(label, within_two))
    assert np.array_equal(wrong[wrong > 0], label[wrong > 0])
    assert measures["voxels_erased"] == np.count_nonzero(label) - np.count_nonzero(wrong)


def test_mirror_turns_the_long_axis_end_to_end_in_place() -> None:
    label = phantom()
    wrong, measures = with_error("mirror along the long axis", label)
    assert measures["axis"] == "back-front"
    assert np.array_equal(wrong[10:20, 12:24, 12:22], label[10:20, 30:42, 12:22][:, ::-1])
    assert np.array_equal(np.argwhere(wrong).min(axis=0), np.argwhere(label).min(axis=0))
    assert np.array_equal(np.argwhere(wrong).max(axis=0), np.argwhere(label).max(axis=0))


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """Ten phantoms; the odd ones are stored as LPS."""
    folder = tmp_path / "Dataset001_Bars"
    (folder / "labelsTr").mkdir(parents=True)
    for i in range(10):
        affine = np.diag([-1.0, -1, 1, 1] if i % 2 else [1.0, 1, 1, 1])
        array = phantom()[::-1, ::-1] if i % 2 else phantom()
        nib.save(nib.Nifti1Image(array.astype(np.uint8), affine), folder / "labelsTr" / f"bar_{i}.nii.gz")
    content = {"labels": {"background": 0, "anterior": 1, "posterior": 2}, "file_ending": ".nii.gz"}
    (folder / "dataset.json").write_text(json.dumps(content))
    return folder


def digests(folder: Path) -> dict[str, str]:
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.rglob("*.*")}


def test_every_error_is_planted_once_and_the_source_stays_as_it_is(dataset: Path, tmp_path: Path) -> None:
    before = digests(dataset)
    output = tmp_path / "planted"
    returned = plant_errors.plant(dataset, output, seed=1)
    assert digests(dataset) == before
    planted = json.loads((output / "planted.json").read_text())
    assert planted == returned
    assert sorted(entry["error"] for entry in planted.values()) == sorted(plant_errors.ERRORS)
    changed = {
        name for name, digest in digests(output).items() if name.startswith("labelsTr") and digest != before[name]
    }
    assert changed == {f"labelsTr/{case}.nii.gz" for case in planted}
    assert set(digests(output)) == {*before, "planted.json"}
    for entry in planted.values():
        assert entry["dice"] < 0.98


def test_same_seed_gives_the_same_files_and_another_seed_other_cases(dataset: Path, tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        plant_errors.plant(dataset, tmp_path / name, seed)
    first, again, other = (digests(tmp_path / name) for name in "abc")
    assert first == again != other


def test_errors_lie_where_they_belong_in_every_orientation(dataset: Path, tmp_path: Path) -> None:
    for seed in range(8):
        planted = plant_errors.plant(dataset, tmp_path / "out", seed)
        case = next(c for c, entry in planted.items() if entry["error"] == "erase the posterior half")
        if int(case[-1]) % 2:
            break
    source, wrong = (nib.load(folder / "labelsTr" / f"{case}.nii.gz") for folder in (dataset, tmp_path / "out"))
    assert nib.aff2axcodes(wrong.affine) == ("L", "P", "S")
    assert np.array_equal(wrong.affine, source.affine) and wrong.get_data_dtype() == np.uint8
    ras = np.asanyarray(nib.as_closest_canonical(wrong).dataobj)
    assert np.argwhere(ras)[:, 1].mean() > np.argwhere(phantom())[:, 1].mean() + 5


def test_a_folder_that_is_not_its_own_is_refused(dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is the data set itself"):
        plant_errors.plant(dataset, dataset)
    (tmp_path / "other" / "labelsTr").mkdir(parents=True)
    (tmp_path / "other" / "labelsTr" / "mine.nii.gz").write_bytes(b"")
    with pytest.raises(InputError, match="did not write"):
        plant_errors.plant(dataset, tmp_path / "other")


def test_too_few_references_are_refused(dataset: Path, tmp_path: Path) -> None:
    for i in range(3):
        (dataset / "labelsTr" / f"bar_{i}.nii.gz").unlink()
    with pytest.raises(InputError, match="7 references, at least 8 are needed"):
        plant_errors.plant(dataset, tmp_path / "out")
