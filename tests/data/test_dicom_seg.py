"""DICOM segmentations, written by highdicom from a series that is made here, come back as label maps in their place."""

from __future__ import annotations

import json
import logging
import shutil
import sys
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from monai.transforms import Compose

from gnsm_monai import cli
from gnsm_monai.data.class_index import ToClassIndexd
from gnsm_monai.data.constants import CROPPED, LABEL_NAMES
from gnsm_monai.data.datalist import find_predictions
from gnsm_monai.data.dicom_seg import convert_segmentations, read_segmentation
from gnsm_monai.data.images import find_images
from gnsm_monai.data.loading import LoadMapsd
from gnsm_monai.data.nnunet import LabelScheme
from gnsm_monai.data.readers import read_header
from gnsm_monai.errors import InputError
from tests.reading import scoring_dataset

highdicom = pytest.importorskip("highdicom", reason="the extra 'dicom' is not installed: no highdicom")
import pydicom  # noqa: E402
from pydicom.sr.codedict import codes  # noqa: E402
from pydicom.uid import generate_uid  # noqa: E402

from tests.dicom_files import ct_series  # noqa: E402

SHAPE = (8, 10, 12)  # z, y, x
SPACING, ORIGIN = (1.5, 2.0, 3.0), (-10.0, 5.0, 20.0)  # x, y, z in mm, LPS
NAMES = ("liver", "left kidney")


def anatomy() -> np.ndarray:
    """Two boxes; the first and the last slices are empty, and a SEG does not store them."""
    label = np.zeros(SHAPE, np.uint8)
    label[2:5, 3:7, 4:9] = 1
    label[5:7, 1:3, 2:4] = 2
    return label


