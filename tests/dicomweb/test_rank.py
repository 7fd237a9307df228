"""Segmentations on a real Orthanc are ranked as the same masks in files, and reported once; all over HTTP."""

from __future__ import annotations

import csv
import io
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from gnsm_monai import cli
from tests.dicomweb.conftest import (
    NUMBERS,
    ORIGIN,
    PASSWORD,
    SIZE,
    SPACING,
    USER,
    Orthanc,
    Study,
    make_study,
    wait_until,
)  # fmt: skip

highdicom = pytest.importorskip("highdicom", reason="the extra 'dicom' is not installed: no highdicom")
import pydicom  # noqa: E402

from gnsm_monai.dicomweb.server import Server  # noqa: E402

STRUCTURES = ("ventricle", "myocardium", "right_ventricle")
SEGMENT_OF = {STRUCTURES[value - 1]: number for number, value in enumerate(NUMBERS, start=1)}
CODES = {
    "ANOMALY": "anomaly_score", "PVALUE": "p_value", "DICE": "predicted_dice", "DICE_LOW": "predicted_dice_low",
    "DICE_HIGH": "predicted_dice_high",
}  # fmt: skip


def rank(url: str, model: Path, output: Path, *options: str) -> int:
    return cli.main(["rank", "--dicomweb", url, "--model", str(model), "--output", str(output), *options])


def results(output: Path) -> dict[str, dict[str, Any]]:
    cases: list[dict[str, Any]] = json.loads((output / "results.json").read_text())["cases"]
    return {case["case"]: case for case in cases}


def uid_of(study: Study) -> str:
    return str(study.segmentation.SOPInstanceUID)


