"""From training to ranking, where half of the references are empty."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gnsm_monai.model.trained import TrainedModel
from tests.bundles.conftest import INFERENCE, TINY, TRAIN, run_config


def emptied(path: Path) -> None:
    Image.fromarray(np.zeros_like(np.asarray(Image.open(path)))).save(path)


@pytest.fixture(scope="module")
def half_empty(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("half_empty") / "data"
    shutil.copytree(dataset, folder)
    for path in sorted((folder / "labelsTr").iterdir())[::2]:
        emptied(path)
    emptied(min((folder / "predictions" / "islands").glob("*.png")))
    return folder


@pytest.mark.parametrize("rule", ["auto", "deviation"])
def test_an_empty_mask_is_usual_and_what_labels_cannot_tell_is_said(
    half_empty: Path, tmp_path: Path, rule: str
) -> None:
    model, output = tmp_path / "model", tmp_path / "out"
    options = {**TINY, "anomaly_score": rule, "dataset_dir": str(half_empty), "model_dir": str(model)}
    run_config(TRAIN, spatial_dims=2, **options)
    trained = TrainedModel.load(model)
    assert not trained.settings["never_empty"] and trained.calibration.empty.sum() == 2
    masks = str(half_empty / "predictions" / "islands")
    run_config(INFERENCE, "infer", model_dir=str(model), predictions_dir=masks, output_dir=str(output), device="cpu")
    with open(output / "ranking.csv", newline="") as file:
        rows = {row["case"]: row for row in csv.DictReader(file)}
    empty = rows.pop(min(rows))
    assert float(empty["p_value"]) > 0.5 and empty["flag"] == "0"
    assert float(empty["anomaly_score"]) == pytest.approx(trained.anomaly.empty_scores[0])
    assert trained.calibration.scores[trained.calibration.empty] == pytest.approx(trained.anomaly.empty_scores[0])
    assert "cannot be told from labels" in (output / "report.html").read_text()
