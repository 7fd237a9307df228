"""Small phantoms, masks of them with references, and a small model: made once."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from gnsm_monai.data.phantoms import write_phantom_dataset
from tests.slow.processes import Command, train


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.slow)
            if not sys.platform.startswith("linux"):
                item.add_marker(pytest.mark.skip(reason="memory and processes are looked at as Linux tells of them"))


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """2D phantoms: 16 references, 4 test cases, and predictions with failures of eight kinds."""
    return write_phantom_dataset(tmp_path_factory.mktemp("data"), spatial_dims=2, num_train=16, num_test=4)


@pytest.fixture(scope="session")
def masks(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All predictions in one folder; ``references`` beside it has the reference of each."""
    folder = tmp_path_factory.mktemp("all")
    (folder / "masks").mkdir()
    (folder / "references").mkdir()
    for path in sorted((dataset / "predictions").rglob("*.png")):
        name = f"{path.parent.name}_{path.name}"
        shutil.copy(path, folder / "masks" / name)
        shutil.copy(dataset / "labelsTs" / path.name, folder / "references" / name)
    return folder / "masks"


@pytest.fixture(scope="session")
def model(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    Command(train(dataset, folder / "model"), folder / "log").assert_succeeds()
    return folder / "model"