def as_nifti(label: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The same map as NIfTI has it: axes x, y, z, and RAS."""
    affine = np.diag([*SPACING, 1.0])
    affine[:3, 3] = ORIGIN
    return label.T, np.diag([-1.0, -1, 1, 1]) @ affine


@pytest.fixture(scope="module")
def series(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("series")
    for z, image in enumerate(ct_series(np.zeros(SHAPE, np.uint16), SPACING, ORIGIN)):
        image.save_as(folder / f"slice_{z}.dcm", enforce_file_format=True)
    return folder


def write(path: Path, series: Path, pixels: np.ndarray, kind: str = "BINARY", names: tuple[str, ...] = NAMES) -> Path:
    images = [pydicom.dcmread(file) for file in sorted(series.iterdir())]
    segments = [
        highdicom.seg.SegmentDescription(
            number, name, codes.SCT.Organ, codes.SCT.Liver, highdicom.seg.SegmentAlgorithmTypeValues.MANUAL
        )
        for number, name in enumerate(names, start=1)
    ]
    made = highdicom.seg.Segmentation(
        images, pixels, kind, segments, generate_uid(), 1, generate_uid(), 1, "maker", "model", "1", "1"
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    made.save_as(path)
    return path


def same_place(path: Path, label: np.ndarray) -> bool:
    """Whether a file holds a map, in whatever order and direction its axes are."""
    found: Any = nib.as_closest_canonical(nib.load(path))
    values, affine = as_nifti(label)
    expected: Any = nib.as_closest_canonical(nib.Nifti1Image(values.astype(np.int16), affine))
    np.testing.assert_allclose(found.affine, expected.affine, atol=1e-4)
    return bool(np.array_equal(np.asarray(found.dataobj), np.asarray(expected.dataobj)))


@pytest.mark.parametrize("kind", ["BINARY", "LABELMAP", "FRACTIONAL"])
def test_a_segmentation_of_any_kind_lies_where_its_series_does(series: Path, tmp_path: Path, kind: str) -> None:
    pixels = anatomy()
    if kind == "FRACTIONAL":  # 0.8 counts as inside, 0.2 does not
        pixels = np.stack([np.where(anatomy() == c, 0.8, 0.2 * (anatomy() > 0)) for c in (1, 2)], -1)
    write(tmp_path / "seg" / "patient" / "a.dcm", series, pixels, kind)
    (tmp_path / "seg" / "notes.txt").write_text("no DICOM")
    (path,) = convert_segmentations(tmp_path / "seg", tmp_path / "out", series)
    assert path == tmp_path / "out" / "patient_a.nii.gz"
    assert same_place(path, anatomy())
    declared = json.loads((tmp_path / "out" / "dataset.json").read_text())
    assert declared["labels"] == {"background": 0, "liver": 1, "left kidney": 2}


def test_without_its_series_the_slices_that_are_stored_come_back(series: Path, tmp_path: Path) -> None:
    values, affine, names, _ = read_segmentation(write(tmp_path / "a.dcm", series, anatomy()))
    assert (values.shape, names) == ((5, *SHAPE[1:]), {"liver": 1, "left kidney": 2})
    expected, grid = as_nifti(anatomy())
    inside = {tuple(np.round(affine @ [*v, 1], 3)) for v in np.argwhere(values == 2)}
    assert inside == {tuple(np.round(grid @ [*v, 1], 3)) for v in np.argwhere(expected == 2)}


def test_declared_names_decide_the_values(series: Path, tmp_path: Path) -> None:
    write(tmp_path / "seg" / "a.dcm", series, anatomy(), names=("Liver", "LEFT KIDNEY"))
    labels = LabelScheme(("left kidney", "spleen", "liver"), (0, 1, 2, 5), ignore_value=6)
    (path,) = convert_segmentations(tmp_path / "seg", tmp_path / "out", series, labels)
    assert same_place(path, np.array([0, 5, 1])[anatomy()])
    declared = json.loads((tmp_path / "out" / "dataset.json").read_text())
    assert declared["labels"] == {"background": 0, "left kidney": 1, "spleen": 2, "liver": 5, "ignore": 6}
    with pytest.raises(InputError, match="segment 'Liver' is none of the declared labels"):
        convert_segmentations(tmp_path / "seg", tmp_path / "out", series, LabelScheme(("heart",), (0, 1)))


@pytest.mark.parametrize("kind", ["BINARY", "FRACTIONAL"])
def test_the_smallest_of_overlapping_segments_stands(
    series: Path, tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    overlapping = np.stack([anatomy() > 0, anatomy() == 2], -1)
    values, affine, *_ = read_segmentation(write(tmp_path / "o.dcm", series, overlapping.astype(np.uint8), kind))
    inside = {tuple(np.round(affine @ [*v, 1], 3)) for v in np.argwhere(values == 2)}
    expected, grid = as_nifti(anatomy())
    assert inside == {tuple(np.round(grid @ [*v, 1], 3)) for v in np.argwhere(expected == 2)}
    assert (values == 1).sum() == (anatomy() == 1).sum()
    assert f"o.dcm: segments overlap in {(anatomy() == 2).sum()} voxels" in caplog.text


def test_a_tie_of_fractions_costs_no_file_and_the_greatest_fraction_counts(
    series: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fractions = np.stack([0.9 * (anatomy() == 1), 0.9 * (anatomy() == 2)], -1)
    fractions[2, 3, 4], fractions[3, 3, 4], fractions[4, 3, 4] = (0.5, 0.5), (0.55, 0.6), (0.7, 0.55)
    write(tmp_path / "seg" / "a.dcm", series, fractions.astype(np.float32), "FRACTIONAL")
    (path,) = convert_segmentations(tmp_path / "seg", tmp_path / "out", series)
    expected = anatomy()
    expected[2, 3, 4] = expected[3, 3, 4] = 2
    assert same_place(path, expected)
    assert "segments overlap in 3 voxels" in caplog.text


def test_segments_of_one_name_are_one_structure(series: Path, tmp_path: Path) -> None:
    values, _, names, _ = read_segmentation(write(tmp_path / "a.dcm", series, anatomy(), names=("node", "node")))
    assert names == {"node": 1} and set(np.unique(values)) == {0, 1}
    assert (values == 1).sum() == (anatomy() > 0).sum()


def test_a_file_is_read_where_a_label_map_is_due(series: Path, tmp_path: Path) -> None:
    for name in ("a.dcm", "IM0001"):
        label = LoadMapsd("label", 3)({"label": write(tmp_path / name, series, anatomy())})["label"]
        assert label.meta[LABEL_NAMES] == {1: "liver", 2: "left kidney"}
        assert label.shape == (1, 5, *SHAPE[1:]) and sorted(label.pixdim.tolist()) == [1.5, 2.0, 3.0]
        assert read_header(str(tmp_path / name))[0] == (5, *SHAPE[1:])


def test_a_folder_of_files_is_ranked_as_it_is_and_names_decide(
    series: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The model numbers the same structures otherwise, and images lie among the files."""
    shutil.copytree(series, tmp_path / "seg" / "images")
    for patient in ("p_1", "p_2"):
        write(tmp_path / "seg" / patient / "seg.dcm", series, anatomy(), names=("Liver", "Left-Kidney"))
    with caplog.at_level(logging.INFO):
        cases = find_predictions(tmp_path / "seg")
    assert {case["case"]: case["label"].parent.name for case in cases} == {"p_1_seg": "p_1", "p_2_seg": "p_2"}
    assert f"{tmp_path / 'seg'}: read as: DICOM segmentations (SEG)" in caplog.text
    scheme = LabelScheme(("kidney_left", "spleen", "liver"), (0, 1, 2, 5))
    read = Compose([LoadMapsd("label", 3), ToClassIndexd("label", scheme, 3)])
    for case in cases:
        label = read(case)["label"]
        counts = np.bincount(np.asarray(label).ravel(), minlength=4).tolist()
        assert counts[1:] == [(anatomy() == 2).sum(), 0, (anatomy() == 1).sum()]


def test_a_segment_that_the_model_does_not_know_makes_no_hole(series: Path, tmp_path: Path) -> None:
    overlapping = np.stack([anatomy() > 0, anatomy() == 2], -1).astype(np.uint8)
    path = write(tmp_path / "a.dcm", series, overlapping, names=("liver", "lesion"))
    read = Compose([LoadMapsd("label", 3), ToClassIndexd("label", LabelScheme(("liver",), (0, 1)), 3)])
    assert (np.asarray(read({"label": path})["label"]) == 1).sum() == (anatomy() > 0).sum()


def test_empty_slices_that_a_segmentation_leaves_out_are_not_missing(series: Path, tmp_path: Path) -> None:
    """Beside a reference of the whole field of view its Dice is right, and no reason speaks of slices."""
    path = write(tmp_path / "a.dcm", series, anatomy())
    values, affine = as_nifti(anatomy())
    nib.save(nib.Nifti1Image(values.astype(np.uint8), affine), tmp_path / "reference.nii.gz")
    settings = {
        "labels": LabelScheme(NAMES, (0, 1, 2)).to_dict(), "spatial_dims": 3, "network": {"image_channels": 0},
        "voxel_size": list(SPACING), "spatial_size": [16, 16, 16],
    }  # fmt: skip
    (case,) = scoring_dataset([{"case": "a", "label": path, "reference": tmp_path / "reference.nii.gz"}], settings)
    assert case["dice"].tolist() == [1, 1] and CROPPED not in case and "note" not in case


def test_a_series_where_images_are_due_says_what_reads_it(series: Path) -> None:
    with pytest.raises(InputError, match=r"DICOM image series are not read here: gnsm from-dicom --series"):
        find_images(series, ["a"])


def test_without_highdicom_a_folder_says_what_to_install(
    series: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "seg" / "a.dcm", series, anatomy())
    monkeypatch.setitem(sys.modules, "highdicom", None)
    for layout in ("auto", "dicom"):
        with pytest.raises(InputError, match=r"^DICOM needs highdicom: pip install 'gnsm_monai\[dicom\]'$"):
            find_predictions(tmp_path / "seg", layout=layout)


def test_what_cannot_be_one_label_map_is_refused(series: Path, tmp_path: Path) -> None:
    write(tmp_path / "two" / "a.dcm", series, anatomy())
    write(tmp_path / "two" / "b.dcm", series, anatomy(), names=("spleen", "liver"))
    with pytest.raises(InputError, match=r"b\.dcm: segment 1 is 'spleen' here and otherwise in other files"):
        convert_segmentations(tmp_path / "two", tmp_path / "out")


def test_a_damaged_file_and_another_series_are_one_line(series: Path, tmp_path: Path) -> None:
    path = write(tmp_path / "a.dcm", series, anatomy())
    with pytest.raises(InputError, match=r"a\.dcm: .*series that it was made of is not in the folder") as caught:
        read_segmentation(path, {"1.2.3": []})
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match=r"a\.dcm: ") as caught:
        read_segmentation(path)
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="no DICOM segmentation"):
        convert_segmentations(series, tmp_path / "out")


def test_the_command_converts_a_folder(series: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "seg" / "a.dcm", series, anatomy())
    options = ["--segmentations", str(tmp_path / "seg"), "--series", str(series)]
    assert cli.main(["from-dicom", *options, "--output", str(tmp_path / "out")]) == 0
    assert f"1 in {tmp_path / 'out'}" in capsys.readouterr().out
    assert same_place(tmp_path / "out" / "a.nii.gz", anatomy())
    with pytest.raises(SystemExit) as stop:
        cli.main(["from-dicom", *options, "--output", str(tmp_path / "o"), "--dataset", str(tmp_path)])
    assert stop.value.code == 2
    assert "no dataset.json" in capsys.readouterr().err
