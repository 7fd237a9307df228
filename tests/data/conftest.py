"""Writing of small label maps and images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

Save = Callable[..., Path]


@pytest.fixture
def save(tmp_path: Path) -> Save:
    """``save(name, array, spacing)`` writes an array with axes (x, y[, z]) to ``tmp_path/name`` and gives the path."""

    def write(name: str, array: np.ndarray, spacing: Sequence[float] | None = None) -> Path:
        image = sitk.GetImageFromArray(np.ascontiguousarray(array.T))
        if spacing is not None:
            image.SetSpacing([float(mm) for mm in spacing])
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        sitk.WriteImage(image, str(path))
        return path

    return write
