"""A folder of nnU-Net outputs becomes one that MONAI Label can serve."""

from __future__ import annotations

import ast
import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gnsm_monai import annotation
from gnsm_monai.annotation import write_app
from gnsm_monai.data.nifti import save_nifti
from gnsm_monai.errors import InputError

MODULES = Path(annotation.__file__).with_name("monailabel_app")
AFFINE = np.eye(4)


@pytest.fixture(autouse=True)
def model(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A model whose folder alone matters here."""

    class Trained:
        @staticmethod
        def load(folder: Path) -> None:
            if not folder.is_dir():
                raise InputError(f"{folder}: no trained model here")

    monkeypatch.setattr(annotation, "TrainedModel", Trained)
    (tmp_path / "model").mkdir()
    return tmp_path / "model"


def write(folder: Path, *names: str, value: float = 1) -> Path:
    for name in names:
        save_nifti(folder / name, np.full((2, 2, 2), value, dtype=np.float32), AFFINE)
    return folder


@pytest.fixture
def nnunet(tmp_path: Path) -> dict[str, Path]:
    """Three cases of two channels, of which two have a mask."""
    images = [f"c{case}_000{channel}.nii.gz" for case in (1, 2, 3) for channel in (0, 1)]
    masks = write(tmp_path / "masks", "c1.nii.gz", "c2.nii.gz")
    (masks / "plans.json").write_text("{}")
    return {"model": tmp_path / "model", "predictions": masks, "images": write(tmp_path / "images", *images)}


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_the_datastore_has_the_first_channel_of_every_case_and_the_masks_as_original_labels(
    nnunet: dict[str, Path], tmp_path: Path
) -> None:
    write_app(tmp_path / "app", **nnunet)
    names = ["c1.nii.gz", "c2.nii.gz", "c3.nii.gz"]
    assert files(tmp_path / "app" / "studies") == [*names, *(f"labels/original/{name}" for name in names[:2])]


def test_the_app_knows_where_it_came_from(nnunet: dict[str, Path], tmp_path: Path) -> None:
    write_app(tmp_path / "app", **nnunet)
    settings = json.loads((tmp_path / "app" / "settings.json").read_text())
    assert settings == {"gnsm": sys.executable, "model": str(tmp_path / "model"), "images": str(tmp_path / "images")}
    assert files(tmp_path / "app" / "gnsm_label") == sorted(path.name for path in MODULES.glob("*.py"))
    compile((tmp_path / "app" / "main.py").read_text(), "main.py", "exec")


def test_the_same_command_brings_new_predictions_and_keeps_final_labels(
    nnunet: dict[str, Path], tmp_path: Path
) -> None:
    write_app(tmp_path / "app", **nnunet)
    final = write(tmp_path / "app" / "studies" / "labels" / "final", "c1.nii.gz", value=7) / "c1.nii.gz"
    before = final.read_bytes()
    write(nnunet["predictions"], "c1.nii.gz", value=3)
    os.utime(nnunet["predictions"] / "c1.nii.gz", ns=(1, 1))  # a size may stay the same
    write_app(tmp_path / "app", **nnunet)
    original = tmp_path / "app" / "studies" / "labels" / "original" / "c1.nii.gz"
    assert original.read_bytes() == (nnunet["predictions"] / "c1.nii.gz").read_bytes()
    assert final.read_bytes() == before


def test_what_monai_label_writes_never_reaches_the_predictions(nnunet: dict[str, Path], tmp_path: Path) -> None:
    write_app(tmp_path / "app", **nnunet, link_images=True)
    studies = tmp_path / "app" / "studies"
    assert (studies / "c1.nii.gz").is_symlink()
    label = studies / "labels" / "original" / "c1.nii.gz"
    assert not label.is_symlink() and label.stat().st_ino != (nnunet["predictions"] / "c1.nii.gz").stat().st_ino
    write_app(tmp_path / "app", **nnunet)
    assert not (studies / "c1.nii.gz").is_symlink()
    assert (studies / "c1.nii.gz").read_bytes() == (nnunet["images"] / "c1_0000.nii.gz").read_bytes()


def test_a_mask_without_an_image_is_counted_and_left_out(
    nnunet: dict[str, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(nnunet["predictions"], "stray.nii.gz")
    write_app(tmp_path / "app", **nnunet)
    assert "no image for 1 masks, which MONAI Label will not list: ['stray']" in caplog.text
    assert not list((tmp_path / "app" / "studies").rglob("stray*"))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"model": "nowhere"}, "nowhere: no trained model here"),
        ({"images": "nowhere"}, "nowhere: no such folder"),
        ({"predictions": "nowhere"}, "nowhere: no such folder"),
    ],
)
def test_a_folder_that_is_missing_is_told_before_anything_is_written(
    change: dict[str, str], reason: str, nnunet: dict[str, Any], tmp_path: Path
) -> None:
    nnunet.update({name: tmp_path / path for name, path in change.items()})
    with pytest.raises(InputError, match=reason):
        write_app(tmp_path / "app", **nnunet)
    assert not (tmp_path / "app").exists()


def test_files_that_monai_label_does_not_list_are_refused(nnunet: dict[str, Path], tmp_path: Path) -> None:
    for path in nnunet["predictions"].glob("*.nii.gz"):
        path.rename(path.with_name(path.name.replace(".nii.gz", ".mha")))
    with pytest.raises(InputError, match=r"c1\.mha: MONAI Label lists .*: convert the files of other kinds"):
        write_app(tmp_path / "app", **nnunet)


def test_the_app_imports_nothing_that_the_environment_of_monai_label_lacks() -> None:
    allowed = {*sys.stdlib_module_names, "numpy", "nibabel", "fastapi", "monailabel"}
    for path in MODULES.glob("*.py"):
        nodes = list(ast.walk(ast.parse(path.read_text())))
        names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
        names |= {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom) and not node.level}
        assert {name.split(".")[0] for name in names} <= allowed, path.name
