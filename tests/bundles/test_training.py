from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from gnsm_monai.data.degradations import KINDS
from gnsm_monai.data.phantoms import write_phantom_dataset
from gnsm_monai.files import load_arrays, load_json
from gnsm_monai.model.files import load_weights
from gnsm_monai.model.trained import TrainedModel
from gnsm_monai.networks import ScoreUNet
from gnsm_monai.rules import STATISTICS
from gnsm_monai.rules.failures import PartPredictors
from tests.bundles.conftest import CONFIGS, TINY, TRAIN, run_config


def test_training_leaves_a_complete_model(model: Path) -> None:
    settings = load_json(model / "settings.json")
    assert settings["labels"]["names"] == ["ventricle", "myocardium", "right_ventricle"]
    assert settings["cases"] == {"train": 10, "fit": 2, "calibration": 4}
    network = load_weights(ScoreUNet(**settings["network"]), model)
    assert any(parameter.abs().sum() > 0 for parameter in network.head[-1].parameters())
    assert network.log_prior.std() > 1  # the frequencies of the training references
    arrays = load_arrays(model / "reference_statistics.npz")
    assert arrays["fit"].shape == (2, 3, len(STATISTICS)) and tuple(arrays["statistic"]) == STATISTICS
    assert arrays["failures"].shape == (2 * 2 + 1, 3, len(STATISTICS))  # two copies each, and one empty map
    assert arrays["calibration_scores"].shape == (4 + 2,)  # all references that the network has not seen
    assert not set(arrays["fit_cases"]) & set(arrays["calibration_cases"])
    doubts = STATISTICS.index("doubt")  # of a network that sees images
    assert np.isfinite(np.delete(arrays["fit"], doubts, axis=2)).all() and np.isnan(arrays["fit"][:, :, doubts]).all()


def test_tensorboard_shows_a_run_from_its_first_step_to_its_final_metrics(model: Path) -> None:
    (path,) = (model / "tensorboard").iterdir()  # one writer, one file
    events = EventAccumulator(str(path)).Reload()
    scalars = set(events.Tags()["scalars"])
    for name in ("loss", "calibration_error"):
        assert {f"validation_{name}_per_level/level_{level:02d}" for level in range(3)} <= scalars
    train = ("loss", "learning_rate", "gradient_norm", "ema_distance", "maps_per_second")
    assert {f"train/{name}" for name in train} | {"validation/loss", "final/validation_loss"} <= scalars
    assert {f"validation_auroc_per_failure/{kind}" for kind in ("all_failures", *KINDS)} <= scalars
    assert {"validation_auroc_per_severity/severity_0.1", "final/spearman_on_failures"} <= scalars
    assert all(0 <= e.value <= 1 for e in events.Scalars("validation_calibration_error_per_level/level_00"))
    assert set(events.Tags()["images"]) == {
        "validation_pictures/held_out_reference_1",
        "validation_pictures/held_out_reference_2",
        "validation_pictures/roc_of_failures",
    }
    assert [picture.step for picture in events.Images("validation_pictures/held_out_reference_1")] == [1, 2]
    assert {"validation/failures_among_references", "levels/table_1/text_summary"} <= set(events.Tags()["tensors"])
    assert "_hparams_/session_start_info" in events.summary_metadata
    assert path.stat().st_size < 1e6


