"""Folders as nnU-Net leaves them, through the bundle: probabilities, regions, its own Dice, its own labels."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from gnsm_monai.files import load_json
from tests.bundles.conftest import INFERENCE, TINY, TRAIN, run_config


def read(path: Path, key: str = "case") -> dict[str, dict[str, str]]:
    with open(path, newline="") as file:
        return {row[key]: row for row in csv.DictReader(file)}


def array(path: Path) -> np.ndarray:
    return np.asarray(sitk.GetArrayFromImage(sitk.ReadImage(str(path))))  # (y, x)


def rank(model: Path, folder: Path, output: Path, **options: Any) -> dict[str, dict[str, str]]:
    settings = {"model_dir": str(model), "predictions_dir": str(folder), "output_dir": str(output), "device": "cpu"}
    run_config(INFERENCE, "infer", **settings, **options)
    return read(output / "ranking.csv")


@pytest.fixture
def masks(dataset: Path, tmp_path: Path) -> Path:
    """Four masks with what else nnU-Net writes: sharp probabilities beside the first, blurred beside the second."""
    folder = tmp_path / "masks"
    shutil.copytree(dataset / "predictions" / "islands", folder)
    (folder / "dataset.json").write_text((dataset / "dataset.json").read_text())
    for name in ("plans.json", "predict_from_raw_data_args.json", "postprocessing.pkl"):
        (folder / name).write_text("not to be read")
    for path, sharpness in zip(sorted(folder.glob("*.png")), (1.0, 0.7), strict=False):
        one_hot = np.stack([array(path) == c for c in range(4)]).astype(np.float32)
        soft = sharpness * one_hot + (1 - sharpness) / 4
        np.savez_compressed(path.with_suffix(".npz"), probabilities=soft[:, None])
        path.with_suffix(".pkl").write_bytes(b"never unpickled")
    return folder


def test_probabilities_are_scored_where_there_are_any(model: Path, masks: Path, tmp_path: Path) -> None:
    soft, hard = rank(model, masks, tmp_path / "auto"), rank(model, masks, tmp_path / "off", soft="off")
    sharp, blurred, *others = sorted(hard)
    summaries = [load_json(tmp_path / name / "summary.json")["soft"] for name in ("auto", "off")]
    assert summaries[0]["cases"] == 2 and sorted(summaries[0]["ids"]) == [sharp, blurred]
    assert summaries[1] == {"cases": 0, "ids": []}
    assert all(row["status"] == "ok" for row in soft.values())
    for case in (sharp, *others):  # certain probabilities are the mask itself
        assert float(soft[case]["anomaly_score"]) == pytest.approx(float(hard[case]["anomaly_score"]), rel=1e-5)
    assert float(soft[blurred]["anomaly_score"]) != pytest.approx(float(hard[blurred]["anomaly_score"]), rel=1e-3)
    volumes = [read(tmp_path / name / "structures.csv", "volume_ml").keys() for name in ("auto", "off")]
    assert volumes[0] == volumes[1]  # of the hard mask


def test_damaged_probabilities_leave_the_mask_to_be_scored(
    model: Path, masks: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = sorted(masks.glob("*.npz"))
    first.write_bytes(first.read_bytes()[:100])
    np.savez(second, probabilities=np.full((4, 1, 64, 64), 0.3, np.float16))
    with caplog.at_level("WARNING", "gnsm_monai"):
        rows = rank(model, masks, tmp_path / "out")
    assert rows[first.stem]["message"].startswith(f"{first}: cannot be read: ")
    sums = f"{second}: the probabilities of a voxel must sum to 1, found 1.2: the mask itself is scored"
    assert rows[second.stem]["message"] == sums
    assert "2 ranked masks have a remark: see `message` in " in caplog.text
    hard = rank(model, masks, tmp_path / "off", soft=False)
    for case, row in rows.items():
        assert row["status"] == "ok" and hard[case]["message"] == ""
    for path in (first, second):
        assert rows[path.stem]["anomaly_score"] == hard[path.stem]["anomaly_score"]


def test_an_unknown_value_of_the_option_is_refused(
    model: Path, masks: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        rank(model, masks, tmp_path / "out", soft="maybe")
    assert "soft: 'maybe' is not one of auto, off" in capsys.readouterr().err


def write_summary(folder: Path, dice: dict[str, list[float]]) -> None:
    entries = [
        {"prediction_file": f"/gone/{case}.png", "metrics": {str(n + 1): {"Dice": d} for n, d in enumerate(values)}}
        for case, values in dice.items()
    ]
    (folder / "summary.json").write_text(json.dumps({"metric_per_case": entries}))


def test_nnunets_own_dice_stands_in_for_references(model: Path, masks: Path, dataset: Path, tmp_path: Path) -> None:
    cases = sorted(path.stem for path in masks.glob("*.png"))
    write_summary(masks, {cases[0]: [0.5, 0.25, 0.75], cases[1]: [1.0, float("nan"), 0.5]})
    rows = rank(model, masks, tmp_path / "summary")
    assert [rows[case]["dice"] for case in cases] == ["0.5", "0.75", "", ""]
    structures = [row["dice"] for row in _rows(tmp_path / "summary" / "structures.csv") if row["case"] == cases[0]]
    assert structures == ["0.5", "0.25", "0.75"]
    assert load_json(tmp_path / "summary" / "summary.json")["settings"]["dice_source"] == "nnU-Net summary.json"

    rows = rank(model, masks, tmp_path / "references", references_dir=str(dataset / "labelsTs"))
    assert all(row["dice"] not in ("", "0.5", "0.75") for row in rows.values())
    assert load_json(tmp_path / "references" / "summary.json")["settings"]["dice_source"] == "references"

    (masks / "summary.json").unlink()
    assert all(row["dice"] == "" for row in rank(model, masks, tmp_path / "none").values())
    assert load_json(tmp_path / "none" / "summary.json")["settings"]["dice_source"] is None


def _rows(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_masks_made_for_other_labels_are_refused_before_anything_is_written(
    model: Path, masks: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (masks / "dataset.json").write_text(json.dumps({"labels": {"background": 0, "lung": 1}}))
    with pytest.raises(SystemExit) as stop:
        rank(model, masks, tmp_path / "out")
    assert stop.value.code == 2 and not (tmp_path / "out").exists()
    expected = "the model was trained for other labels: ventricle 1, myocardium 2, right_ventricle 3; here are lung 1"
    assert expected in capsys.readouterr().err


def test_validation_folders_of_several_folds_are_ranked_together(model: Path, dataset: Path, tmp_path: Path) -> None:
    folders = [tmp_path / "trainer" / f"fold_{k}" / "validation" for k in range(2)]
    for folder, kind in zip(folders, ("islands", "missing_part"), strict=True):
        shutil.copytree(dataset / "predictions" / kind, folder)
    (tmp_path / "trainer" / "dataset.json").write_text((dataset / "dataset.json").read_text())
    settings = {"model_dir": str(model), "output_dir": str(tmp_path / "out"), "device": "cpu"}
    run_config(INFERENCE, "infer", predictions_dir=[str(folder) for folder in folders], **settings)
    cases = read(tmp_path / "out" / "ranking.csv")
    assert {case.rsplit("/", 1)[0] for case in cases} == {"fold_0/validation", "fold_1/validation"}
    assert len(cases) == 8


@pytest.fixture(scope="module")
def region_model(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of the phantoms as regions: the heart, its left side, and the left ventricle."""
    folder = tmp_path_factory.mktemp("regions")
    shutil.copytree(dataset / "labelsTr", folder / "labelsTr")
    labels = {"background": 0, "heart": [1, 2, 3], "left": [1, 2], "ventricle": 1}
    (folder / "dataset.json").write_text(json.dumps({"labels": labels, "regions_class_order": [3, 2, 1]}))
    run_config(TRAIN, dataset_dir=str(folder), model_dir=str(folder / "model"), spatial_dims=2, **TINY)
    return folder / "model"


