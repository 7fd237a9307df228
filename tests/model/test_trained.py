"""What a trained model's folder gives, and what is said of one that was tampered with."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gnsm_monai.errors import InputError
from gnsm_monai.files import load_arrays, load_json, save_arrays, save_json, sha256
from gnsm_monai.model.files import SETTINGS, STATISTICS_FILE, WEIGHTS, identity_of
from gnsm_monai.model.trained import TrainedModel
from gnsm_monai.rules.levels import stored_levels, to_array
from tests.bundles.conftest import dataset, model  # noqa: F401  # one small model


@pytest.fixture
def copied(model: Path, tmp_path: Path) -> Path:  # noqa: F811
    return Path(shutil.copytree(model, tmp_path / "copy"))


def test_a_model_holds_what_its_files_say(copied: Path) -> None:
    trained = TrainedModel.load(copied)
    settings, arrays = load_json(copied / SETTINGS), load_arrays(copied / STATISTICS_FILE)
    assert trained.settings == settings
    assert trained.identity == [sha256(copied / name) for name in (SETTINGS, STATISTICS_FILE)]
    assert trained.network.settings == settings["network"] and not trained.network.training
    weights = torch.load(copied / WEIGHTS, weights_only=True)["model"]
    assert all(torch.equal(value, weights[name]) for name, value in trained.network.state_dict().items())
    assert trained.anomaly.rule == settings["anomaly_score"]
    np.testing.assert_array_equal(trained.calibration.scores, arrays["calibration_scores"])
    assert trained.images is None
    assert trained.structures == {"ventricle": (1,), "myocardium": (2,), "right_ventricle": (3,)}


def test_the_scorer_is_the_one_that_the_references_were_scored_by(copied: Path) -> None:
    """Its anomaly scores of the held-out references' statistics are those that the file keeps."""
    trained, arrays = TrainedModel.load(copied), load_arrays(copied / STATISTICS_FILE)
    scores = trained.anomaly.score(
        {
            name: np.concatenate([values, stored_levels(arrays, "fit")[name]])
            for name, values in stored_levels(arrays, "calibration").items()
        }
    )
    np.testing.assert_allclose(scores, arrays["calibration_scores"], rtol=1e-9)
    one_hot = torch.zeros(1, 4, *trained.settings["spatial_size"])
    one_hot[:, 0] = 1
    both = [trained.scorer(chunk_size=size)(trained.network, one_hot).levels for size in (1, None)]
    np.testing.assert_allclose(*map(to_array, both), rtol=1e-5)


@pytest.mark.parametrize(
    ("part", "value", "reason"),
    [
        ("labels", {"names": 3, "values": 4, "ignore_value": None, "regions": 5}, "cannot be read"),
        ("fields_of_view", {"lengths": 1, "corners": 1, "centre": 1, "spread": 1, "more": 1}, "cannot be read"),
    ],
)
def test_settings_of_another_kind_are_refused_in_one_line(copied: Path, part: str, value: Any, reason: str) -> None:
    save_json(copied / SETTINGS, {**load_json(copied / SETTINGS), part: value})
    with pytest.raises(InputError, match=rf"settings\.json: {reason}"):
        TrainedModel.load(copied)


def test_a_network_that_cannot_be_made_is_refused_in_one_line(copied: Path) -> None:
    settings = load_json(copied / SETTINGS)
    settings["network"]["strides"] = [[2, 2]]
    save_json(copied / SETTINGS, settings)
    with pytest.raises(InputError, match=r"settings\.json: cannot be read: 2 channels"):
        TrainedModel.load(copied)


@pytest.mark.parametrize("name", ["worst", "calibration_scores", "predicted_dice"])
def test_an_array_that_is_missing_is_named(copied: Path, name: str) -> None:
    arrays = load_arrays(copied / STATISTICS_FILE)
    del arrays[name]
    save_arrays(copied / STATISTICS_FILE, arrays)
    save_json(copied / SETTINGS, {**load_json(copied / SETTINGS), **identity_of(copied)})
    with pytest.raises(InputError, match=rf"reference_statistics\.npz: lacks the array '{name}'"):
        TrainedModel.load(copied)
