"""Folders as tools leave them: the layout that is found by looking, the cases in it, and what is told apart."""

from __future__ import annotations

import json
import logging
import re
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from scipy.ndimage import affine_transform

from gnsm_monai.data.case_names import match_cases
from gnsm_monai.data.datalist import find_predictions, find_references
from gnsm_monai.data.layouts import look_into
from gnsm_monai.data.loading import CaughtErrors
from gnsm_monai.data.nnunet import LabelScheme
from gnsm_monai.data.transforms import load_case
from gnsm_monai.errors import InputError

REAL = Path(__file__).parents[3] / "shared" / "data" / "totalsegmentator"

NAMES = ("aorta", "liver", "spleen")
SCHEME = LabelScheme(NAMES, (0, 1, 2, 3))

FOLDERS = {
    "files": [["a.nii.gz", "b.nii.gz"], ["a_seg.nii.gz", "b_seg.nii.gz"], ["a.seg.nrrd", "b.seg.nrrd"]],
    "folders": [["a/a_trans.nii.gz", "b/b_trans.nii.gz"], ["a/seg.nii.gz", "a/image.nii.gz", "b/seg.nii.gz"]],
    "freesurfer": [
        ["a/mri/aparc+aseg.mgz", "a/mri/orig.mgz", "b/mri/aparc+aseg.mgz"],
        ["a/mri/aparc.DKTatlas+aseg.deep.mgz", "b/mri/aparc.DKTatlas+aseg.deep.mgz"],
    ],
    "structures": [
        ["a/aorta.nii.gz", "a/liver.nii.gz", "b/aorta.nii.gz", "b/liver.nii.gz"],
        ["1/rib_1.nii.gz", "1/rib_2.nii.gz", "2/rib_1.nii.gz", "2/rib_2.nii.gz"],
        ["a/segmentations/aorta.nii.gz", "a/ct.nii.gz", "b/segmentations/aorta.nii.gz"],
    ],
    "bids": [["sub-a/anat/sub-a_dseg.nii.gz"], ["sub-a/ses-1/anat/sub-a_ses-1_dseg.nii.gz"]],
}


def fill(folder: Path, names: list[str]) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def save(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(values, np.diag([2.0, 2.0, 3.0, 1.0])), path)  # type: ignore[attr-defined, no-untyped-call]


def read(path: Path, scheme: LabelScheme = SCHEME) -> np.ndarray:
    return np.asarray(load_case(scheme, 3)({"label": path})["label"])[0]


def blocks() -> np.ndarray:
    values = np.zeros((6, 7, 8), np.uint8)
    values[0, :2], values[2:4, 3:], values[5, 5:, 5:] = 1, 2, 3
    return values


@pytest.mark.parametrize(("layout", "names"), [(layout, names) for layout, sets in FOLDERS.items() for names in sets])
def test_the_layout_is_found_by_looking(layout: str, names: list[str], tmp_path: Path) -> None:
    maps = look_into(fill(tmp_path, names))
    assert maps.layout.name == layout
    if layout != "bids":
        assert [case.removesuffix("_seg") for case in maps.files] in (["a", "b"], ["1", "2"])
    assert look_into(tmp_path, layout).files == maps.files


def test_a_layout_that_does_not_fit_says_what_is_there(tmp_path: Path) -> None:
    fill(tmp_path, ["a.nii.gz", "b.nii.gz"])
    with pytest.raises(InputError, match=r"no label maps .* in the layout 'bids' .*in it: 2 files \.gz$"):
        look_into(tmp_path, "bids")
    with pytest.raises(InputError, match=r"'flat' is not one of auto, files, bids, freesurfer, structures, folders"):
        look_into(tmp_path, "flat")