def test_regions_are_the_structures_that_are_reported(region_model: Path, dataset: Path, tmp_path: Path) -> None:
    folder, references = dataset / "predictions" / "missing_part", dataset / "labelsTs"
    rank(region_model, folder, tmp_path / "out", references_dir=str(references))
    settings = load_json(tmp_path / "out" / "summary.json")["settings"]
    assert settings["structures"] == ["heart", "left", "ventricle"]
    assert load_json(region_model / "settings.json")["network"]["num_classes"] == 4
    rows = _rows(tmp_path / "out" / "structures.csv")
    assert len(rows) == 4 * 3
    for row in rows:
        values = {"heart": (1, 2, 3), "left": (1, 2), "ventricle": (1,)}[row["structure"]]
        mask, reference = (np.isin(array(place / f"{row['case']}.png"), values) for place in (folder, references))
        total = mask.sum() + reference.sum()
        assert float(row["dice"]) == pytest.approx(2 * (mask & reference).sum() / total, abs=1e-6)
        assert float(row["volume_ml"]) == pytest.approx(mask.sum() / 100)
        assert 0 <= float(row["anomaly_score"]) <= 1


def test_sigmoids_of_a_region_model_are_scored_soft(region_model: Path, dataset: Path, tmp_path: Path) -> None:
    """Certain regions give the score of the mask that nnU-Net writes from them."""
    shutil.copytree(dataset / "predictions" / "missing_part", tmp_path / "masks")
    for path in (tmp_path / "masks").glob("*.png"):
        mask = array(path)
        regions = np.stack([np.isin(mask, values) for values in ((1, 2, 3), (1, 2), (1,))])
        np.savez(path.with_suffix(".npz"), probabilities=regions[:, None].astype(np.float16))
    soft = rank(region_model, tmp_path / "masks", tmp_path / "auto")
    hard = rank(region_model, tmp_path / "masks", tmp_path / "off", soft="off")
    assert load_json(tmp_path / "auto" / "summary.json")["soft"]["cases"] == 4
    for case, row in hard.items():
        assert float(soft[case]["anomaly_score"]) == pytest.approx(float(row["anomaly_score"]), rel=1e-5)
