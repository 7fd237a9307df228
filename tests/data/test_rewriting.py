from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from gnsm_monai.data.rewriting import data_files, save_changed

AFFINE = np.array([[0, 0, -2.0, 11], [0, 1, 0, -3], [-1.5, 0, 0, 7], [0, 0, 0, 1]])
LABEL = np.arange(24).reshape(4, 3, 2) % 4


def exchanged(values: np.ndarray) -> np.ndarray:
    """1 and 2 exchanged, and the first axis turned round."""
    table = np.array([0, 2, 1, 3])
    return np.flip(table[np.rint(values).astype(int)].astype(values.dtype), 0)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32, ">i2"])
@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
@pytest.mark.parametrize("slope", [None, 0.5])
def test_only_the_voxels_of_a_nifti_file_change(tmp_path: Path, dtype: Any, ending: str, slope: float | None) -> None:
    kind = np.dtype(dtype)
    header = nib.Nifti1Header(endianness=">" if kind.byteorder == ">" else "<")
    header.set_data_dtype(kind)
    header.set_qform(AFFINE, 1)
    header["descrip"] = b"kept"
    image = nib.Nifti1Image(LABEL.astype(kind), AFFINE, header)
    image.header.extensions.append(nib.nifti1.Nifti1Extension(6, b"names"))
    if slope is not None:
        image.header.set_slope_inter(slope, 1.0)
    source, target = tmp_path / f"m{ending}", tmp_path / "out" / f"m{ending}"
    nib.save(image, source)
    before = source.read_bytes()
    save_changed(source, target, exchanged)
    assert source.read_bytes() == before
    read, copy = nib.load(source), nib.load(target)
    np.testing.assert_array_equal(np.asarray(copy.dataobj), exchanged(np.asarray(read.dataobj)))
    unpack = gzip.decompress if ending == ".nii.gz" else bytes
    offset = read.dataobj.offset
    assert unpack(target.read_bytes())[:offset] == unpack(before)[:offset]
    assert len(unpack(target.read_bytes())) == len(unpack(before))
    assert (target.stat().st_mode & 0o777) == 0o644
    assert [path.name for path in target.parent.iterdir()] == [target.name]


@pytest.mark.parametrize("ending", [".mha", ".mhd", ".nrrd", ".png", ".tif"])
def test_other_formats_keep_geometry_and_type(tmp_path: Path, ending: str) -> None:
    flat = ending in (".png", ".tif")
    label = LABEL[..., 0] if flat else LABEL
    image = sitk.GetImageFromArray(label.T.astype(np.uint8))
    if not flat:
        image.SetSpacing((1.5, 2.0, 0.5))
        image.SetOrigin((3, -4, 5))
        image.SetDirection((0, 1, 0, 1, 0, 0, 0, 0, 1))
    if ending == ".nrrd":
        image.SetMetaData("names", "a b")
    source, target = tmp_path / f"m{ending}", tmp_path / "out" / f"m{ending}"
    sitk.WriteImage(image, str(source))
    save_changed(source, target, exchanged)
    read, copy = sitk.ReadImage(str(source)), sitk.ReadImage(str(target))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(copy), exchanged(label).T)
    for part in ("GetSize", "GetSpacing", "GetOrigin", "GetDirection", "GetPixelIDValue"):
        assert getattr(copy, part)() == getattr(read, part)()
    data = {".mhd": ["m.zraw"]}.get(ending, [])
    assert sorted(path.name for path in target.parent.iterdir()) == [target.name, *data]
    assert [path.name for path in data_files(target)] == data
    if ending == ".nrrd":
        assert copy.GetMetaData("names") == "a b"


def test_a_slice_stored_as_a_volume_is_changed_as_a_picture(tmp_path: Path) -> None:
    nib.save(nib.Nifti1Image(LABEL[..., :1].astype(np.uint8), np.eye(4)), tmp_path / "m.nii.gz")
    shapes = []
    save_changed(tmp_path / "m.nii.gz", tmp_path / "c.nii.gz", lambda v: (shapes.append(v.shape), exchanged(v))[1])
    assert shapes == [(4, 3)]
    assert nib.load(tmp_path / "c.nii.gz").shape == (4, 3, 1)


def test_a_mask_is_never_replaced(tmp_path: Path) -> None:
    nib.save(nib.Nifti1Image(LABEL.astype(np.uint8), np.eye(4)), tmp_path / "m.nii.gz")
    (tmp_path / "link.nii.gz").symlink_to(tmp_path / "m.nii.gz")
    with pytest.raises(ValueError, match="not replaced"):
        save_changed(tmp_path / "m.nii.gz", tmp_path / "link.nii.gz", exchanged)


def test_what_is_no_single_map_of_numbers_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    layers = sitk.GetImageFromArray(np.zeros((2, 3, 4, 2), np.uint8), isVector=True)
    sitk.WriteImage(layers, str(tmp_path / "m.seg.nrrd"))
    (tmp_path / "case").mkdir()
    for name, message in (("m.seg.nrrd", "several layers"), ("case", "a file per structure")):
        with pytest.raises(ValueError, match=message):
            save_changed(tmp_path / name, tmp_path / "out" / name, exchanged)
    assert not (tmp_path / "out").exists() or list((tmp_path / "out").iterdir()) == []
