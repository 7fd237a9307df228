"""Where a mask is worst, as a label map."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np

from gnsm_monai.monailabel_app.unusual import unusual_voxels, write_unusual


def test_voxels_from_half_of_the_highest_anomaly_on_are_unusual() -> None:
    anomaly = np.array([[0.0, 1.9, 2.0], [4.0, 4.0, np.nan]], dtype=np.float32)
    np.testing.assert_array_equal(unusual_voxels(anomaly), [[0, 0, 1], [1, 1, 0]])


def test_a_map_without_anomaly_has_no_unusual_voxel() -> None:
    assert not unusual_voxels(np.zeros((4, 4), dtype=np.float32)).any()


def test_a_single_hot_voxel_does_not_set_the_scale() -> None:
    anomaly = np.full(1000, 1.0, dtype=np.float32)
    anomaly[0] = 100
    assert unusual_voxels(anomaly).all()


def test_the_label_map_lies_where_the_anomaly_map_lies(tmp_path: Path) -> None:
    affine = np.diag([2.0, 3.0, 4.0, 1.0])
    nib.save(nib.Nifti1Image(np.eye(3, dtype=np.float32)[..., None], affine), tmp_path / "map.nii.gz")
    write_unusual(str(tmp_path / "map.nii.gz"), str(tmp_path / "label.nii.gz"))
    label = nib.load(tmp_path / "label.nii.gz")
    np.testing.assert_array_equal(label.affine, affine)
    np.testing.assert_array_equal(np.asarray(label.dataobj)[..., 0], np.eye(3))
