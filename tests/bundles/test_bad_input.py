"""Wrong usage, through MONAI's command: one line, exit code 2, nothing written."""

from __future__ import annotations

import contextlib
import io
import runpy
import subprocess
import sys
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from tests.bundles.conftest import EVALUATE, INFERENCE, TRAIN


def refused(tmp_path: Path, *arguments: str) -> str:
    """The one line that the command prints on stderr as it ends with code 2.

    It runs in this process, as it takes longer to import everything than to refuse what is wrong.
    """
    output, errors = tmp_path / "output", io.StringIO()
    command = ["monai.bundle", "run", *arguments, "--logging_file", "False"]  # the tests keep their own logging
    command += ["--model_dir", str(output)] if "--model_dir" not in arguments else []
    with patch.object(sys, "argv", command), contextlib.redirect_stderr(errors), pytest.raises(SystemExit) as stop:
        runpy.run_module("monai.bundle", run_name="__main__")
    assert stop.value.code == 2, errors.getvalue()
    assert not output.exists()
    return only_error(errors.getvalue())


def only_error(text: str) -> str:
    lines = [line for line in text.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, text
    return lines[0]


@pytest.fixture
def broken(dataset: Path, tmp_path: Path) -> Path:
    """A copy of the data set to spoil."""
    folder = tmp_path / "Dataset"
    (folder / "labelsTr").mkdir(parents=True)
    (folder / "dataset.json").write_text((dataset / "dataset.json").read_text())
    for path in (dataset / "labelsTr").iterdir():
        (folder / "labelsTr" / path.name).write_bytes(path.read_bytes())
    return folder


def train(tmp_path: Path, folder: Path, *arguments: str) -> str:
    options = ["--dataset_dir", str(folder), "--spatial_dims", "2", *arguments]
    return refused(tmp_path, "training", "--config_file", TRAIN, *options)


def test_a_dataset_without_labels_is_refused(tmp_path: Path) -> None:
    assert "labelsTr" in train(tmp_path, tmp_path)


def test_a_missing_dataset_is_refused(tmp_path: Path) -> None:
    assert "no such folder" in train(tmp_path, tmp_path / "nowhere")


def test_a_value_outside_the_declared_labels_is_refused_by_file_name(broken: Path, tmp_path: Path) -> None:
    path = sorted((broken / "labelsTr").iterdir())[3]
    array = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
    array[0, 0] = 9
    sitk.WriteImage(sitk.GetImageFromArray(array.astype(np.uint8)), str(path))
    line = train(tmp_path, broken)
    assert path.name in line and "9" in line and "declared" in line


def test_an_unreadable_training_file_is_refused_by_name(broken: Path, tmp_path: Path) -> None:
    path = sorted((broken / "labelsTr").iterdir())[5]
    path.write_bytes(path.read_bytes()[:50])
    assert path.name in train(tmp_path, broken)


def test_a_misspelt_override_is_refused_with_the_nearest_name(dataset: Path, tmp_path: Path) -> None:
    """The real command, whose words are what is checked."""
    output = tmp_path / "output"
    command = [sys.executable, "-W", "ignore", "-m", "monai.bundle", "run", "training", "--config_file", TRAIN]
    command += ["--dataset_dir", str(dataset), "--model_dir", str(output), "--learing_rate", "0.1"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "--learning_rate" in only_error(done.stderr)
    assert "Traceback" not in done.stderr + done.stdout and not output.exists()


@pytest.mark.parametrize(
    ("option", "value", "part"),
    [
        ("objective", "typo", "'typo' is not one of posterior"),
        ("loss", "posterior", "its name is the option objective: --objective posterior"),
        ("anomaly_score", "typo", "'typo' is not one of auto"),
        ("epochs", "0", "must be a whole number of at least 1"),
        ("device", "cuda:7", "device: 'cuda:7'"),
        ("layout", "flat", "layout: 'flat' is not one of auto, files, bids, freesurfer, structures, folders, dicom"),
    ],
)
def test_option_values_that_cannot_work_are_refused(
    dataset: Path, tmp_path: Path, option: str, value: str, part: str
) -> None:
    assert part in train(tmp_path, dataset, f"--{option}", value)


def test_an_unknown_noise_is_refused(dataset: Path, tmp_path: Path) -> None:
    assert "temprature" in train(tmp_path, dataset, "--noise", "temprature")


def test_an_unfinished_model_is_refused(dataset: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "checkpoint.pt").write_bytes(b"")
    options = ["--predictions_dir", str(dataset / "labelsTs"), "--output_dir", str(tmp_path / "output")]
    line = refused(tmp_path, "inference", "--config_file", INFERENCE, "--model_dir", str(folder), *options)
    assert "not finished" in line


def test_an_empty_prediction_folder_is_refused(model: Path, tmp_path: Path) -> None:
    (tmp_path / "masks").mkdir()
    options = ["--predictions_dir", str(tmp_path / "masks"), "--output_dir", str(tmp_path / "output")]
    line = refused(tmp_path, "evaluating", "--config_file", str(EVALUATE), "--model_dir", str(model), *options)
    assert "no label maps" in line


def test_damaged_weights_are_refused(model: Path, dataset: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    for name in ("settings.json", "reference_statistics.npz"):
        (folder / name).write_bytes((model / name).read_bytes())
    (folder / "model.pt").write_bytes((model / "model.pt").read_bytes()[:2000])
    options = ["--predictions_dir", str(dataset / "labelsTs"), "--output_dir", str(tmp_path / "output")]
    line = refused(tmp_path, "inference", "--config_file", INFERENCE, "--model_dir", str(folder), *options)
    assert "model.pt" in line