def test_images_probabilities_and_previews_are_no_cases(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    names = [
        "a.nii.gz",
        "b.nii.gz",
        "a_0000.nii.gz",
        "b_image.nii.gz",
        "b_probabilities.nii.gz",
        "a.png",
        "overview.png",
    ]
    with caplog.at_level(logging.WARNING):
        cases = find_predictions(fill(tmp_path, names))
    assert {case["case"]: case["label"].name for case in cases} == {"a": "a.nii.gz", "b": "b.nii.gz"}
    assert "5 files passed over" in caplog.text


@pytest.mark.parametrize("name", ["{}_seg", "{}_trans", "{}_pred", "pred_{}", "{}.seg"])
def test_what_all_masks_share_in_their_names_does_not_hide_their_references(name: str, tmp_path: Path) -> None:
    masks = fill(tmp_path / "masks", [f"{name.format(case)}.nii.gz" for case in ("p_1", "p_2")])
    references = fill(tmp_path / "references", ["p_1.nii.gz", "p_2.nii.gz", "p_3.nii.gz"])
    cases = find_predictions(masks, references)
    assert [case["reference"].name for case in cases] == ["p_1.nii.gz", "p_2.nii.gz"]


def test_a_layout_of_the_masks_need_not_be_that_of_their_references(tmp_path: Path) -> None:
    masks = fill(tmp_path / "masks", [f"p_{n}/{part}.nii.gz" for n in (1, 2) for part in ("liver", "spleen")])
    references = fill(tmp_path / "references", ["p_1.nii.gz", "p_2.nii.gz"])
    cases = find_predictions(masks, references, layout="structures")
    assert [case["reference"].name for case in cases] == ["p_1.nii.gz", "p_2.nii.gz"]


def test_other_organs_do_not_meet() -> None:
    assert match_cases(["heart_01", "heart_02"], ["liver_01", "liver_02"]) == {}


@pytest.mark.parametrize("what", ["references_dir", "images_dir"])
def test_a_folder_of_other_cases_is_refused_and_few_are_said(
    what: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    masks = fill(tmp_path / "masks", ["a.nii.gz", "b.nii.gz", "c.nii.gz"])
    other = fill(tmp_path / "other", ["x1.nii.gz", "y2.nii.gz"])
    with pytest.raises(InputError, match="a mask is called 'a', and here is 'x1'"):
        find_predictions(masks, **{what: other})
    fill(other, ["b.nii.gz"])
    find_predictions(masks, **{what: other})
    assert f"only 1 of 3 masks have their {what.removesuffix('s_dir')}: 'a' has none" in caplog.text


def test_files_of_structures_give_the_map_of_their_labels(tmp_path: Path) -> None:
    """Written in another case of letters, and beside a structure that the model does not know."""
    values = blocks()
    for number, name in enumerate(("Aorta", "LIVER", "spleen"), start=1):
        save(tmp_path / "a" / f"{name}.nii.gz", (values == number).astype(np.uint8))
    save(tmp_path / "a" / "brain.nii.gz", (values == 0).astype(np.uint8))
    assert (read(tmp_path / "a") == values).all()


def test_a_whole_data_set_is_no_folder_of_cases(tmp_path: Path) -> None:
    """Every folder of nnU-Net's data set would be a case with too many files."""
    fill(
        tmp_path,
        [f"{kind}/case_{i}.nii.gz" for kind, first in (("labelsTr", 0), ("labelsTs", 3)) for i in (first, first + 1)],
    )
    for layout in ("auto", "folders"):
        with pytest.raises(InputError) as stop:
            look_into(tmp_path, layout)
        assert str(stop.value) == (
            f"{tmp_path}: none of its folders holds the one label map of a case: labelsTr has 2 files, such as "
            "case_0.nii.gz and case_1.nii.gz. If each file is a label map, give the folders themselves"
        )
    fill(tmp_path, ["case_9/mask.nii.gz"])  # one folder that is a case: the others fail by themselves
    assert set(look_into(tmp_path, "folders").files) == {"labelsTr", "labelsTs", "case_9"}


def test_a_folder_of_folders_of_masks_is_no_folder_of_structures(tmp_path: Path) -> None:
    """Masks of the same cases by several networks, of a model with one structure."""
    for network in ("net_a", "net_b"):
        fill(tmp_path, [f"{network}/patient_{number}.nii.gz" for number in range(3)])
    with pytest.raises(InputError, match=r"net_[ab]/patient_\d, and none .* give the folders themselves: .*/\*"):
        look_into(tmp_path, structures=["pancreas"])
    assert look_into(tmp_path, "structures", ["pancreas"]).layout.name == "structures"
    assert len(look_into(tmp_path / "net_a", structures=["pancreas"]).files) == 3


def test_previews_and_reports_beside_files_of_structures_are_none(tmp_path: Path) -> None:
    """TotalSegmentator writes ``preview_total.png`` and ``statistics.json`` into the folder of a case."""
    values = blocks()
    for case in ("a", "b"):
        for number, name in enumerate(NAMES, start=1):
            save(tmp_path / case / f"{name}.nii.gz", (values == number).astype(np.uint8))
        fill(tmp_path, [f"{case}/preview_total.png", f"{case}/statistics.json"])
    assert [case["label"] for case in find_predictions(tmp_path)] == [tmp_path / "a", tmp_path / "b"]
    assert (read(tmp_path / "a") == values).all()


def test_a_structure_without_a_file_is_absent_and_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    values = blocks()
    save(tmp_path / "a" / "liver.nii.gz", (values == 2).astype(np.uint8))
    save(tmp_path / "a" / "brain.nii.gz", (values == 3).astype(np.uint8))
    assert (read(tmp_path / "a") == np.where(values == 2, 2, 0)).all()
    assert "no file of aorta, spleen: taken as absent" in caplog.text and "not of the model: brain" in caplog.text


def test_overlaps_are_counted_and_go_to_the_smaller_structure(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    liver, spleen = np.zeros((2, 6, 7, 8), np.uint8)
    liver[1:5], spleen[4:] = 1, 1
    spleen[:, 3:] = 0
    save(tmp_path / "a" / "liver.nii.gz", liver)
    save(tmp_path / "a" / "spleen.nii.gz", spleen)
    label = read(tmp_path / "a")
    assert (label == np.where(spleen, 3, 2 * liver)).all()
    assert f"overlap in {int((liver & spleen).sum())} voxels" in caplog.text


def test_a_structure_that_the_model_does_not_know_takes_no_voxel_from_one_that_it_knows(tmp_path: Path) -> None:
    """BodyMaps has segments of the liver, TotalSegmentator vessels of the lung: each within the organ, and smaller."""
    liver, spleen, vessel, tip = np.zeros((4, 6, 7, 8), np.uint8)
    liver[1:5], vessel[2:4], tip[2, :2], spleen[4:, :3] = 1, 1, 1, 1
    for name, values in {"liver": liver, "liver_vessel": vessel, "tip": tip, "spleen": spleen}.items():
        save(tmp_path / "a" / f"{name}.nii.gz", values)
    expected = np.where(spleen, 3, 2 * liver)
    assert (read(tmp_path / "a") == expected).all()
    parts = [("liver", liver), ("spleen", spleen), ("vessel", vessel), ("tip", tip), ("aorta", np.zeros_like(tip))]
    layers = sitk.GetImageFromArray(np.stack([values for _, values in parts], -1).transpose(2, 1, 0, 3), isVector=True)
    for n, (name, _) in enumerate(parts):
        for key, value in {"Name": name, "LabelValue": 1, "Layer": n}.items():
            layers.SetMetaData(f"Segment{n}_{key}", str(value))
    sitk.WriteImage(layers, str(tmp_path / "b.seg.nrrd"))
    assert (read(tmp_path / "b.seg.nrrd") == expected[::-1, ::-1]).all()  # which ITK places in LPS


def test_structures_of_other_names_are_refused(tmp_path: Path) -> None:
    save(tmp_path / "a" / "femur.nii.gz", (blocks() == 1).astype(np.uint8))
    case = CaughtErrors(load_case(SCHEME, 3))({"case": "a", "label": tmp_path / "a"})
    assert case["message"].endswith("none is called like one of the model's: aorta, liver, spleen; here are femur")


def test_a_folder_named_by_the_models_structures_is_one_case(tmp_path: Path) -> None:
    for name in NAMES:
        save(tmp_path / "case_1" / f"{name}.nii.gz", blocks())
    (case,) = find_predictions(tmp_path / "case_1", structures=NAMES)
    assert (case["case"], case["label"]) == ("case_1", tmp_path / "case_1")


def test_a_folder_named_by_other_structures_is_one_case_too_and_refused_as_such(tmp_path: Path) -> None:
    """A model of other structures must not take 117 files for 117 cases; numbered cases have sides as well."""
    sides = [f"{part}_{side}.nii.gz" for part in ("kidney", "lung", "femur") for side in ("left", "right")]
    (case,) = find_predictions(fill(tmp_path / "case_1", [*sides, "aortic_arch.nii.gz"]), structures=NAMES)
    assert (case["case"], case["label"]) == ("case_1", tmp_path / "case_1")
    assert len(find_predictions(tmp_path / "case_1", structures=NAMES, layout="files")) == 7
    cases = fill(tmp_path / "hips", [f"p{n}_{side}.nii.gz" for n in range(4) for side in ("left", "right")])
    assert len(find_predictions(cases, structures=NAMES)) == 8
    for path in (tmp_path / "case_1").iterdir():
        save(path, (blocks() == 1).astype(np.uint8))
    failed = CaughtErrors(load_case(SCHEME, 3))(case)
    assert failed["message"].startswith(f"{tmp_path / 'case_1'}: its files are matched to structures by name, and none")


def test_the_cases_that_dataset_json_lists_are_read(tmp_path: Path) -> None:
    listed = {"k": {"images": ["../x/k_im.nii.gz"], "label": "../x/k_gt.nii.gz"}}
    fill(tmp_path, ["x/k_im.nii.gz", "x/k_gt.nii.gz", "d/dataset.json"])
    (tmp_path / "d" / "dataset.json").write_bytes(b"\xef\xbb\xbf" + json.dumps({"dataset": listed}).encode())
    (case,), images = find_references(tmp_path / "d")
    assert case["label"].resolve() == (tmp_path / "x" / "k_gt.nii.gz").resolve()
    assert images is not None and images.of("k")[0].name == "k_im.nii.gz"


def test_numbers_of_four_digits_name_cases_and_channels_apart(tmp_path: Path) -> None:
    cases = ["patient_0001", "patient_0002"]
    masks = fill(tmp_path / "masks", [f"{case}.nii.gz" for case in cases])
    images = fill(tmp_path / "images", [f"{case}_000{n}.nii.gz" for case in cases for n in (0, 1)])
    predictions = find_predictions(masks, masks, images)
    assert [case["case"] for case in predictions] == cases
    assert [case["reference"].name for case in predictions] == [f"{case}.nii.gz" for case in cases]
    assert [path.name for path in predictions[1]["image"]] == ["patient_0002_0000.nii.gz", "patient_0002_0001.nii.gz"]


@pytest.mark.parametrize("name", ["a.nii.gz", "patient_0001.nii.gz", "a_seg.nii.gz"])
def test_a_single_mask_is_a_case(name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        (case,) = find_predictions(fill(tmp_path, [name]), tmp_path)
    assert (case["label"].name, case["reference"].name) == (name, name)
    assert not caplog.text  # a flat folder is plain to see


def test_folders_of_structures_given_one_by_one_meet_flat_references(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """One line says how all of them were read, however many they are."""
    cases = ["p_1", "p_2", "p_3"]
    fill(tmp_path / "masks", [f"{case}/{name}.nii.gz" for case in cases for name in NAMES])
    references = fill(tmp_path / "references", [f"{case}.nii.gz" for case in cases])
    with caplog.at_level(logging.INFO):
        predictions = find_predictions(sorted((tmp_path / "masks").iterdir()), references, structures=NAMES)
    assert [(case["case"], case["reference"].name) for case in predictions] == [(c, f"{c}.nii.gz") for c in cases]
    assert [case["label"] for case in predictions] == [tmp_path / "masks" / case for case in cases]
    assert caplog.text.count("read as") == 1
    assert (
        f"{tmp_path / 'masks' / 'p_1'} and 2 more: read as: one folder per case, one file per structure" in caplog.text
    )


def test_an_image_among_masks_is_called_one_by_its_values(tmp_path: Path) -> None:
    """Whatever its name and type; a label map of another scheme, a scaled and an interpolated one are none."""
    rng = np.random.default_rng(0)
    image, wider = rng.normal(300, 90, (12, 11, 10)), np.kron(blocks(), np.ones((4, 4, 4)))
    turn = [[0.955, -0.296, 0], [0.296, 0.955, 0.1], [0, 0, 0.9]]
    kinds = {
        "float": (image.astype(np.float32), r"found \d+\.\d+: an image, by its \d{3} different values\?$"),
        "int16": (image.astype(np.int16), r"declared \[0, 1, 2, 3\]: an image, by its \d{3} different values\?$"),
        "atlas": (rng.integers(0, 100, (12, 11, 10)).astype(np.int16), r"is not among the declared \[0, 1, 2, 3\]$"),
        "scaled": ((blocks() / 2).astype(np.float32), r"must be whole numbers, found 0\.5$"),
        "interpolated": (
            affine_transform(wider.astype(np.float32), turn, order=1),
            r"found \d+\.\d+: probabilities, an image, or labels that interpolation mixed$",
        ),
    }
    for name, (values, message) in kinds.items():
        path = tmp_path / f"{name}.nii.gz"
        save(path, values)
        given = CaughtErrors(load_case(SCHEME, 3))({"case": name, "label": path})["message"]
        assert given.startswith(f"{path}: ")
        assert re.search(message, given), given


@pytest.mark.data
@pytest.mark.skipif(not REAL.is_dir(), reason="shared/data/totalsegmentator is absent")
def test_both_forms_of_a_real_output_are_the_same_map() -> None:
    """117 files, most of them empty, and one label map whose header names its labels."""
    joined = REAL / "example_seg_fast.nii.gz"
    names = load_case(None, 3)({"label": joined})["label"].meta["label_names"]
    scheme = LabelScheme(tuple(names.values()), (0, *names))
    expected = np.asarray(nib.load(joined).dataobj)  # type: ignore[attr-defined]
    whole, parts = read(joined, scheme), read(REAL / "example_seg_fast", scheme)
    assert len(names) == 117 and len(np.unique(expected)) > 10
    assert sorted(np.bincount(whole.ravel(), minlength=118)) == sorted(np.bincount(expected.ravel(), minlength=118))
    assert (whole == parts).all()
