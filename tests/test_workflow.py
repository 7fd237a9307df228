from __future__ import annotations

from pathlib import Path

import pytest

from gnsm_monai import workflow


@pytest.mark.parametrize(("epochs", "interval"), [(1, 1), (2, 1), (4, 1), (7, 1), (8, 2), (10, 2), (16, 4), (100, 25)])
def test_validation_comes_about_four_times_and_after_the_last_epoch(epochs: int, interval: int) -> None:
    assert workflow.validation_interval(epochs) == interval
    assert epochs % interval == 0


def test_references_default_to_the_test_labels_of_the_dataset(tmp_path: Path) -> None:
    assert workflow.references_dir(None, str(tmp_path)) is None
    (tmp_path / "labelsTs").mkdir()
    assert workflow.references_dir(None, str(tmp_path)) == str(tmp_path / "labelsTs")
    assert workflow.references_dir("elsewhere", str(tmp_path)) == "elsewhere"
    assert workflow.references_dir(None, None) is None


def test_a_model_that_sees_images_asks_for_their_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = {"network": {"image_channels": 1}}
    with pytest.raises(SystemExit) as stop:
        workflow.predictions(str(tmp_path), None, None, settings)
    assert stop.value.code == 2
    assert "images_dir: this model is conditioned on images" in capsys.readouterr().err


def test_predictions_must_be_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        workflow.predictions(None, None, None, {"network": {"image_channels": 0}})
    assert "predictions_dir: name the folder" in capsys.readouterr().err
