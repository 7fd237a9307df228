"""One small data set and one small model for all bundle tests."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
from monai.bundle import ConfigWorkflow

from gnsm_monai.data.phantoms import write_phantom_dataset
from gnsm_monai.fitting import segmenter
from gnsm_monai.paths import bundle_root

CONFIGS = bundle_root("segmentation_qc") / "configs"
TRAIN = str(CONFIGS / "train.yaml")
INFERENCE = str(CONFIGS / "inference.yaml")
EVALUATE = [INFERENCE, str(CONFIGS / "evaluate.yaml")]

TINY: dict[str, Any] = {
    "network_def::channels": [4, 8],
    "noise": {"name": "mixing", "num_levels": 3},
    "epochs": 2,
    "steps_per_epoch": 3,
    "batch_size": 2,
    "fit::failures::copies": 2,
    "fit::shapes::steps": 6,
    "failures": "copies",
    "anomaly_score": "misfit_knn",  # one that tells masks apart even after six steps
    "device": "cpu",
}
"""Overrides that make training a matter of seconds."""


def run_config(config: str | list[str], workflow_type: str = "train", **overrides: Any) -> ConfigWorkflow:
    """initialize, run, finalize, as the model zoo's tests do; the properties that tools look for are all there."""
    workflow = ConfigWorkflow(config_file=config, workflow_type=workflow_type, logging_file=False, **overrides)
    workflow.initialize()
    assert workflow.check_properties() == []
    workflow.run()
    workflow.finalize()
    return workflow


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_phantom_dataset(tmp_path_factory.mktemp("data"), spatial_dims=2, num_train=16, num_test=4)


@pytest.fixture(scope="session")
def model(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    run_config(TRAIN, dataset_dir=str(dataset), model_dir=str(folder), spatial_dims=2, **TINY)
    return folder


@pytest.fixture(scope="session")
def image_model(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that sees images."""
    folder = tmp_path_factory.mktemp("image_model")
    sees = {**TINY, "epochs": 1, "steps_per_epoch": 1, "condition_on_image": True, "spatial_dims": 2}
    run_config(TRAIN, dataset_dir=str(dataset), model_dir=str(folder), **sees)
    return folder


@pytest.fixture
def short_segmenter(monkeypatch: pytest.MonkeyPatch) -> None:
    """The small segmentation network learns for six steps, where how well it segments does not matter."""
    monkeypatch.setattr(segmenter.EarlySegmenter, "train", partial(segmenter.EarlySegmenter.train, steps=(2, 4, 6)))
    monkeypatch.setattr(segmenter, "FAIR", 4)
