"""Folders in which masks, images, references and files of structures lie side by side."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pytest

from gnsm_monai.data.datalist import find_predictions
from gnsm_monai.data.layouts import look_into
from gnsm_monai.data.nnunet import LabelScheme
from gnsm_monai.data.references import read_references
from gnsm_monai.data.transforms import load_case
from gnsm_monai.errors import InputError
from tests.data.test_layouts import NAMES, blocks, fill, save

CASES = ("p_1", "p_2")


def images_of(folder: Path, images: str = "") -> dict[str, list[str]]:
    return {
        case["case"]: [path.name for path in case["image"]] for case in find_predictions(folder, None, folder / images)
    }


@pytest.mark.parametrize(
    ("mask", "image"),
    [
        ("{}_seg", "{}_image"),
        ("{}", "{}_0000"),
        ("{}", "{}_ct"),
        ("{}.seg", "{}"),
        ("{}_gt", "{}"),
    ],
)
def test_a_mask_is_never_taken_for_its_own_image(mask: str, image: str, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).normal(300, 90, (6, 7, 8)).astype(np.float32)
    for case in CASES:
        ending = ".nrrd" if mask == "{}.seg" else ".nii.gz"
        if ending == ".nrrd":
            fill(tmp_path, [f"{mask.format(case)}.nrrd", f"{image.format(case)}.nrrd"])
        else:
            save(tmp_path / f"{mask.format(case)}.nii.gz", blocks())
            save(tmp_path / f"{image.format(case)}.nii.gz", noise)
    images = images_of(tmp_path)
    assert sorted(images.values()) == [[f"{image.format(case)}{ending}"] for case in CASES]
    assert [name.removesuffix(".seg") for name in images] == [mask.format(case).removesuffix(".seg") for case in CASES]


def test_a_folder_of_masks_alone_has_no_images(tmp_path: Path) -> None:
    fill(tmp_path, [f"{case}_seg.nii.gz" for case in CASES])
    with pytest.raises(InputError, match="no image of any mask: a mask is called 'p_1_seg', and here is nothing"):
        images_of(tmp_path)


@pytest.mark.parametrize("sessions", [(), ("ses-1",), ("ses-1", "ses-2")])
def test_bids_images_are_found_by_subject_and_session(sessions: tuple[str, ...], tmp_path: Path) -> None:
    for name in ("sub-a", "sub-b"):
        for session in sessions or ("",):
            case = "_".join(filter(None, (name, session)))
            fill(tmp_path / "masks" / name / session / "anat", [f"{case}_desc-x_dseg.nii.gz"])
            fill(tmp_path / "raw" / name / session / "anat", [f"{case}_acq-mp_T1w.nii.gz", f"{case}_FLAIR.nii.gz"])
    found = find_predictions(tmp_path / "masks", None, tmp_path / "raw")
    assert len(found) == 2 * max(len(sessions), 1)
    for case in found:
        assert [path.name for path in case["image"]] == [f"{case['case'].removesuffix('_desc-x')}_acq-mp_T1w.nii.gz"]


@pytest.mark.parametrize(
    ("name", "inner"),
    [("p_1", "mri/aseg.mgz"), ("sub-1", "anat/sub-1_dseg.nii.gz"), ("sub-1", "ses-2/anat/sub-1_ses-2_dseg.nii.gz")],
)
def test_folders_of_subjects_given_one_by_one_are_cases(name: str, inner: str, tmp_path: Path) -> None:
    other = name.replace("1", "9")
    fill(tmp_path, [f"masks/{name}/{inner}", f"masks/{other}/{inner.replace('sub-1', 'sub-9')}"])
    case = f"{name}_ses-2" if "ses-2" in inner else name
    fill(tmp_path, [f"references/{one}.nii.gz" for one in (case, case.replace("1", "9"))])
    found = find_predictions([tmp_path / "masks" / name, tmp_path / "masks" / other], tmp_path / "references")
    assert [one["case"].rpartition("/")[2] for one in found] == [case, case.replace("1", "9")]
    assert found[0]["label"] == tmp_path / "masks" / name / inner
    assert [one["reference"].name for one in found] == [f"{case}.nii.gz", f"{case.replace('1', '9')}.nii.gz"]


def test_an_image_with_the_name_of_its_case_is_told_by_its_values(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """``p_1`` beside ``p_1_seg``: an image is passed over, and a second label map is said."""
    noise = np.random.default_rng(0).normal(300, 90, (6, 7, 8)).astype(np.float32)
    for case in CASES:
        save(tmp_path / "images" / f"{case}.nii.gz", noise)
        save(
            tmp_path / "maps" / f"{case}.nii.gz", np.random.default_rng(0).integers(0, 117, (6, 7, 8)).astype(np.uint8)
        )
        save(tmp_path / "images" / f"{case}_seg.nii.gz", blocks())
        save(
            tmp_path / "maps" / f"{case}_seg.nii.gz", np.random.default_rng(1).integers(0, 117, (6, 7, 8)).astype("u1")
        )
    with caplog.at_level(logging.WARNING):
        assert [case["case"] for case in find_predictions(tmp_path / "images")] == ["p_1_seg", "p_2_seg"]
        assert "2 files passed over" in caplog.text and "several label maps" not in caplog.text
        assert len(find_predictions(tmp_path / "maps")) == 4
    assert caplog.text.count("several label maps of one case, such as p_1 and p_1_seg: each counts as a case") == 1


@pytest.mark.parametrize(
    "names",
    [
        ("{}_pred.nii.gz", "{}_gt.nii.gz"),
        ("sub-{0}/anat/sub-{0}_dseg.nii.gz", "sub-{0}/anat/sub-{0}_desc-aseg_dseg.nii.gz"),
    ],
)
def test_several_label_maps_of_a_case_are_said(
    names: tuple[str, ...], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fill(tmp_path, [name.format(case) for name in names for case in CASES])
    assert len(find_predictions(tmp_path)) == 4
    assert caplog.text.count("several label maps of one case") == 1


def test_files_of_structures_of_several_cases_in_one_folder_are_no_masks(tmp_path: Path) -> None:
    fill(tmp_path, [f"{case}_{name}.nii.gz" for case in CASES for name in NAMES])
    with pytest.raises(InputError, match=r"such as p_1_aorta: put those of each case .* own \(CASE/aorta\)"):
        find_predictions(tmp_path, structures=NAMES)
    assert len(find_predictions(tmp_path, structures=NAMES, layout="files")) == 6
    assert len(find_predictions(tmp_path, structures=("liver",))) == 6  # a model of one structure tells nothing


def structures(folder: Path, values: np.ndarray) -> None:
    for number, name in enumerate(NAMES, start=1):
        save(folder / f"{name}.nii.gz", (values == number).astype(np.uint8))


@pytest.mark.parametrize("inner", ["", "segmentations"])
def test_a_dataset_json_above_files_of_structures_says_their_numbers(inner: str, tmp_path: Path) -> None:
    """The order of the files' names is not that of the labels."""
    numbers = {"liver": 1, "spleen": 2, "aorta": 5}
    content = {
        "labels": {"background": 0, **numbers},
        "file_ending": ".nii.gz",
        "channel_names": {"0": "CT"},
        "numTraining": 5,
    }
    (tmp_path / "dataset.json").write_text(json.dumps(content))
    for case in range(8):
        structures(tmp_path / "labelsTr" / f"c_{case}" / inner, np.roll(blocks(), case % 2, 2))
    references = read_references(tmp_path)
    label = np.asarray(references.maps_of(references.cases[:1])[0]["label"])[0]
    sizes = {name: int((blocks() == number).sum()) for number, name in enumerate(NAMES, start=1)}
    assert references.scheme.names == ("liver", "spleen", "aorta")
    assert [int((label == index).sum()) for index in (1, 2, 3)] == [sizes[name] for name in references.scheme.names]
    scheme = LabelScheme(("liver", "spleen", "aorta"), (0, 1, 2, 5))
    (case,) = find_predictions(tmp_path / "labelsTr" / "c_0", structures=scheme.names)
    mask = np.asarray(load_case(scheme, 3)(case)["label"])[0]
    assert [int((mask == index).sum()) for index in (1, 2, 3)] == [sizes[name] for name in scheme.names]


def test_a_bare_folder_of_structures_is_trained_on(tmp_path: Path) -> None:
    for case in range(8):
        structures(tmp_path / f"c_{case}", np.roll(blocks(), case % 2, 2))
    references = read_references(tmp_path, bare=True)
    assert references.scheme.names == NAMES
    assert look_into(tmp_path).layout.name == "structures"
    label = np.asarray(references.maps_of(references.cases[:1])[0]["label"])[0]
    assert np.bincount(label[label > 0]).tolist() == np.bincount(blocks()[blocks() > 0].astype(int)).tolist()
