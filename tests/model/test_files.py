"""A model's folder that was copied by half, or belongs to another version, is refused in words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gnsm_monai.errors import InputError
from gnsm_monai.files import load_json, save_arrays, save_json, sha256
from gnsm_monai.model.files import (
    FORMAT,
    LABEL_MAPS,
    SETTINGS,
    STATISTICS_FILE,
    WEIGHTS,
    ModelFiles,
    identity_of,
)
from gnsm_monai.rules.anomaly import AnomalyModel
from gnsm_monai.scoring.reference_shapes import ReferenceShapes


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """All that is looked for, without meaning."""
    (tmp_path / WEIGHTS).write_bytes(b"weights")
    save_arrays(tmp_path / STATISTICS_FILE, {"rule": np.zeros(1)})
    settings: dict[str, Any] = {part: dict.fromkeys(names, 0) for part, names in LABEL_MAPS.items() if part}
    settings |= dict.fromkeys(LABEL_MAPS[""], 0)
    save_json(tmp_path / SETTINGS, {**settings, "format": FORMAT, **identity_of(tmp_path)})
    return tmp_path


def refusal(folder: Path) -> str:
    with pytest.raises(InputError) as caught:
        ModelFiles.read(folder)
    return str(caught.value)


def test_a_whole_model_is_read(model: Path) -> None:
    files = ModelFiles.read(model)
    assert files.settings == load_json(model / SETTINGS)
    assert files.identity == [sha256(model / name) for name in (SETTINGS, STATISTICS_FILE)]
    assert files.arrays["rule"].tolist() == [0]


@pytest.mark.parametrize("name", [WEIGHTS, STATISTICS_FILE, SETTINGS])
def test_a_missing_file_is_named(model: Path, name: str) -> None:
    (model / name).unlink()
    lost = f"{model}: no trained model here: {name} missing"
    assert refusal(model) == lost
    (model / "checkpoint.pt").write_bytes(b"")  # which stays beside a finished model; the settings are written last
    stopped = refusal(model).removeprefix(lost)
    assert ("its training was not finished" in stopped) if name == SETTINGS else stopped == ""


@pytest.mark.parametrize("name", [WEIGHTS, STATISTICS_FILE])
def test_a_file_of_another_model_is_refused(model: Path, name: str) -> None:
    save_arrays(model / name, {"rule": np.ones(1)})
    assert refusal(model).startswith(f"{model}: {name} is not the one that ")


@pytest.mark.parametrize(
    "arrays",
    [
        {"rule": np.array("shape"), "compared": np.array(["a"]), "spearman": np.array([0.1, 0.2])},
        {"rule": np.array("shape"), "compared": np.array([]), "spearman": np.array([]), "worst": np.zeros(2)},
        {"bottleneck_strides": np.array([2, 2]), "shape_mean": np.zeros(())},
        {"bottleneck_strides": np.array([[2, 2]]), "bottleneck_betas": np.array(0.5)},
    ],
)
def test_arrays_of_another_kind_are_refused_in_one_line(model: Path, arrays: dict[str, np.ndarray]) -> None:
    save_arrays(model / STATISTICS_FILE, {"level_weights": np.ones(2), **arrays})
    save_json(model / SETTINGS, {**load_json(model / SETTINGS), **identity_of(model)})
    read = AnomalyModel.from_arrays if "rule" in arrays else ReferenceShapes.from_arrays
    with pytest.raises(InputError) as caught:
        ModelFiles.read(model).fitted(read)
    assert str(caught.value).startswith(f"{model / STATISTICS_FILE}: ") and "\n" not in str(caught.value)


def test_a_training_that_was_stopped_is_told_from_another_folder(tmp_path: Path) -> None:
    assert refusal(tmp_path).endswith("settings.json and model.pt and reference_statistics.npz missing")
    (tmp_path / "checkpoint.pt").write_bytes(b"")
    assert "its training was not finished" in refusal(tmp_path)
    assert refusal(tmp_path / "checkpoint.pt").endswith("is a file, not a folder")
    assert refusal(tmp_path / "nowhere").endswith("no such folder")


def test_a_model_of_another_version_is_refused(model: Path) -> None:
    settings = load_json(model / SETTINGS)
    for number in (FORMAT + 1, None):
        save_json(model / SETTINGS, {**settings, "format": number})
        assert f"format {number} is of another version" in refusal(model)


@pytest.mark.parametrize(("part", "name"), [(part, name) for part, names in LABEL_MAPS.items() for name in names])
def test_a_setting_that_is_missing_is_named(model: Path, part: str, name: str) -> None:
    settings = load_json(model / SETTINGS)
    del (settings[part] if part else settings)[name]
    save_json(model / SETTINGS, settings)
    assert f"lacks '{name}'" in refusal(model)


@pytest.mark.parametrize("part", [part for part in LABEL_MAPS if part])
def test_a_part_that_is_no_mapping_is_named(model: Path, part: str) -> None:
    save_json(model / SETTINGS, {**load_json(model / SETTINGS), part: None})
    assert refusal(model).endswith(f"lacks '{part}'")


def test_a_model_of_a_table_is_refused(model: Path) -> None:
    save_json(model / SETTINGS, {**load_json(model / SETTINGS), "kind": "table"})
    assert refusal(model) == f"{model}: this is not a model of label maps"


def test_damaged_arrays_are_refused_where_they_are_asked_for(model: Path) -> None:
    (model / STATISTICS_FILE).write_bytes(b"no archive")
    save_json(model / SETTINGS, {**load_json(model / SETTINGS), **identity_of(model)})
    files = ModelFiles.read(model)
    with pytest.raises(InputError, match=r"reference_statistics\.npz: cannot be read"):
        files.fitted(dict)


@pytest.mark.parametrize("error", [TypeError("no"), ValueError("no\nway"), AttributeError("no"), IndexError("no")])
def test_settings_of_which_nothing_can_be_made_are_refused_in_one_line(model: Path, error: Exception) -> None:
    def fail(settings: Any) -> None:
        raise error

    with pytest.raises(InputError, match=r"settings\.json: cannot be read: no") as caught:
        ModelFiles.read(model).configured(fail)
    assert "\n" not in str(caught.value)
