from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from ignite.engine import Engine

from gnsm_monai.handlers import MapWriter
from gnsm_monai.scoring.result import AnomalyMap, FailedCase, Result
from tests.results import case_result


def write(folder: Path, result: Result) -> None:
    engine = Engine(lambda engine, batch: batch)
    MapWriter(folder).attach(engine)
    engine.run([result])


def test_a_map_has_the_geometry_of_the_mask_in_any_axis_order(tmp_path: Path) -> None:
    """The mask's file runs head to foot, back to front, right to left; the map must lie on it."""
    affine = np.array([[0, 0, -1.0, 11], [0, 1, 0, -3], [-1, 0, 0, 7], [0, 0, 0, 1]])
    grid = np.eye(4)
    grid[:3, 3] = [0, -3, 0]
    anomaly = np.zeros((12, 10, 8), dtype=np.float32)
    anomaly[9, 4, 2] = 5.0
    write(tmp_path, case_result("fold/a", anomaly_map=AnomalyMap(anomaly, grid, affine, (8, 10, 12))))
    image: Any = nib.load(tmp_path / "maps" / "fold" / "a.nii.gz")
    assert image.shape == (8, 10, 12)
    assert image.get_data_dtype() == np.float32
    np.testing.assert_array_equal(image.affine, affine)
    values = image.get_fdata()
    voxel = np.unravel_index(values.argmax(), values.shape)
    np.testing.assert_allclose(affine @ [*voxel, 1], grid @ [9, 4, 2, 1])
    assert values.max() == pytest.approx(5.0)


def test_a_picture_becomes_a_volume_of_one_slice(tmp_path: Path) -> None:
    anomaly = np.arange(12, dtype=np.float32).reshape(4, 3)
    result = case_result("p", anomaly_map=AnomalyMap(anomaly, np.eye(3), np.eye(3), (4, 3)))
    write(tmp_path, result)
    first = (tmp_path / "maps" / "p.nii.gz").read_bytes()
    image: Any = nib.load(tmp_path / "maps" / "p.nii.gz")
    np.testing.assert_allclose(image.get_fdata()[..., 0], anomaly, atol=1e-5)
    write(tmp_path, result)
    assert (tmp_path / "maps" / "p.nii.gz").read_bytes() == first


def test_a_case_that_failed_has_no_map(tmp_path: Path) -> None:
    write(tmp_path, FailedCase("p", "", "unreadable"))
    assert not (tmp_path / "maps").exists()