def table(output: Path) -> list[dict[str, str]]:
    with open(output / "dicomweb" / "cases.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def measured(group: Any) -> dict[str, float]:
    """Values of a group by the names of results.json."""
    return {CODES[m.name.value]: m.value for m in group.get_measurements()}


@pytest.fixture(scope="module")
def stored(
    server: Orthanc, model: Path, studies: list[Study], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Path]:
    """Results of three studies, with reports and maps stored; the same masks as NIfTI are ranked in ``nifti``."""
    folder = tmp_path_factory.mktemp("ranked")
    server.clear()
    for study in studies:
        server.store_study(study)
        study.save_nifti(folder / "masks")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GNSM_DICOMWEB_USER", USER)
        patch.setenv("GNSM_DICOMWEB_PASSWORD", PASSWORD)
        assert rank(server.url, model, folder / "out", "--store-maps") == 0
        options = ["--model", str(model), "--predictions", str(folder / "masks"), "--output", str(folder / "nifti")]
        assert cli.main(["rank", *options]) == 0
        yield folder


def test_scores_are_those_of_the_same_masks_as_nifti(stored: Path, studies: list[Study]) -> None:
    served, filed = results(stored / "out"), results(stored / "nifti")
    assert len(served) == 3
    for study in studies:
        case, other = served[uid_of(study)], filed[study.patient]
        assert case["status"] == "ok" and case["worst_structure"] == other["worst_structure"]
        for one, another in zip([case, *case["structures"]], [other, *other["structures"]], strict=True):
            for name in CODES.values():
                assert one[name] == pytest.approx(another[name], abs=1e-6), name
    assert next(iter(served)) == uid_of(studies[1])  # the bad one


def test_reports_say_what_was_measured_and_refer_to_the_segments(
    stored: Path, studies: list[Study], server: Orthanc
) -> None:
    reports = {str(dataset.StudyInstanceUID): dataset for dataset in server.find("SR")}
    assert len(reports) == 3
    for study in studies:
        case, seg = results(stored / "out")[uid_of(study)], study.segmentation
        dataset = reports[str(seg.StudyInstanceUID)]
        evidence = dataset.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence[0]
        assert evidence.SeriesInstanceUID == seg.SeriesInstanceUID
        (instance,) = evidence.ReferencedSOPSequence
        assert (instance.ReferencedSOPClassUID, instance.ReferencedSOPInstanceUID) == (
            seg.SOPClassUID, seg.SOPInstanceUID,
        )  # fmt: skip
        assert (dataset.PatientID, str(dataset.PatientName)) == (study.patient, "M\u00fcller^Eva")
        content = highdicom.sr.EnhancedSR.from_dataset(dataset).content
        (whole,) = content.get_image_measurement_groups()
        numbers = {name: case[name] for name in CODES.values() if case[name] is not None}
        assert measured(whole) == pytest.approx(numbers, abs=1e-9)
        evaluations = {e.name.value: e.value.meaning for e in whole.get_qualitative_evaluations()}
        assert evaluations == {"FLAGGED": "Yes" if case["flag"] else "No", "WORST": case["worst_structure"]}
        assert [image.referenced_sop_instance_uid for image in whole.source_images] == [seg.SOPInstanceUID]
        by_name = {entry["structure"]: entry for entry in case["structures"]}
        groups = {g.tracking_identifier: g for g in content.get_volumetric_roi_measurement_groups()}
        assert set(groups) == {name for name, entry in by_name.items() if entry["anomaly_score"] is not None}
        for name, group in groups.items():
            segment = group.referenced_segment
            assert segment.referenced_sop_instance_uid == seg.SOPInstanceUID
            assert segment.referenced_segment_numbers == [SEGMENT_OF[name]]
            series = segment.source_series_for_segmentation.value
            assert series == study.images[0].SeriesInstanceUID
            wanted = {key: by_name[name][key] for key in CODES.values() if by_name[name][key] is not None}
            assert measured(group) == pytest.approx(wanted, abs=1e-9)


def test_maps_lie_on_the_images(stored: Path, studies: list[Study], server: Orthanc) -> None:
    maps = {str(dataset.StudyInstanceUID): dataset for dataset in server.find("OT")}
    assert len(maps) == 3
    affine = np.array([[0, 0, SPACING[0], ORIGIN[0]], [0, SPACING[1], 0, ORIGIN[1]], [SPACING[2], 0, 0, ORIGIN[2]]])
    grid = highdicom.VolumeGeometry(np.vstack([affine, [0, 0, 0, 1]]), SIZE[::-1], "PATIENT")
    for study in studies:
        dataset = highdicom.pm.ParametricMap.from_dataset(maps[str(study.segmentation.StudyInstanceUID)])
        written: Any = nib.load(stored / "out" / "maps" / f"{uid_of(study)}.nii.gz")  # type: ignore[attr-defined]
        np.testing.assert_allclose(dataset.get_volume().match_geometry(grid).array, written.get_fdata(), atol=1e-6)
        assert dataset.FrameOfReferenceUID == study.images[0].FrameOfReferenceUID


def test_a_report_that_was_stored_is_not_stored_again(
    stored: Path, model: Path, server: Orthanc, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where a run was killed between storing and its note of it."""
    notes = sorted((stored / "out" / "dicomweb" / "reports").iterdir())
    notes[0].unlink()
    posts: list[str] = []
    monkeypatch.setattr(Server, "store", lambda self, dataset: posts.append(dataset.SOPInstanceUID))
    assert rank(server.url, model, stored / "out", "--store-maps") == 0
    assert posts == []
    assert sorted((stored / "out" / "dicomweb" / "reports").iterdir()) == notes
    assert {row["report_uid"] for row in table(stored / "out")} == {
        str(dataset.SOPInstanceUID) for dataset in server.find("SR")
    }


def test_a_killed_watch_goes_on_and_stores_no_report_twice(
    orthanc: Orthanc, model: Path, studies: list[Study], tmp_path: Path
) -> None:
    orthanc.store_study(studies[0])
    orthanc.store_study(studies[1])
    words = [sys.executable, "-m", "gnsm_monai", "rank", "--dicomweb", orthanc.url, "--model", str(model)]
    words += ["--output", str(tmp_path), "--store", "--watch", "--watch-every", "0.2", "--watch-minutes", "30"]
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        wait_until(lambda: len(orthanc.find("SR")) >= 1 or process.poll() is not None)
        process.kill()
    assert process.returncode == -9
    orthanc.store_study(studies[2])
    assert rank(orthanc.url, model, tmp_path, "--store", "--watch", "--watch-every", "0.2", "--watch-count", "1") == 0
    reports = orthanc.find("SR")
    assert {str(report.StudyInstanceUID) for report in reports} == {
        str(study.segmentation.StudyInstanceUID) for study in studies
    }
    assert len(reports) == 3
    assert set(results(tmp_path)) == set(map(uid_of, studies))


def test_a_damaged_segmentation_costs_its_own_line_and_one_of_something_else_is_passed_over(
    orthanc: Orthanc, model: Path, studies: list[Study], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    orthanc.store_study(studies[0])
    bad = pydicom.dcmread(io.BytesIO(orthanc_file(studies[2].segmentation)))
    bad.PixelData = bad.PixelData[: len(bad.PixelData) // 2]
    orthanc.store(bad)
    foreign = make_study(4, "foreign", ("liver", "spleen", "colon"))
    orthanc.store_study(foreign)
    orthanc.store_study(studies[1])
    named = [str(study.segmentation.StudyInstanceUID) for study in (studies[0], studies[2], foreign)]
    assert rank(orthanc.url, model, tmp_path, "--study", *named, "--store") == 3
    cases = results(tmp_path)
    assert set(cases) == {uid_of(studies[0]), uid_of(studies[2])}
    assert cases[uid_of(studies[0])]["status"] == "ok"
    failed = cases[uid_of(studies[2])]
    assert failed["status"] == "failed" and f"{uid_of(studies[2])}.dcm: " in failed["message"]
    assert [str(report.StudyInstanceUID) for report in orthanc.find("SR")] == [named[0]]
    noted = json.loads((tmp_path / "dicomweb" / "passed_over.json").read_text())["passed_over"]
    assert noted == {uid_of(foreign): ["liver", "spleen", "colon"]}
    assert "Traceback" not in capsys.readouterr().err


def orthanc_file(dataset: pydicom.Dataset) -> bytes:
    from gnsm_monai.dicomweb.fetch import dicom_bytes

    return dicom_bytes(dataset)


def test_a_model_of_images_reads_the_series(
    orthanc: Orthanc, image_model: Path, studies: list[Study], tmp_path: Path
) -> None:
    """The oracle: the same grey values, in HU, as NIfTI files."""
    study = studies[2]
    orthanc.store_study(study)
    assert rank(orthanc.url, image_model, tmp_path / "out") == 0
    study.save_nifti(tmp_path / "masks")
    study.save_image(tmp_path / "images")
    options = ["--model", str(image_model), "--predictions", str(tmp_path / "masks"), "--images"]
    assert cli.main(["rank", *options, str(tmp_path / "images"), "--output", str(tmp_path / "nifti")]) == 0
    served, filed = results(tmp_path / "out")[uid_of(study)], results(tmp_path / "nifti")[study.patient]
    assert served["status"] == filed["status"] == "ok"
    assert served["anomaly_score"] == pytest.approx(filed["anomaly_score"], abs=1e-6)


@pytest.mark.skipif(not shutil.which("plastimatch"), reason="plastimatch is not installed")
def test_a_structure_set_is_ranked_as_the_segmentation_of_the_same_voxels(
    orthanc: Orthanc, model: Path, studies: list[Study], tmp_path: Path
) -> None:
    """Also with a target that cuts through the organs. Its report refers to the structure set as a whole."""
    for study in studies[:2]:
        orthanc.store_study(study)
    plan = studies[1].structure_set()
    orthanc.store(plan)
    assert rank(orthanc.url, model, tmp_path, "--store-maps") == 0
    cases = results(tmp_path)
    assert set(cases) == {*map(uid_of, studies[:2]), str(plan.SOPInstanceUID)}
    case, same = cases[str(plan.SOPInstanceUID)], cases[uid_of(studies[1])]
    for one, another in zip([case, *case["structures"]], [same, *same["structures"]], strict=True):
        for name in CODES.values():
            assert one[name] == pytest.approx(another[name], abs=1e-6), name
    (report,) = (
        sr for sr in orthanc.find("SR") if plan.SOPInstanceUID in str(sr.CurrentRequestedProcedureEvidenceSequence)
    )
    assert report.StudyInstanceUID == plan.StudyInstanceUID
    (whole,) = highdicom.sr.EnhancedSR.from_dataset(report).content.get_image_measurement_groups()
    numbers = {name: case[name] for name in CODES.values() if case[name] is not None}
    assert measured(whole) == pytest.approx(numbers, abs=1e-9)
    (source,) = (item for item in whole[0].ContentSequence if item.ValueType == "COMPOSITE")
    (reference,) = source.ReferencedSOPSequence
    assert (reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID) == (
        plan.SOPClassUID, plan.SOPInstanceUID,
    )  # fmt: skip
    maps = {str(one.SOPInstanceUID) for one in orthanc.find("OT")}
    assert len(maps) == 3
    assert {row["stored"] for row in table(tmp_path)} == {"1"}


def test_without_plastimatch_structure_sets_are_passed_over(
    orthanc: Orthanc,
    model: Path,
    studies: list[Study],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    orthanc.store_study(studies[0])
    orthanc.store(studies[0].structure_set())
    monkeypatch.setattr("gnsm_monai.dicomweb.fetch.can_read_structure_sets", lambda: False)
    assert rank(orthanc.url, model, tmp_path) == 0
    assert set(results(tmp_path)) == {uid_of(studies[0])}
    assert "passes over 1 series of structure sets (RTSTRUCT)" in caplog.text


def test_wrong_credentials_end_in_a_line_without_them(
    orthanc: Orthanc,
    model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("GNSM_DICOMWEB_PASSWORD", "wr0ng-word")
    with pytest.raises(SystemExit) as stop:
        rank(orthanc.url, model, tmp_path / "out")
    assert stop.value.code == 2
    printed = capsys.readouterr()
    (line,) = printed.err.splitlines()
    assert line.startswith(f"error: {orthanc.url}: ") and "(401)" in line and "GNSM_DICOMWEB_PASSWORD" in line
    assert "wr0ng" not in printed.out + printed.err
    assert not (tmp_path / "out").exists()


def test_a_server_without_segmentations_says_so(
    orthanc: Orthanc, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        rank(orthanc.url, model, tmp_path, "--study", "1.2.3")
    assert capsys.readouterr().err == f"error: {orthanc.url}: no segmentation (SEG) in study 1.2.3\n"
