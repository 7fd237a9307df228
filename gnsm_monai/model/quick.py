"""A quick model, and the full one that takes its place."""

from __future__ import annotations

import shutil
from pathlib import Path

from gnsm_monai.files import load_json
from gnsm_monai.model.files import SETTINGS

__all__ = ["IMPROVED", "QUICK", "is_quick", "replace_model"]

QUICK = "quick"
"""In settings.json: whether the model is a quick one."""

IMPROVED = ".full"
"""Folder, within that of a quick model, of the full one as long as it is trained."""


def is_quick(model: Path) -> bool:
    """Whether a folder holds a finished quick model."""
    settings = load_json(model / SETTINGS) if (model / SETTINGS).is_file() else {}
    return isinstance(settings, dict) and settings.get(QUICK) is True


def replace_model(model: Path) -> None:
    """Puts the full model in the place of the quick one, settings last: with them a folder is a complete model."""
    improved = model / IMPROVED
    (model / SETTINGS).unlink()
    for path in sorted(improved.iterdir(), key=lambda path: path.name == SETTINGS):
        target = model / path.name
        if target.is_dir():
            shutil.rmtree(target)
        path.replace(target)
    improved.rmdir()
