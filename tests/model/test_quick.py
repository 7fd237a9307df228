"""A quick model, and the full one that takes its place."""

from __future__ import annotations

from pathlib import Path

from gnsm_monai.files import save_json
from gnsm_monai.model.files import SETTINGS
from gnsm_monai.model.quick import IMPROVED, is_quick, replace_model


def test_a_model_is_quick_by_its_settings_alone(tmp_path: Path) -> None:
    assert not is_quick(tmp_path)
    for settings, quick in (({"quick": True}, True), ({"format": 4}, False), ({"quick": "yes"}, False)):
        save_json(tmp_path / SETTINGS, settings)
        assert is_quick(tmp_path) == quick


def test_the_full_model_takes_the_place_of_the_quick_one(tmp_path: Path) -> None:
    for folder, text in ((tmp_path, "quick"), (tmp_path / IMPROVED, "full")):
        for name in (SETTINGS, "model.pt", "configs/train.yaml", f"{text}/events"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)
    replace_model(tmp_path)
    files = {path.relative_to(tmp_path).as_posix(): path.read_text() for path in tmp_path.rglob("*") if path.is_file()}
    full = dict.fromkeys((SETTINGS, "model.pt", "configs/train.yaml", "full/events"), "full")
    assert files == {**full, "quick/events": "quick"}
    assert not (tmp_path / IMPROVED).exists()