def test_training_ends_with_a_table_per_level(dataset: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        run_config(TRAIN, dataset_dir=str(dataset), model_dir=str(tmp_path), spatial_dims=2, **TINY)
    table = next(record.getMessage() for record in caplog.records if "validation per noise level" in record.message)
    rows = table.splitlines()[1:]
    assert rows[0].split()[:6] == ["level", "beta", "tau", "flip", "rate", "val"]
    assert [row.split()[0] for row in rows[1:]] == ["0", "1", "2"]


def test_a_resumed_run_ends_with_the_weights_of_an_uninterrupted_one(dataset: Path, tmp_path: Path) -> None:
    settings: dict[str, Any] = {**TINY, "epochs": 4, "dataset_dir": str(dataset), "spatial_dims": 2}
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    run_config(TRAIN, model_dir=str(whole), **settings)
    stopped = {**settings, "train::trainer::max_epochs": 2}
    run_config(TRAIN, model_dir=str(parts), **stopped)
    first_half = torch.load(parts / "checkpoint.pt", weights_only=True)
    run_config(TRAIN, model_dir=str(parts), resume=True, **settings)
    for name in ("checkpoint.pt", "model.pt"):
        expected, found = (torch.load(folder / name, weights_only=True) for folder in (whole, parts))
        assert _equal(expected, found), name
    assert not _equal(first_half["network"], torch.load(parts / "checkpoint.pt", weights_only=True)["network"])
    assert first_half["trainer"]["iteration"] == 6
    ours, theirs = (load_arrays(folder / "reference_statistics.npz") for folder in (whole, parts))
    assert np.array_equal(ours["failures"], theirs["failures"], equal_nan=True)


def test_a_run_is_not_continued_with_other_settings(
    model: Path, dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "checkpoint.pt").write_bytes((model / "checkpoint.pt").read_bytes())
    settings = {**TINY, "dataset_dir": str(dataset), "spatial_dims": 2, "seed": 3, "learning_rate": 0.1}
    with pytest.raises(SystemExit) as stop:
        run_config(TRAIN, model_dir=str(tmp_path), resume=True, **settings)
    assert stop.value.code == 2
    assert "its training had other settings: cases, learning_rate, seed" in capsys.readouterr().err


def test_a_new_run_removes_what_an_earlier_one_left(model: Path, dataset: Path, tmp_path: Path) -> None:
    for name in ("checkpoint.pt", "model.pt", "settings.json", "reference_statistics.npz"):
        (tmp_path / name).write_bytes((model / name).read_bytes())
    settings = {**TINY, "dataset_dir": str(dataset), "spatial_dims": 2, "learning_rate": float("1e30")}
    with pytest.raises(SystemExit):  # the loss is no number before the first validation
        run_config(TRAIN, model_dir=str(tmp_path), **settings)
    assert not (tmp_path / "settings.json").exists()
    assert not (tmp_path / "model.pt").exists()


def test_the_seed_decides_the_weights(dataset: Path, tmp_path: Path) -> None:
    weights = []
    for number, seed in enumerate((0, 0, 1)):
        folder = tmp_path / str(number)
        settings = {**TINY, "dataset_dir": str(dataset), "spatial_dims": 2, "seed": seed}
        run_config(TRAIN, model_dir=str(folder), **settings)
        weights.append(torch.load(folder / "model.pt", weights_only=True))
    assert _equal(weights[0], weights[1])
    assert not _equal(weights[0], weights[2])


@pytest.mark.parametrize(("noise", "loss"), [("temperature", "kl"), ("mixing", "dsm")])
def test_the_published_noise_and_the_direct_losses_train_and_score(
    dataset: Path, tmp_path: Path, noise: str, loss: str
) -> None:
    settings = {**TINY, "noise": {"name": noise, "num_levels": 2}, "objective": loss, "anomaly_score": "auto"}
    run_config(TRAIN, dataset_dir=str(dataset), model_dir=str(tmp_path), spatial_dims=2, **settings)
    assert load_json(tmp_path / "settings.json")["anomaly_score"].startswith("score_norm_")


def test_volumes_train_with_images_and_anisotropic_voxels(tmp_path: Path) -> None:
    volumes = write_phantom_dataset(tmp_path, spatial_dims=3, num_train=8, num_test=1)
    settings = {**TINY, "epochs": 1, "steps_per_epoch": 1, "condition_on_image": True}
    run_config(TRAIN, dataset_dir=str(volumes), model_dir=str(tmp_path / "model"), **settings)
    kept = load_json(tmp_path / "model" / "settings.json")
    assert kept["network"]["image_channels"] == 1
    assert kept["voxel_size"] == [1.5, 1.5, 2.0]
    assert kept["scoring"]["band_voxels"] == [2, 2, 2]
    arrays = load_arrays(tmp_path / "model" / "reference_statistics.npz")
    assert np.isfinite(arrays["failures"]).all()  # its doubt, too
    assert "disagreement_beyond_doubt" in arrays["compared"]


def test_two_processes_train_one_model(dataset: Path, tmp_path: Path) -> None:
    configs = f"['{TRAIN}','{CONFIGS / 'multi_gpu_train.yaml'}']"
    options = {
        "noise": "{'name':'mixing','num_levels':2}", "epochs": 2, "steps_per_epoch": 2, "device": "cpu",
        "network_def::channels": "[4,8]", "fit::failures::copies": 1, "spatial_dims": 2, "dataset_dir": dataset,
        "model_dir": tmp_path / "model",
    }  # fmt: skip
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    command += ["-m", "monai.bundle", "run", "training", "--config_file", configs]
    command += [part for key, value in options.items() for part in (f"--{key}", str(value))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    state = torch.load(tmp_path / "model" / "checkpoint.pt", weights_only=True)
    assert state["trainer"]["iteration"] == 4
    assert not any(name.startswith("module.") for name in state["network"])
    assert load_json(tmp_path / "model" / "settings.json")["cases"]["train"] == 10
    assert len(list((tmp_path / "model" / "tensorboard").iterdir())) == 1  # one writer, whatever the number of ranks


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(_equal(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(_equal(x, y) for x, y in zip(a, b, strict=True))
    return bool(a == b)


def test_a_model_keeps_what_its_failures_tell_of_structures_and_distances(model: Path) -> None:
    arrays = load_arrays(model / "reference_statistics.npz")
    parts = PartPredictors.from_arrays(arrays)
    assert parts is not None
    for table in (parts.selection, parts.calibration):
        mean = np.nanmean(table.structure_dice, axis=1)
        assert table.dice == pytest.approx(mean)
        assert table.structure_scores.shape == table.structure_dice.shape == (len(table.dice), 3)
        empty = table.kinds == "empty"
        assert np.isnan(table.distances[empty]).all() and (table.structure_dice[empty] == 0).all()
        assert (table.distances[~empty & (table.dice > 0)] >= 0).any()


def test_what_a_model_says_of_its_score_is_what_training_logged(model: Path) -> None:
    trained, parts = TrainedModel.load(model), TrainedModel.load(model).calibration.parts
    assert parts is not None
    assert trained.held_out.spearman == trained.anomaly.comparison[trained.anomaly.rule]
    residuals = trained.calibration.dice.residuals_of(parts.calibration.scores, parts.calibration.dice)
    assert trained.held_out.residuals == pytest.approx(residuals)
