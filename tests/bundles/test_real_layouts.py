"""A real output of TotalSegmentator, as 117 files and as one map: one model gives both the same scores."""

from __future__ import annotations

import csv
import json
import logging
from pathlib import Path
from xml.etree import ElementTree

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from gnsm_monai.data.augmentation import augmentation
from gnsm_monai.data.constants import LABEL
from tests.bundles.conftest import INFERENCE, TINY, TRAIN, run_config

REAL = Path(__file__).parents[3] / "shared" / "data" / "totalsegmentator"
FEW = {"liver": 5, "spleen": 1, "kidney_left": 3, "kidney_right": 2}
"""Numbers in the real map; the model numbers them from 1 in this order, so that only names can match them."""


def read_rows(path: Path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def write_references(folder: Path, number: int) -> None:
    """Copies of the real map, with a few of its structures, moved a little."""
    image = nib.load(REAL / "example_seg_fast.nii.gz")  # type: ignore[attr-defined]
    real = np.asarray(image.dataobj)
    values = np.select([real == value for value in FEW.values()], range(1, len(FEW) + 1)).astype(np.uint8)
    (folder / "labelsTr").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for n in range(number):
        shifted = np.roll(values, rng.integers(-2, 3, 3), axis=(0, 1, 2))
        copy = nib.Nifti1Image(shifted, image.affine)  # type: ignore[attr-defined, no-untyped-call]
        nib.save(copy, folder / "labelsTr" / f"r_{n:02d}.nii.gz")  # type: ignore[attr-defined]
    labels = {"background": 0, **{name: n for n, name in enumerate(FEW, start=1)}}
    (folder / "dataset.json").write_text(json.dumps({"labels": labels, "file_ending": ".nii.gz"}))


def write_varied_copies(folder: Path, number: int) -> dict[str, int]:
    """Copies of the real map with all of its structures, each varied by the augmentation; the numbers of the names.

    The names are those of the map's header, in which most structures of this short field of view are absent.
    """
    image = nib.load(REAL / "example_seg_fast.nii.gz")  # type: ignore[attr-defined]
    real = torch.from_numpy(np.asarray(image.dataobj).astype(np.int16))[None]
    (table,) = (extension.get_content() for extension in image.header.extensions)
    numbers = {
        e.text: int(e.attrib["Key"]) for e in ElementTree.fromstring(table.strip(b"\0 ")).iter("Label") if e.text
    }
    (folder / "labelsTr").mkdir(parents=True)
    vary = augmentation(3, truncate=0.1).set_random_state(0)
    for n in range(number):
        varied = vary({LABEL: MetaTensor(real.clone())})[LABEL].numpy()[0]
        copy = nib.Nifti1Image(np.maximum(varied, 0).astype(np.uint8), image.affine)  # type: ignore[attr-defined, no-untyped-call]
        nib.save(copy, folder / "labelsTr" / f"r_{n:02d}.nii.gz")  # type: ignore[attr-defined]
    (folder / "dataset.json").write_text(json.dumps({"labels": {"background": 0, **numbers}, "file_ending": ".nii.gz"}))
    return numbers


@pytest.mark.data
@pytest.mark.skipif(not REAL.is_dir(), reason="shared/data/totalsegmentator is absent")
def test_both_forms_of_a_real_output_have_the_same_scores(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_references(tmp_path / "references", 12)
    small = {**TINY, "epochs": 1, "max_voxels": 8000}
    run_config(TRAIN, dataset_dir=str(tmp_path / "references"), model_dir=str(tmp_path / "model"), **small)
    (tmp_path / "joined").mkdir()
    (tmp_path / "joined" / "whole.nii.gz").symlink_to(REAL / "example_seg_fast.nii.gz")
    spoiled = tmp_path / "spoiled"
    spoiled.mkdir()
    for path in (REAL / "example_seg_fast").glob("*.nii.gz"):
        if path.name != "liver.nii.gz":
            (spoiled / path.name).symlink_to(path)
    folders = [str(tmp_path / "joined"), str(REAL / "example_seg_fast"), str(spoiled)]
    options = {"model_dir": str(tmp_path / "model"), "output_dir": str(tmp_path / "out"), "device": "cpu"}
    with caplog.at_level(logging.INFO):
        run_config(INFERENCE, "infer", predictions_dir=folders, **options)
    rows = {row["case"]: row for row in read_rows(tmp_path / "out" / "ranking.csv")}
    whole, parts, without_liver = (rows[case] for case in ("joined/whole", "example_seg_fast", "spoiled"))
    assert whole["status"] == parts["status"] == "ok", (whole["message"], parts["message"])
    for column in ("anomaly_score", "p_value", "predicted_dice"):
        assert float(whole[column]) == pytest.approx(float(parts[column]), abs=1e-6)
    assert whole["worst_structure"] == parts["worst_structure"]
    assert abs(float(without_liver["anomaly_score"]) - float(whole["anomaly_score"])) > 1e-3  # the score sees a change
    assert "no file of liver: taken as absent" in caplog.text
    assert "not of the model: adrenal_gland_left" in caplog.text and "liver 5 -> 1" in caplog.text


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.skipif(not REAL.is_dir(), reason="shared/data/totalsegmentator is absent")
def test_both_forms_of_a_real_output_have_the_same_scores_by_a_model_of_all_117_structures(tmp_path: Path) -> None:
    numbers = write_varied_copies(tmp_path / "references", 12)
    assert len(numbers) == 117
    assert numbers.keys() == {path.name.split(".")[0] for path in (REAL / "example_seg_fast").glob("*.nii.gz")}
    small = {**TINY, "epochs": 1, "max_voxels": 4000}
    run_config(TRAIN, dataset_dir=str(tmp_path / "references"), model_dir=str(tmp_path / "model"), **small)
    (tmp_path / "joined").mkdir()
    (tmp_path / "joined" / "whole.nii.gz").symlink_to(REAL / "example_seg_fast.nii.gz")
    folders = [str(tmp_path / "joined"), str(REAL / "example_seg_fast")]
    options = {"model_dir": str(tmp_path / "model"), "output_dir": str(tmp_path / "out"), "device": "cpu"}
    run_config(INFERENCE, "infer", predictions_dir=folders, **options)
    tables = [read_rows(tmp_path / "out" / name) for name in ("ranking.csv", "structures.csv")]
    whole, parts = ({row["case"]: row for row in tables[0]}[case] for case in ("joined/whole", "example_seg_fast"))
    assert whole["status"] == parts["status"] == "ok", (whole["message"], parts["message"])
    for column in ("anomaly_score", "p_value", "predicted_dice"):
        assert float(whole[column]) == pytest.approx(float(parts[column]), abs=1e-6)
    by_case = [{r["structure"]: r for r in tables[1] if r["case"] == row["case"]} for row in (whole, parts)]
    assert by_case[0].keys() == by_case[1].keys() == numbers.keys()
    for name, row in by_case[0].items():
        for column in ("volume_ml", "anomaly_score"):
            assert float(row[column] or 0) == pytest.approx(float(by_case[1][name][column] or 0), abs=1e-6), name
