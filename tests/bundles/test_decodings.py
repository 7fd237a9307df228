"""How often a training reads its files, and trainings of references that are mostly empty."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from gnsm_monai.data.loading import LoadMapsd
from gnsm_monai.files import load_arrays, load_json
from tests.bundles.conftest import TINY, TRAIN, run_config


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> Counter[Path]:
    """How often each file was decoded."""
    counts: Counter[Path] = Counter()
    load = LoadMapsd.load

    def counted(self: LoadMapsd, paths: Any, is_image: bool = False) -> Any:
        counts.update([Path(paths)] if isinstance(paths, (str, Path)) else map(Path, paths))
        return load(self, paths, is_image)

    monkeypatch.setattr(LoadMapsd, "load", counted)
    return counts


def test_every_label_map_is_decoded_once(dataset: Path, tmp_path: Path, decoded: Counter[Path]) -> None:
    run_config(TRAIN, dataset_dir=str(dataset), model_dir=str(tmp_path), spatial_dims=2, **TINY)
    assert decoded == dict.fromkeys((dataset / "labelsTr").iterdir(), 1)


@pytest.mark.slow
@pytest.mark.usefixtures("short_segmenter")
@pytest.mark.parametrize("condition_on_image", [False, True])
def test_every_image_is_decoded_once(
    dataset: Path, tmp_path: Path, decoded: Counter[Path], condition_on_image: bool
) -> None:
    settings = {**TINY, "failures": "networks", "condition_on_image": condition_on_image, "epochs": 1}
    run_config(TRAIN, dataset_dir=str(dataset), model_dir=str(tmp_path), spatial_dims=2, **settings)
    assert load_json(tmp_path / "settings.json")["failures"] == "networks"
    files = [path for folder in ("labelsTr", "imagesTr") for path in (dataset / folder).iterdir()]
    assert decoded == dict.fromkeys(files, 1)


@pytest.mark.parametrize("seed", range(3))
def test_references_that_are_mostly_empty_train_to_the_end(dataset: Path, tmp_path: Path, seed: int) -> None:
    folder = tmp_path / "data"
    shutil.copytree(dataset, folder, ignore=shutil.ignore_patterns("imagesTr"))
    for path in sorted((folder / "labelsTr").iterdir())[3:]:
        image = sitk.ReadImage(str(path))
        sitk.WriteImage(image * 0, str(path))
    settings = {**TINY, "epochs": 1, "steps_per_epoch": 1, "seed": seed}
    run_config(TRAIN, dataset_dir=str(folder), model_dir=str(tmp_path / "model"), spatial_dims=2, **settings)
    arrays = load_arrays(tmp_path / "model" / "reference_statistics.npz")
    assert np.isfinite(arrays["failure_dice"]).all() and np.isfinite(arrays["calibration_failure_dice"]).all()
    # Of the one reference that holds structures 2 and 4 degraded copies, of all 2 and 4 half as many false structures.
    assert len(arrays["failure_dice"]) == 2 + 2 * 1
    assert len(arrays["calibration_failure_dice"]) == 4 + 4 * 2


def test_what_a_training_cannot_be_finished_with_is_refused_before_it(
    dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, model = tmp_path / "data", tmp_path / "model"
    shutil.copytree(dataset, folder, ignore=shutil.ignore_patterns("imagesTr"))
    settings: dict[str, Any] = {**TINY, "dataset_dir": str(folder), "model_dir": str(model), "spatial_dims": 2}
    with pytest.raises(SystemExit):
        run_config(TRAIN, **{**settings, "failures": "networks"})
    assert "failures: 'networks' needs an image of every reference" in capsys.readouterr().err
    for path in sorted((folder / "labelsTr").iterdir())[2:]:
        sitk.WriteImage(sitk.ReadImage(str(path)) * 0, str(path))
    with pytest.raises(SystemExit):
        run_config(TRAIN, **settings)
    assert "structures are needed in at least 3 label maps" in capsys.readouterr().err
    assert not model.exists()
