"""``gnsm rank`` as a process: what it is given, when it is run, and what is said when it fails."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from gnsm_monai.cli_options import read_arguments
from gnsm_monai.monailabel_app import process
from gnsm_monai.monailabel_app.process import Settings, link_labels, rank

STAND_IN = """\
import os, pathlib, sys
given = sys.argv[1:]
output = pathlib.Path(given[given.index("--output") + 1])
output.mkdir(parents=True, exist_ok=True)
(output / "results.json").write_text("{}")
masks = pathlib.Path(given[given.index("--predictions") + 1])
print("scored", *sorted(path.name for path in masks.iterdir()), os.environ.get("PYTHONPATH"))
print()
if (output / "fails").exists():
    print("error: model: is damaged", file=sys.stderr)
    sys.exit(2)
sys.exit(3)
"""
"""Ends as gnsm rank does where some masks could not be scored, or with code 2 where a file says so."""


@pytest.fixture
def model(tmp_path: Path) -> Path:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "settings.json").write_text("{}")
    return tmp_path / "model"


@pytest.fixture
def settings(model: Path) -> Settings:
    return Settings(gnsm=sys.executable, model=str(model))


@pytest.fixture
def label(tmp_path: Path) -> Path:
    (tmp_path / "seg.nii.gz").write_text("mask")
    return tmp_path / "seg.nii.gz"


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "elsewhere" / "gnsm_monai").mkdir(parents=True)
    script = tmp_path / "elsewhere" / "gnsm_monai" / "__main__.py"
    script.write_text(STAND_IN)
    original = process._command

    def command(*given: object) -> list[str]:
        python, _, _, *rest = original(*given)  # type: ignore[arg-type]
        return [python, str(script), *rest]

    monkeypatch.setattr(process, "_command", command)


def test_the_command_is_one_that_gnsm_understands(settings: Settings, tmp_path: Path) -> None:
    with_images = Settings(settings.gnsm, settings.model, images=str(tmp_path))
    python, *_, module = process._command(with_images, tmp_path / "masks", tmp_path / "out")[:3]
    assert (python, module) == (sys.executable, "gnsm_monai")
    name, given = read_arguments(process._command(with_images, tmp_path / "masks", tmp_path / "out")[3:])
    assert name == "rank" and given.pop("write_maps") and given.pop("images_dir") == tmp_path
    paths = {"model": Path(settings.model), "predictions": [tmp_path / "masks"], "output": tmp_path / "out"}
    assert given == {**paths, "layout": "files"}
    without = process._command(Settings(settings.gnsm, settings.model, maps="false"), tmp_path, tmp_path)
    assert "--maps" not in without and "--images" not in without


@pytest.mark.usefixtures("stand_in")
def test_masks_are_scored_once_until_one_of_them_changes(
    settings: Settings, label: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", "/of/monailabel")
    said: list[str] = []
    output = tmp_path / "app" / "results"
    assert rank({"case": str(label)}, settings, output, said.append)
    assert said == ["scored case.nii.gz None"]
    assert not rank({"case": str(label)}, settings, output, said.append)
    label.write_text("another mask")
    assert rank({"case": str(label)}, settings, output, said.append)
    assert rank({"case": str(label), "new": str(label)}, settings, output, said.append)
    assert rank({"new": str(label)}, settings, output, said.append)
    assert said[-1] == "scored new.nii.gz None" and len(said) == 4


@pytest.mark.usefixtures("stand_in")
def test_a_failure_ends_in_its_own_line_and_is_tried_again(settings: Settings, label: Path, tmp_path: Path) -> None:
    output = tmp_path / "results"
    output.mkdir()
    (output / "fails").touch()
    with pytest.raises(RuntimeError, match=r"^gnsm rank ended with code 2: error: model: is damaged$"):
        rank({"case": str(label)}, settings, output, lambda line: None)
    (output / "fails").unlink()
    assert rank({"case": str(label)}, settings, output, lambda line: None)


def test_results_of_masks_that_are_gone_go_too(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "results.json").write_text("{}")
    assert not rank({}, settings, tmp_path / "results", lambda line: None)
    assert not (tmp_path / "results").exists()


def test_a_mask_is_called_by_its_case_whatever_its_file_is_called(label: Path, tmp_path: Path) -> None:
    link_labels({"old": str(label)}, tmp_path / "masks")
    link_labels({"v1.5": str(label)}, tmp_path / "masks")
    assert [path.name for path in (tmp_path / "masks").iterdir()] == ["v1.5.nii.gz"]
    assert (tmp_path / "masks" / "v1.5.nii.gz").read_text() == "mask"


def test_settings_of_the_command_line_go_before_those_of_the_file(model: Path, tmp_path: Path) -> None:
    (tmp_path / "settings.json").write_text(json.dumps({"gnsm": "/nowhere", "model": str(model), "tag": "nnunet"}))
    settings = Settings.read(tmp_path, {"gnsm": sys.executable, "server_mode": "true"})
    assert settings == Settings(sys.executable, str(model), "", "nnunet", "true")


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"model": "/nowhere"}, r"setting 'gnsm' .* not given"),
        ({"gnsm": sys.executable, "model": "/nowhere"}, r"setting 'model' .* /nowhere: not there"),
        ({"gnsm": "/no/python", "model": "/"}, r"setting 'gnsm' .* /no/python: not there"),
    ],
)
def test_a_setting_that_names_nothing_is_told_at_the_start(given: dict[str, str], reason: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=reason):
        Settings.read(tmp_path, given)
