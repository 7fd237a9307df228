"""Images of a folder that is ranked by itself: read where they tell the masks, and without harm where they do not."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from gnsm_monai.files import load_arrays, save_arrays
from gnsm_monai.folder import image_reader
from gnsm_monai.folder.consensus import Consensus
from gnsm_monai.folder.image_reader import reader_of
from gnsm_monai.folder.image_sampling import OTHER_CHANNELS, sample_images
from gnsm_monai.folder.images import LearntImages
from gnsm_monai.folder.learnt import load_learnt
from gnsm_monai.folder.reading import ReadOptions, read_masks
from gnsm_monai.report.earlier import LEARNT
from tests.folder.masks import write
from tests.folder.test_ranking import ball, rank, rows, usual
from tests.folder.test_resuming import FILES, Decodings

NUMBER = 12


@pytest.fixture(autouse=True)
def few_trees(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("max_iter", 6), ("learning_rate", 0.5), ("min_samples_leaf", 20)):
        monkeypatch.setitem(image_reader.TREES, name, value)  # type: ignore[arg-type]


def image(mask: np.ndarray, seed: int) -> np.ndarray:
    """Structures of other brightness than the rest, and noise."""
    return (mask * 2.0 + np.random.default_rng(seed).normal(0, 0.5, mask.shape)).astype(np.float32)


def truth() -> dict[str, np.ndarray]:
    return {f"c{i:02d}": usual(i) for i in range(NUMBER)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Masks of which c03 is of usual form and lies in a usual place, but two voxels beside what its image shows."""
    where = tmp_path_factory.mktemp("images")
    sound = truth()
    write(where / "masks", {**sound, "c03": np.roll(sound["c03"], (-1, 2), (0, 1))})
    write(where / "images", {f"{name}_0000": image(mask, i) for i, (name, mask) in enumerate(sound.items())})
    noise = np.random.default_rng(0)
    write(where / "noise", {f"{name}_0000": noise.normal(size=mask.shape) for name, mask in sound.items()})
    return where


def said(output: Path) -> Mapping[str, Any]:
    content: Mapping[str, Any] = json.loads((output / "summary.json").read_text())["settings"]["folder_itself"]
    return content


def test_smoke(folder: Path, tmp_path: Path) -> None:
    assert rank(tmp_path / "alone", folder / "masks") == 0
    assert rank(tmp_path / "out", folder / "masks", "--images", folder / "images") == 0
    print(said(tmp_path / "out"), [(r["case"], r["anomaly_score"]) for r in rows(tmp_path / "out")][:4], [(r["case"], r["anomaly_score"]) for r in rows(tmp_path / "alone")][:6])
    assert rank(tmp_path / "out2", folder / "masks", "--images", folder / "noise") == 0
    print(said(tmp_path / "out2"))
